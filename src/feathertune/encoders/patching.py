"""Temporary changes to a model's modules, as context managers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn


@contextlib.contextmanager
def replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Replace a module's forward while the context lasts; replacements may be nested."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


@contextlib.contextmanager
def hooked(*hooks: Any) -> Iterator[None]:  # noqa: ANN401 - torch's handles
    """Remove hooks at the end of the context."""
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def attention_set(config: Any, name: str) -> Iterator[None]:  # noqa: ANN401 - PretrainedConfig, which is untyped
    """Use the attention that transformers' interface has under this name."""
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


@contextlib.contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Restore each module's training mode at the end of the context."""
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextlib.contextmanager
def kept_flags(model: nn.Module) -> Iterator[None]:
    """Restore each parameter's ``requires_grad`` at the end of the context."""
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)

"""Descriptions of a method, and of its effect on one encoder. `traits` loads no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from feathertune.methods.base import Method, Options
from feathertune.methods.sizes import n_head, planned

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder

FP32_BYTES = 4


@dataclass(frozen=True)
class Adapted:
    """Modules of one shape whose names differ only in numbers, shown as ``*`` in `pattern`."""

    pattern: str
    shape: tuple[int, ...]
    count: int


@dataclass(frozen=True)
class Description:
    """A method's effect on one encoder; `adapter` is the number of trained parameters without the head."""

    encoder: str
    encoder_parameters: int
    options: dict[str, Any]
    modules: tuple[Adapted, ...]
    adapter: int
    head: int

    @property
    def total(self) -> int:
        """Number of trained parameters."""
        return self.adapter + self.head

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        return {
            **asdict(self),
            "total": self.total,
            "percent": 100 * self.adapter / self.encoder_parameters,
            "bytes": FP32_BYTES * self.total,
        }


def traits(method: Method) -> SimpleNamespace:
    """Return a method's traits for output; `last_layers` is True if it has the option ``top_layers``.

    `learning_rate` is None if `scaled_rate` gives it.
    """
    defaults = method.given(method.options())  # type: ignore[call-arg]  # each option has its default
    same = ("name", "kind", "summary", "when", "source", "mergeable", "zero_init", "changes_input")
    return SimpleNamespace(
        **{name: getattr(method, name) for name in same},
        last_layers="top_layers" in method.options.model_fields,
        size_option=method.size.option if method.size is not None else None,
        learning_rate=defaults.get("learning_rate"),
        scaled_rate=None if method.scaled_rate is None else asdict(method.scaled_rate),
        search_space={name: list(values) for name, values in method.search_space.items()},
        options=defaults,
    )


def describe(method: Method, options: Options, encoder: LoadedEncoder, *, max_length: int = 0) -> Description:
    """Describe the trained parts of a prepared copy of the encoder; ConfigError if the method does not fit."""
    _, model = planned(method, options, encoder, max_length=max_length)
    found = Counter((re.sub(r"(?<=\.)\d+(?=\.|$)", "*", name), shape) for name, shape in _adapted(model, encoder))
    head = n_head(encoder)
    return Description(
        encoder=encoder.id,
        encoder_parameters=encoder.n_parameters,
        options=method.given(options),
        modules=tuple(Adapted(pattern, shape, count) for (pattern, shape), count in found.items()),
        adapter=sum(p.numel() for p in model.parameters() if p.requires_grad) - head,
        head=head,
    )


def _adapted(model: nn.Module, encoder: LoadedEncoder) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield names and shapes of the modules that PEFT wrapped, or of the trained modules if there are none."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    wrapped = [
        (name.removeprefix("base_model.model."), tuple(module.get_base_layer().weight.shape))
        for name, module in model.named_modules()
        if isinstance(module, BaseTunerLayer)
    ]
    if wrapped:
        yield from wrapped
        return
    heads = tuple(f"{name}." for name in encoder.head_modules)
    for name, module in model.named_modules():
        own = [p for p in module.parameters(recurse=False) if p.requires_grad]
        # PEFT keeps the trained head under the head's own name, with or without the prefix `base_model.`.
        if own and not f"{name.removeprefix('base_model.')}.".startswith(heads):
            yield name, tuple(max(own, key=lambda parameter: parameter.dim()).shape)

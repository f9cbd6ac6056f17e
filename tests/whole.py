"""Whole tiny models, prepared by a method: what they say of a batch, and the gradient of every parameter."""

from __future__ import annotations

import atexit
import contextlib
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families import save_variant
from feathertune.config import EngineConfig
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.kernels import attention, norm
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, seed_everything
from tiny import FAMILIES, save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
BF16 = Runtime(torch.device("cpu"), "bf16", "eager", "test", {})
# Method and options; the second word of a key tells two settings of a method apart.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"r": 3}),
    "lora-query-value": ("lora", {"r": 2, "target_modules": "query-value"}),
    "shira": ("shira", {"density": 0.2}),
    "full": ("full", {}),
}
CONFIGS = {
    "auto": EngineConfig(),
    "blocks-off": EngineConfig(blocks="off"),
    "linear-off": EngineConfig(linear="off"),
    "packed-off": EngineConfig(packed="off"),
    "last-layer-off": EngineConfig(last_layer="off"),
    "last-layer-keys": EngineConfig(last_layer="keys"),
    "eager": EngineConfig(attention="eager"),
    "sdpa": EngineConfig(attention="sdpa"),
    "all-off": EngineConfig(blocks="off", linear="off", packed="off", last_layer="off", attention="eager"),
}
# Shares of the largest number, where 1e-5 is too little: scores of a single key have no gradient, and torch's fused
# attention makes one of its rounding there.
OF_LARGEST = {"sdpa": 5e-5}


@dataclass(frozen=True)
class Prepared:
    """An encoder and the model that a method has made of it."""

    encoder: LoadedEncoder
    model: nn.Module


@functools.cache
def folder(family: str) -> Path:
    """A checkpoint of a tiny encoder, made once."""
    home = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, home)
    return save_tiny_encoder(home / family, family) if family in FAMILIES else save_variant(home / family, family)


def prepared(family: str, case: str, attention: str = "eager", dtype: torch.dtype = torch.float32) -> Prepared:
    """A fresh model; the same each time, and away from where adapters begin, where they often do nothing."""
    name, options = CASES[case]
    method = METHODS[name]
    seed_everything(0)
    encoder = load_encoder(str(folder(family)), labels=("no", "yes", "so"), seed=0, attention=attention, dtype=dtype)
    model = method.prepare(encoder, method.options(**options), Job(0)).to(dtype)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator).to(dtype))
    return Prepared(encoder, model)


# Models that the tests only run: whoever changes one takes a fresh one.
shared = functools.cache(prepared)


def set_dropout(model: nn.Module, p: float) -> None:
    """Every dropout of a model, those too that a family keeps as a number."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = p
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = p


def batch(encoder: LoadedEncoder, lengths: tuple[int, ...]) -> dict[str, Tensor]:
    """Random tokens, padded at the end; no mask where all are of one length, as `EncodedTexts.collate` does."""
    generator = torch.Generator().manual_seed(sum(lengths))
    width = max(lengths)
    ids = torch.randint(5, len(encoder.tokenizer), (len(lengths), width), generator=generator)
    ids[:, 0] = encoder.tokenizer.cls_token_id
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    if mask.all():
        return {"input_ids": ids}
    return {"input_ids": ids.masked_fill(~mask, encoder.tokenizer.pad_token_id), "attention_mask": mask.long()}


# Short, filled up to a multiple of 32, and just one; each with and without padding.
LENGTHS = {
    "short": (9, 9),
    "short-padded": (11, 2, 7),
    "long": (40, 40),
    "long-padded": (3, 45, 33),
    "multiple-padded": (32, 8),
    "one": (1, 1),
}


def logits_of(found: Prepared, lengths: tuple[int, ...], runtime: Runtime = CPU) -> Tensor:
    return _logits(found.model, batch(found.encoder, lengths), runtime)


def _logits(model: nn.Module, inputs: dict[str, Tensor], runtime: Runtime) -> Tensor:
    with runtime.autocast():
        output: Tensor = model(**inputs).logits
    return output


def answers(found: Prepared, lengths: tuple[int, ...], runtime: Runtime = CPU) -> dict[str, Tensor]:
    """What a model says of texts of these lengths; see `answers_to`."""
    return answers_to(found.model, batch(found.encoder, lengths), runtime)


def answers_to(model: nn.Module, inputs: dict[str, Tensor], runtime: Runtime = CPU) -> dict[str, Tensor]:
    """Logits, and the gradient of each trained parameter by name; zero where it has none.

    The query's product with a key's bias is the same for all keys and cancels: by one way that is no gradient, by
    another it is rounding.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    logits = _logits(model, inputs, runtime).float()
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    grads = torch.autograd.grad((logits * weights).sum(), list(parameters.values()), allow_unused=True)
    pairs = zip(parameters.items(), grads, strict=True)
    return {"logits": logits.detach(), **{n: torch.zeros_like(p) if g is None else g for (n, p), g in pairs}}


def assert_equal_answers(found: dict[str, Tensor], expected: dict[str, Tensor], *, of_largest: float) -> None:
    """Equal to within a share of each tensor's largest number.

    Each number is a sum over tokens and features of terms that may cancel, so its rounding is a share of the terms,
    not of the sum.
    """
    assert found.keys() == expected.keys()
    # What is zero but for rounding, such as a key's bias, has the size of its neighbours' rounding.
    floor = 1e-2 * max(tensor.abs().max().item() for tensor in expected.values())
    for name, tensor in expected.items():
        bound = of_largest * max(floor, tensor.abs().max().item())
        torch.testing.assert_close(
            found[name].to(tensor.dtype), tensor, rtol=0, atol=bound, msg=lambda text, name=name: f"{name}: {text}"
        )


def same_masks(monkeypatch: Any) -> None:
    """Every dropout, torch's and the engine's, drops the same places of the last dimension at the same rate.

    Then two ways of the same sum can be compared with dropout on, whatever rows each of them computes.
    """
    places = torch.rand(1024, generator=torch.Generator().manual_seed(11))

    def keep(shape: tuple[int, ...], p: float, device: torch.device) -> Tensor:
        return (places[: shape[-1]] >= p).expand(shape)

    def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        return x * keep(tuple(x.shape), p, x.device) / (1 - p) if training else x

    monkeypatch.setattr(attention, "keep_mask", keep)
    monkeypatch.setattr(norm, "keep_mask", keep)
    monkeypatch.setattr(nn.functional, "dropout", dropout)


def replaced(model: nn.Module) -> list[str]:
    """Names of the modules that have a forward of their own, beside their class's."""
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


@contextlib.contextmanager
def mode(model: nn.Module, *, training: bool, dropout: float | None = None) -> Any:
    """Train or eval, with every dropout at a rate; eval and its own dropouts afterwards."""
    before = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    numbers = [
        (m, m.attention_dropout) for m in model.modules() if isinstance(getattr(m, "attention_dropout", 0), float)
    ]
    model.train(training)
    if dropout is not None:
        set_dropout(model, dropout)
    try:
        yield
    finally:
        model.eval()
        for module, p in before:
            module.p = p
        for module, p in numbers:
            module.attention_dropout = p


def _but_slow(names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(pytest.param(name, marks=pytest.mark.slow) for name in names)


# Blocks of BERT's form, and of another form each: norms, gates, grouped and normed heads, positions, windows, padding.
POST_NORM = ("bert", "distilbert", *_but_slow(("roberta", "xlm-roberta", "electra")))
OTHER_FORMS = (
    *("modernbert", "deberta-v2", "mpnet", "llama", "gemma3_text", "albert"),
    *_but_slow(("deberta-v3", "eurobert", "qwen3", "olmo2", "phi3", "starcoder2", "llama-left", "llama-one-head")),
)
OTHERS = ("deberta", "convbert")

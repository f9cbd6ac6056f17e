"""Training some pretrained weights as they are: BitFit, the last layers, the head alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from feathertune.methods.adapters import scaled_rates
from feathertune.methods.base import Job, Method, Options, Size, at_rate
from feathertune.methods.targets import LayeredOptions, in_top_layers, top_blocks

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class TopLayersOptions(Options):
    """Settings of training the last layers.

    Attributes:
        n_layers: How many.
    """

    own: ClassVar[frozenset[str]] = Options.own | {"n_layers"}

    n_layers: int = Field(default=2, ge=1)


def _train(encoder: LoadedEncoder, chosen: Callable[[str], bool]) -> nn.Module:
    heads = tuple(f"{name}." for name in encoder.head_modules)
    for name, parameter in encoder.model.named_parameters():
        parameter.requires_grad_(name.startswith(heads) or chosen(name))
    model: nn.Module = encoder.model
    return model


def _biases(encoder: LoadedEncoder) -> list[str]:
    start = f"{encoder.spec.blocks}."
    return [name for name, _ in encoder.model.named_parameters() if name.startswith(start) and name.endswith("bias")]


def _needs_biases(encoder: LoadedEncoder) -> str:
    return "" if _biases(encoder) else f"the blocks of {encoder.spec.model_type} encoders have no biases"


def _needs_layers(encoder: LoadedEncoder) -> str:
    shared = encoder.spec.shared_blocks
    return f"all layers of {encoder.spec.model_type} encoders share their weights" if shared else ""


def _bitfit(encoder: LoadedEncoder, options: LayeredOptions, _job: Job) -> nn.Module:
    names = set(in_top_layers(encoder, _biases(encoder), options))
    return _train(encoder, names.__contains__)


def _top_layers(encoder: LoadedEncoder, options: TopLayersOptions, _job: Job) -> nn.Module:
    prefixes = top_blocks(encoder, options.n_layers, option="n_layers")
    return _train(encoder, lambda name: name.startswith(prefixes))


BITFIT = Method(
    name="bitfit",
    summary="Trains the biases of the encoder's layers and norms, and nothing else of it.",
    when="For the smallest file, at no cost in prediction, and with few labels.",
    source="Ben Zaken et al. 2021, arXiv:2106.10199",
    options=at_rate(LayeredOptions, 2e-3),
    build=_bitfit,
    search_space={"learning_rate": scaled_rates(2e-3)},
    refusal=_needs_biases,
)
TOP_LAYERS = Method(
    name="top-layers",
    summary="Trains the last layers whole; what comes before is computed once.",
    when="Where time is short and the file may be large: few layers are trained, and the frozen ones are cached.",
    source="Lee et al. 2019, arXiv:1911.03090",
    options=at_rate(TopLayersOptions, 1e-4),
    build=_top_layers,
    size=Size("n_layers", lambda shapes: range(1, 25)),
    search_space={"n_layers": (1, 2, 4), "learning_rate": scaled_rates(1e-4)},
    refusal=_needs_layers,
)
HEAD = Method(
    name="head",
    summary="Trains the classification head alone, on what it reads of the frozen encoder.",
    when="As a first model in seconds. A probe may be better: it may read the mean over tokens, a head reads what its "
    "family gives it.",
    source="Kumar et al. 2022, arXiv:2202.10054",
    options=at_rate(Options, 1e-3),
    build=lambda encoder, _options, _job: _train(encoder, lambda _name: False),
    search_space={"learning_rate": scaled_rates(1e-3)},
)

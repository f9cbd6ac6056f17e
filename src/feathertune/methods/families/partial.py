"""Train some of the pretrained weights: BitFit, the last layers, only the head, or a random subset (SHiRA)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from feathertune.errors import ConfigError
from feathertune.methods.adapters import adapter, scaled_rates
from feathertune.methods.base import Job, Method, Options, Shapes, Size, at_rate
from feathertune.methods.targets import (
    LayeredOptions,
    TargetedOptions,
    in_top_layers,
    shapes_of,
    target_names,
    top_blocks,
)

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class TopLayersOptions(Options):
    """Options of training the last layers.

    Attributes:
        n_layers: Number of last layers to train.
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
    starts = tuple(f"{path}." for path in encoder.spec.all_blocks)
    return [name for name, _ in encoder.model.named_parameters() if name.startswith(starts) and name.endswith("bias")]


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


class ShiraOptions(TargetedOptions):
    """SHiRA's options.

    Attributes:
        density: Share of trained weights among all weights of the target layers.
    """

    own: ClassVar[frozenset[str]] = TargetedOptions.own | {"density"}

    density: float = Field(default=0.05, gt=0, le=1)


def rank_for_density(shapes: Shapes, density: float) -> int:
    """Return PEFT's ``r`` nearest to a density over all matrices ``(m, n)``; ConfigError if out of range."""
    n_weights = sum(m * n for m, n in shapes)
    per_rank = sum(m + n for m, n in shapes)
    largest = min(m * n // (m + n) for m, n in shapes)
    r = round(density * n_weights / per_rank)
    if r < 1:
        raise ConfigError(
            f"Option 'density' of method 'shira' is {density}, but the smallest possible share is "
            f"{per_rank / n_weights:.4f} (r = 1 in PEFT). Expected at least {0.5 * per_rank / n_weights:.4f}."
        )
    if r > largest:
        raise ConfigError(
            f"Option 'density' of method 'shira' is {density}, but PEFT uses the same r for every layer, and the "
            f"smallest layer allows at most {largest * per_rank / n_weights:.2f}. Lower it, or use method 'full'."
        )
    return r


def _mask(encoder: LoadedEncoder, options: ShiraOptions, job: Job) -> Mapping[str, Any]:
    """Return PEFT's settings for a random mask drawn from the seed."""
    shapes = shapes_of(encoder, target_names(encoder, options))
    return {"r": rank_for_density(shapes, options.density), "random_seed": job.seed}


def _densities(shapes: Shapes) -> list[float]:
    n_weights, per_rank = sum(m * n for m, n in shapes), sum(m + n for m, n in shapes)
    largest = min(m * n // (m + n) for m, n in shapes)
    return [r * per_rank / n_weights for r in range(1, largest + 1)]


BITFIT = Method(
    name="bitfit",
    summary="Trains only the biases of the base model's layers and norms.",
    when="For the smallest file, with no overhead in prediction, and with few labels.",
    source="Ben Zaken et al. 2021, arXiv:2106.10199",
    options=at_rate(LayeredOptions, 2e-3),
    build=_bitfit,
    search_space={"learning_rate": scaled_rates(2e-3)},
    refusal=_needs_biases,
)
TOP_LAYERS = Method(
    name="top-layers",
    summary="Trains all weights of the last layers; the outputs of earlier layers are computed once.",
    when="If time is short and the file may be large: few layers are trained, and the frozen ones are cached.",
    source="Lee et al. 2019, arXiv:1911.03090",
    options=at_rate(TopLayersOptions, 1e-4),
    build=_top_layers,
    size=Size("n_layers", lambda shapes: range(1, 25)),
    search_space={"n_layers": (1, 2, 4), "learning_rate": scaled_rates(1e-4)},
    refusal=_needs_layers,
)
HEAD = Method(
    name="head",
    summary="Trains only the classification head on the frozen base model.",
    when="For a first model within seconds. A probe may be better: it can use mean pooling, while the head uses its "
    "model family's pooling.",
    source="Kumar et al. 2022, arXiv:2202.10054",
    options=at_rate(Options, 1e-3),
    build=lambda encoder, _options, _job: _train(encoder, lambda _name: False),
    search_space={"learning_rate": scaled_rates(1e-3)},
)
SHIRA = adapter(
    name="shira",
    conv1d=False,
    config="ShiraConfig",
    arguments=_mask,
    summary="Trains a random share of the pretrained weights (`density`) and freezes the rest.",
    when="To combine adapters or switch between them fast: a merged one changes few weights.",
    source="Bhardwaj et al. 2024, arXiv:2406.13175",
    options=at_rate(ShiraOptions, 5e-4),
    size=Size("density", _densities),
    search_space={"density": (0.01, 0.05, 0.2), "learning_rate": scaled_rates(5e-4)},
)

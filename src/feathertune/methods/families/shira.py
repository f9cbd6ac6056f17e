"""SHiRA: train a random choice of the pretrained weights themselves. Source: Bhardwaj et al. 2024, arXiv:2406.13175."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from feathertune.errors import ConfigError
from feathertune.methods.adapters import adapter, scaled_rates
from feathertune.methods.base import Job, Shapes, Size, at_rate
from feathertune.methods.targets import TargetedOptions, shapes_of, target_names

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder


class ShiraOptions(TargetedOptions):
    """SHiRA's settings.

    Attributes:
        density: Share of the target layers' weights that is trained, over all of them together.
    """

    own: ClassVar[frozenset[str]] = TargetedOptions.own | {"density"}

    density: float = Field(default=0.05, gt=0, le=1)


def rank_for_density(shapes: Shapes, density: float) -> int:
    """Return PEFT's ``r`` nearest to a density over all matrices ``(m, n)``; ConfigError if none is near."""
    n_weights = sum(m * n for m, n in shapes)
    per_rank = sum(m + n for m, n in shapes)
    largest = min(m * n // (m + n) for m, n in shapes)
    r = round(density * n_weights / per_rank)
    if r < 1:
        raise ConfigError(
            f"Option 'density' of method 'shira' is {density}, but one step of PEFT's r is already "
            f"{per_rank / n_weights:.4f} of these weights. Expected at least {0.5 * per_rank / n_weights:.4f}."
        )
    if r > largest:
        raise ConfigError(
            f"Option 'density' of method 'shira' is {density}, but PEFT gives each layer the same r and the smallest "
            f"allows no more than {largest * per_rank / n_weights:.2f}. Expected less, or method 'full'."
        )
    return r


def _mask(encoder: LoadedEncoder, options: ShiraOptions, job: Job) -> Mapping[str, Any]:
    """Return PEFT's settings of a random mask drawn from the seed."""
    shapes = shapes_of(encoder, target_names(encoder, options))
    return {"r": rank_for_density(shapes, options.density), "random_seed": job.seed}


def _densities(shapes: Shapes) -> list[float]:
    n_weights, per_rank = sum(m * n for m, n in shapes), sum(m + n for m, n in shapes)
    largest = min(m * n // (m + n) for m, n in shapes)
    return [r * per_rank / n_weights for r in range(1, largest + 1)]


SHIRA = adapter(
    name="shira",
    config="ShiraConfig",
    arguments=_mask,
    summary="Trains a random share of the pretrained weights (`density`) and keeps the rest.",
    when="Where adapters shall be added up or switched fast: a merged one touches few weights.",
    source="Bhardwaj et al. 2024, arXiv:2406.13175",
    options=at_rate(ShiraOptions, 5e-4),
    size=Size("density", _densities),
    search_space={"density": (0.01, 0.05, 0.2), "learning_rate": scaled_rates(5e-4)},
)

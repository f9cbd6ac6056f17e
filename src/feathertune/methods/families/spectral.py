"""Updates trained in another basis: FourierFT, WaveFT, and C3A's circulant blocks. Each pass transforms them back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from feathertune.errors import ConfigError
from feathertune.methods.adapters import adapter, divisor, scaled_rates
from feathertune.methods.base import Job, Size, at_rate
from feathertune.methods.targets import TargetedOptions, common_divisors, shapes_of, target_names

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder


class FourierOptions(TargetedOptions):
    """Settings of a method that trains some coefficients of each weight's spectrum, in PEFT's words.

    Attributes:
        n_frequency: Coefficients of each weight; at most as many as the smallest has numbers.
        scaling: What the update is multiplied by.
    """

    n_frequency: int = Field(default=1_000, ge=1)
    scaling: float = Field(default=150.0, gt=0)


class WaveOptions(FourierOptions):
    """WaveFT's settings."""

    scaling: float = Field(default=25.0, gt=0)


class C3aOptions(TargetedOptions):
    """C3A's settings, in PEFT's words.

    Attributes:
        block_size: Of the circulant blocks, a divisor of all widths; null takes up to 128. Larger blocks train less.
    """

    block_size: int | None = Field(default=None, ge=1)


def _frequencies(encoder: LoadedEncoder, options: FourierOptions, job: Job) -> Mapping[str, Any]:
    smallest = min(m * n for m, n in shapes_of(encoder, target_names(encoder, options)))
    if options.n_frequency > smallest:
        raise ConfigError(
            f"Option 'n_frequency' is {options.n_frequency}, but the smallest target layer of {encoder.id} has only "
            f"{smallest} numbers. Give at most {smallest}."
        )
    return {"random_loc_seed": job.seed}


_COUNTS = Size("n_frequency", lambda shapes: range(1, min(m * n for m, n in shapes) + 1))

FOURIERFT = adapter(
    name="fourierft",
    config="FourierFTConfig",
    fixed={"init_weights": True},  # PEFT's own start is random
    arguments=_frequencies,
    summary="Trains some Fourier coefficients of each update, at places drawn at random.",
    when="For very small adapters; it needs a high rate.",
    source="Gao et al. 2024, arXiv:2405.03003",
    options=at_rate(FourierOptions, 2e-2),
    size=_COUNTS,
    search_space={"n_frequency": (200, 1_000), "learning_rate": scaled_rates(2e-2)},
)
WAVEFT = adapter(
    name="waveft",
    config="WaveFTConfig",
    arguments=_frequencies,
    summary="Trains some wavelet coefficients of each update, at places drawn at random.",
    when="As FourierFT, where a coefficient shall touch a few weights and not all of them.",
    source="Bilican et al. 2025, arXiv:2505.12532",
    options=at_rate(WaveOptions, 3e-4),
    size=_COUNTS,
    search_space={"n_frequency": (200, 1_000), "learning_rate": scaled_rates(3e-4)},
)
C3A = adapter(
    name="c3a",
    conv1d=False,
    config="C3AConfig",
    fixed={"init_weights": True},  # as FourierFT's
    arguments=divisor("c3a", "block_size", most=128),
    summary="Adds blocks that are circulant matrices: each is one trained vector, applied by the fast Fourier "
    "transform.",
    when="For an update of high rank from few parameters.",
    source="Chen et al. 2024, arXiv:2407.19342",
    options=at_rate(C3aOptions, 1e-1),
    size=Size("block_size", common_divisors),
    search_space={"learning_rate": scaled_rates(1e-1)},
)

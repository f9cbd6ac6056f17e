"""Updates trained in another basis and transformed back in each pass: FourierFT, WaveFT, C3A's circulant blocks."""

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
    """Options of a method that trains some coefficients of each update's spectrum, with PEFT's names.

    Attributes:
        n_frequency: Number of coefficients per weight; at most the size of the smallest weight.
        scaling: Factor of the update.
    """

    n_frequency: int = Field(default=1_000, ge=1)
    scaling: float = Field(default=150.0, gt=0)


class WaveOptions(FourierOptions):
    """WaveFT's options."""

    scaling: float = Field(default=25.0, gt=0)


class C3aOptions(TargetedOptions):
    """C3A's options, with PEFT's names.

    Attributes:
        block_size: Size of the circulant blocks; must divide all widths. Null means the largest up to 128. Larger
            blocks have fewer trained parameters.
    """

    block_size: int | None = Field(default=None, ge=1)


def _frequencies(encoder: LoadedEncoder, options: FourierOptions, job: Job) -> Mapping[str, Any]:
    smallest = min(m * n for m, n in shapes_of(encoder, target_names(encoder, options)))
    if options.n_frequency > smallest:
        raise ConfigError(
            f"Option 'n_frequency' is {options.n_frequency}, but the smallest target layer of {encoder.id} has only "
            f"{smallest} weights. Set it to {smallest} or less."
        )
    return {"random_loc_seed": job.seed}


_COUNTS = Size("n_frequency", lambda shapes: range(1, min(m * n for m, n in shapes) + 1))

FOURIERFT = adapter(
    name="fourierft",
    config="FourierFTConfig",
    fixed={"init_weights": True},  # PEFT's default is random
    arguments=_frequencies,
    summary="Trains randomly selected Fourier coefficients of each update.",
    when="For very small adapters. It needs a high learning rate.",
    source="Gao et al. 2024, arXiv:2405.03003",
    options=at_rate(FourierOptions, 2e-2),
    size=_COUNTS,
    search_space={"n_frequency": (200, 1_000), "learning_rate": scaled_rates(2e-2)},
)
WAVEFT = adapter(
    name="waveft",
    config="WaveFTConfig",
    arguments=_frequencies,
    summary="Trains randomly selected wavelet coefficients of each update.",
    when="Like FourierFT, but each coefficient affects a few weights instead of all.",
    source="Bilican et al. 2025, arXiv:2505.12532",
    options=at_rate(WaveOptions, 3e-4),
    size=_COUNTS,
    search_space={"n_frequency": (200, 1_000), "learning_rate": scaled_rates(3e-4)},
)
C3A = adapter(
    name="c3a",
    conv1d=False,
    config="C3AConfig",
    fixed={"init_weights": True},  # as for FourierFT
    arguments=divisor("c3a", "block_size", most=128),
    summary="Adds circulant blocks, each defined by one trained vector and applied with a fast Fourier transform.",
    when="For a high-rank update with few parameters.",
    source="Chen et al. 2024, arXiv:2407.19342",
    options=at_rate(C3aOptions, 1e-1),
    size=Size("block_size", common_divisors),
    search_space={"learning_rate": scaled_rates(1e-1)},
)

"""Low-rank updates that are split into blocks or bounded: GraLoRA, MiSS, DeLoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from feathertune.errors import ConfigError
from feathertune.methods.adapters import EVEN_RANK, RANK, RankOptions, adapter, scaled_rates
from feathertune.methods.base import Job, at_rate
from feathertune.methods.targets import common_divisors, shapes_of, target_names

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder


class GraloraOptions(RankOptions):
    """GraLoRA's settings, in PEFT's words.

    Attributes:
        alpha: The update is scaled by ``alpha / r``.
        gralora_k: Blocks to a side; it divides ``r`` and all widths.
    """

    alpha: int = Field(default=16, ge=1)
    gralora_k: int = Field(default=2, ge=1)


class DeloraOptions(RankOptions):
    """DeLoRA's settings, in PEFT's words.

    Attributes:
        delora_lambda: Bound of the update's size at the start; it is learned.
    """

    delora_lambda: float = Field(default=1.0, gt=0)


def _fits_blocks(encoder: LoadedEncoder, options: GraloraOptions, _job: Job) -> Mapping[str, Any]:
    allowed = common_divisors(shapes_of(encoder, target_names(encoder, options)))
    if options.gralora_k not in allowed or options.r % options.gralora_k:
        raise ConfigError(
            f"Option 'gralora_k' of method 'gralora' is {options.gralora_k}, which does not divide r ({options.r}) and "
            f"the widths of all target layers of {encoder.id}. They allow {', '.join(map(str, allowed))}."
        )
    return {}


GRALORA = adapter(
    name="gralora",
    config="GraloraConfig",
    arguments=_fits_blocks,
    summary="Cuts each weight into blocks and gives each a LoRA of its own: a higher rank for LoRA's parameters.",
    when="At high ranks, where one outlying input column spoils all of LoRA's update.",
    source="Jung et al. 2025, arXiv:2505.20355",
    options=at_rate(GraloraOptions, 1e-3),
    size=EVEN_RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(1e-3)},
)
MISS = adapter(
    name="miss",
    config="MissConfig",
    summary="Trains one small matrix a weight that is repeated over the shards of its input.",
    when="Where LoRA's memory is too much: half of its parameters at the same rank, one product less.",
    source="Kang & Yin 2024, arXiv:2409.15371",
    options=at_rate(RankOptions, 2e-4),
    size=RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(2e-4)},
)
DELORA = adapter(
    name="delora",
    config="DeloraConfig",
    summary="LoRA whose update is normalised and bounded, so that direction and strength are learned apart.",
    when="Where high rates or long trainings drive LoRA away from the encoder.",
    source="Bini et al. 2025, arXiv:2503.18225",
    options=at_rate(DeloraOptions, 1e-3),
    size=RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(1e-3)},
)

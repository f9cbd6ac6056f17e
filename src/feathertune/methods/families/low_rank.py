"""Low-rank updates in other forms: products (LoHa, LoKr, HiRA), blocks (GraLoRA, MiSS), bounded (DeLoRA).

An elementwise or Kronecker product has a higher rank than its factors.
"""

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


class LohaOptions(RankOptions):
    """LoHa's options, with PEFT's names.

    Attributes:
        alpha: The update is scaled by ``alpha / r``.
    """

    alpha: int = Field(default=16, ge=1)


class LokrOptions(LohaOptions):
    """LoKr's options, with PEFT's names.

    Attributes:
        decompose_factor: Size of the smaller factor; -1 makes both factors as square as possible.
    """

    decompose_factor: int = -1


class GraloraOptions(RankOptions):
    """GraLoRA's options, with PEFT's names.

    Attributes:
        alpha: The update is scaled by ``alpha / r``.
        gralora_k: Blocks per side; must divide ``r`` and all widths.
    """

    alpha: int = Field(default=16, ge=1)
    gralora_k: int = Field(default=2, ge=1)


class DeloraOptions(RankOptions):
    """DeLoRA's options, with PEFT's names.

    Attributes:
        delora_lambda: Initial bound of the update's norm; the bound is trained.
    """

    delora_lambda: float = Field(default=1.0, gt=0)


def _fits_blocks(encoder: LoadedEncoder, options: GraloraOptions, _job: Job) -> Mapping[str, Any]:
    allowed = common_divisors(shapes_of(encoder, target_names(encoder, options)))
    if options.gralora_k not in allowed or options.r % options.gralora_k:
        raise ConfigError(
            f"Option 'gralora_k' of method 'gralora' is {options.gralora_k}, but must divide r ({options.r}) and the "
            f"widths of all target layers of {encoder.id}. The widths allow {', '.join(map(str, allowed))}."
        )
    return {}


LOHA = adapter(
    name="loha",
    conv1d=False,
    config="LoHaConfig",
    summary="Adds the elementwise product of two low-rank matrices: rank up to r squared for twice LoRA's parameters.",
    when="If LoRA's rank limits the score. It is slower, since it computes the whole update matrix.",
    source="Hyeon-Woo et al. 2022 (FedPara), arXiv:2108.06098",
    options=at_rate(LohaOptions, 3e-3),
    size=RANK,
    search_space={"r": (4, 8, 16), "learning_rate": scaled_rates(3e-3)},
)
LOKR = adapter(
    name="lokr",
    conv1d=False,
    config="LoKrConfig",
    summary="Adds the Kronecker product of a small matrix and a low-rank one.",
    when="For very small adapters. At ranks in the hundreds, scaling by alpha / r makes the update small.",
    source="Yeh et al. 2023 (LyCORIS), arXiv:2309.14859",
    options=at_rate(LokrOptions, 2e-3),
    size=RANK,
    search_space={"r": (4, 8, 32), "learning_rate": scaled_rates(2e-3)},
)
HIRA = adapter(
    name="hira",
    config="HiraConfig",
    summary="Adds the elementwise product of the pretrained weight and a low-rank matrix.",
    when="If LoRA's rank limits the score: the update has up to the weight's rank, and merging makes it free.",
    source="Huang et al. 2025, ICLR, openreview:TwJrTz9cRS",
    options=at_rate(RankOptions, 5e-3),
    size=RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(5e-3)},
)
GRALORA = adapter(
    name="gralora",
    config="GraloraConfig",
    arguments=_fits_blocks,
    summary="Splits each weight into blocks, each with a separate LoRA: a higher rank for LoRA's parameters.",
    when="At high ranks, where a single outlier input channel distorts LoRA's whole update.",
    source="Jung et al. 2025, arXiv:2505.20355",
    options=at_rate(GraloraOptions, 1e-3),
    size=EVEN_RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(1e-3)},
)
MISS = adapter(
    name="miss",
    conv1d=False,
    config="MissConfig",
    summary="Trains one small matrix per weight, which is shared by the shards of its input.",
    when="If LoRA needs too much memory: half of its parameters at the same rank, and one matrix product less.",
    source="Kang & Yin 2024, arXiv:2409.15371",
    options=at_rate(RankOptions, 2e-4),
    size=RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(2e-4)},
)
DELORA = adapter(
    name="delora",
    conv1d=False,
    config="DeloraConfig",
    summary="LoRA with a normalized, bounded update that trains direction and strength separately.",
    when="If high learning rates or long training move LoRA too far from the base model.",
    source="Bini et al. 2025, arXiv:2503.18225",
    options=at_rate(DeloraOptions, 1e-3),
    size=RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(1e-3)},
)

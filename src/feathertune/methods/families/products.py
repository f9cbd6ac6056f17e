"""Elementwise or Kronecker products of small matrices, of higher rank than the factors: LoHa, LoKr, HiRA."""

from __future__ import annotations

from pydantic import Field

from feathertune.methods.adapters import RANK, RankOptions, adapter, scaled_rates
from feathertune.methods.base import at_rate


class LohaOptions(RankOptions):
    """LoHa's settings, in PEFT's words.

    Attributes:
        alpha: The update is scaled by ``alpha / r``.
    """

    alpha: int = Field(default=16, ge=1)


class LokrOptions(LohaOptions):
    """LoKr's settings, in PEFT's words.

    Attributes:
        decompose_factor: The size of the smaller factor; -1 makes both as square as can be.
    """

    decompose_factor: int = -1


LOHA = adapter(
    name="loha",
    config="LoHaConfig",
    summary="Adds the elementwise product of two low-rank matrices: rank up to r squared for twice LoRA's parameters.",
    when="Where LoRA's rank is seen to limit; it is slower, since the update is formed whole.",
    source="Hyeon-Woo et al. 2022 (FedPara), arXiv:2108.06098",
    options=at_rate(LohaOptions, 3e-3),
    size=RANK,
    search_space={"r": (4, 8, 16), "learning_rate": scaled_rates(3e-3)},
)
LOKR = adapter(
    name="lokr",
    config="LoKrConfig",
    summary="Adds the Kronecker product of a small matrix and a low-rank one.",
    when="For very small adapters; at a rank of hundreds the scaling by alpha / r leaves little of the update.",
    source="Yeh et al. 2023 (LyCORIS), arXiv:2309.14859",
    options=at_rate(LokrOptions, 2e-3),
    size=RANK,
    search_space={"r": (4, 8, 32), "learning_rate": scaled_rates(2e-3)},
)
HIRA = adapter(
    name="hira",
    config="HiraConfig",
    summary="Adds the elementwise product of the pretrained weight and a low-rank matrix.",
    when="Where LoRA's rank is seen to limit: the update has the weight's own rank, and the merged model no cost.",
    source="Huang et al. 2025, ICLR, openreview:TwJrTz9cRS",
    options=at_rate(RankOptions, 5e-3),
    size=RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(5e-3)},
)

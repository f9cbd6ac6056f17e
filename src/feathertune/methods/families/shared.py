"""Updates from parts that all layers share: VeRA, RandLoRA (random matrices), VB-LoRA (a bank of vectors)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from feathertune.methods.adapters import RANK, RankOptions, adapter, divisor, scaled_rates
from feathertune.methods.base import Job, Size, at_rate
from feathertune.methods.targets import TargetedOptions

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder


class VeraOptions(TargetedOptions):
    """VeRA's settings, in PEFT's words.

    Attributes:
        r: Rank of the random matrices; each layer trains as many numbers, and one for each output.
        d_initial: What the trained vector of length r begins with.
        save_projection: Store the random matrices too, instead of drawing them anew from the seed at each load.
    """

    r: int = Field(default=64, ge=1)
    d_initial: float = Field(default=0.1, gt=0)
    save_projection: bool = True


class RandLoraOptions(RankOptions):
    """RandLoRA's settings, in PEFT's words.

    Attributes:
        r: Rank of each random base; the smaller, the more bases there are, and the more is trained.
        randlora_alpha: The update is scaled by ``randlora_alpha / r``.
        save_projection: Store the random matrices too, instead of drawing them anew from the seed at each load.
    """

    r: int = Field(default=32, ge=1)
    randlora_alpha: int = Field(default=640, ge=1)
    save_projection: bool = True


class VbLoraOptions(TargetedOptions):
    """VB-LoRA's settings, in PEFT's words.

    Attributes:
        r: Rank of the update.
        num_vectors: In the bank.
        vector_length: Of each, a divisor of all widths; null takes the largest one up to 128.
        topk: Vectors that are mixed into each piece.
    """

    r: int = Field(default=4, ge=1)
    num_vectors: int = Field(default=64, ge=2)
    vector_length: int | None = Field(default=None, ge=1)
    topk: int = Field(default=2, ge=1)


_vector_length = divisor("vblora", "vector_length", most=128)


def _bank(encoder: LoadedEncoder, options: VbLoraOptions, job: Job) -> Mapping[str, Any]:
    return {**_vector_length(encoder, options, job), "topk": min(options.topk, options.num_vectors)}


def _seed(_encoder: LoadedEncoder, _options: Any, job: Job) -> Mapping[str, Any]:  # noqa: ANN401 - any Options
    return {"projection_prng_key": job.seed}


VERA = adapter(
    name="vera",
    config="VeraConfig",
    arguments=_seed,
    summary="LoRA with one pair of random matrices for all layers, that stay; two vectors a layer are trained.",
    when="For many adapters of one encoder at once: a few kilobytes each, beside the shared matrices.",
    source="Kopiczko et al. 2023, arXiv:2310.11454",
    options=at_rate(VeraOptions, 1e-2),
    size=Size("r", lambda shapes: [2**n for n in range(15)]),
    search_space={"r": (64, 256), "learning_rate": scaled_rates(1e-2)},
)
RANDLORA = adapter(
    name="randlora",
    config="RandLoraConfig",
    arguments=_seed,
    summary="Adds a sum of random low-rank matrices, each scaled by trained vectors: an update of full rank.",
    when="Where an update of full rank is wanted without training all weights; its bundle holds the random matrices "
    "too (`save_projection`), which are far larger than what was trained.",
    source="Albert et al. 2025, arXiv:2502.00987",
    options=at_rate(RandLoraOptions, 2e-4),
    size=RANK,
    search_space={"r": (16, 32, 64), "learning_rate": scaled_rates(2e-4)},
)
VBLORA = adapter(
    name="vblora",
    config="VBLoRAConfig",
    arguments=_bank,
    summary="LoRA whose matrices are mixed from one bank of trained vectors that all layers share.",
    when="For very small adapters; it needs a high rate and more steps than LoRA.",
    source="Li et al. 2024, arXiv:2405.15179",
    options=at_rate(VbLoraOptions, 5e-3),
    zero_init=False,
    size=Size("num_vectors", lambda shapes: [2**n for n in range(2, 13)]),
    search_space={"num_vectors": (64, 256), "learning_rate": scaled_rates(5e-3)},
)

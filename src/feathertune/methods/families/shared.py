"""Updates from parts shared by all layers: VeRA, RandLoRA (random matrices), VB-LoRA (a vector bank)."""

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
    """VeRA's options, with PEFT's names.

    Attributes:
        r: Rank of the random matrices; each layer trains r numbers, and one per output.
        d_initial: Initial value of the trained vector of length r.
        save_projection: Store the random matrices, instead of redrawing them from the seed at each load.
    """

    r: int = Field(default=64, ge=1)
    d_initial: float = Field(default=0.1, gt=0)
    save_projection: bool = True


class RandLoraOptions(RankOptions):
    """RandLoRA's options, with PEFT's names.

    Attributes:
        r: Rank of each random basis; a smaller rank means more bases and more trained parameters.
        randlora_alpha: The update is scaled by ``randlora_alpha / r``.
        save_projection: Store the random matrices, instead of redrawing them from the seed at each load.
    """

    r: int = Field(default=32, ge=1)
    randlora_alpha: int = Field(default=640, ge=1)
    save_projection: bool = True


class VbLoraOptions(TargetedOptions):
    """VB-LoRA's options, with PEFT's names.

    Attributes:
        r: Rank of the update.
        num_vectors: Number of vectors in the bank.
        vector_length: Length of each vector; must divide all widths. Null means the largest up to 128.
        topk: Number of vectors mixed into each piece.
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
    summary="LoRA with one frozen pair of random matrices for all layers; trains two vectors per layer.",
    when="For many adapters of one base model: a few kilobytes each, plus the shared matrices.",
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
    when="For a full-rank update without training all weights. By default (`save_projection`) its bundle includes the "
    "random matrices, which are far larger than the trained vectors.",
    source="Albert et al. 2025, arXiv:2502.00987",
    options=at_rate(RandLoraOptions, 2e-4),
    size=RANK,
    search_space={"r": (16, 32, 64), "learning_rate": scaled_rates(2e-4)},
)
VBLORA = adapter(
    name="vblora",
    config="VBLoRAConfig",
    arguments=_bank,
    summary="LoRA with matrices mixed from one bank of trained vectors that all layers share.",
    when="For very small adapters. It needs a high learning rate and more steps than LoRA.",
    source="Li et al. 2024, arXiv:2405.15179",
    options=at_rate(VbLoraOptions, 5e-3),
    zero_init=False,
    size=Size("num_vectors", lambda shapes: [2**n for n in range(2, 13)]),
    search_space={"num_vectors": (64, 256), "learning_rate": scaled_rates(5e-3)},
)

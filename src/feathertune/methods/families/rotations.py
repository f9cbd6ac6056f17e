"""Trained rotations that multiply the pretrained weights in every forward pass: OFT, BOFT, HRA, RoAd."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from feathertune.methods.adapters import EVEN_RANK, RankOptions, adapter, divisor, scaled_rates
from feathertune.methods.base import Size, at_rate
from feathertune.methods.targets import TargetedOptions, common_divisors


class OftOptions(TargetedOptions):
    """OFT's options, with PEFT's names.

    Attributes:
        oft_block_size: Size of the rotations along the diagonal; must divide all widths. Null means the largest up to
            32.
    """

    oft_block_size: int | None = Field(default=None, ge=2)


class BoftOptions(TargetedOptions):
    """BOFT's options, with PEFT's names.

    Attributes:
        boft_block_size: Size of each factor's rotations; must divide all widths. Null means the largest up to 8.
        boft_n_butterfly_factor: Number of factors; PEFT uses one if its CUDA code is not built.
    """

    boft_block_size: int | None = Field(default=None, ge=2)
    boft_n_butterfly_factor: int = Field(default=1, ge=1)


class HraOptions(RankOptions):
    """HRA's options, with PEFT's names.

    Attributes:
        r: Number of reflections.
        apply_GS: Make the reflections orthogonal to each other.
    """

    apply_GS: bool = False


class RoadOptions(TargetedOptions):
    """RoAd's options, with PEFT's names.

    Attributes:
        variant: Number of angles and scales per pair of outputs: ``road_1``, ``road_2`` or ``road_4``.
        group_size: Size of the groups in which outputs are paired; must divide all widths. Null means the largest up
            to 64.
    """

    variant: Literal["road_1", "road_2", "road_4"] = "road_1"
    group_size: int | None = Field(default=None, ge=2)


OFT = adapter(
    name="oft",
    conv1d=False,
    config="OFTConfig",
    arguments=divisor("oft", "oft_block_size", least=2, most=32),  # a block of size one cannot rotate
    summary="Rotates the inputs of each weight in small blocks; the rotations are trained.",
    when="To change the base model's pretrained features as little as possible.",
    source="Qiu et al. 2023, arXiv:2306.07280",
    options=at_rate(OftOptions, 5e-4),
    size=Size("oft_block_size", lambda shapes: common_divisors(shapes)[1:]),
    search_space={"learning_rate": scaled_rates(5e-4)},
)
BOFT = adapter(
    name="boft",
    conv1d=False,
    config="BOFTConfig",
    arguments=divisor("boft", "boft_block_size", least=2, most=8),
    summary="OFT with rotations that are products of sparse factors and mix all inputs.",
    when="Like OFT, with fewer parameters. Slow without a GPU.",
    source="Liu et al. 2023, arXiv:2311.06243",
    options=at_rate(BoftOptions, 2e-3),
    size=Size("boft_block_size", lambda shapes: common_divisors(shapes)[1:]),
    search_space={"learning_rate": scaled_rates(2e-3)},
)
HRA = adapter(
    name="hra",
    conv1d=False,
    config="HRAConfig",
    summary="Rotates each weight by a chain of trained Householder reflections.",
    when="Like OFT, with a freely adjustable size.",
    source="Yuan et al. 2024, arXiv:2405.17484",
    options=at_rate(HraOptions, 2e-3),
    size=EVEN_RANK,
    search_space={"r": (8, 32), "learning_rate": scaled_rates(2e-3)},
)
ROAD = adapter(
    name="road",
    conv1d=False,
    config="RoadConfig",
    arguments=divisor("road", "group_size", least=2, most=64),
    summary="Rotates and scales pairs of each layer's outputs.",
    when="For very small adapters, several of which can serve one batch.",
    source="Liao & Monz 2024, arXiv:2409.00119",
    options=at_rate(RoadOptions, 5e-3),
    size=Size("variant", lambda shapes: ("road_1", "road_2", "road_4")),
    search_space={"variant": ("road_1", "road_2", "road_4"), "learning_rate": scaled_rates(5e-3)},
)

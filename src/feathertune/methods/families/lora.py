"""LoRA and variants that differ by a setting. Source: Hu et al. 2021, arXiv:2106.09685, section 4.1."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from feathertune.methods.adapters import RANK, RankOptions, adapter
from feathertune.methods.base import Job, ScaledRate, at_rate

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class LoraOptions(RankOptions):
    """LoRA's options, with PEFT's names.

    Attributes:
        lora_alpha: The update is scaled by ``lora_alpha / r``.
        lora_dropout: Dropout of the update's inputs; its masks cost more time than the update.
    """

    lora_alpha: int = Field(default=16, ge=1)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)


class LoraPlusOptions(LoraOptions):
    """LoRA+'s options.

    Attributes:
        loraplus_lr_ratio: Learning rate of B divided by that of A.
    """

    own: ClassVar[frozenset[str]] = LoraOptions.own | {"loraplus_lr_ratio"}

    loraplus_lr_ratio: float = Field(default=4.0, ge=1)


def _faster_b(options: LoraPlusOptions) -> Callable[[str], float]:
    return lambda name: options.loraplus_lr_ratio if ".lora_B." in name else 1.0


def _freeze_a(model: nn.Module, _encoder: LoadedEncoder, _options: LoraOptions, _job: Job) -> None:
    for name, parameter in model.named_parameters():
        if ".lora_A." in name:
            parameter.requires_grad_(False)


SPACE = {"r": (2, 8, 32), "learning_rate": (5e-4, 1e-3, 2e-3)}
# Ten times full fine-tuning's rate or more, higher in short trainings and on narrow models, as in "LoRA Without Regret"
# (Schulman et al. 2025). Chosen on development rows (benchmarks/LOG.md).
RATE = ScaledRate(highest=2e-3, lowest=2e-4, hidden_size=384, n_steps=128)
lora_method = partial(adapter, config="LoraConfig", size=RANK, options=at_rate(LoraOptions, 5e-4), search_space=SPACE)

LORA = lora_method(
    name="lora",
    scaled_rate=RATE,
    summary="Adds the product of two thin trained matrices to each linear layer; pretrained weights stay frozen.",
    when="Try it first: the engine runs it fastest, every tool loads it, and most others gain little over it.",
    source="Hu et al. 2021, arXiv:2106.09685",
)
RSLORA = lora_method(
    name="rslora",
    fixed={"use_rslora": True},
    summary="LoRA with the update scaled by 1 / sqrt(r), so high ranks learn as fast as low ones.",
    when="At ranks of 32 and above, where plain LoRA's update becomes small.",
    source="Kalajdzievski 2023, arXiv:2312.03732",
)
DORA = lora_method(
    name="dora",
    scaled_rate=RATE,
    fixed={"use_dora": True},
    summary="Splits each weight into magnitude and direction: LoRA trains the direction, a vector the magnitudes.",
    when="At very low ranks. Each step costs more than LoRA's, since the norm of every weight is recomputed.",
    source="Liu et al. 2024, arXiv:2402.09353",
)
LORA_PLUS = lora_method(
    name="lora-plus",
    summary="LoRA with a higher learning rate for the second matrix than for the first.",
    when="On wide base models. Small ones showed no gain in our benchmarks (benchmarks/LOG.md).",
    source="Hayou et al. 2024, arXiv:2402.12354",
    options=at_rate(LoraPlusOptions, 2e-4),
    search_space={**SPACE, "learning_rate": (2e-4, 5e-4, 1e-3), "loraplus_lr_ratio": (2.0, 4.0, 16.0)},
    rates=_faster_b,
)
LORA_FA = lora_method(
    name="lora-fa",
    then=_freeze_a,
    summary="LoRA with a frozen random first matrix, so a layer's wide input need not be stored.",
    when="If memory is short: half of LoRA's parameters and fewer stored activations.",
    source="Zhang et al. 2023, arXiv:2308.03303",
    options=at_rate(LoraOptions, 2e-3),
    search_space={**SPACE, "learning_rate": (5e-4, 2e-3, 5e-3)},
)

"""LoRA: a low-rank update beside each weight. Hu et al. 2021, arXiv:2106.09685, section 4.1.

Not for a change of rank during training (that is AdaLoRA) or of chosen single weights (`feathertune.methods.shira`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from feathertune.methods.base import Method, TargetedOptions, adapt, target_names

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class LoraOptions(TargetedOptions):
    """LoRA's settings, in PEFT's words.

    Attributes:
        r: Rank of the update of each weight.
        lora_alpha: The update is scaled by ``lora_alpha / r``.
        lora_dropout: Share of a layer's inputs that the update does not see while training. Zero, as in PEFT: on a
            processor drawing the masks costs more time than the update itself.
    """

    # About ten times full fine-tuning's rate ("LoRA Without Regret", Schulman et al. 2025).
    learning_rate: float = Field(default=5e-4, gt=0)
    r: int = Field(default=8, ge=1)
    lora_alpha: int = Field(default=16, ge=1)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)


def prepare(encoder: LoadedEncoder, options: LoraOptions, seed: int) -> nn.Module:
    """Wrap the encoder by PEFT's LoRA; the head is trained and saved with it."""
    from peft import LoraConfig, TaskType

    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=options.r,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules=target_names(encoder, options),
        modules_to_save=list(encoder.head_modules),
    )
    return adapt(encoder, config)


LORA = Method(
    name="lora",
    kind="peft",
    summary="Adds a trained product of two thin matrices to each linear layer; the pretrained weights stay.",
    source="Hu et al. 2021, arXiv:2106.09685",
    options=LoraOptions,
    prepare=prepare,
)

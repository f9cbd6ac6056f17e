"""Full fine-tuning: every weight moves. The yardstick; what is shipped is as large as the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from feathertune.methods.base import Job, Method, Options

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class FullOptions(Options):
    """Full fine-tuning has only its rate."""

    learning_rate: float = Field(default=5e-5, gt=0)


def build(encoder: LoadedEncoder, options: FullOptions, job: Job) -> nn.Module:
    """The model itself, all of it trained."""
    model: nn.Module = encoder.model
    return model.requires_grad_(True)


FULL = Method(
    name="full",
    kind="full",
    summary="Trains every weight of the encoder and the head: the yardstick.",
    when="As the yardstick, and where the file may be as large as the encoder and the last half point counts.",
    source="Devlin et al. 2018, arXiv:1810.04805",
    options=FullOptions,
    build=build,
    search_space={"learning_rate": (2e-5, 5e-5, 1e-4)},
)

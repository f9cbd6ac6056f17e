"""Full fine-tuning, the reference: every weight is trained, and the shipped file is as large as the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from feathertune.methods.base import Job, Method, Options

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class FullOptions(Options):
    """Settings of full fine-tuning.

    Attributes:
        learning_rate: The highest rate; 1e-4 by default with ``read=mean``.
        read: Input of the untrained head: ``first``, the first token's state; ``mean``, the mean over all tokens.
    """

    own: ClassVar[frozenset[str]] = Options.own | {"read"}

    learning_rate: float = Field(default=5e-5, gt=0)
    read: Literal["first", "mean"] = "first"

    @model_validator(mode="before")
    @classmethod
    def _rate_of_reading(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Few labels make few steps: chosen on development rows (benchmarks/LOG.md)."""
        return {"learning_rate": 1e-4, **values} if values.get("read") == "mean" else values


def build(encoder: LoadedEncoder, options: FullOptions, job: Job) -> nn.Module:
    """Return the encoder's model with all of it trained."""
    if options.read == "mean":
        from feathertune.methods.families.mean_reading import read_the_mean

        read_the_mean(encoder)
    model: nn.Module = encoder.model
    return model.requires_grad_(True)


FULL = Method(
    name="full",
    kind="full",
    summary="Trains every weight of the encoder and the head: the yardstick.",
    when="As the yardstick, and where the file may be as large as the encoder and the last half point counts. With few "
    "labels, on a sentence encoder: full:read=mean.",
    source="Devlin et al. 2018, arXiv:1810.04805",
    options=FullOptions,
    build=build,
    search_space={"learning_rate": (2e-5, 5e-5, 1e-4)},
    rereads=lambda options: options.read != "first",
)

"""Full fine-tuning: every weight moves. The yardstick; what is shipped is as large as the encoder.

With ``read=mean`` the head begins with the mean over a text's tokens, as sentence encoders are read, instead of the
first token's state. Not where the first token was trained to stand for the text, nor with many labels: full fine-tuning
teaches it to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from feathertune.errors import ConfigError
from feathertune.methods.base import Job, Method, Options

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


class FullOptions(Options):
    """Settings of full fine-tuning.

    Attributes:
        read: What the head reads before anything is trained: ``first``, the state of the first token, as the family
            has it; ``mean``, the same token when it looks at all tokens alike in the last layer.
    """

    own: ClassVar[frozenset[str]] = Options.own | {"read"}

    learning_rate: float = Field(default=5e-5, gt=0)
    read: Literal["first", "mean"] = "first"


def build(encoder: LoadedEncoder, options: FullOptions, job: Job) -> nn.Module:
    """The model itself, all of it trained."""
    if options.read == "mean":
        look_at_all_alike(encoder)
    model: nn.Module = encoder.model
    return model.requires_grad_(True)


def look_at_all_alike(encoder: LoadedEncoder) -> None:
    """Set the query of the last block to zero: a softmax of equal scores is a mean.

    The model stays one of its family, which transformers loads as it is, and training may give some tokens more weight
    than others again.

    Raises:
        ConfigError: If the block has no query of its own to set.
    """
    spec = encoder.spec
    if spec.shared_blocks or len(spec.query) != 1 or spec.query == spec.key:
        raise ConfigError(
            f"Option 'read' of method 'full' is 'mean', but the last layer of {spec.model_type} encoders has no query "
            "of its own to set to zero. Leave it out."
        )
    for parameter in encoder.blocks[-1].get_submodule(spec.query[0]).parameters():
        parameter.detach().zero_()


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

"""Full fine-tuning, the reference: trains every weight and ships a file as large as the encoder."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from feathertune.errors import ConfigError
from feathertune.methods.base import Job, Method, Options

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder


# The added block adds its input at the first token to attention's output, which this factor makes dominate: the result
# is the mean to within a thousandth.
_TIMES = 1_000.0


class FullOptions(Options):
    """Options of full fine-tuning.

    Attributes:
        learning_rate: Peak learning rate; default 1e-4 with ``read=mean``.
        read: Pooling for the head: ``first`` (first token's state) or ``mean`` (mean over all tokens).
    """

    own: ClassVar[frozenset[str]] = Options.own | {"read"}

    learning_rate: float = Field(default=5e-5, gt=0)
    read: Literal["first", "mean"] = "first"

    @model_validator(mode="before")
    @classmethod
    def _rate_of_reading(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Set the rate for ``read=mean``, which is for few labels; tuned on development rows (benchmarks/LOG.md)."""
        return {"learning_rate": 1e-4, **values} if values.get("read") == "mean" else values


def build(encoder: LoadedEncoder, options: FullOptions, job: Job) -> nn.Module:
    """Return the encoder's model with all weights trainable."""
    if options.read == "mean":
        read_the_mean(encoder)
    model: nn.Module = encoder.model
    return model.requires_grad_(True)


def read_the_mean(encoder: LoadedEncoder) -> None:
    """Add mean pooling for the head, as in sentence encoders; ConfigError if the encoder does not support it.

    Adds a block whose attention weighs all tokens equally and whose norms scale the mean to unit length. Query and key
    start at zero; each is a factor of the other's gradient, so both stay zero and the result stays a mean. Layers up to
    the output layer start as the identity. Derivation: our own.
    """
    import torch

    form = encoder.forms[-1] if encoder.forms else None
    if form is None or not form.is_berts or encoder.facts.token != "first" or encoder.spec.shared_blocks:
        raise ConfigError(
            f"Option 'read' of method 'full' is 'mean', but mean pooling needs BERT's kind of blocks, which "
            f"{encoder.spec.model_type} encoders do not have. Remove the option."
        )
    block = copy.deepcopy(encoder.blocks[-1])
    identity = torch.eye(encoder.hidden_size)
    weights = {name: torch.zeros_like(value) for name, value in block.state_dict().items()}
    weights[f"{form.value}.weight"] = identity
    weights[f"{form.output}.weight"] = _TIMES * identity
    weights[f"{form.attention_norms.of_sum}.weight"] += 1.0
    weights[f"{form.mlp_norms.of_sum}.weight"] += encoder.hidden_size**-0.5
    block.load_state_dict(weights)
    encoder.append_block(block)
    for layer in _between(encoder):
        layer.load_state_dict({"weight": identity, "bias": torch.zeros_like(layer.bias)})


def _between(encoder: LoadedEncoder) -> list[nn.Linear]:
    """Return the layers between the head's input and the output layer; none of them changes the width."""
    from torch import nn

    parts = [getattr(encoder.backbone, "pooler", None), *map(encoder.model.get_submodule, encoder.spec.head)]
    modules = [module for part in parts if part is not None for module in part.modules()]
    return [module for module in modules if isinstance(module, nn.Linear)][:-1]


FULL = Method(
    name="full",
    kind="full",
    summary="Trains every weight of the base model and the head: the reference.",
    when="As the reference, or if the last half point matters and the file may be as large as the base model. For few "
    "labels on a sentence encoder, use full:read=mean.",
    source="Devlin et al. 2018, arXiv:1810.04805",
    options=FullOptions,
    build=build,
    search_space={"learning_rate": (2e-5, 5e-5, 1e-4)},
    rereads=lambda options: options.read != "first",
)

"""A loaded encoder as a value: the model, the names of its parts, and the parts that were pretrained."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import cast

from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from feathertune.encoders.block_form import LINEAR, BlockForm
from feathertune.encoders.specs import EncoderSpec
from feathertune.encoders.tokenizer import tokenizer_fingerprint
from feathertune.encoders.trial import UNKNOWN, Facts
from feathertune.errors import EncoderError

# Positions of a model that sets no limit.
UNLIMITED = 1_000_000


@dataclass(frozen=True)
class LoadedEncoder:
    """A pretrained encoder with a classification head, as it was loaded.

    Attributes:
        model: The classification model, in eval mode. Methods change it in place.
        revision: The commit, for an encoder of the hub.
        labels: In the order of the class indices.
        added_settings: Special tokens added to the configuration because the checkpoint's own lacks them.
        unused: Checkpoint tensors that the model has no place for, such as another head's.
        facts: Observed on a few texts; `linears` names the linear layers of the blocks that a forward pass calls.
        new_parameters: Names of parameters that are missing from the checkpoint, or have another shape there.
        head_modules: Modules to train and save whole: the head, and everything else missing from the checkpoint.
        n_parameters: Number of parameters in the backbone.
        fingerprint: SHA-256 of the backbone's pretrained tensors in fp32 and of the settings that affect the
            computation; independent of labels, seed and dtype.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    spec: EncoderSpec
    id: str
    revision: str | None
    labels: tuple[str, ...]
    new_parameters: tuple[str, ...]
    head_modules: tuple[str, ...]
    linears: list[str]
    n_parameters: int
    fingerprint: str
    added_settings: dict[str, int] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    facts: Facts = UNKNOWN
    notes: tuple[str, ...] = ()

    @functools.cached_property
    def tokenizer_fingerprint(self) -> str:
        """SHA-256 of everything that affects which tokens the encoder reads."""
        return tokenizer_fingerprint(self.tokenizer)

    @property
    def backbone_name(self) -> str:
        """Name of the backbone in the classification model."""
        return str(self.model.base_model_prefix)

    @property
    def backbone(self) -> nn.Module:
        """The encoder without its head."""
        return cast(nn.Module, self.model.get_submodule(self.backbone_name))

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks, in order; ALBERT has one that is applied `n_layers` times."""
        return cast(nn.ModuleList, self.model.get_submodule(self.spec.blocks))

    @property
    def forms(self) -> tuple[BlockForm, ...]:
        """Each block's form, including blocks that a method added; empty if the engine does not support them."""
        known = self.spec.forms
        return known + known[-1:] * (len(self.blocks) - len(known))

    @property
    def new_pooler(self) -> str | None:
        """Name of the backbone's pooler if the checkpoint lacks it; such a pooler belongs to the head."""
        name = f"{self.backbone_name}.pooler"
        return name if name in self.head_modules else None

    def linear_names(self) -> tuple[str, ...]:
        """Return names of all linear layers inside the blocks: never the head, never a pooler."""
        return tuple(self.linears)

    def append_block(self, block: nn.Module) -> None:
        """Add one block, also to the configuration, from which transformers reads the number of blocks."""
        name = f"{self.spec.blocks}.{len(self.blocks)}"
        self.blocks.append(block)
        self.model.config.num_hidden_layers = len(self.blocks)
        self.linears.extend(linear_names_in(block, name))

    def query_value_names(self) -> tuple[str, ...]:
        """Return names of the linear layers that compute queries and values (and keys, if one layer does all three)."""
        wanted = {*self.spec.query, *self.spec.value}
        if not wanted:
            raise EncoderError(
                f"The query and value layers of {self.spec.model_type} models are not known. "
                "Use all linear layers instead."
            )
        starts = tuple(f"{path}." for path in self.spec.all_blocks)
        inner = {name: name[len(next(filter(name.startswith, starts))) :].partition(".")[2] for name in self.linears}
        return tuple(name for name in self.linears if inner[name] in wanted)

    @property
    def n_layers(self) -> int:
        """Number of layers in the forward pass."""
        return int(getattr(self.model.config.get_text_config(), "num_hidden_layers", None) or len(self.blocks))

    @property
    def hidden_size(self) -> int:
        """D, the width of the hidden states."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def max_positions(self) -> int:
        """The longest text in tokens, special tokens included. RoBERTa spends two positions on padding."""
        given = getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or 0
        limit = int(given) if given > 0 else UNLIMITED  # relative positions have no limit; XLNet sets -1
        for name, module in self.backbone.named_modules():
            if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
                offset = 0 if module.padding_idx is None else module.padding_idx + 1
                limit = min(limit, module.num_embeddings - offset)
        return limit


def linear_names_in(module: nn.Module, name: str) -> list[str]:
    """Return the full names of the linear layers in a module called `name`."""
    return [full for full, part in module.named_modules(prefix=name) if isinstance(part, LINEAR)]

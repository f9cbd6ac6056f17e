"""Names of an encoder's parts, read from its structure."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from feathertune.encoders.block_form import KEY, LINEAR, QUERY, VALUE, BlockForm


@dataclass(frozen=True)
class EncoderSpec:
    """Architecture of one family, as module names in its classification model; names in a block are relative to it.

    A linear layer that computes queries, keys and values is listed under all three.

    Attributes:
        model_type: As in ``config.json``.
        blocks: Dotted path of the ``ModuleList`` of blocks.
        last: The last linear layer of a block's MLP.
        norms: A block may lack some of these (ModernBERT's first has no attention norm).
        head: Modules outside the backbone that turn its output into logits.
        other_blocks: Paths of further lists, such as an encoder-decoder's encoder.
        shared_blocks: One block is applied repeatedly (ALBERT): a change to it changes every layer.
        forms: Each block's form; empty if the engine does not support one of them.
    """

    model_type: str
    blocks: str
    query: tuple[str, ...]
    key: tuple[str, ...]
    value: tuple[str, ...]
    norms: tuple[str, ...]
    head: tuple[str, ...]
    last: tuple[str, ...] = ()
    other_blocks: tuple[str, ...] = ()
    shared_blocks: bool = False
    forms: tuple[BlockForm, ...] = ()

    @property
    def all_blocks(self) -> tuple[str, ...]:
        """Paths of all lists of blocks."""
        return (self.blocks, *self.other_blocks)


# Names of layers that compute queries, keys and values at once.
_FUSED = frozenset({"qkv", "qkv_proj", "Wqkv", "in_proj", "query_key_value", "c_attn"})


def structural_spec(model: PreTrainedModel) -> EncoderSpec:
    """Read a model's architecture; LookupError if it has no backbone with a list of blocks, or no head.

    The blocks are the backbone's longest outermost ``ModuleList``, or an encoder-decoder's last one. The head is every
    child outside the backbone that has parameters.
    """
    prefix = model.base_model_prefix
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and n.startswith(f"{prefix}.")}
    outermost = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    # Lists of embedding tables, such as MarkupLM's, are not blocks.
    outermost = [n for n in outermost if any(True for item in lists[n] for _ in item.children())]
    head = tuple(n for n, m in model.named_children() if n != prefix and any(True for _ in m.parameters()))
    if not hasattr(model, prefix) or not outermost or not head:
        raise LookupError(f"{type(model).__name__} has no backbone with a list of blocks and a head outside it")
    is_pair = getattr(model.config, "is_encoder_decoder", False)
    blocks = outermost[-1] if is_pair else max(outermost, key=lambda name: len(lists[name]))
    modules = [item for name in outermost for block in lists[name] for item in block.named_modules()]
    linears = dict.fromkeys(name for name, module in modules if isinstance(module, LINEAR))
    norms = dict.fromkeys(n for n, module in modules if n not in linears and "norm" in type(module).__name__.lower())

    def named(words: frozenset[str]) -> tuple[str, ...]:
        return tuple(n for n in linears if n.rpartition(".")[2] in words | _FUSED)

    query, key, value = named(QUERY), named(KEY), named(VALUE)
    return EncoderSpec(
        model_type=model.config.model_type,
        blocks=blocks,
        query=query,
        key=key,
        value=value,
        norms=tuple(norms),
        head=head,
        other_blocks=tuple(name for name in outermost if name != blocks),
    )

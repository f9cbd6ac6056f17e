"""Names of an encoder's parts: one row per family, and a structural reading for families without a row."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

# Modules that multiply by one matrix; GPT-2's holds it transposed.
LINEAR = (nn.Linear, Conv1D)


@dataclass(frozen=True)
class PostNorm:
    """Names in a block of the form ``norm(x + attention(x))``, ``norm(x + mlp(x))``, relative to the block."""

    activation: str
    attention_dropout: str
    output_dropout: str | None
    mlp_dropout: str


@dataclass(frozen=True)
class EncoderSpec:
    """The architecture of one family, as module names of its classification model; within a block relative to it.

    Each linear layer is in one field, or in query, key and value if it makes all three.

    Attributes:
        model_type: As in ``config.json``.
        blocks: Dotted path of the ``ModuleList`` of blocks.
        output: Attention's output projection.
        mlp: In the order of the forward pass.
        norms: A name may be missing in a block (ModernBERT's first has no attention norm).
        head: Modules outside the backbone that turn its output into logits.
        other: Linear layers that only some configurations have (DeBERTa's positions).
        other_blocks: Paths of more lists, such as an encoder-decoder's encoder.
        shared_blocks: One block is applied repeatedly (ALBERT): a change to it changes every layer.
        post_norm: For blocks of BERT's form, with absolute positions and heads of equal width.
        reads_first: The head reads the last hidden state of the first token only.
    """

    model_type: str
    blocks: str
    query: tuple[str, ...]
    key: tuple[str, ...]
    value: tuple[str, ...]
    output: tuple[str, ...]
    mlp: tuple[str, ...]
    norms: tuple[str, ...]
    head: tuple[str, ...]
    other: tuple[str, ...] = ()
    other_blocks: tuple[str, ...] = ()
    shared_blocks: bool = False
    post_norm: PostNorm | None = None
    reads_first: bool = False

    @property
    def all_blocks(self) -> tuple[str, ...]:
        """Paths of all lists of blocks."""
        return (self.blocks, *self.other_blocks)

    @property
    def linears(self) -> tuple[str, ...]:
        """All linear layers of a block, each once."""
        named = (*self.query, *self.key, *self.value, *self.output, *self.mlp, *self.other)
        return tuple(dict.fromkeys(named))


def _bert_like(model_type: str, prefix: str) -> EncoderSpec:
    """BERT's block, that RoBERTa and ELECTRA took over name by name."""
    return EncoderSpec(
        model_type=model_type,
        blocks=f"{prefix}.encoder.layer",
        query=("attention.self.query",),
        key=("attention.self.key",),
        value=("attention.self.value",),
        output=("attention.output.dense",),
        mlp=("intermediate.dense", "output.dense"),
        norms=("attention.output.LayerNorm", "output.LayerNorm"),
        head=("classifier",),
        post_norm=PostNorm(
            activation="intermediate.intermediate_act_fn",
            attention_dropout="attention.self.dropout",
            output_dropout="attention.output.dropout",
            mlp_dropout="output.dropout",
        ),
        reads_first=True,
    )


# The families whose blocks the engine has as its own.
_ROWS = (
    _bert_like("bert", "bert"),
    _bert_like("roberta", "roberta"),
    _bert_like("xlm-roberta", "roberta"),
    _bert_like("electra", "electra"),
    EncoderSpec(
        model_type="distilbert",
        blocks="distilbert.transformer.layer",
        query=("attention.q_lin",),
        key=("attention.k_lin",),
        value=("attention.v_lin",),
        output=("attention.out_lin",),
        mlp=("ffn.lin1", "ffn.lin2"),
        norms=("sa_layer_norm", "output_layer_norm"),
        head=("pre_classifier", "classifier"),
        post_norm=PostNorm(
            activation="ffn.activation",
            attention_dropout="attention.dropout",
            output_dropout=None,
            mlp_dropout="ffn.dropout",
        ),
        reads_first=True,
    ),
)
SPECS: dict[str, EncoderSpec] = {row.model_type: row for row in _ROWS}

# Names of the query, key and value layers in encoders without a row.
_QUERY = frozenset({"query", "q", "q_proj", "q_lin", "query_proj", "to_q"})
_KEY = frozenset({"key", "k", "k_proj", "k_lin", "key_proj", "to_k"})
_VALUE = frozenset({"value", "v", "v_proj", "v_lin", "value_proj", "to_v"})
_FUSED = frozenset({"qkv", "qkv_proj", "Wqkv", "in_proj", "query_key_value", "c_attn"})


def structural_spec(model: PreTrainedModel) -> EncoderSpec:
    """Read an unknown family's architecture; LookupError if it has no backbone with a list of blocks, or no head.

    Blocks are the backbone's longest outermost ``ModuleList``, an encoder-decoder's last; the head is every child
    outside of the backbone that has parameters.
    """
    prefix = model.base_model_prefix
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList) and n.startswith(f"{prefix}.")}
    outermost = [n for n in lists if not any(n.startswith(f"{other}.") for other in lists)]
    # Tables of embeddings, such as MarkupLM's, have no parts.
    outermost = [n for n in outermost if any(True for item in lists[n] for _ in item.children())]
    head = tuple(n for n, m in model.named_children() if n != prefix and any(True for _ in m.parameters()))
    if not hasattr(model, prefix) or not outermost or not head:
        raise LookupError(f"{type(model).__name__} has no backbone with a list of blocks and a head outside of it")
    is_pair = getattr(model.config, "is_encoder_decoder", False)
    blocks = outermost[-1] if is_pair else max(outermost, key=lambda name: len(lists[name]))
    modules = [item for name in outermost for block in lists[name] for item in block.named_modules()]
    linears = dict.fromkeys(name for name, module in modules if isinstance(module, LINEAR))
    norms = dict.fromkeys(n for n, module in modules if n not in linears and "norm" in type(module).__name__.lower())

    def named(words: frozenset[str]) -> tuple[str, ...]:
        return tuple(n for n in linears if n.rpartition(".")[2] in words | _FUSED)

    query, key, value = named(_QUERY), named(_KEY), named(_VALUE)
    return EncoderSpec(
        model_type=model.config.model_type,
        blocks=blocks,
        query=query,
        key=key,
        value=value,
        output=(),
        mlp=(),
        norms=tuple(norms),
        head=head,
        other=tuple(n for n in linears if n not in {*query, *key, *value}),
        other_blocks=tuple(name for name in outermost if name != blocks),
    )

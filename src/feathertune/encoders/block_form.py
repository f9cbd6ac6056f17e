"""Read a block's form from a forward pass: the modules it calls, their order, and the inputs of attention."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.models.deberta_v2.modeling_deberta_v2 import DisentangledSelfAttention
from transformers.models.mpnet.modeling_mpnet import MPNetSelfAttention
from transformers.pytorch_utils import Conv1D

from feathertune.encoders.patching import attention_set, hooked

if TYPE_CHECKING:
    from feathertune.encoders.encoder import LoadedEncoder

# Modules that multiply by one matrix; GPT-2's stores it transposed.
LINEAR = (nn.Linear, Conv1D)
# Names of the layers that compute queries, keys and values.
QUERY = frozenset({"query", "q", "q_proj", "q_lin", "query_proj", "to_q"})
KEY = frozenset({"key", "k", "k_proj", "k_lin", "key_proj", "to_k"})
VALUE = frozenset({"value", "v", "v_proj", "v_lin", "value_proj", "to_v"})
_OBSERVED = "feathertune_observed"
# Modules in call order: n is a norm, l a linear layer, d a dropout, f a function of one tensor, A attention itself.
_ORDER = re.compile(
    "(?P<before>n?)(?P<qkv>lnlnl|lllnn|lll|l)A(?P<output>l)(?P<dropout>d?)(?P<middle>n?n?)"
    "(?P<up>l)(?P<act>f)(?P<other_up>l?)d?(?P<down>l)(?P<mlp_dropout>d?)(?P<after>n?)"
)
# Arguments of attention that repeat the mask or the block's other arguments.
NO_EFFECT = frozenset(
    "is_causal sliding_window position_ids position_embeddings output_attentions output_hidden_states use_cache "  # noqa: SIM905
    "cache_position return_dict deterministic".split()
)


Positions = Literal["none", "rotary", "disentangled", "bias"]


class Norms(NamedTuple):
    """Names of the norms around a part of a block, ``of_sum(x + after(part(before(x))))``; None for a missing norm."""

    before: str | None = None
    after: str | None = None
    of_sum: str | None = None


@dataclass(frozen=True)
class BlockForm:
    """A block that is attention and an MLP, each added to its input. Names are relative to the block.

    Attributes:
        query: Equal to `key` and `value` if one layer computes all three, in this order.
        up: The MLP's first layer, or two layers: the activated one, and the one it is multiplied by.
        is_gated: The MLP multiplies its activated values by a second projection: another layer's, or half of the first
            layer's output.
        query_norm: The norm of queries: of each head, or of all heads at once.
        n_kv_heads: Number of key and value heads, which divides `n_heads`.
        positions: ``rotary`` rotates queries and keys by the block's ``position_embeddings``; ``disentangled`` is
            DeBERTa's, by ``rel_embeddings`` and ``relative_pos``; ``bias`` adds ``position_bias`` to the scores.
        position_layers: Layers that project distance embeddings for queries and for keys.
        position_dropout: Dropout of those embeddings.
        attention_dropout: Dropout of the probabilities, or the attribute that holds its rate.
        rates: Rates of other dropouts; the block has this form only while they are all 0.
        n_returned: Length of the tuple that the block returns, output first; 0 if it returns the output alone.
        classes: Classes of the modules that contain others, since a method may have replaced one.
    """

    query: str
    key: str
    value: str
    output: str
    up: tuple[str, ...]
    activation: str
    down: str
    is_gated: bool
    attention_norms: Norms
    mlp_norms: Norms
    query_norm: str | None
    key_norm: str | None
    n_heads: int
    n_kv_heads: int
    head_size: int
    scaling: float
    positions: Positions
    position_layers: tuple[str, ...]
    position_dropout: str | None
    attention_dropout: str | None
    output_dropout: str | None
    mlp_dropout: str | None
    n_returned: int
    rates: tuple[str, ...] = ()
    classes: Mapping[str, type] = field(default_factory=dict)

    @property
    def qkv(self) -> tuple[str, ...]:
        """Names of the layers that compute queries, keys and values, each once."""
        return tuple(dict.fromkeys((self.query, self.key, self.value)))

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of all linear layers."""
        return (*self.qkv, self.output, *self.up, self.down, *self.position_layers)

    @property
    def has_plain_heads(self) -> bool:
        """True if each head has separate queries, keys and values, straight from separate layers."""
        plain = self.query_norm is None and self.key_norm is None and self.positions == "none"
        return plain and len(self.qkv) == 3 and self.n_kv_heads == self.n_heads

    @property
    def is_berts(self) -> bool:
        """True for BERT's block: plain heads, no gate, and a norm of each sum."""
        norms_of_sums = self.attention_norms.of_sum is not None and self.mlp_norms.of_sum is not None
        return self.has_plain_heads and not self.is_gated and norms_of_sums

    def fits(self, block: nn.Module) -> bool:
        """Return True if a block still has this form, with its current dropouts and modules."""
        modules = dict(block.named_modules())
        if any(type(modules.get(path)) is not kind for path, kind in self.classes.items()):
            return False
        return all(rate_of(block, path) == 0 for path in self.rates)


def rate_of(block: nn.Module, path: str) -> float:
    """Return the current rate of a block's dropout, given as a module or as an attribute of one."""
    parent, _, name = path.rpartition(".")
    found = getattr(block.get_submodule(parent), name)
    return float(getattr(found, "p", found))


@dataclass
class _Calls:
    """Calls inside one block."""

    letters: str = ""
    names: list[str] = field(default_factory=list)
    given: list[Tensor] = field(default_factory=list)
    made: list[Tensor] = field(default_factory=list)
    attention: list[_Attention] = field(default_factory=list)
    has_tables: bool = False
    n_returned: int = 0

    def add(self, letter: str, name: str, given: Any, made: Any) -> None:  # noqa: ANN401 - any inputs and outputs
        self.letters += letter
        self.names.append(name)
        self.given.append(given)
        self.made.append(made)


class _Attention(NamedTuple):
    module: nn.Module
    query: Tensor
    key: Tensor
    value: Tensor
    scaling: float | None
    others: dict[str, Any]
    position_layers: tuple[str, ...] = ()
    has_bias: bool = False

    @property
    def positions(self) -> Positions | None:
        """Kind of positions, for attention outside transformers' interface."""
        return "disentangled" if self.position_layers else "bias" if self.has_bias else None

    @property
    def is_known(self) -> bool:
        """True if keys and values have heads of the queries' size, and nothing else affects the output."""
        (_, n_heads, _, size), (_, n_kv_heads, _, key_size) = self.query.shape, self.key.shape
        same = self.value.shape[1] == n_kv_heads and self.value.shape[3] == key_size == size
        return same and n_heads % n_kv_heads == 0 and not self.others


def read_forms(encoder: LoadedEncoder, batch: dict[str, Tensor]) -> tuple[BlockForm, ...]:
    """Return each block's form, from one forward pass; empty if a block has any other form.

    Only families that call attention through transformers' interface reveal its inputs.
    """
    if not type(encoder.model)._supports_attention_backend and not _has_known_attention(encoder):
        return ()
    blocks, calls = list(encoder.blocks), [_Calls() for _ in encoder.blocks]
    AttentionInterface.register(_OBSERVED, _observed)
    AttentionMaskInterface.register(_OBSERVED, AttentionMaskInterface()["sdpa"])
    hooks = [hook for block, of_block in zip(blocks, calls, strict=True) for hook in _hooks(block, of_block)]
    try:
        with hooked(*hooks), attention_set(encoder.model.config, _OBSERVED):
            encoder.model(**batch)
    except (NotImplementedError, RuntimeError, TypeError, ValueError):  # such as a cap on the scores
        _running.blocks.clear()
        return ()
    forms = [_form(block, of_block) for block, of_block in zip(blocks, calls, strict=True)]
    return tuple(form for form in forms if form is not None) if None not in forms else ()


class _Running(threading.local):
    """The blocks running in this thread, which hooks and `_observed` write to."""

    def __init__(self) -> None:
        self.blocks: list[_Calls] = []


_running = _Running()


def _observed(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **named: Any) -> Any:  # noqa: ANN401
    if _running.blocks:
        known = {*NO_EFFECT, "dropout", "scaling"}
        given = {name: value for name, value in named.items() if name not in known}
        others = {name: value for name, value in given.items() if value is not None and value is not False}
        calls = _running.blocks[-1]
        calls.attention.append(_Attention(module, query, key, value, named.get("scaling"), others))
        calls.add("A", "", query, query)
    return AttentionInterface()["sdpa"](module, query, key, value, mask, **named)


def _hooks(block: nn.Module, calls: _Calls) -> Iterator[Any]:
    """Record a block's first pass only: ALBERT runs one block repeatedly."""
    passes: list[int] = []

    def start(_module: nn.Module, _inputs: Any, named: dict[str, Any]) -> None:  # noqa: ANN401
        passes.append(1)
        _running.blocks.append(calls if len(passes) == 1 else _Calls())
        calls.has_tables = calls.has_tables or named.get("position_embeddings") is not None

    def stop(_module: nn.Module, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        _running.blocks.pop().n_returned = len(output) if isinstance(output, tuple) else 0

    yield block.register_forward_pre_hook(start, with_kwargs=True)
    yield block.register_forward_hook(stop, always_call=True)
    for name, module in block.named_modules():
        if isinstance(module, DisentangledSelfAttention):
            yield module.register_forward_hook(_disentangled(name))
        elif isinstance(module, MPNetSelfAttention):
            yield module.register_forward_hook(_with_bias)
        elif not any(True for _ in module.children()) and name:
            yield module.register_forward_hook(_noting(name))


def _has_known_attention(encoder: LoadedEncoder) -> bool:
    """Return True if blocks have a known attention outside the interface: DeBERTa's (versions 2 and 3) or MPNet's."""
    kinds = (DisentangledSelfAttention, MPNetSelfAttention)
    return any(isinstance(module, kinds) for module in encoder.blocks.modules())


def _with_bias(module: Any, _inputs: Any, output: Any) -> None:  # noqa: ANN401
    """Record MPNet's attention in place of its dropout of probabilities."""
    calls = _running.blocks[-1] if _running.blocks else _Calls()
    if calls.letters.endswith("llldl"):
        heads = calls.made[-3].view(*output[0].shape[:2], module.num_attention_heads, -1).transpose(1, 2)
        calls.attention.append(_Attention(module, heads, heads, heads, None, {}, has_bias=True))
        calls.letters, calls.names[-2] = f"{calls.letters[:-2]}Al", ""


def _disentangled(path: str) -> Any:  # noqa: ANN401 - a hook
    """Return a hook that records DeBERTa's attention in place of its calls after queries, keys and values."""

    def note(module: Any, _inputs: Any, output: Any) -> None:  # noqa: ANN401
        if not _running.blocks or not (module.relative_attention and {"c2p", "p2c"} <= {*module.pos_att_type}):
            return
        calls = _running.blocks[-1]
        n = 3 + calls.letters.index("lll")
        calls.letters, calls.names = calls.letters[:n], calls.names[:n]
        calls.given, calls.made = calls.given[:n], calls.made[:n]
        heads = calls.made[-1].view(*calls.made[-1].shape[:2], module.num_attention_heads, -1).transpose(1, 2)
        names = ("query_proj", "key_proj") if module.share_att_key else ("pos_query_proj", "pos_key_proj")
        scaling = (3 * heads.shape[-1]) ** -0.5
        layers = tuple(f"{path}.{name}" for name in names)
        calls.attention.append(_Attention(module, heads, heads, heads, scaling, {}, layers))
        calls.add("A", "", output[0], output[0])

    return note


def _noting(name: str) -> Any:  # noqa: ANN401 - a hook
    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
        if _running.blocks and (letter := _letter(module)):
            _running.blocks[-1].add(letter, name, inputs[0] if inputs else None, output)

    return note


def _letter(module: nn.Module) -> str:
    if isinstance(module, nn.Identity):
        return ""
    if isinstance(module, LINEAR):
        return "l"
    if isinstance(module, nn.Dropout):
        return "d"
    if "norm" in type(module).__name__.lower():
        return "n"
    return "f" if next(module.parameters(), None) is None else "?"


def _form(block: nn.Module, calls: _Calls) -> BlockForm | None:
    found = _ORDER.fullmatch(calls.letters)
    if found is None or not calls.attention or not calls.attention[0].is_known:
        return None
    names = {part: calls.names[slice(*found.span(part))] for part in found.groupdict()}
    of_modules = dict(block.named_modules())
    query_key_value = _query_key_value([name for name in names["qkv"] if isinstance(of_modules[name], LINEAR)])
    norms, seen = _norms(names, found, calls), calls.attention[0]
    if query_key_value is None or norms is None:
        return None
    attention = next((path for path, module in of_modules.items() if module is seen.module), "")
    dropout, rates = _dropouts(block, attention, calls)
    # If a part's output has a norm, a dropout could be on either side of it.
    places = zip((names["dropout"], names["mlp_dropout"]), norms, strict=True)
    output_dropout, mlp_dropout = (next(iter(one), None) if part.after is None else None for one, part in places)
    of_heads = [name for name in names["qkv"] if name not in query_key_value]
    made = calls.made[calls.names.index(of_heads[0] if of_heads else query_key_value[0])]
    is_rotary = calls.has_tables and not _is_unturned(seen.query, made)
    up, widths = (*names["up"], *names["other_up"]), (calls.made[found.start("up")], calls.given[found.start("down")])
    form = BlockForm(
        *query_key_value,
        output=names["output"][0],
        up=up,
        activation=names["act"][0],
        down=names["down"][0],
        is_gated=len(up) == 2 or widths[0].shape[-1] == 2 * widths[1].shape[-1],
        attention_norms=norms[0],
        mlp_norms=norms[1],
        query_norm=of_heads[0] if of_heads else None,
        key_norm=of_heads[1] if of_heads else None,
        n_heads=seen.query.shape[1],
        n_kv_heads=seen.key.shape[1],
        head_size=seen.query.shape[3],
        scaling=seen.query.shape[3] ** -0.5 if seen.scaling is None else float(seen.scaling),
        positions=seen.positions or ("rotary" if is_rotary else "none"),
        position_layers=seen.position_layers,
        position_dropout=f"{attention}.pos_dropout" if seen.position_layers else None,
        attention_dropout=dropout,
        output_dropout=output_dropout,
        mlp_dropout=mlp_dropout,
        n_returned=calls.n_returned,
        rates=tuple(path for path in rates if path not in (output_dropout, mlp_dropout)),
        classes={path: type(module) for path, module in of_modules.items() if path and any(module.children())},
    )
    known = (*form.layers, *(name for part in norms for name in part if name is not None), *of_heads)
    is_whole = {name.rpartition(".")[0] for name, _ in block.named_parameters()} <= {*known}
    return form if is_whole else None


def _is_unturned(query: Tensor, made: Tensor) -> bool:
    """Return True if attention gets the queries ``(B, H, T, d)`` unrotated, as in some layers."""
    return torch.equal(query.transpose(1, 2).flatten(2), made.flatten(2)[..., : query.shape[1] * query.shape[3]])


def _query_key_value(linears: Sequence[str]) -> tuple[str, str, str] | None:
    if len(linears) == 1:
        return linears[0], linears[0], linears[0]
    found = [[name for name in linears if name.rpartition(".")[2] in words] for words in (QUERY, KEY, VALUE)]
    if any(len(names) != 1 for names in found):
        return None
    (query,), (key,), (value,) = found
    return query, key, value


def _norms(names: dict[str, list[str]], found: re.Match[str], calls: _Calls) -> tuple[Norms, Norms] | None:
    """Return the norms of both parts, from the number of norms between layers; None for any other form."""
    before, middle, after = names["before"], names["middle"], names["after"]
    match len(before), len(middle), len(after):
        case (_, 1, 0):  # Llama; ModernBERT's first block has none before attention
            return Norms(before=next(iter(before), None)), Norms(before=middle[0])
        case (1, 2, 1):  # Gemma 2
            return Norms(before=before[0], after=middle[0]), Norms(before=middle[1], after=after[0])
        case (0, 1, 1):  # OLMo 2 normalises each part's output, BERT the sums
            place = found.start("middle")
            if torch.equal(calls.given[place], calls.made[place - 1]):
                return Norms(after=middle[0]), Norms(after=after[0])
            return Norms(of_sum=middle[0]), Norms(of_sum=after[0])
        case _:
            return None


def _dropouts(block: nn.Module, attention: str, calls: _Calls) -> tuple[str | None, list[str]]:
    """Return the dropout of attention's probabilities, and a block's other dropout rates."""
    called = {name for name, letter in zip(calls.names, calls.letters, strict=True) if letter == "d"}
    rates = [name for name in called if name]
    of_attention = []
    for path, module in block.named_modules():
        prefix = f"{path}." if path else ""
        held = [
            f"{prefix}{name}" for name, value in vars(module).items() if "drop" in name and isinstance(value, float)
        ]
        uncalled = [
            f"{prefix}{name}"
            for name, child in module.named_children()
            if isinstance(child, nn.Dropout) and f"{prefix}{name}" not in called
        ]
        if path == attention:
            of_attention = [name for name in uncalled if not name.endswith(".pos_dropout")] or held
            held = [] if len(of_attention) == 1 else [*held, *of_attention]
        rates += held
    return (of_attention[0] if len(of_attention) == 1 else None), rates

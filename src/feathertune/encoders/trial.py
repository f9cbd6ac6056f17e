"""Observe facts about a model in a few forward passes: structure alone does not show how its head reads a text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from feathertune.data.tokens.encode import Padding, Side, pad_batch
from feathertune.encoders.block_form import read_forms
from feathertune.encoders.classifier_head import READS, HeadReads, head_logits, states, vector
from feathertune.encoders.patching import hooked
from feathertune.errors import EncoderError, first_line

if TYPE_CHECKING:
    from feathertune.encoders.encoder import LoadedEncoder
    from feathertune.encoders.specs import EncoderSpec

# A short and a long text: if padding or a token's position matters, it shows in their logits.
_TEXTS = ("No.", "It was a fine film, though far too long: I left after 40 minutes, and slept well!")
# Tolerance as a share of the largest logit. Reading another token's state changes logits by tenths.
_TOLERANCE = {torch.float32: 1e-3}
_ROUNDED = 3e-2
_FEWEST_TOKENS = 4
_ALL_ALIKE = (
    "The head of {} reads the same vector for every text: it cannot tell them apart until the whole model is trained."
)
_PADDED = "{} gives a text different logits if it is padded, so they depend on the other texts in its batch."
SIDES: tuple[Side, ...] = ("right", "left")
ReadToken = Literal["first", "last"]


@dataclass(frozen=True)
class Facts:
    """Facts observed in forward passes.

    Attributes:
        reads: The vector that the head reads; None if its logits are not a function of one vector.
        padding: The side on which padding changes no logits; None if it changes them on both.
        token: The only token whose state after the last block affects the logits; None if several do.
        batch_first: Blocks return states ``(B, T, D)``; XLNet's return ``(T, B, D)``.
    """

    reads: HeadReads | None
    padding: Side | None
    token: ReadToken | None = None
    batch_first: bool = True


UNKNOWN = Facts(None, "right")


class _Seen(NamedTuple):
    """Result of a model's trial; the model's id is filled into `notes`."""

    facts: Facts
    side: Side
    spec: EncoderSpec
    linears: list[str]
    notes: list[str]


# Results for models loaded before, by everything that affects them: a study loads its base model for every run.
_seen: dict[Hashable, _Seen] = {}
_MOST_KEPT = 64


def with_facts(encoder: LoadedEncoder) -> LoadedEncoder:
    """Return a model with its facts, and without the linear layers that its forward pass does not call.

    Sets the tokenizer's padding side. EncoderError if the model cannot run, or is not deterministic.
    """
    tokenizer, dtype = encoder.tokenizer, next(encoder.model.parameters()).dtype
    # The fingerprint covers the backbone only, so results with a broken head are kept apart.
    heads = [encoder.model.get_submodule(name) for name in encoder.head_modules]
    is_whole = all(bool(torch.isfinite(parameter).all()) for head in heads for parameter in head.parameters())
    of_texts = (len(tokenizer), Padding.of(tokenizer))
    key = (encoder.fingerprint, type(encoder.model), dtype, *of_texts, is_whole, *encoder.head_modules)
    if (seen := _seen.get(key)) is None:
        if len(_seen) == _MOST_KEPT:
            _seen.clear()
        seen = _seen[key] = _try(encoder)
    if tokenizer.padding_side != seen.side:
        tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = seen.side  # only the second is saved
    notes = (*encoder.notes, *(note.format(encoder.id) for note in seen.notes))
    return replace(encoder, spec=seen.spec, linears=[*seen.linears], facts=seen.facts, notes=notes)


@torch.no_grad()
def _try(encoder: LoadedEncoder) -> _Seen:
    short, long = trial_ids(encoder)
    called: Counter[str] = Counter()
    modules = {name: encoder.model.get_submodule(name) for name in encoder.linears}
    try:
        with hooked(*(module.register_forward_pre_hook(_noting(called, name)) for name, module in modules.items())):
            first = _run(encoder, [long])
        alone = [_run(encoder, [short]), _run(encoder, [long])]  # in this order: BigBird's answers depend on it
    except Exception as error:  # a model of any family may raise any error
        raise EncoderError(
            f"The base model {encoder.id} cannot classify texts: its forward pass fails in transformers "
            f"({first_line(error)})."
        ) from error
    if not close(first.logits, alone[1].logits):
        raise EncoderError(f"The base model {encoder.id} gives the same text different logits each time it reads it.")
    given, logits = alone[1].given, alone[1].logits
    reads: HeadReads | None = "pooled"
    if given.dim() == 3:
        fitting = (kind for kind in READS if close(head_logits(encoder, vector(given, None, kind)), logits))
        reads = next(fitting, None)
    right, left = (_padding_matters(encoder, [short, long], alone, side) for side in SIDES)
    side: Side = "left" if right and not left else "right"
    padding, notes = (None, [_PADDED]) if right and left else (side, [])
    one, other = (vector(answer.given, None, reads or "mean") for answer in alone)
    if torch.allclose(one, other, rtol=1e-5):
        notes.append(_ALL_ALIKE)
    linears = [name for name in encoder.linears if name in called]
    spec = _as_seen(encoder, called)
    encoder = replace(encoder, spec=spec)
    if not spec.other_blocks:
        spec = replace(spec, forms=read_forms(encoder, _batch(encoder, [long])))
    token = _read_token(encoder, long) if spec.forms else None
    return _Seen(Facts(reads, padding, token, _is_batch_first(encoder, long)), side, spec, linears, notes)


def _read_token(encoder: LoadedEncoder, text: list[int]) -> ReadToken | None:
    """Return the token whose state after the last block has a gradient."""
    states: list[Tensor] = []

    def differentiable(_module: nn.Module, _inputs: object, output: Any) -> Any:  # noqa: ANN401 - any block's output
        first = output[0] if isinstance(output, tuple) else output
        states.append(first.detach().requires_grad_())
        return (states[-1], *output[1:]) if isinstance(output, tuple) else states[-1]

    with torch.enable_grad(), hooked(encoder.blocks[-1].register_forward_hook(differentiable)):
        logits = encoder.model(**_batch(encoder, [text])).logits
        (gradient,) = torch.autograd.grad(logits.square().sum(), states[-1])
    read = gradient[0].abs().amax(dim=-1).nonzero().view(-1).tolist()
    return {(0,): "first", (len(text) - 1,): "last"}.get(tuple(read))  # type: ignore[return-value]


def _is_batch_first(encoder: LoadedEncoder, text: list[int]) -> bool:
    """Return True if a block returns one row for a batch of one text, or if no block is called as a module."""
    rows: list[int] = []

    def note(_module: nn.Module, _inputs: object, output: Any) -> None:  # noqa: ANN401 - any block's output
        rows.append((output if isinstance(output, Tensor) else output[0]).shape[0])

    with hooked(encoder.blocks[-1].register_forward_hook(note)):
        _run(encoder, [text])
    return not rows or rows[0] == 1


def trial_ids(encoder: LoadedEncoder) -> tuple[list[int], list[int]]:
    """Return a short and a long text as token ids, the long one within the model's positions."""
    limit = max(2 * _FEWEST_TOKENS, min(32, encoder.max_positions))
    short, long = (encoder.tokenizer(text, truncation=True, max_length=limit)["input_ids"] for text in _TEXTS)
    while len(long) < 2 * _FEWEST_TOKENS:  # a tokenizer of whole words may know none of them
        long = [*long[:1], *long] if long else [0]
    return short or long[:2], long


def trial_batches(encoder: LoadedEncoder) -> list[dict[str, Tensor]]:
    """Return a batch of one text, and one of two texts with padding, on the model's device."""
    short, long = trial_ids(encoder)
    device = next(encoder.model.parameters()).device
    batches = [_batch(encoder, [long]), _batch(encoder, [short, long], Padding.of(encoder.tokenizer).side)]
    return [{name: tensor.to(device) for name, tensor in batch.items()} for batch in batches]


def close(values: Tensor, expected: Tensor) -> bool:
    """Return True if values are equal up to the order of sums; bf16 rounds more."""
    # Broken weights give NaN, which the code that reads these values refuses.
    values, expected = values.detach().nan_to_num(), expected.detach().nan_to_num()
    allowed = _TOLERANCE.get(expected.dtype, _ROUNDED) * float(expected.abs().max()) + 1e-6
    return float((values - expected).abs().max()) <= allowed


class _Answer(NamedTuple):
    given: Tensor
    hidden: Tensor
    logits: Tensor


def _run(encoder: LoadedEncoder, texts: Sequence[list[int]], side: Side = "right") -> _Answer:
    return _Answer(*states(encoder, _batch(encoder, texts, side)))


def _padding_matters(encoder: LoadedEncoder, texts: Sequence[list[int]], alone: Sequence[_Answer], side: Side) -> bool:
    """Return True if padding on this side changes the texts' logits or hidden states."""
    try:
        together = _run(encoder, texts, side)
    except (RuntimeError, ValueError, IndexError):
        return True
    if not close(together.logits, torch.cat([one.logits for one in alone])):
        return True
    width = max(map(len, texts))
    for text, one, hidden in zip(texts, alone, together.hidden, strict=True):
        # Logits can hide a difference: a saturated pooler gives 1 for any large state.
        states_of_text = hidden[Padding(side=side).place(len(text), width)]
        if states_of_text.shape == one.hidden[0].shape and not close(states_of_text, one.hidden[0]):
            return True
    return False


def _noting(called: Counter[str], name: str) -> Callable[[nn.Module, Any], None]:
    def note(_module: nn.Module, _inputs: object) -> None:
        called[name] += 1

    return note


def _as_seen(encoder: LoadedEncoder, called: Counter[str]) -> EncoderSpec:
    """Return the architecture that a forward pass shows; `called` is in call order.

    Lists of blocks that texts do not pass through, such as those for images, are left out. The last layer of a block is
    its MLP's, and ALBERT calls the same block repeatedly.
    """
    spec = encoder.spec
    passed = [path for path in spec.all_blocks if any(name.startswith(f"{path}.") for name in called)]
    if not passed:  # I-BERT has linear layers of another kind
        return spec
    sizes = {path: len(list(encoder.model.get_submodule(path).children())) for path in passed}
    blocks = max(passed, key=lambda path: (path == spec.blocks, sizes[path]))
    start = f"{blocks}.0."
    of_first = {name.removeprefix(start): n for name, n in called.items() if name.startswith(start)} or {"": 1}
    return replace(
        spec,
        blocks=blocks,
        other_blocks=tuple(path for path in passed if path != blocks),
        last=tuple(filter(None, [*of_first][-1:])),
        shared_blocks=min(of_first.values()) > 1,
    )


def _batch(encoder: LoadedEncoder, texts: Sequence[list[int]], side: Side = "right") -> dict[str, Tensor]:
    pieces, padding = [np.array(text) for text in texts], replace(Padding.of(encoder.tokenizer), side=side)
    return pad_batch(pieces, width=max(map(len, texts)), padding=padding, device=torch.device("cpu"))

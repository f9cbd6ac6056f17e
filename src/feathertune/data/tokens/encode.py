"""Encode texts as flat, unpadded token ids: one array of ids, and each text's offset. Padding is added per batch."""

from __future__ import annotations

import functools
import operator
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from feathertune.data.reading.texts import Text, are_pairs, n_characters, side_by_side
from feathertune.errors import ConfigError
from feathertune.records import HEAD, Reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Measured on 6,000 sentences: the added padding costs nothing (matrix products are fastest at multiples of 8), and a
# first epoch takes two thirds of its time with unrounded lengths.
WIDTH_MULTIPLE = 8
_CHUNK_TEXTS = 1_000
_CHUNK_CHARACTERS = 2_000_000
# The head's share of the tokens that ``head-tail`` reads, special tokens excluded.
_HEAD_SHARE = 128 / 510

Span = tuple[int, int]
Side = Literal["right", "left"]


@dataclass(frozen=True)
class Padding:
    """The token that pads the rows of a batch, and the side it is added on."""

    token_id: int = 0
    side: Side = "right"

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Padding:
        """Return a tokenizer's padding, with token 0 if it has no padding token."""
        return cls(int(tokenizer.pad_token_id or 0), "left" if tokenizer.padding_side == "left" else "right")

    def place(self, length: int, width: int) -> slice:
        """Return a sequence's slice within a row of a batch."""
        return slice(0, length) if self.side == "right" else slice(width - length, width)


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of N texts; each text is one sequence, or several if long texts are read in windows.

    Attributes:
        ids: All ids, ``(sum of lengths,)`` int32; `types` are their token types, int8, or None if there is one type.
        offsets: Start of each of the S sequences, and the end of the last, ``(S + 1,)`` int64.
        firsts: First sequence of each text, and S, ``(N + 1,)`` int64; None if each text is one sequence.
        n_tokens: Tokens of each whole text, special tokens included, ``(N,)`` int64; None if not counted.
        n_unread: Tokens of each text that are in no sequence, ``(N,)`` int64; None if not counted.
        padding: Padding of its batches.
    """

    ids: np.ndarray
    offsets: np.ndarray
    n_truncated: int
    padding: Padding
    types: np.ndarray | None = None
    firsts: np.ndarray | None = None
    n_tokens: np.ndarray | None = None
    n_unread: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets if self.firsts is None else self.firsts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens read from each text, special tokens and overlaps included, ``(N,)`` int64."""
        return np.diff(self.offsets if self.firsts is None else self.offsets[self.firsts])

    @property
    def n_sequences(self) -> int:
        """Number of sequences S, at least N."""
        return len(self.offsets) - 1

    def sequences(self, rows: np.ndarray) -> np.ndarray:
        """Return the indices of these texts' sequences, text by text, ``(sum of their sequences,)``."""
        if self.firsts is None or not len(rows):
            return rows
        return np.concatenate([np.arange(self.firsts[row], self.firsts[row + 1]) for row in rows])

    def pieces(self, rows: np.ndarray) -> list[np.ndarray]:
        """Return the token ids of each of these texts' sequences."""
        return [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in self.sequences(rows)]

    def type_pieces(self, rows: np.ndarray) -> list[np.ndarray] | None:
        """Return the token types of each of these texts' sequences; None without types."""
        if self.types is None:
            return None
        return [self.types[self.offsets[i] : self.offsets[i + 1]] for i in self.sequences(rows)]

    def pool(self, rows: np.ndarray, values: torch.Tensor) -> torch.Tensor:
        """Average outputs ``(., C)``, one per sequence of the B texts at `rows`, to ``(B, C)``; differentiable."""
        if self.firsts is None:
            return values
        counts = torch.from_numpy(np.diff(self.firsts)[rows]).to(values.device)
        return torch.segment_reduce(values, "mean", lengths=counts)

    def pooled(self, values: np.ndarray) -> np.ndarray:
        """Apply `pool` to all texts: ``(S, C)`` to ``(N, C)``."""
        found: np.ndarray = self.pool(np.arange(len(self)), torch.from_numpy(values)).numpy()
        return found

    def take(self, rows: np.ndarray) -> EncodedTexts:
        """Return some of the texts, in the order of `rows`; `n_truncated` is then 0."""
        pieces, types = self.pieces(rows), self.type_pieces(rows)
        ids = np.concatenate(pieces) if pieces else self.ids[:0]
        return EncodedTexts(
            ids=ids,
            offsets=_offsets([len(piece) for piece in pieces]),
            n_truncated=0,
            padding=self.padding,
            types=None if types is None else np.concatenate([np.zeros(0, np.int8), *types]),
            firsts=None if self.firsts is None else _offsets(np.diff(self.firsts)[rows]),
            n_tokens=None if self.n_tokens is None else self.n_tokens[rows],
            n_unread=None if self.n_unread is None else self.n_unread[rows],
        )

    def shape(self, rows: np.ndarray) -> tuple[int, int]:
        """Return the number of sequences in a batch of these texts, and its padded length T."""
        found = self.sequences(rows)
        longest = int((self.offsets[found + 1] - self.offsets[found]).max())
        return len(found), batch_width(longest, self._longest)

    @functools.cached_property
    def _longest(self) -> int:
        return int(np.diff(self.offsets).max())

    def collate(self, rows: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
        """Make one padded batch of the texts at `rows`; see `pad_batch`. T is rounded up to keep shapes few."""
        _, width = self.shape(rows)
        types = self.type_pieces(rows)
        return pad_batch(self.pieces(rows), width=width, padding=self.padding, device=device, types=types)


def _offsets(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def pad_batch(
    pieces: Sequence[np.ndarray],
    *,
    width: int,
    padding: Padding,
    device: torch.device,
    types: Sequence[np.ndarray | None] | None = None,
) -> dict[str, torch.Tensor]:
    """Make one batch of B sequences, padded to T = `width`; a sequence without `types` has type 0 everywhere.

    Returns:
        ``input_ids``, ``attention_mask`` if there is padding, and ``token_type_ids`` if there are types, each
        ``(B, T)`` int64.
    """
    input_ids = np.full((len(pieces), width), padding.token_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    places = [padding.place(len(piece), width) for piece in pieces]
    for i, piece in enumerate(pieces):
        input_ids[i, places[i]] = piece
        mask[i, places[i]] = 1
    batch = {"input_ids": sent(torch.from_numpy(input_ids), device)}
    if not mask.all():
        batch["attention_mask"] = sent(torch.from_numpy(mask), device)
    if types is not None and any(piece is not None for piece in types):
        type_ids = np.zeros_like(input_ids)
        for i, kinds in enumerate(types):
            if kinds is not None:
                type_ids[i, places[i]] = kinds
        batch["token_type_ids"] = sent(torch.from_numpy(type_ids), device)
    return batch


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor on a device; the copy to a GPU is asynchronous."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def batch_width(longest: int, longest_of_all: int) -> int:
    """Return a batch's T: `longest` rounded up, but at most `longest_of_all`."""
    return min(-(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE, longest_of_all)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], *, max_length: int, reading: Reading = HEAD
) -> EncodedTexts:
    """Tokenize N texts or pairs; `reading` selects tokens of texts over `max_length` tokens, special ones included."""
    pairs = are_pairs(texts)
    if pairs and reading != HEAD:
        raise ConfigError(
            f"--long {reading.long} works only with single texts, and these are pairs. Leave it out: in a pair that is "
            "too long, the longer text is truncated."
        )
    side = str(tokenizer.truncation_side)
    has_types = pairs and "token_type_ids" in tokenizer.model_input_names
    gathered = Gathered(max_length, reading, padding=Padding.of(tokenizer), side=side, has_types=has_types)
    for start, end in _chunks(texts):
        columns = side_by_side(texts[start:end])
        batch: Any = tokenizer(
            *columns,
            truncation=pairs,  # `Gathered` truncates single texts, to count their unread tokens
            max_length=max_length if pairs else None,
            verbose=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        for encoding in batch.encodings:
            gathered.add(encoding)
    return gathered.texts()


class Gathered:
    """Collects encoded texts and truncates long ones (see `encode`): ``head`` on the `side`. Pairs may have types."""

    def __init__(
        self, max_length: int, reading: Reading, *, padding: Padding, side: str = "right", has_types: bool = False
    ) -> None:
        self._max_length, self._reading, self._padding, self._side = max_length, reading, padding, side
        # These grow in place, so two copies of all tokens never exist at once.
        self._ids, self._lengths, self._counts = array("i"), array("q"), array("q")
        self._n_tokens, self._n_unread = array("q"), array("q")
        self._types = array("b") if has_types else None

    def add(self, encoding: Any) -> None:  # noqa: ANN401 - `tokenizers.Encoding`, which has no types
        """Add a whole text as `tokenizers` encoded it, or a pair that it truncated."""
        # For an empty text, a decoder's tokenizer may give no tokens.
        ids: list[int] = encoding.ids or [self._padding.token_id]
        found = Cut([ids], 0)
        if len(ids) > self._max_length:
            special = encoding.special_tokens_mask
            found = cut(ids, special, max_length=self._max_length, reading=self._reading, side=self._side)
        elif encoding.overflowing:
            found = Cut([ids], _n_left_out(encoding))
        for sequence in found.sequences:
            self._ids.extend(sequence)
            self._lengths.append(len(sequence))
        if self._types is not None:
            self._types.extend(encoding.type_ids)
        self._counts.append(len(found.sequences))
        self._n_tokens.append(len(ids) if len(ids) > self._max_length else len(ids) + found.n_unread)
        self._n_unread.append(found.n_unread)

    def texts(self) -> EncodedTexts:
        """Return all texts added."""
        n_tokens = np.array(self._n_tokens, dtype=np.int64)
        types = self._types
        return EncodedTexts(
            ids=np.frombuffer(self._ids, dtype=np.int32) if self._ids else np.zeros(0, dtype=np.int32),
            offsets=_offsets(np.array(self._lengths, dtype=np.int64)),
            n_truncated=int((n_tokens > self._max_length).sum()),
            padding=self._padding,
            types=np.frombuffer(types, dtype=np.int8) if types is not None and any(types) else None,
            firsts=_offsets(np.array(self._counts, dtype=np.int64)) if self._reading.long == "windows" else None,
            n_tokens=n_tokens,
            n_unread=np.array(self._n_unread, dtype=np.int64),
        )


@dataclass(frozen=True)
class Cut:
    """The sequences read from one text, as token ids with special tokens, and its number of unread tokens."""

    sequences: list[list[int]]
    n_unread: int


def cut(ids: Sequence[int], special: Sequence[int], *, max_length: int, reading: Reading, side: str = "right") -> Cut:
    """Truncate a text of more than `max_length` tokens; `special` is 1 for the special tokens at both ends."""
    before, after = special.index(0), special[::-1].index(0)
    first, text, last = ids[:before], ids[before : len(ids) - after], ids[len(ids) - after :]
    read = spans(len(text), max_length - before - after, reading, side)
    sequences = [[*first, *(token for start, end in parts for token in text[start:end]), *last] for parts in read]
    return Cut(sequences, n_unread(len(text), read))


def spans(n: int, room: int, reading: Reading, side: str = "right") -> list[list[Span]]:
    """Return each sequence's spans of `n` tokens, which exceed its `room`; neither counts special tokens.

    Source: head-tail: Sun et al. 2019, How to Fine-Tune BERT for Text Classification?, arXiv:1905.05583, section 5.3.1.
    """
    if reading.long == "head-tail":
        head = max(1, round(room * _HEAD_SHARE))
        return [[(0, head), (n - room + head, n)]]
    n_windows = 1
    if reading.long == "windows":
        n_windows = min(1 - (room - n) // (room - reading.stride), reading.max_windows)
    if n_windows == 1:
        return [[(n - room, n) if side == "left" else (0, room)]]
    starts = [i * (n - room) // (n_windows - 1) for i in range(n_windows)]
    return [[(start, start + room)] for start in starts]


def n_unread(n: int, read: Sequence[Sequence[Span]]) -> int:
    """Count the tokens among `n` that are in no sequence."""
    reached = unread = 0
    for start, end in sorted(span for parts in read for span in parts):
        unread += max(0, start - reached)
        reached = max(reached, end)
    return unread + n - reached


def _n_left_out(encoding: Any) -> int:  # noqa: ANN401 - `tokenizers.Encoding`, which has no types
    """Count the tokens that truncation removed from a pair; the overflow may also hold tokens that were kept."""
    kept, *others = (
        Counter(
            (part, place, token)
            for part, place, token, special in zip(
                one.sequence_ids, one.offsets, one.ids, one.special_tokens_mask, strict=True
            )
            if not special
        )
        for one in (encoding, *encoding.overflowing)
    )
    return (functools.reduce(operator.or_, others) - kept).total()


def _chunks(texts: Sequence[Text]) -> Iterator[tuple[int, int]]:
    """Yield ranges of limited texts and characters: a tokenizer's own copy is fifty times as large as the text."""
    start = characters = 0
    for i, text in enumerate(texts):
        if i > start and (i - start == _CHUNK_TEXTS or characters + n_characters(text) > _CHUNK_CHARACTERS):
            yield start, i
            start, characters = i, 0
        characters += n_characters(text)
    if start < len(texts):
        yield start, len(texts)

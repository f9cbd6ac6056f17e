"""Texts to token ids, kept flat and unpadded: one array of ids and the offset at which each text starts.

Padding is made per batch, by `EncodedTexts.collate`; nothing padded is ever kept. Not for streams larger than memory:
`feathertune.engine.predict` encodes those chunk by chunk.
"""

from __future__ import annotations

import functools
import operator
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from feathertune.data.reading.texts import Text, are_pairs, n_characters, side_by_side
from feathertune.data.tokens.long import Cut, cut
from feathertune.errors import ConfigError
from feathertune.records import HEAD, Reading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# On 6,000 sentences the padding that this adds costs nothing (products like multiples of 8), and a first epoch takes
# two thirds of the time that it takes with every length as it is.
WIDTH_MULTIPLE = 8
_CHUNK_TEXTS = 1_000
_CHUNK_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of N texts, each one sequence, or several where long texts are read in windows.

    Attributes:
        ids: All ids, one sequence after the other, ``(sum of lengths,)`` int32.
        offsets: Where each of the S sequences starts and the last one ends, ``(S + 1,)`` int64.
        n_truncated: How many texts were longer than the limit.
        pad_id: The id that fills up a batch.
        types: Of pairs, which of the two texts each token is of, as the tokenizer says it, ``(sum of lengths,)`` int8;
            None where all tokens are of one type, or the encoder tells no types apart.
        firsts: Which sequence each text begins with, and S, ``(N + 1,)`` int64; ``None`` where each text is one.
        n_tokens: Tokens of each whole text, special tokens included, ``(N,)`` int64; ``None`` where nobody counted.
        n_unread: Those of them that are in no sequence, likewise.
    """

    ids: np.ndarray
    offsets: np.ndarray
    n_truncated: int
    pad_id: int
    types: np.ndarray | None = None
    firsts: np.ndarray | None = None
    n_tokens: np.ndarray | None = None
    n_unread: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets if self.firsts is None else self.firsts) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text as it is read, special tokens and overlaps included, ``(N,)`` int64."""
        return np.diff(self.offsets if self.firsts is None else self.offsets[self.firsts])

    @property
    def n_sequences(self) -> int:
        """S, at least N."""
        return len(self.offsets) - 1

    def sequences(self, rows: np.ndarray) -> np.ndarray:
        """Indices of the sequences of these texts, text by text, ``(sum of their sequences,)``."""
        if self.firsts is None or not len(rows):
            return rows
        return np.concatenate([np.arange(self.firsts[row], self.firsts[row + 1]) for row in rows])

    def pieces(self, rows: np.ndarray) -> list[np.ndarray]:
        """The ids of each of those sequences."""
        return [self.ids[self.offsets[i] : self.offsets[i + 1]] for i in self.sequences(rows)]

    def type_pieces(self, rows: np.ndarray) -> list[np.ndarray] | None:
        """The types of each of those sequences; ``None`` where there are none."""
        if self.types is None:
            return None
        return [self.types[self.offsets[i] : self.offsets[i + 1]] for i in self.sequences(rows)]

    def pool(self, rows: np.ndarray, values: torch.Tensor) -> torch.Tensor:
        """From what a model says of each sequence to what is said of each text: the mean.

        Args:
            rows: Indices of B texts.
            values: One row for each sequence of `sequences(rows)`, ``(., C)`` float32.

        Returns:
            ``(B, C)``; differentiable.
        """
        if self.firsts is None:
            return values
        counts = torch.from_numpy(np.diff(self.firsts)[rows]).to(values.device)
        return torch.segment_reduce(values, "mean", lengths=counts)

    def pooled(self, values: np.ndarray) -> np.ndarray:
        """`pool` of all texts: ``(S, C)`` to ``(N, C)``."""
        found: np.ndarray = self.pool(np.arange(len(self)), torch.from_numpy(values)).numpy()
        return found

    def take(self, rows: np.ndarray) -> EncodedTexts:
        """Some of the texts, in the order of `rows`. How many of these were truncated is not known: none is said."""
        pieces, types = self.pieces(rows), self.type_pieces(rows)
        ids = np.concatenate(pieces) if pieces else self.ids[:0]
        return EncodedTexts(
            ids=ids,
            offsets=_offsets([len(piece) for piece in pieces]),
            n_truncated=0,
            pad_id=self.pad_id,
            types=None if types is None else np.concatenate([np.zeros(0, np.int8), *types]),
            firsts=None if self.firsts is None else _offsets(np.diff(self.firsts)[rows]),
            n_tokens=None if self.n_tokens is None else self.n_tokens[rows],
            n_unread=None if self.n_unread is None else self.n_unread[rows],
        )

    def shape(self, rows: np.ndarray) -> tuple[int, int]:
        """Sequences of a batch of these texts, and their padded length T."""
        found = self.sequences(rows)
        longest = int((self.offsets[found + 1] - self.offsets[found]).max())
        return len(found), batch_width(longest, self._longest)

    @functools.cached_property
    def _longest(self) -> int:
        """Tokens of the longest sequence of all."""
        return int(np.diff(self.offsets).max())

    def collate(self, rows: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
        """Make one padded batch.

        Args:
            rows: Indices of B texts.
            device: Where the tensors shall be.

        Returns:
            ``input_ids`` and, where there is padding, ``attention_mask``, each ``(B, T)`` int64, with as many rows
            more as texts have further windows; ``token_type_ids`` where there are types. T is the longest of these
            sequences, rounded up so that few shapes occur: libraries prepare their products for each shape anew.
        """
        _, width = self.shape(rows)
        types = self.type_pieces(rows)
        return pad_batch(self.pieces(rows), width=width, pad_id=self.pad_id, device=device, types=types)


def _offsets(sizes: Sequence[int] | np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def pad_batch(
    pieces: Sequence[np.ndarray],
    *,
    width: int,
    pad_id: int,
    device: torch.device,
    types: Sequence[np.ndarray | None] | None = None,
) -> dict[str, torch.Tensor]:
    """Make one padded batch.

    Args:
        pieces: Token ids of B texts.
        width: T, at least the longest.
        pad_id: The id that fills up.
        device: Where the tensors shall be.
        types: Of the tokens of each text; None for a text of one type, which is 0 everywhere, as padding is.

    Returns:
        ``input_ids`` and, where there is padding, ``attention_mask``, each ``(B, T)`` int64; ``token_type_ids``
        likewise, where a text has types.
    """
    input_ids = np.full((len(pieces), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for i, piece in enumerate(pieces):
        input_ids[i, : len(piece)] = piece
        mask[i, : len(piece)] = 1
    batch = {"input_ids": torch.from_numpy(input_ids).to(device)}
    if not mask.all():
        batch["attention_mask"] = torch.from_numpy(mask).to(device)
    if types is not None and any(piece is not None for piece in types):
        type_ids = np.zeros_like(input_ids)
        for i, kinds in enumerate(types):
            if kinds is not None:
                type_ids[i, : len(kinds)] = kinds
        batch["token_type_ids"] = torch.from_numpy(type_ids).to(device)
    return batch


def batch_width(longest: int, longest_of_all: int) -> int:
    """T of a batch whose longest text has so many tokens.

    Rounded up, but no longer than the longest of all texts: an encoder has only so many positions.
    """
    return min(-(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE, longest_of_all)


def encode(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], *, max_length: int, reading: Reading = HEAD
) -> EncodedTexts:
    """Tokenise texts, and cut those that are too long.

    Args:
        tokenizer: A fast tokenizer.
        texts: N texts, or N pairs.
        max_length: Most tokens of one sequence, special tokens included.
        reading: What becomes of longer texts. Of a pair the longer text is cut, token by token, and nothing else.

    Returns:
        The ids, with the number of texts that were longer.
    """
    pairs = are_pairs(texts)
    if pairs and reading != HEAD:
        raise ConfigError(
            f"--long {reading.long} reads single texts, and these are pairs. Leave it out: of a pair that is too long "
            "the longer text loses its end."
        )
    side = str(tokenizer.truncation_side)
    has_types = pairs and "token_type_ids" in tokenizer.model_input_names
    gathered = Gathered(max_length, reading, pad_id=int(tokenizer.pad_token_id or 0), side=side, has_types=has_types)
    for start, end in _chunks(texts):
        columns = side_by_side(texts[start:end])
        batch: Any = tokenizer(
            *columns,
            truncation=pairs,  # of a single text what is left out is to be known, and no more is kept of it
            max_length=max_length if pairs else None,
            verbose=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        for encoding in batch.encodings:
            gathered.add(encoding)
    return gathered.texts()


class Gathered:
    """Encoded texts as they come, cut where they are too long.

    Args:
        max_length: As in `encode`.
        reading: Likewise.
        pad_id: The id that fills up a batch.
        side: The side on which ``head`` cuts.
        has_types: Keep the types of the tokens, of pairs.
    """

    def __init__(
        self, max_length: int, reading: Reading, *, pad_id: int, side: str = "right", has_types: bool = False
    ) -> None:
        self._max_length, self._reading, self._pad_id, self._side = max_length, reading, pad_id, side
        # They grow in place: two copies of all tokens never exist at once.
        self._ids, self._lengths, self._counts = array("i"), array("q"), array("q")
        self._n_tokens, self._n_unread = array("q"), array("q")
        self._types = array("b") if has_types else None

    def add(self, encoding: Any) -> None:  # noqa: ANN401 - `tokenizers.Encoding`, which has no types
        """Take a whole text as `tokenizers` has encoded it, or a pair that it has cut."""
        ids: list[int] = encoding.ids
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
        """All that was added."""
        n_tokens = np.array(self._n_tokens, dtype=np.int64)
        types = self._types
        return EncodedTexts(
            ids=np.frombuffer(self._ids, dtype=np.int32) if self._ids else np.zeros(0, dtype=np.int32),
            offsets=_offsets(np.array(self._lengths, dtype=np.int64)),
            n_truncated=int((n_tokens > self._max_length).sum()),
            pad_id=self._pad_id,
            types=np.frombuffer(types, dtype=np.int8) if types is not None and any(types) else None,
            firsts=_offsets(np.array(self._counts, dtype=np.int64)) if self._reading.long == "windows" else None,
            n_tokens=n_tokens,
            n_unread=np.array(self._n_unread, dtype=np.int64),
        )


def _n_left_out(encoding: Any) -> int:  # noqa: ANN401 - `tokenizers.Encoding`, which has no types
    """Tokens that truncation took from a pair: the overflow holds some of what was kept, too.

    Several tokens may stand for one place, such as SentencePiece's sign for a space and the character after it.
    """
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
    """Cut into runs of so many texts or so many characters: a tokenizer's own copy is fifty times the text."""
    start = characters = 0
    for i, text in enumerate(texts):
        if i > start and (i - start == _CHUNK_TEXTS or characters + n_characters(text) > _CHUNK_CHARACTERS):
            yield start, i
            start, characters = i, 0
        characters += n_characters(text)
    if start < len(texts):
        yield start, len(texts)

"""Texts to token ids, kept flat and unpadded: one array of ids and the offset at which each text starts.

Padding is made per batch, by `EncodedTexts.collate`; nothing padded is ever kept. Not for streams larger than memory:
`feathertune.engine.predict` encodes those chunk by chunk.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# On 6,000 sentences the padding that this adds costs nothing (products like multiples of 8), and a first epoch takes
# two thirds of the time that it takes with every length as it is.
WIDTH_MULTIPLE = 8
_CHUNK_TEXTS = 1_000
_CHUNK_CHARACTERS = 2_000_000


@dataclass(frozen=True)
class EncodedTexts:
    """Token ids of N texts.

    Attributes:
        ids: All ids, one text after the other, ``(sum of lengths,)`` int32.
        offsets: Where each text starts and the last one ends, ``(N + 1,)`` int64.
        n_truncated: How many texts were longer than the limit and lost their end.
        pad_id: The id that fills up a batch.
    """

    ids: np.ndarray
    offsets: np.ndarray
    n_truncated: int
    pad_id: int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, special tokens included, ``(N,)`` int64."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> EncodedTexts:
        """Some of the texts, in the order of `rows`. How many of these were truncated is not known: none is said."""
        pieces = [self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        ids = np.concatenate(pieces) if pieces else self.ids[:0]
        offsets = np.concatenate([[0], np.cumsum(self.lengths[rows])]).astype(np.int64)
        return EncodedTexts(ids=ids, offsets=offsets, n_truncated=0, pad_id=self.pad_id)

    def collate(self, rows: np.ndarray, device: torch.device) -> dict[str, torch.Tensor]:
        """Make one padded batch.

        Args:
            rows: Indices of B texts.
            device: Where the tensors shall be.

        Returns:
            ``input_ids`` and, where there is padding, ``attention_mask``, each ``(B, T)`` int64. T is the longest of
            these texts, rounded up so that few shapes occur: libraries prepare their products for each shape anew.
        """
        of_all = self.lengths
        width = batch_width(int(of_all[rows].max()), int(of_all.max()))
        pieces = [self.ids[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        return pad_batch(pieces, width=width, pad_id=self.pad_id, device=device)


def pad_batch(
    pieces: Sequence[np.ndarray], *, width: int, pad_id: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Make one padded batch.

    Args:
        pieces: Token ids of B texts.
        width: T, at least the longest.
        pad_id: The id that fills up.
        device: Where the tensors shall be.

    Returns:
        ``input_ids`` and, where there is padding, ``attention_mask``, each ``(B, T)`` int64.
    """
    input_ids = np.full((len(pieces), width), pad_id, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for i, piece in enumerate(pieces):
        input_ids[i, : len(piece)] = piece
        mask[i, : len(piece)] = 1
    batch = {"input_ids": torch.from_numpy(input_ids).to(device)}
    if not mask.all():
        batch["attention_mask"] = torch.from_numpy(mask).to(device)
    return batch


def batch_width(longest: int, longest_of_all: int) -> int:
    """T of a batch whose longest text has so many tokens.

    Rounded up, but no longer than the longest of all texts: an encoder has only so many positions.
    """
    return min(-(-longest // WIDTH_MULTIPLE) * WIDTH_MULTIPLE, longest_of_all)


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int) -> EncodedTexts:
    """Tokenise texts and cut each at a length.

    Args:
        tokenizer: A fast tokenizer.
        texts: N texts.
        max_length: Most tokens of one text, special tokens included.

    Returns:
        The ids, with the number of texts that were cut.
    """
    ids = array("i")  # grows in place: two copies of all tokens never exist at once
    lengths = np.zeros(len(texts) + 1, dtype=np.int64)
    n_truncated = 0
    for start, end in _chunks(texts):
        batch: Any = tokenizer(
            texts[start:end],
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
        )
        for row, encoding in enumerate(batch.encodings, start=start):
            ids.extend(encoding.ids)
            lengths[row + 1] = len(encoding.ids)
            n_truncated += bool(encoding.overflowing)
    return EncodedTexts(
        ids=np.frombuffer(ids, dtype=np.int32) if ids else np.zeros(0, dtype=np.int32),
        offsets=np.cumsum(lengths),
        n_truncated=n_truncated,
        pad_id=int(tokenizer.pad_token_id or 0),
    )


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Cut into runs of so many texts or so many characters: a tokenizer's own copy is fifty times the text."""
    start = characters = 0
    for i, text in enumerate(texts):
        if i > start and (i - start == _CHUNK_TEXTS or characters + len(text) > _CHUNK_CHARACTERS):
            yield start, i
            start, characters = i, 0
        characters += len(text)
    if start < len(texts):
        yield start, len(texts)

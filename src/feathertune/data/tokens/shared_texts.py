"""Texts in one piece of memory that the processes of a machine can share."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import pyarrow as pa

from feathertune.data.reading.texts import Pair, Text, are_pairs, columns_of


def block_of(texts: Sequence[Text]) -> Sequence[Text]:
    """Return N texts, or N pairs, as memory that can be shared."""
    columns = columns_of(texts, clip=sys.maxsize)
    blocks = [TextBlock(column) for column in columns.values()]
    return PairBlock(*blocks) if are_pairs(texts) else blocks[0]


class TextBlock(Sequence[str]):
    """N texts as one Arrow array; each access decodes a text. Pickle protocol 5 leaves the memory in place."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._array = pa.array(texts, pa.large_string())

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[str]:
        return (text.as_py() for text in self._array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found: str | list[str] = (
            self._array[index].to_pylist() if isinstance(index, slice) else self._array[int(index)].as_py()
        )
        return found


class PairBlock(Sequence[Pair]):
    """N pairs: a block of their first texts, and one of their second."""

    def __init__(self, firsts: TextBlock, seconds: TextBlock) -> None:
        self._firsts, self._seconds = firsts, seconds

    def __len__(self) -> int:
        return len(self._firsts)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [Pair(*both) for both in zip(self._firsts[index], self._seconds[index], strict=True)]
        return Pair(self._firsts[index], self._seconds[index])

"""Texts in one block of memory that processes on a machine can share."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import overload

import pyarrow as pa

from feathertune.data.reading.texts import Pair, Text, columns_of


class TextBlock(Sequence[Text]):
    """N texts or pairs as Arrow arrays, which pickle protocol 5 does not copy. Access decodes a text."""

    def __init__(self, texts: Sequence[Text]) -> None:
        self._columns = [pa.array(column, pa.large_string()) for column in columns_of(texts, clip=sys.maxsize).values()]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __iter__(self) -> Iterator[Text]:
        return (_text(*parts) for parts in zip(*self._columns, strict=True))

    @overload
    def __getitem__(self, index: int) -> Text: ...
    @overload
    def __getitem__(self, index: slice) -> list[Text]: ...
    def __getitem__(self, index: int | slice) -> Text | list[Text]:
        if isinstance(index, slice):
            return [_text(*parts) for parts in zip(*(column[index] for column in self._columns), strict=True)]
        return _text(*(column[int(index)] for column in self._columns))


def _text(first: pa.StringScalar, *second: pa.StringScalar) -> Text:
    text: str = first.as_py()
    return Pair(text, *(part.as_py() for part in second)) if second else text

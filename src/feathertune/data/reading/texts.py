"""What is classified: one text, or a pair of texts that the encoder reads together.

A pair is one value wherever a text is one: it is a key of sets and dictionaries, so that duplicates and overlaps are
those of whole pairs, and lists of texts need no second list beside them. Only what looks inside a text has to ask
which of the two it is: the tokenizer, words that are counted, files that are written. Not for tokens: see
`feathertune.data.tokens.encode`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from feathertune.errors import DataError


class Pair(NamedTuple):
    """Two texts, in the order in which the encoder reads them; named as tokenizers name them."""

    text: str
    text_pair: str


Text = str | Pair


def are_pairs(texts: Sequence[Text]) -> bool:
    """Whether the first of them is a pair; the others are of its kind."""
    return bool(len(texts)) and isinstance(texts[0], Pair)


def parts(text: Text) -> tuple[str, ...]:
    """The one string, or both."""
    return (text,) if isinstance(text, str) else tuple(text)


def n_characters(text: Text) -> int:
    """Of all parts."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def side_by_side(texts: Sequence[Text]) -> tuple[list[str], ...]:
    """The one list of strings, or that of the first and that of the second texts: as a tokenizer takes them."""
    return tuple(list(column) for column in zip(*map(parts, texts), strict=True))


def paired(texts: Sequence[str]) -> list[Pair]:
    """Each text with the next one, the last with the first: pairs where only single texts are at hand."""
    return [Pair(*both) for both in zip(texts, [*texts[1:], *texts[:1]], strict=True)]


def columns_of(texts: Sequence[Text], clip: int) -> dict[str, list[str]]:
    """Texts as columns of a file: ``text``, and ``text_pair`` of pairs.

    Args:
        texts: N texts of one kind.
        clip: Characters of each part that are kept.
    """
    if not are_pairs(texts):
        return {"text": [str(text)[:clip] for text in texts]}
    columns = zip(Pair._fields, side_by_side(texts), strict=True)
    return {name: [part[:clip] for part in column] for name, column in columns}


def of_kind(texts: Iterable[Text | tuple[str, str]], *, pairs: bool, where: str) -> list[Text]:
    """Texts as a model reads them: pairs are refused by one of single texts, and the other way round.

    Args:
        texts: N texts; a pair may be any tuple of two.
        pairs: What is expected.
        where: Who expects it, for the message.

    Raises:
        DataError: If one is of the other kind.
    """
    found: list[Text] = []
    for row, text in enumerate(texts):
        if isinstance(text, tuple) != pairs:
            what, expected = ("a pair", "one text") if isinstance(text, tuple) else ("one text", "a pair of texts")
            raise DataError(f"{where} expects {expected}, but text number {row + 1} is {what}.")
        found.append(text if isinstance(text, str) else Pair(*text))
    return found

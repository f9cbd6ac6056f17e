"""Texts to classify: one text, or a pair that the encoder reads together and that is compared as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from feathertune.errors import DataError


class Pair(NamedTuple):
    """Two texts in the order in which the encoder reads them; the fields are named as in tokenizers."""

    text: str
    text_pair: str


Text = str | Pair

# A tokenizer takes up to 150 bytes a character for the time that it reads a text.
MOST_CHARACTERS = 5_000_000


def check_length(text: str, where: str) -> None:
    """Raise a `DataError` for a text that no memory is enough for."""
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"{where}: the text has {len(text):,} characters. Expected at most {MOST_CHARACTERS:,}: cut it into parts."
        )


def are_pairs(texts: Sequence[Text]) -> bool:
    """Return True if the first text is a pair; all texts of a list are of one kind."""
    return bool(len(texts)) and isinstance(texts[0], Pair)


def parts(text: Text) -> tuple[str, ...]:
    """Return the one string, or both."""
    return (text,) if isinstance(text, str) else tuple(text)


def n_characters(text: Text) -> int:
    """Count the characters of all parts."""
    return len(text) if isinstance(text, str) else sum(map(len, text))


def side_by_side(texts: Sequence[Text]) -> tuple[list[str], ...]:
    """Return one list of strings, or two for pairs, as a tokenizer takes them."""
    return tuple(list(column) for column in zip(*map(parts, texts), strict=True))


def paired(texts: Sequence[str]) -> list[Pair]:
    """Pair each text with the next one, the last with the first."""
    return [Pair(*both) for both in zip(texts, [*texts[1:], *texts[:1]], strict=True)]


def columns_of(texts: Sequence[Text], clip: int) -> dict[str, list[str]]:
    """Return the columns ``text`` and, for pairs, ``text_pair``; each part is cut to `clip` characters."""
    if not are_pairs(texts):
        return {"text": [str(text)[:clip] for text in texts]}
    columns = zip(Pair._fields, side_by_side(texts), strict=True)
    return {name: [part[:clip] for part in column] for name, column in columns}


def of_kind(texts: Iterable[Text | tuple[str, str]], *, pairs: bool, where: str) -> list[Text]:
    """Return the texts if all are pairs (tuples of two), or none is; else raise a `DataError` that names `where`."""
    found: list[Text] = []
    for row, text in enumerate(texts):
        if isinstance(text, tuple) != pairs:
            what, expected = ("a pair", "one text") if isinstance(text, tuple) else ("one text", "a pair of texts")
            raise DataError(f"{where} expects {expected}, but text number {row + 1} is {what}.")
        found.append(text if isinstance(text, str) else Pair(*text))
    return found

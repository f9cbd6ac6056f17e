"""Texts to classify: single texts, or pairs that the encoder reads together and that are compared as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from feathertune.errors import DataError


class Pair(NamedTuple):
    """Two texts in the order in which the encoder reads them; the fields are named as in tokenizers."""

    text: str
    text_pair: str


Text = str | Pair

# A tokenizer uses up to 150 bytes per character while it reads a text.
MOST_CHARACTERS = 5_000_000


def check_length(text: str, where: str) -> None:
    """Raise a `DataError` for a text that is too long to tokenize in memory."""
    if len(text) > MOST_CHARACTERS:
        raise DataError(
            f"{where}: the text has {len(text):,} characters. Expected at most {MOST_CHARACTERS:,}. Split the text."
        )


def are_pairs(texts: Sequence[Text]) -> bool:
    """Return True if the first text is a pair; all texts of a list are of one kind."""
    return bool(len(texts)) and isinstance(texts[0], Pair)


def parts(text: Text) -> tuple[str, ...]:
    """Return a text's one string, or a pair's two."""
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
    """Return the columns ``text`` and, for pairs, ``text_pair``; each part is clipped to `clip` characters."""
    if not are_pairs(texts):
        return {"text": [str(text)[:clip] for text in texts]}
    columns = zip(Pair._fields, side_by_side(texts), strict=True)
    return {name: [part[:clip] for part in column] for name, column in columns}


def of_kind(texts: Iterable[Text | tuple[str, str]], *, pairs: bool, where: str) -> list[Text]:
    """Return the texts; raise a `DataError` that names `where` unless all (with `pairs`) or none are tuples of two."""
    found: list[Text] = []
    for row, text in enumerate(texts):
        if isinstance(text, tuple) != pairs:
            single, pair = "single texts", "pairs of texts"
            what, expected = ("a pair", single) if isinstance(text, tuple) else ("a single text", pair)
            raise DataError(f"{where} expects {expected}, but text {row + 1} is {what}.")
        found.append(text if isinstance(text, str) else Pair(*text))
    return found

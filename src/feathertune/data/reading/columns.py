"""Find a table's text and label columns, by the given names or by common ones. Two text columns make pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feathertune.errors import DataError, nearest

TEXT_COLUMNS = ("text", "sentence", "review", "content")
# Read as pairs if no column of `TEXT_COLUMNS` exists. The first pair takes precedence over `TEXT_COLUMNS`.
PAIR_COLUMNS = (
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "passage"),
    ("query", "passage"),
)
LABEL_COLUMNS = ("label", "labels", "class", "sentiment")


@dataclass(frozen=True)
class Columns:
    """The columns to read from a source, and the `others`. `text_pair` holds the second text of each pair."""

    text: str
    label: str
    others: tuple[str, ...] = ()
    text_pair: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The text column, or both columns of pairs."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def read(self) -> tuple[str, ...]:
        """Text and label columns."""
        return (*self.texts, self.label)

    def text_of(self, values: Mapping[str, object]) -> object:
        """Return the value of a row's text column, or both values of a pair."""
        found = tuple(values.get(column) for column in self.texts)
        return found[0] if self.text_pair is None else found


def find_columns(
    names: Sequence[str],
    source: str,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    usual_texts: Sequence[str] = (),
) -> Columns:
    """Find text and label columns; raise a `DataError` if one is missing or both are the same."""
    texts = find_text_columns(names, text_column, source, usual=usual_texts)
    label = find_column(names, label_column, LABEL_COLUMNS, "label", source)
    if label in texts:
        raise DataError(
            f"{source}: the text column and the label column are both '{label}'. Pass two different columns with "
            "--text-column and --label-column."
        )
    others = tuple(name for name in names if name not in (*texts, label))
    return Columns(texts[0], label, others, *texts[1:])


def find_text_columns(
    names: Sequence[str], asked: str | None, source: str, *, usual: Sequence[str] = ()
) -> tuple[str, ...]:
    """Find the text column, or the two columns of pairs; raise a `DataError` if they are missing.

    `asked` is one name, or two separated by a comma. If it is None, the `usual` columns, which a bundle was trained on,
    are tried first, then common names.
    """
    wants_pairs = len(usual) == 2 if usual else None
    if asked is not None:
        found = _asked_columns(names, asked, source)
        if wants_pairs is not None and wants_pairs != (len(found) == 2):
            expected = "pairs of texts: two columns, --text-column A,B" if wants_pairs else "single texts: one column"
            raise DataError(f"{source}: --text-column is {asked}, but the bundle was trained on {expected}.")
        return found
    if wants_pairs is not False:
        has_one = any(_named(names, name) for name in TEXT_COLUMNS)
        for pair in filter(None, (tuple(usual), *PAIR_COLUMNS)):
            columns = tuple(column for name in pair if (column := _named(names, name)) is not None)
            if len(columns) == 2 and (wants_pairs or not has_one or pair == PAIR_COLUMNS[0]):
                return columns
        if wants_pairs:
            raise DataError(
                f"{source} has no columns {' and '.join(usual)}. The bundle was trained on pairs of texts."
                f"{nearest(usual[0], names)} Name both columns with --text-column A,B."
            )
    return (find_column(names, None, (*usual, *TEXT_COLUMNS), "text", source),)


def _asked_columns(names: Sequence[str], asked: str, source: str) -> tuple[str, ...]:
    # A single column's name may contain a comma.
    if "," not in asked or _named(names, asked) is not None:
        return (find_column(names, asked, (), "text", source),)
    wanted = [name.strip() for name in asked.split(",")]
    if len(wanted) != 2:
        raise DataError(
            f"{source}: --text-column names {len(wanted)} columns. Expected one, or two for pairs of texts."
        )
    first, second = (find_column(names, name, (), "text", source) for name in wanted)
    if first == second:
        raise DataError(f"{source}: both texts of a pair come from the column '{first}'. Expected two columns.")
    return first, second


def find_column(names: Sequence[str], asked: str | None, usual: Sequence[str], kind: str, source: str) -> str:
    """Find a column by the given name, or by common names in any case; raise a `DataError` if it is missing."""
    if asked is not None:
        if (found := _named(names, asked)) is not None:
            return found
        raise DataError(f"{source} has no column '{asked}'.{nearest(asked, names)}")
    for name in usual:
        if (found := _named(names, name)) is not None:
            return found
    hint = ""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        hint = " The file has only one column: does its separator match its extension?"
    raise DataError(
        f"{source} has no {kind} column (looked for {', '.join(usual)}).{nearest(usual[0], names)}{hint} "
        f"Name it with --{kind}-column (data.{kind}_column)."
    )


def _named(names: Sequence[str], asked: str) -> str | None:
    if asked in names:
        return asked
    folded = asked.strip().lower()
    return next((name for name in names if name.strip().lower() == folded), None)

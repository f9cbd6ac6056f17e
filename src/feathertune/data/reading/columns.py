"""Which columns of a table hold the texts and the labels: by the names that were asked for, else by usual ones.

Two text columns make pairs. Not for reading them: see `feathertune.data.reading.rows`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feathertune.errors import DataError, nearest

TEXT_COLUMNS = ("text", "sentence", "review", "content")
# Two columns that are read as pairs where there is none of a usual name for one; the first two in any case.
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
    """Where a source's texts and labels were found, and the columns that were not read.

    Attributes:
        text_pair: Of the second text of each row, where the rows are pairs.
    """

    text: str
    label: str
    others: tuple[str, ...] = ()
    text_pair: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """The one column of the texts, or both."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)

    @property
    def read(self) -> tuple[str, ...]:
        """All columns that are read."""
        return (*self.texts, self.label)

    def text_of(self, values: Mapping[str, object]) -> object:
        """The text of a row, or both of a pair, as the source gives them."""
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
    """The text columns and the label column.

    Args:
        names: All columns.
        source: For messages.
        text_column: As in `find_text_columns`.
        label_column: Its name; None looks for the usual ones.
        usual_texts: As in `find_text_columns`.

    Raises:
        DataError: If one is missing, or two are one.
    """
    texts = find_text_columns(names, text_column, source, usual=usual_texts)
    label = find_column(names, label_column, LABEL_COLUMNS, "label", source)
    if label in texts:
        raise DataError(
            f"{source}: the text column and the label column are both '{label}'. Name two different ones "
            "(--text-column, --label-column)."
        )
    others = tuple(name for name in names if name not in (*texts, label))
    return Columns(texts[0], label, others, *texts[1:])


def find_text_columns(
    names: Sequence[str], asked: str | None, source: str, *, usual: Sequence[str] = ()
) -> tuple[str, ...]:
    """The column of the texts, or the two of pairs.

    Args:
        names: All columns.
        asked: One name, or two with a comma between them; None looks for the usual ones.
        source: For messages.
        usual: What a bundle was trained on, looked for first: one name for single texts, two for pairs. Empty where
            either will do.

    Raises:
        DataError: If one is missing, both are one, or they are one where two are needed or the other way round.
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
                f"{source} has no columns {' and '.join(usual)}, and the bundle was trained on pairs of texts."
                f"{nearest(usual[0], names)} Name both columns with --text-column A,B."
            )
    return (find_column(names, None, (*usual, *TEXT_COLUMNS), "text", source),)


def _asked_columns(names: Sequence[str], asked: str, source: str) -> tuple[str, ...]:
    """A column may have a comma in its name: only where there is none of the whole name are they two."""
    if "," not in asked or _named(names, asked) is not None:
        return (find_column(names, asked, (), "text", source),)
    wanted = [name.strip() for name in asked.split(",")]
    if len(wanted) != 2:
        raise DataError(
            f"{source}: --text-column names {len(wanted)} columns. Expected one, or two for pairs of texts."
        )
    first, second = (find_column(names, name, (), "text", source) for name in wanted)
    if first == second:
        raise DataError(f"{source}: both texts of a pair are of the column '{first}'. Expected two different ones.")
    return first, second


def find_column(names: Sequence[str], asked: str | None, usual: Sequence[str], kind: str, source: str) -> str:
    """A column by the name that was asked for, else by its usual names, whatever their case.

    Raises:
        DataError: If there is none; the message lists what there is.
    """
    if asked is not None:
        if (found := _named(names, asked)) is not None:
            return found
        raise DataError(f"{source} has no column '{asked}'.{nearest(asked, names)}")
    for name in usual:
        if (found := _named(names, name)) is not None:
            return found
    hint = ""
    if len(names) == 1 and any(mark in names[0] for mark in ";\t|"):
        hint = " There is one column only: is the file separated by another character than its ending says?"
    raise DataError(
        f"{source} has no {kind} column (looked for {', '.join(usual)}).{nearest(usual[0], names)}{hint} "
        f"Name it with --{kind}-column (data.{kind}_column)."
    )


def _named(names: Sequence[str], asked: str) -> str | None:
    """A column by its name, else whatever its case and the spaces around it; None where there is none."""
    if asked in names:
        return asked
    folded = asked.strip().lower()
    return next((name for name in names if name.strip().lower() == folded), None)

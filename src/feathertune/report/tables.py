"""The table of a study as text that other programs take: CSV, Markdown, LaTeX.

CSV holds the summary of ``study.json`` field for field and digit for digit; Markdown and LaTeX say the numbers as the
report does. Not for a terminal: that is `feathertune.cli.output.tables`.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feathertune.errors import UnknownNameError
from feathertune.records import StudyRecord, SummaryRow
from feathertune.report.format import units
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import ScoreFormat, capitalised

# Whatever a method or a file may be called; a name shall not end a cell, begin a comment or call a macro.
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\`*_{}[]<>|#~$&"} | {"\n": " ", "\r": " "})
_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "|": r"\textbar{}",
        "<": "$<$",
        ">": "$>$",
        "\u2212": "$-$",
        "×": r"$\times$",
        "–": "--",
        "…": r"\ldots{}",
        "\u202f": r"\,",
        "\u00a0": "~",
        "\n": " ",
        "\r": " ",
    }
)


@dataclass(frozen=True)
class _Column:
    """A column of the tables for people: its name, and what it says of a row, with the way to say its score."""

    name: str
    say: Callable[[SummaryRow, ScoreFormat], str]
    against_full: bool = False


_LEADING, _AGAINST = "score", "against full"
_COLUMNS = (
    _Column("method", lambda row, say: row.method),
    _Column("seeds", lambda row, say: units.whole(row.n_seeds)),
    _Column(_LEADING, lambda row, say: say.score(row.score_mean)),
    _Column("95 % interval", lambda row, say: say.interval(row.score_low, row.score_high)),
    _Column(_AGAINST, lambda row, say: say.difference(row.delta_vs_full), True),
    _Column("95 % interval of that", lambda row, say: say.span(row.delta_low, row.delta_high), True),
    _Column("p", lambda row, say: units.probability(row.p_vs_full_holm).removeprefix("p ").removeprefix("= "), True),
    _Column("trained parameters", lambda row, say: units.count(row.trainable_parameters)),
    _Column("size to ship", lambda row, say: units.size(row.adapter_bytes)),
    _Column("time a run", lambda row, say: units.seconds(row.seconds_mean)),
    _Column("speed-up over full", lambda row, say: units.times(row.speedup_vs_full), True),
    _Column("peak memory", lambda row, say: units.size(row.memory_mean_bytes)),
)


def export_table(study: StudyRecord, form: str) -> str:
    """The summary of a study, one row a method, in the order of the record.

    Args:
        study: The record.
        form: A name of `FORMS`. ``csv`` has the fields of `SummaryRow` as its columns, shares of 1 (or correlations),
            seconds and bytes; an empty cell is null. ``latex`` is a ``tabular`` that needs the package ``booktabs``.

    Returns:
        The text, with a line break at its end.

    Raises:
        UnknownNameError: If there is no such form.
    """
    if form not in FORMS:
        raise UnknownNameError("form of a table", form, FORMS)
    return FORMS[form](study)


def _csv(study: StudyRecord) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SummaryRow.model_fields)
    for row in study.summary:
        writer.writerow([_cell(value) for value in row.model_dump(mode="json").values()])
    return text.getvalue()


def _cell(value: object) -> object:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _markdown(study: StudyRecord) -> str:
    columns, rows = _said(study)
    lines = [
        [column.name for column in columns],
        ["---", *("---:" for _ in columns[1:])],
        *([cell.translate(_MARKDOWN) for cell in row] for row in rows),
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table}\n{_caption(study).translate(_MARKDOWN)}\n"


def _latex(study: StudyRecord) -> str:
    columns, rows = _said(study)

    def line(cells: Sequence[str]) -> str:
        return " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
            r"\toprule",
            line([column.name for column in columns]),
            r"\midrule",
            *map(line, rows),
            r"\bottomrule",
            r"\end{tabular}",
            f"% {_caption(study).translate(_LATEX)}",
            "",
        ]
    )


# What can be asked for; each makes the whole text.
FORMS: dict[str, Callable[[StudyRecord], str]] = {"csv": _csv, "md": _markdown, "latex": _latex}


def _said(study: StudyRecord) -> tuple[list[_Column], list[list[str]]]:
    """The columns that this study fills, and the words in them."""
    has_full = any(row.method == "full" for row in study.summary)
    columns = [column for column in _COLUMNS if has_full or not column.against_full]
    say = task_of_study(study).primary.format
    names = {_LEADING: task_of_study(study).primary.title, _AGAINST: f"{say.unit} {_AGAINST}".strip()}
    columns = [dataclasses.replace(column, name=names.get(column.name, column.name)) for column in columns]
    return columns, [[column.say(row, say) for column in columns] for row in study.summary]


def _caption(study: StudyRecord) -> str:
    """What the numbers are of, and what is missing from them."""
    data = study.data
    said = [
        f"{study.base.id} on {data.source}: {data.rows_in_words()}.",
        f"{capitalised(task_of_study(study).primary.title)} on the test rows, mean over the seeds; times include "
        "everything before a method's first step.",
    ]
    if any(row.p_vs_full_holm is not None for row in study.summary):
        differences = task_of_study(study).primary.format.differences
        said.append(f"Differences are {differences}, p is two-sided and Holm-corrected over the methods.")
    if study.status != "complete":
        ended = sum(run.status == "complete" for run in study.runs)
        said.append(f"The study is {study.status}: {ended} of {len(study.planned_runs)} runs are complete.")
    return " ".join(said)

"""A study's table for other programs: CSV with all digits, Markdown and LaTeX rounded as in the report."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

from feathertune.errors import UnknownNameError
from feathertune.records import StudyRecord, SummaryRow
from feathertune.records.row_names import REFERENCE, base_of_row, method_of_row
from feathertune.report.format import units
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import capitalised

# Method and file names can hold any character, which must not end a cell, start a comment or call a macro.
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


def export_table(study: StudyRecord, form: str) -> str:
    """Return a study's summary, one row per method, in a form of `FORMS`; ``latex`` needs the package ``booktabs``."""
    if form not in FORMS:
        raise UnknownNameError("form of a table", form, FORMS)
    return FORMS[form](study)


def _csv(study: StudyRecord) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(SummaryRow.model_fields)
    for row in study.summary:
        values = row.model_dump(mode="json").values()
        writer.writerow([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])
    return text.getvalue()


def _markdown(study: StudyRecord) -> str:
    names, *rows = table_cells(study)
    lines = [
        names,
        ["---", *("---:" for _ in names[1:])],
        *([cell.translate(_MARKDOWN) for cell in row] for row in rows),
    ]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table}\n{caption(study).translate(_MARKDOWN)}\n"


def _latex(study: StudyRecord) -> str:
    names, *rows = (" & ".join(cell.translate(_LATEX) for cell in cells) + r" \\" for cells in table_cells(study))
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{l{'r' * names.count(' & ')}}}",
            r"\toprule",
            names,
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            f"% {caption(study).translate(_LATEX)}",
            "",
        ]
    )


# Table formats by name; each returns the whole text.
FORMS: dict[str, Callable[[StudyRecord], str]] = {"csv": _csv, "md": _markdown, "latex": _latex}


def table_cells(study: StudyRecord) -> list[list[str]]:
    """Return the names of the columns that this study fills, and the texts of its rows."""
    score = task_of_study(study).primary
    say, unit = score.format, score.format.unit.strip()
    gain = f"gain over full ({unit})" if unit else "gain over full"
    of_all: dict[str, Callable[[SummaryRow], str]] = {
        "method": lambda row: method_of_row(row.method),
        "base": lambda row: base_of_row(row.method) or units.DASH,
        "seeds": lambda row: units.whole(row.n_seeds),
        score.title: lambda row: say.score(row.score_mean),
        "95% CI": lambda row: say.interval(row.score_low, row.score_high),
        gain: lambda row: say.difference(row.delta_vs_full),
        "95% CI of the gain": lambda row: say.span(row.delta_low, row.delta_high),
        "p": lambda row: units.probability(row.p_vs_full_holm).removeprefix("p ").removeprefix("= "),
        "trained parameters": lambda row: units.count(row.trainable_parameters),
        "size to ship": lambda row: units.size(row.adapter_bytes),
        "time per run": lambda row: units.seconds(row.seconds_mean),
        "speedup over full": lambda row: units.times(row.speedup_vs_full),
        "peak memory": lambda row: units.size(row.memory_mean_bytes),
    }
    has_full = any(method_of_row(row.method) == REFERENCE for row in study.summary)
    without = set() if has_full else {gain, "95% CI of the gain", "p", "speedup over full"}
    without |= {"base"} if len(study.bases) == 1 else set()
    columns = {name: text for name, text in of_all.items() if name not in without}
    return [list(columns), *([text(row) for text in columns.values()] for row in study.summary)]


def caption(study: StudyRecord) -> str:
    """Return the data, the score and the state of a study, as the text below its table."""
    data = study.data
    said = [
        f"{study.base_ids()} on {data.source}: {data.rows_in_words()}.",
        f"{capitalised(task_of_study(study).primary.title)} on the test rows, mean over seeds; times include "
        "everything before a method's first step.",
    ]
    if any(row.p_vs_full_holm is not None for row in study.summary):
        differences = task_of_study(study).primary.format.differences
        said.append(f"Differences are {differences}; p-values are two-sided and Holm-corrected over the methods.")
    if study.status != "complete":
        ended = sum(run.status == "complete" for run in study.runs)
        said.append(f"The study is {study.status}: {ended} of {len(study.planned_runs)} runs are complete.")
    return " ".join(said)

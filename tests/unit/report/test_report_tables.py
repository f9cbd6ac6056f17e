"""The table of a study for other programs: nothing lost in CSV, nothing that breaks out of a cell elsewhere."""

import csv
import io
import json
import re

import pytest

from feathertune.errors import UnknownNameError
from feathertune.records import SummaryRow
from feathertune.report.format import units
from feathertune.report.tables import FORMS, export_table
from feathertune.tasks.formats import SHARE
from study_factory import METHODS, FakeMethod, write_study

HOSTILE = "a_b & 50% of |#1| {x} \\end ~ ^2 $y$ <b> *c* `d` [e](f)\nz"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), seeds=3, n_test=300)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A method whose name is made of what means something in Markdown and LaTeX."""
    methods = [*METHODS[:2], FakeMethod("odd", "peft", 0.7, 30.0, 1000), METHODS[-1]]
    study = write_study(tmp_path_factory.mktemp("study"), methods=methods, n_test=100, side_files=False)
    study.summary[2].method = study.data.source = HOSTILE
    return study


def test_csv_gives_the_summary_back(study):
    rows = list(csv.DictReader(io.StringIO(export_table(study, "csv"))))
    assert list(rows[0]) == list(SummaryRow.model_fields)
    for row, summary in zip(rows, study.summary, strict=True):
        words = {"method", "kind", "metric"}
        values = {k: v if k in words else json.loads(v) if v else None for k, v in row.items()}
        assert SummaryRow.model_validate(values) == summary, "every digit is there"


def test_csv_keeps_a_name_in_its_cell(hostile):
    rows = list(csv.DictReader(io.StringIO(export_table(hostile, "csv"))))
    assert rows[2]["method"] == HOSTILE
    assert len(rows) == len(hostile.summary)


def test_markdown_says_what_the_report_says(study):
    text = export_table(study, "md")
    table, caption = text.strip().split("\n\n")
    cells = [[cell.strip().replace("\\<", "<") for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[1] == ["---", *["---:"] * (len(cells[0]) - 1)]
    said = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    for row, summary in zip(said, study.summary, strict=True):
        assert row["method"] == summary.method
        assert row["seeds"] == str(summary.n_seeds)
        assert row["accuracy"] == SHARE.score(summary.score_mean)
        assert row["95% CI"] == SHARE.interval(summary.score_low, summary.score_high)
        assert row["gain over full (points)"] == SHARE.difference(summary.delta_vs_full)
        assert row["time per run"] == units.seconds(summary.seconds_mean)
        assert row["peak memory"] == units.size(summary.memory_mean_bytes)
    lora = next(row for row in said if row["method"] == "lora")
    assert re.fullmatch(r"0\.41|< 0\.001", lora["p"])
    assert "300 test rows" in caption
    assert "Holm-corrected" in caption


def test_a_hostile_name_stays_in_its_cell_of_markdown(hostile):
    table = export_table(hostile, "md").split("\n\n")[0].splitlines()
    pipes = [len(re.findall(r"(?<!\\)\|", line)) for line in table]
    assert len(table) == len(hostile.summary) + 2
    assert len(set(pipes)) == 1
    unescaped = re.sub(r"\\(.)", r"\1", table[4]).removeprefix("| ")
    assert unescaped.startswith(HOSTILE.replace("\n", " "))
    for special in "`*_[]<>#$":
        assert not re.search(rf"(?<!\\){re.escape(special)}", table[4]), special


def test_latex_is_a_booktabs_table_of_equal_rows(hostile):
    lines = export_table(hostile, "latex").splitlines()
    assert r"\usepackage{booktabs}" in lines[0]
    body = [line for line in lines if line.endswith(r" \\")]
    assert len(body) == len(hostile.summary) + 1
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", lines[1])[1]
    assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in body} == {len(columns)}
    assert [line for line in lines if line.startswith("\\") and " " not in line and line[1:].isalpha()] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
    for line in body:
        assert line.isascii(), line
        depth = 0
        for brace in re.findall(r"(?<!\\)[{}]", line):
            depth += 1 if brace == "{" else -1
            assert depth >= 0
        assert depth == 0
        assert not re.search(r"(?<!\\)[%#_^]", line), line
        assert len(re.findall(r"(?<!\\)\$", line)) % 2 == 0
    assert r"\textbackslash{}end" in body[3]
    assert r"83.0\%" in export_table(_with_accuracy(hostile, 0.83), "latex")
    assert lines[-1].startswith("% "), "the caption, however it is called, is a comment"


def _with_accuracy(study, accuracy):
    row = study.summary[0].model_copy(update={"score_mean": accuracy})
    return study.model_copy(update={"summary": [row]})


def test_without_full_nothing_is_said_against_it(tmp_path):
    study = write_study(tmp_path, missing=("full",), side_files=False)
    for form in ("md", "latex"):
        text = export_table(study, form)
        assert "gain over full" not in text
        assert "The study is partial: 9 of 10 runs are complete." in text
        assert "Holm" not in text


def test_no_run_has_ended(tmp_path):
    study = write_study(tmp_path, missing=[method.name for method in METHODS])
    assert export_table(study, "csv").splitlines() == [",".join(SummaryRow.model_fields)]
    for form in set(FORMS) - {"csv"}:
        assert "accuracy" in export_table(study, form)


def test_an_unknown_form_is_told(study):
    with pytest.raises(UnknownNameError, match=r"form of a table 'tex'. Did you mean 'latex'\? Known: csv, latex, md"):
        export_table(study, "tex")

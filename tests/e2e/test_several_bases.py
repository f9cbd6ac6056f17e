"""`feathertune compare` on several base models: a row for each base and method."""

import json
import re
import shutil

import pytest

from e2e.cli import SMALL, in_process
from feathertune.cli.output.tables import study_text
from feathertune.records import load_study
from feathertune.records.row_names import base_of_row, method_of_row
from feathertune.report.comparison import COMPARISON_FILE
from feathertune.study.versus import compare_studies
from tiny import save_tiny_encoder

FAST = [*SMALL, "--methods", "lora,full", "--epochs", "1", "--quiet"]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {name: save_tiny_encoder(folder / name, name, seed=1) for name in ("bert", "distilbert")}


@pytest.fixture(scope="module")
def studies(bases, data, tmp_path_factory):
    """A study of two bases, and one of the second alone."""
    folder = tmp_path_factory.mktemp("studies")
    with pytest.MonkeyPatch.context() as patch:
        for name, given in {"both": ",".join(map(str, bases.values())), "one": bases["distilbert"]}.items():
            run(patch, "compare", data, "--base", given, *FAST, "--out", folder / name)
    return folder


def run(patch, *words, code=0):
    class Output:
        """Of a fixture, which has no `capsys`."""

        def readouterr(self):
            return type("Captured", (), {"out": "", "err": ""})

    result = in_process(patch, Output(), *words)
    assert result.code == code
    return result


def test_each_method_runs_on_each_base_as_if_it_were_the_only_one(studies):
    both, one = load_study(studies / "both"), load_study(studies / "one")
    rows = [row.method for row in both.summary]
    per_base = ["foundation", "probe", "stack", "lora", "full"]
    names = [f"{method}@{base}" for base in ("bert", "distilbert") for method in per_base]
    assert rows == ["majority", "tfidf", *names]
    assert [base.name for base in both.bases] == ["bert", "distilbert"]
    assert both.bases[1] == one.bases[0]
    assert [run.id for run in both.runs] == both.planned_runs
    for run_record in one.runs:
        method = run_record.method
        row = method if method in ("majority", "tfidf") else f"{method}@distilbert"
        same = next(run for run in both.runs if (run.method, run.seed) == (row, run_record.seed))
        assert same.predictions_sha256 == run_record.predictions_sha256
    for row in both.summary:
        is_compared = base_of_row(row.method) is not None and method_of_row(row.method) != "full"
        assert (row.delta_vs_full is not None) == is_compared
    assert len(both.pairs) == len(rows) * (len(rows) - 1) // 2
    assert "base_or_method" in [reason.code for reason in both.verdict.reasons]


def test_the_table_and_the_report_name_the_base_in_a_column(studies):
    study = load_study(studies / "both")
    lines = study_text(study, studies / "both").splitlines()
    assert lines[1].split()[:3] == ["method", "base", "accuracy"]
    assert ["lora", "distilbert"] in [line.split()[:2] for line in lines]
    assert "@" not in "".join(lines[: 2 + len(study.summary)])
    page = (studies / "both" / "report.html").read_text(encoding="utf-8")
    table = page[page.index('id="summary"') : page.index("</table>")]
    assert re.findall(r"<td><bdi>(.*?)</bdi></td>", table).count("bert") == 5
    assert '<th scope="col">Base</th>' not in (studies / "one" / "report.html").read_text(encoding="utf-8")


def test_a_study_goes_on_where_it_was_stopped(studies, bases, data, tmp_path, monkeypatch, capsys):
    out = shutil.copytree(studies / "both", tmp_path / "study")
    again = out / "runs" / "lora@bert-s0"
    before = (again / "predictions.parquet").read_bytes()
    shutil.rmtree(again)
    (out / "study.json").unlink()
    given = ",".join(map(str, bases.values()))
    result = in_process(monkeypatch, capsys, "compare", data, "--base", given, *FAST, "--json", "--out", out)
    assert result.code == 0
    assert json.loads(result.stdout)["status"] == "complete"
    assert (again / "predictions.parquet").read_bytes() == before
    # Its settings run again as they are.
    result = in_process(monkeypatch, capsys, "compare", "--config", out / "config.yaml", "--json", "--out", out)
    assert result.code == 0


@pytest.mark.slow
def test_a_cost_estimate_has_the_rows_of_the_study(bases, data, studies, monkeypatch, capsys):
    given = ",".join(map(str, bases.values()))
    result = in_process(monkeypatch, capsys, "compare", data, "--base", given, *FAST, "--dry-run", "--json")
    assert result.code == 0, result.stderr
    rows = json.loads(result.stdout)["cost_estimate"]["rows"]
    assert {row["method"] for row in rows} == {row.method for row in load_study(studies / "both").summary}
    assert not [row["error"] for row in rows if row["error"]]


def test_a_study_of_several_bases_is_compared_with_one_of_a_single_base(studies):
    found = compare_studies(studies / "one", studies / "both")
    shared = {pair.method: pair for pair in found.shared}
    assert set(shared) == {
        "majority",
        "tfidf",
        *(f"{m}@distilbert" for m in ("foundation", "probe", "stack", "lora", "full")),
    }
    assert all(pair.paired.alike and not pair.causes for pair in shared.values())
    assert {place.key.split(".")[1] for place in found.differing if place.group == "base"} == {"bert"}
    assert not (studies / "one" / COMPARISON_FILE).exists()


@pytest.mark.parametrize(
    "words",
    [
        ("train", "DATA", "--out", "OUT"),
        ("methods", "show", "lora"),
        ("inspect", "DATA"),
    ],
)
def test_what_uses_one_base_refuses_several(words, bases, data, tmp_path, monkeypatch, capsys):
    given = ",".join(map(str, bases.values()))
    words = [{"DATA": data, "OUT": tmp_path / "bundle"}.get(word, word) for word in words]
    result = in_process(monkeypatch, capsys, *words, "--base", given)
    assert result.code == 2
    assert "2 base models were given" in result.stderr
    assert not (tmp_path / "bundle").exists()

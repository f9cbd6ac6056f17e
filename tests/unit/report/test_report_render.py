from __future__ import annotations

import json
import re
import sys
from subprocess import run

import pyarrow.parquet as pq
import pytest
from markupsafe import escape

from feathertune.errors import DataError
from feathertune.records import Caveat, Reason, load_study, save_study
from feathertune.report import MAX_BYTES, render_report
from feathertune.report.wording import caveat_texts, headline, verdict_text
from feathertune.tasks.scores import BALANCED_ACCURACY
from study_factory import METHODS, FakeMethod, many_methods, write_study

TAGS = re.compile(r"<(/?)(\w+)[^>]*?(/?)>")
VOID = {"meta", "link", "br"}


def _page(folder):
    path = render_report(folder)
    assert path == folder / "report.html"
    page = path.read_text(encoding="utf-8")
    assert len(page.encode()) < MAX_BYTES
    _check_nesting(page)
    return page


def _check_nesting(page):
    """Every element is closed, in order."""
    body = re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL).replace("<!doctype html>", "")
    stack = []
    for closing, tag, alone in TAGS.findall(body):
        if closing:
            assert stack.pop() == tag
        elif not alone and tag not in VOID:
            stack.append(tag)
    assert stack == []


def test_factory_writes_what_the_runner_shall_write(tmp_path):
    study = write_study(tmp_path, seeds=2, n_test=100)
    assert load_study(tmp_path) == study
    for record in study.runs:
        table = pq.read_table(tmp_path / record.predictions)
        assert table.column_names == ["row", "label", "predicted", "probabilities"]
        assert [str(field.type) for field in table.schema] == [
            "int64",
            "int32",
            "int32",
            "list<element: float>",
        ]
        right = sum(a == b for a, b in zip(*(table.column(c).to_pylist() for c in ("label", "predicted")), strict=True))
        assert record.test.accuracy == pytest.approx(right / 100)


def test_says_verdict_table_and_facts(tmp_path):
    study = write_study(tmp_path)
    page = _page(tmp_path)
    assert page.index(escape(headline(study))) < page.index(escape(verdict_text(study))) < page.index('id="summary"')
    assert page.index('id="summary"') < page.index('id="accuracy"')
    assert escape(caveat_texts(study)[0]) in page
    for row in study.summary:
        assert f"{100 * row.score_mean:.1f}%" in page
    assert "78.4% of texts are longer and " in page
    assert "feathertune compare sample:imdb --base sample:minilm --seeds 1" in page
    assert "torch" in page
    assert "2.13.0" in page
    for name in (
        "methods",
        "accuracy",
        "cost",
        "learning",
        "confusions",
        "examples",
        "gaps",
        "data",
        "setup",
        "again",
    ):
        assert page.count(f'id="{name}"') == 1


def test_reliability_is_folded_and_old_records_have_none(tmp_path):
    study = write_study(tmp_path)
    page = _page(tmp_path)
    assert "can the probabilities be trusted?" in page
    assert len(re.findall(r"Accuracy of [\w ]+ by confidence", page)) == len(study.summary)
    assert "with temperature 1.30: 0.012" in page
    old = study.model_copy(update={"runs": [run.model_copy(update={"calibration": None}) for run in study.runs]})
    save_study(old, tmp_path)
    assert "can the probabilities be trusted?" not in _page(tmp_path)


def test_balanced_accuracy_leads_the_whole_page(tmp_path):
    study = write_study(tmp_path, metric="balanced_accuracy", seeds=2)
    page = _page(tmp_path)
    accuracy = page[page.index('<section id="accuracy">') :]
    assert accuracy.index("<h2>Balanced accuracy") < accuracy.index(escape(BALANCED_ACCURACY.explanation))
    assert "Balanced accuracy against cost" in page
    assert "Validation balanced accuracy</th>" in page
    runs = page[page.index("All runs with all scores") :]
    assert '<th scope="col" class="n">Accuracy</th><th scope="col" class="n">Balanced accuracy</th>' in runs
    run = next(run for run in study.runs if run.id == "lora-s0")
    assert f"{100 * run.test.balanced_accuracy:.2f}%" in runs
    assert f"{100 * run.test.accuracy:.2f}%" in runs
    assert "validation balanced accuracy" in page


def test_equivalence_is_shown_with_its_margin(tmp_path):
    study = write_study(tmp_path)
    assert "equivalent, p" not in _page(tmp_path)
    for row in study.summary:
        row.p_equivalent = 0.012 if row.method == "lora" else 0.4
    save_study(study.model_copy(update={"margin": 0.01}), tmp_path)
    page = _page(tmp_path)
    assert page.count("equivalent, p = 0.012") == 1
    assert "within 1.0 points of full fine-tuning by" in page


def test_nothing_from_outside(tmp_path):
    write_study(tmp_path)
    page = _page(tmp_path)
    assert "default-src 'none'" in page
    targets = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert "@import" not in page
    assert "url(" not in page
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_same_study_gives_the_same_page(tmp_path):
    write_study(tmp_path)
    assert _page(tmp_path) == _page(tmp_path)


def test_partial_study_says_so(tmp_path):
    write_study(tmp_path, missing=("lora", "full"))
    page = _page(tmp_path)
    assert "partial: 8 of 10 runs have ended" in page
    assert "2 of 10 planned runs" in page
    assert "the report gives no differences" in page
    assert "Gain over full</th>" not in page
    assert 'id="learning"' not in page


def test_study_before_its_first_run(tmp_path):
    write_study(tmp_path, missing=[method.name for method in METHODS])
    page = _page(tmp_path)
    assert "No run has finished yet" in page
    assert 'id="accuracy"' not in page


def test_failed_run_is_listed_with_its_error(tmp_path):
    write_study(tmp_path, failed="lora", error="RuntimeError: <NaN> in step 31 & on")
    page = _page(tmp_path)
    assert "RuntimeError: &lt;NaN&gt; in step 31 &amp; on" in page
    assert "1 failed run (lora)" in page


def test_missing_side_files_are_said(tmp_path):
    write_study(tmp_path, side_files=False)
    page = _page(tmp_path)
    assert "Predictions of 10 finished runs could not be read" in page
    assert "Learning curves of 2 finished runs" in page
    assert 'id="confusions"' not in page
    assert 'id="examples"' not in page
    assert 'id="cost"' in page


@pytest.mark.parametrize("content", [b"", b"not a parquet file", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_damaged_side_files_are_passed_over(tmp_path, content):
    study = write_study(tmp_path)
    broken = next(record for record in study.runs if record.method == "lora")
    (tmp_path / broken.predictions).write_bytes(content)
    (tmp_path / broken.metrics).write_bytes(b'{"event": "epoch", "epoch": 1, "train_l')
    (tmp_path / "test.parquet").write_bytes(content)
    page = _page(tmp_path)
    assert "Predictions of 1 finished run could not be read" in page
    assert "Learning curves of 1 finished run" in page
    assert re.search(r"\(text of row \d+ not found\)", page)


def test_predictions_outside_the_classes_are_passed_over(tmp_path):
    study = write_study(tmp_path, labels=("a", "b", "c"))
    study.data.labels.pop()
    save_study(study, tmp_path)
    assert "Predictions of 10 finished runs could not be read" in _page(tmp_path)


def test_half_a_learning_curve_is_drawn(tmp_path):
    study = write_study(tmp_path, epochs=2)
    lora = next(record for record in study.runs if record.method == "lora")
    lines = (tmp_path / lora.metrics).read_text().splitlines()
    values = json.loads(lines[3]) | {"train_loss": float("nan"), "validation_loss": None}
    (tmp_path / lora.metrics).write_text("\n".join([json.dumps(values), "[1]", lines[-1][:20]]))
    page = _page(tmp_path)
    assert "Training and validation loss and validation accuracy of lora by epoch" in page


def test_markup_is_escaped_everywhere(tmp_path):
    attack = '"><img src=x onerror=alert(1)>'
    methods = [*METHODS[:4], FakeMethod(attack.replace("/", ""), "peft", 0.7, 50.0, 1000), METHODS[-1]]
    study = write_study(tmp_path, methods=methods, labels=(attack, "b"), texts=(attack,), side_files=False)
    write_study(tmp_path, labels=(attack, "b"), texts=(attack,), failed="full", error=attack)
    assert "<img" not in _page(tmp_path)
    record = load_study(tmp_path)
    record.summary, record.runs, record.verdict = study.summary, study.runs, study.verdict
    record.data.notes, record.data.source, record.bases[0].id = [attack], attack, attack
    record.hardware, record.versions, record.command = {attack: attack}, {attack: attack}, [attack]
    record.verdict.reasons = [Reason.of("scored_highest", method=attack, score=0.9, margin=0.01)]
    record.verdict.caveats = [
        Caveat.of("dominant_class", label=attack, share=0.9),
        Caveat.of("failed_runs", runs=[attack], total=2),
    ]
    record.runs[-1].hyperparameters = {attack: {attack: [attack]}}
    save_study(record, tmp_path)
    page = _page(tmp_path)
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=alert(1)&gt;") > 20


def test_characters_that_html_cannot_hold(tmp_path):
    write_study(tmp_path, labels=("a\x00b", " "), texts=("null \x00, bell \x07, שלום, 你好 🎬",))
    page = _page(tmp_path)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", page)
    assert "שלום, 你好 🎬" in page
    assert "(blank)" in page


def test_one_class_and_one_test_row(tmp_path):
    write_study(tmp_path, labels=("only",), n_test=1)
    assert "only" in _page(tmp_path)


def test_twenty_classes_are_drawn(tmp_path):
    write_study(tmp_path, labels=[f"class {i}" for i in range(20)], n_test=2000)
    page = _page(tmp_path)
    assert "Confusion matrix of lora" in page
    assert "Too many classes to draw" in page  # the methods beyond the limit list their worst pairs


def test_many_classes_list_the_worst_pairs(tmp_path):
    write_study(tmp_path, labels=[f"class {i}" for i in range(150)], n_test=3000)
    page = _page(tmp_path)
    assert "Confusion matrix of" not in page
    assert "Too many classes to draw" in page
    assert "90 more classes" in page


@pytest.mark.slow
def test_fifty_methods_with_five_seeds_stay_small(tmp_path):
    labels = [f"class {i} " + "<&>" * 300 for i in range(20)]
    texts = ["\"&<>'" * 400, "\U0001f3ac" * 2000]
    write_study(tmp_path, methods=many_methods(50), seeds=5, labels=labels, texts=texts, n_test=400, epochs=30)
    page = _page(tmp_path)
    for name in ("majority", "foundation", "probe", "full"):  # the cut keeps the baselines and the reference
        assert f'data-sort="{name}"' in page
    assert re.search(r"\d+ more methods", page)


def test_worst_case_still_fits(tmp_path):
    study = write_study(tmp_path, methods=many_methods(100), n_test=50, epochs=60, labels=["'" * 2000] * 3)
    study.verdict.reasons = [Reason.of("scored_highest", method="'" * 50_000, score=0.9, margin=0.01)]
    study.verdict.caveats = [Caveat.of("selected_on_test", method="'" * 50_000)] * 50
    study.hardware = {f"{i}" + "'" * 2000: {"x": ["'" * 9000]} for i in range(500)}
    study.versions = {f"{i}" + "'" * 2000: "'" * 9000 for i in range(500)}
    study.command, study.data.notes = ["'" * 90_000], ["'" * 90_000] * 100
    for record in study.runs:
        record.hyperparameters = {f"{i}" + "'" * 900: "'" * 900 for i in range(100)}
    for named in [*study.runs, *study.summary]:
        named.method += "'" * 300
    study.data.source = study.bases[0].id = study.data.fingerprint = "'" * 90_000
    save_study(study, tmp_path)
    _page(tmp_path)


def test_ten_thousand_rows(tmp_path):
    study = write_study(tmp_path, n_test=10_000)
    page = _page(tmp_path)
    assert "10,000 test rows" in page
    changed = re.search(r"([\d,]+) fixed, ([\d,]+) broken", page)
    fixed, broken = (int(number.replace(",", "")) for number in changed.groups())
    accuracy = {row.method: row.score_mean for row in study.summary}
    assert (fixed - broken) / 10_000 == pytest.approx(accuracy["lora"] - accuracy["probe"])
    assert page.count('<article class="example fixed">') == 10
    assert page.count('<article class="example broken">') == 10


def test_examples_fall_back_to_foundation(tmp_path):
    write_study(tmp_path, failed="probe")
    page = _page(tmp_path)
    assert "<bdi>foundation</bdi></b> (before, seed 0)" in page


def test_no_study_is_a_clear_error(tmp_path):
    with pytest.raises(DataError, match="is not a study folder"):
        render_report(tmp_path)


def test_an_older_report_survives_a_failure(tmp_path):
    write_study(tmp_path)
    before = _page(tmp_path)
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(DataError):
        render_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    assert not list(tmp_path.glob(".report*"))


def test_draws_without_torch(tmp_path):
    write_study(tmp_path)
    code = (
        "import sys, pathlib; from feathertune.report import render_report; "
        f"render_report(pathlib.Path({str(tmp_path)!r})); "
        "assert not {'torch', 'transformers', 'sklearn'} & set(sys.modules)"
    )
    done = run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_full_with_options_is_not_the_reference(tmp_path):
    read = FakeMethod("full:read=mean", "full", 0.7, 60.0, 22_000_000)
    write_study(tmp_path / "alone", methods=(*METHODS[:-1], read))
    page = _page(tmp_path / "alone")
    assert ">reference<" not in page
    assert "without this reference" in page
    write_study(tmp_path / "both", methods=(*METHODS, read))
    assert _page(tmp_path / "both").count(">reference<") == 1

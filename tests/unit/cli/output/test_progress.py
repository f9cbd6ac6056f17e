import contextlib
import io
import re
import sys

import pytest
from rich.console import Console

from feathertune.cli.output import progress, tables
from feathertune.cli.output.progress import NotebookBar, _Bar, _Lines, _Work, observe, result_line
from feathertune.cli.output.tables import study_text
from feathertune.records import Caveat
from feathertune.study.observe import Silent
from feathertune.study.run_spec import RunSpec
from study_factory import METHODS, FakeMethod, write_study


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("study"), failed="full", error="OutOfMemoryError: too large")


def spec(name):
    return RunSpec(id=name, method="lora", kind="peft", seed=0)


def test_time_left_follows_from_the_speed_so_far(clock, study):
    work = _Work()
    work.plan({"a": 100.0, "b": 300.0, study.runs[0].id: 50.0}, [study.runs[0]])
    assert work.left_s is None
    work.start("a")
    clock.now = 10.0
    work.advance(50.0)
    assert work.fraction == pytest.approx(50 / 400)
    assert work.left_s == pytest.approx(350 * 10 / 50)
    work.advance(500.0)
    assert work.fraction == pytest.approx(100 / 400), "a run never does more than was planned for it"
    work.end("a")
    work.start("b")
    clock.now = 20.0
    work.advance(100.0)
    work.end("b")
    assert work.fraction == 1.0, "what an early stop saves is not left to do"
    assert work.left_s == 0.0


def test_work_done_by_a_stopped_process_is_behind_us_but_says_nothing_of_the_speed(clock):
    work = _Work()
    work.plan({"a": 100.0}, [])
    work.start("a")
    work.skip(60.0)
    assert work.fraction == pytest.approx(0.6)
    assert work.left_s is None
    clock.now = 10.0
    work.advance(20.0)
    assert work.left_s == pytest.approx(20 * 10 / 20)
    work.skip(500.0)
    assert work.fraction == 1.0


def test_what_is_said_stays_on_the_screen(capsys):
    bar = _Bar()
    for observer in (bar, _Lines()):
        observer.planned({"a": 100.0}, [])
        observer.started(spec("a"))
        observer.skipped(50.0)
        observer.said("Going on after step 3.")
        bar.close()
        assert "Going on after step 3.\n" in capsys.readouterr().err
    Silent().said("Going on.")
    assert capsys.readouterr() == ("", "")


def test_lines_say_results_and_now_and_then_how_far_it_is(clock, study, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    lines = _Lines()
    lines.stage("reading")
    lines.planned({"lora-s0": 100.0}, [])
    lines.started(spec("lora-s0"))
    clock.now = 10.0
    lines.advanced(10.0, "epoch 1")
    clock.now = 31.0
    lines.advanced(10.0, "epoch 1")
    clock.now = 32.0
    lines.advanced(10.0, "epoch 1")
    failed = next(run for run in study.runs if run.status == "failed")
    lines.ended(failed)
    said = stderr.getvalue().replace("\u202f", " ").replace("\xa0", " ").splitlines()
    assert said[:2] == ["reading", "20%, lora-s0, epoch 1, about 2 min 4 s left"]
    assert said[2].endswith("OutOfMemoryError: too large")
    assert len(said) == 3


def test_the_bar_draws_and_leaves_results(clock, study, monkeypatch):
    drawn = io.StringIO()
    monkeypatch.setattr(progress, "PrintableConsole", lambda **_: Console(file=drawn, force_terminal=True, width=120))
    bar = _Bar()
    bar.stage("reading")
    bar.planned({"lora-s0": 100.0}, [study.runs[0]])
    bar.started(spec("lora-s0"))
    clock.now = 5.0
    bar.advanced(50.0, "epoch 1, loss 0.5")
    bar.ended(next(run for run in study.runs if run.method == "lora"))
    bar.close()
    assert "(finished earlier)" in drawn.getvalue()
    assert "lora-s0: " in drawn.getvalue()


def test_where_stderr_goes_decides(monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with observe(quiet=False) as observer:
        assert isinstance(observer, _Lines)
    with observe(quiet=True) as observer:
        assert isinstance(observer, Silent)


def test_the_table_shows_failures_and_what_is_still_to_do(study, tmp_path):
    text = study_text(study, tmp_path)
    assert "failed: full-s0: OutOfMemoryError: too large" in " ".join(text.split())
    assert str(tmp_path / "report.html") in text
    complete = next(run for run in study.runs if run.status == "complete" and run.epochs)
    assert f"{complete.test.accuracy:.1%}" in result_line(complete)
    cut_short = study.model_copy(update={"planned_runs": [*study.planned_runs, "lora-s9"]})
    assert f"1 of {len(study.planned_runs) + 1} runs are not finished" in study_text(cut_short, tmp_path)


def test_a_narrow_terminal_has_two_tables_and_no_number_is_cut(study, tmp_path, monkeypatch):
    def cells(text, begins):
        """Of all lines of the tables that begin so, without the first column."""
        lines = text.partition("test rows")[0].splitlines()
        return [re.sub(r" \(\d seeds\)", "", line).split()[1:] for line in lines if line.startswith(f"{begins} ")]

    monkeypatch.setattr(tables, "study_width", lambda: 130)
    wide = study_text(study, tmp_path)
    monkeypatch.setattr(tables, "study_width", lambda: 80)
    narrow = study_text(study, tmp_path)
    for begins in ("method", *(row.method for row in study.summary)):
        (whole,) = cells(wide, begins)
        first, second = cells(narrow, begins)
        assert first
        assert second
        assert [*first, *second] == whole


def test_a_notebook_has_results_and_a_bar_in_one_output(clock, study, monkeypatch):
    display = pytest.importorskip("IPython.display")
    drawn = []

    class Place:
        def update(self, shown):
            drawn.append(shown._repr_mimebundle_(include=(), exclude=()))

    monkeypatch.setattr(display, "display", lambda shown, display_id: Place())
    with contextlib.closing(NotebookBar()) as bar:
        bar.stage("reading")
        bar.planned({"lora-s0": 100.0}, [])
        bar.started(spec("lora-s0"))
        clock.now = 5.0
        bar.advanced(50.0, "epoch 1, loss 0.5")
        assert "lora-s0: epoch 1, loss 0.5" in drawn[-1]["text/html"]
        assert "50%" in drawn[-1]["text/html"]
        n = len(drawn)
        bar.advanced(1.0, "epoch 1, loss 0.4")
        assert len(drawn) == n, "not for each step"
        bar.ended(next(run for run in study.runs if run.method == "lora"))
        bar.said("a \x1b[31mred\x1b[0m name")
    text = drawn[-1]["text/plain"]
    assert "lora-s0: accuracy" in text
    assert r"a \x1b[31mred" in text
    assert "loss" not in text, "the bar is gone"


@pytest.mark.parametrize("method", ["ia3", "shira:density=0.2+tfidf"])
def test_a_piped_study_has_aligned_columns_and_fits_80_characters(tmp_path, method):
    found = write_study(tmp_path, methods=[*METHODS, FakeMethod(method, "peft", 0.7, 50.0, 1000)], seeds=3)
    text = study_text(found, tmp_path)
    lines = text.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[-1] == f"Report: {tmp_path / 'report.html'}"
    assert not re.search(r"\d\s%|[\u00a0\u202f]", text)
    head = next(line for line in lines if line.startswith("method"))
    rows = [line for line in lines if line.startswith(("tfidf ", "lora "))]
    for column in ("accuracy", "95% CI"):
        end = head.index(column) + len(column)
        for row in rows[:2]:
            assert row[end - 1] == "%", "numbers end where their head ends"
            assert row[end : end + 2].strip() == ""


def test_three_caveats_are_printed_and_the_others_counted(study, tmp_path):
    caveats = [
        Caveat.of("one_seed", methods=["lora"]),
        Caveat.of("still_improving", method="lora", n=1, total=1, epoch=3),
        Caveat.of("mislabelled", n=19),
        Caveat.of("repeated_texts", n=40),
        Caveat.of("selected_on_test", method="lora"),
    ]

    def printed(n):
        verdict = study.verdict.model_copy(update={"caveats": caveats[:n]})
        lines = study_text(study.model_copy(update={"verdict": verdict}), tmp_path).splitlines()
        return [line.rstrip() for line in lines if line.startswith("- ")]

    assert len(printed(3)) == 3
    assert "more in the report" not in " ".join(printed(3))
    five = printed(5)
    assert [line.split()[1] for line in five[:3]] == ["One", "lora", "19"], "the first ones are the most important"
    assert five[3:] == ["- 2 more in the report"]

"""What the report makes of a learning curve; an ordinary study has none."""

import re

import pytest

from feathertune.records import MoreLabels, load_study, save_study
from feathertune.report import render_report
from feathertune.report.panels.curves import at_most_rows, sentence, sizes_of
from study_factory import write_study

SIZES = (100, 300, 1000)


def write_curve(folder):
    """The usual study, which is of the most rows, and the same a little worse with fewer."""
    study = write_study(folder)
    runs, summary, planned = [], [], []
    for size in SIZES:
        worse = 0.05 * (len(SIZES) - 1 - SIZES.index(size))
        last = size == SIZES[-1]
        for run in study.runs:
            if run.method == "foundation":
                runs += [run] if last else []
                continue
            test = run.test.model_copy(update={"accuracy": run.test.accuracy - worse})
            name = run.id.replace("-s", f"-n{size}-s")
            runs.append(run.model_copy(update={"id": name, "train_rows": size, "test": test}))
        for row in study.summary:
            if row.method == "foundation":
                summary += [row] if last else []
                continue
            values = {key: getattr(row, key) - worse for key in ("score_mean", "score_low", "score_high")}
            summary.append(row.model_copy(update={"train_rows": size, **values}))
    planned = [run.id for run in runs]
    gains = [MoreLabels(method="lora", fewer=300, rows=1000, gain=0.03, low=0.01, high=0.05)]
    curve = study.model_copy(update={"runs": runs, "summary": summary, "planned_runs": planned, "more_labels": gains})
    save_study(curve, folder)
    return curve


def test_the_page_shows_the_curve_and_the_most_rows_in_all_else(tmp_path):
    curve = write_curve(tmp_path)
    page = render_report(tmp_path).read_text(encoding="utf-8")
    assert "Learning curve: would more labels help?" in page
    assert "lora: +3.0 points per doubling (95% CI [+1.0, +5.0]) from 300 to 1,000 rows" in page
    section = page[page.index('<section id="labels">') : page.index('<section id="learning">')]
    assert section.count('<svg class="chart wide"') == section.count('<svg class="chart narrow"') == 1
    for size in ("100", "300", "1,000"):
        assert f"lora, {size} rows:" in section
    assert "foundation" not in section, "it is not trained on any rows"
    table = page[page.index('aria-label="Table of runs"') : page.index('<section id="accuracy">')]
    largest = [run for run in curve.runs if run.train_rows in (None, 1000)]
    assert table.count("<tr><th") == 1 + len(largest)
    assert "planned runs" not in page, "nothing is missing"


def test_an_ordinary_study_has_no_curve(tmp_path):
    study = write_study(tmp_path)
    assert sizes_of(study) == ()
    assert at_most_rows(study) == study
    assert "would more labels help?" not in render_report(tmp_path).read_text(encoding="utf-8")


def test_the_intervals_stay_inside_and_do_not_cover_each_other(tmp_path):
    write_curve(tmp_path)
    page = render_report(tmp_path).read_text(encoding="utf-8")
    section = page[page.index('<section id="labels">') : page.index('<section id="learning">')]
    drawings = re.findall(r'<svg class="chart (?:wide|narrow)".*?</svg>', section)
    for width, drawing in zip((900, 340), drawings, strict=True):
        whiskers = [line for line in re.findall(r"<line [^>]*>", drawing) if "whisker" in line]
        places = [float(re.search(r'x1="([\d.]+)"', line)[1]) for line in whiskers]
        assert len(places) == len(SIZES) * 5, "every method but the foundation"
        assert len(set(places)) == len(places)
        assert min(places) >= 46
        assert max(places) <= width


@pytest.mark.parametrize(
    ("gain", "low", "high", "words"),
    [
        (
            0.02,
            0.01,
            0.03,
            "+2.0 points per doubling (95% CI [+1.0, +3.0]) from 500 to 1,000 rows. Expect no more than that from",
        ),
        (0.01, -0.01, 0.03, "+1.0 points per doubling (95% CI [−1.0, +3.0]) from 500 to 1,000 rows. It is not"),
        (-0.02, -0.03, -0.01, "−2.0 points per doubling (95% CI [−3.0, −1.0]) from 500 to 1,000 rows. More labels"),
    ],
)
def test_what_is_said_follows_from_the_interval(gain, low, high, words):
    said = sentence(MoreLabels(method="lora", fewer=500, rows=1000, gain=gain, low=low, high=high))
    assert said.startswith("lora: ")
    assert words in said


def test_a_record_without_a_curve_still_loads(tmp_path):
    study = write_study(tmp_path)
    assert load_study(tmp_path) == study
    assert all(run.train_rows is None and run.predicted_seconds is None for run in study.runs)

"""The result of a study in a notebook: table, frames and chart from the record and the files next to it."""

import copy
import pickle
import re
import sys
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import number_study
from feathertune.errors import DataError, MissingExtraError
from feathertune.records import SummaryRow
from feathertune.report.study_result import Study
from study_factory import METHODS, FakeMethod, write_study

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_study(folder, seeds=2, n_test=50)
    return folder


@pytest.fixture
def study(folder):
    return Study.load(folder)


def test_what_the_record_has_the_study_has(study):
    assert study.summary is study.record.summary
    assert study.verdict.recommended == "lora"
    assert {"runs", "summary", "plot", "folder"} <= set(dir(study))
    with pytest.raises(AttributeError, match="nothing"):
        _ = study.nothing
    assert pickle.loads(pickle.dumps(study)) == copy.deepcopy(study) == study
    assert "6 methods on sample:imdb, complete" in repr(study)
    with pytest.raises(DataError, match="not a study folder"):
        Study.load("nowhere")


def test_the_table_has_a_row_per_method_and_the_verdict(study):
    html = study._repr_html_()
    assert html.count("<tr>") == 1 + len(study.summary)
    assert re.findall("left[^>]*><b>(.*?)</b>", html) == ["lora"], "the recommended method stands out"
    assert study.verdict_text.startswith("Use lora")
    assert study.verdict_text in html
    assert "<li>lora was selected on these test rows" in html


def test_names_of_others_are_escaped(tmp_path):
    methods = [*METHODS[:1], FakeMethod("odd", "peft", 0.7, 30.0, 1000)]
    record = write_study(tmp_path, methods=methods, n_test=20)
    record.summary[1].method = record.data.source = "<script>x</script>\x00"
    html = Study(record, tmp_path)._repr_html_()
    assert "<script>" not in html
    assert "\x00" not in html


def test_the_frame_has_the_summary(study):
    frame = study.to_frame()
    assert list(frame.columns) == list(SummaryRow.model_fields)
    by_method = frame.set_index("method")
    for row in study.summary:
        assert by_method.loc[row.method, "score_mean"] == row.score_mean
    assert by_method["delta_vs_full"].isna().tolist() == [row.delta_vs_full is None for row in study.summary]
    assert all(frame[name].dtype.kind in "ifb" for name in set(frame) - {"method", "kind", "metric"})


def test_predictions_have_a_column_per_run(study):
    frame = study.predictions()
    runs = [run.id for run in study.runs]
    assert list(frame.columns) == ["row", "text", "label", *runs]
    assert frame["row"].tolist() == list(range(50))
    for run in study.runs:
        assert (frame[run.id] == frame["label"]).mean() == pytest.approx(run.test.accuracy)
    more = study.predictions(probabilities=True)
    assert more[["lora-s1:negative", "lora-s1:positive"]].sum(axis=1).to_numpy() == pytest.approx(1)
    right = more["lora-s1:positive"] > 0.5
    assert right.tolist() == (more["lora-s1"] == "positive").tolist()


def test_pairs_and_sets_of_labels(folder, tmp_path):
    record = write_study(tmp_path, methods=METHODS[:1], n_test=3)
    sets = pa.array([[0, 1], [], [1]], pa.list_(pa.int32()))
    run = record.runs[0]
    rows = {"row": pa.array(range(3), pa.int64()), "label": sets}
    pq.write_table(pa.table({**rows, "predicted": sets}), tmp_path / f"runs/{run.id}/predictions.parquet")
    pq.write_table(pa.table({**rows, "text": list("abc"), "text_pair": list("def")}), tmp_path / "test.parquet")
    run.predictions_sha256 = None
    frame = Study(record, tmp_path).predictions()
    assert frame["label"].tolist() == frame[run.id].tolist() == [["negative", "positive"], [], ["positive"]]
    assert (frame["text"] + frame["text_pair"]).tolist() == ["ad", "be", "cf"]


def test_numbers_stay_numbers(tmp_path):
    study = Study(number_study.write_study(tmp_path), tmp_path)
    frame = study.predictions(probabilities=True)
    assert set(frame.columns) == {"row", "text", "label", *(run.id for run in study.runs)}
    assert frame["label"].dtype.kind == "f"
    ElementTree.fromstring(study.plot().svg)


def test_a_learning_curve_shows_its_largest_size(tmp_path):
    study = Study(number_study.write_study(tmp_path, sizes=(100, 300)), tmp_path)
    shown = study._repr_html_()
    assert shown.count("<tr>") == 1 + len({row.method for row in study.summary}) < 1 + len(study.to_frame())
    names = re.findall(r'class="name[^"]*"[^>]*>([^<]+)<', study.plot().svg)
    assert {row.method for row in study.summary} <= set(names)
    assert all(names.count(row.method) == 1 for row in study.summary)
    assert {"lora-n100-s0", "lora-n300-s0"} <= set(study.predictions())


@pytest.mark.parametrize("name", ["test.parquet", "runs/lora-s0/predictions.parquet"])
def test_a_missing_file_is_named(name, tmp_path):
    study = Study(write_study(tmp_path, n_test=20), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing or damaged"):
        study.predictions()


def test_the_chart_stands_alone(study):
    chart = study.plot()
    drawn = ElementTree.fromstring(chart._repr_svg_())
    assert drawn.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"width", "height", "viewBox"} <= set(drawn.attrib)
    text = " ".join(drawn.itertext())
    assert all(row.method in text for row in study.summary)
    assert "prefers-color-scheme" not in text
    assert len(repr(chart)) < 50


def test_without_a_complete_run_there_is_nothing_to_draw(tmp_path):
    study = Study(write_study(tmp_path, missing=[method.name for method in METHODS]), tmp_path)
    assert "no suitable run is complete" in study._repr_html_()
    assert len(study.to_frame()) == 0
    for ask in (study.plot, study.predictions):
        with pytest.raises(DataError, match="No run"):
            ask()


def test_without_pandas_the_extra_is_named(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    for ask in (study.to_frame, study.predictions):
        with pytest.raises(MissingExtraError, match=r"pip install 'feathertune\[notebook\]'"):
            ask()

"""Two studies side by side: nothing is claimed that was not tested, and nothing without naming what else differs."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from feathertune.config import Config
from feathertune.errors import ConfigError, DataError
from feathertune.records import load_study, save_study
from feathertune.report.comparison import draw_comparison
from feathertune.statistics.inference import holm, paired_difference
from feathertune.study.running.run_files import read_predictions
from feathertune.study.versus import causes, compare_studies
from feathertune.tasks import SCORES
from study_factory import METHODS, many_methods, write_study

SCORED = {"study.metric": "balanced_accuracy"}
BETTER = tuple(dataclasses.replace(m, skill=0.9) if m.name == "lora" else m for m in METHODS)


def make(folder, *, settings=None, **kwargs):
    """A study with its settings beside it."""
    write_study(folder, **{"n_test": 400, **kwargs})
    config = Config().model_dump(mode="json")
    for key, value in (settings or {}).items():
        section, name = key.split(".", 1)
        config[section][name] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def edit(folder, change):
    """Change a record on disk."""
    record = load_study(folder)
    change(record)
    save_study(record, folder)


@pytest.fixture
def a(tmp_path):
    return make(tmp_path / "a", seeds=2)


def answers_of(folder, method, metric="accuracy"):
    """Answers of a method's runs, in the order of their seeds."""
    saved = [read_predictions(path) for path in sorted(folder.glob(f"runs/{method}-s*/predictions.parquet"))]
    predicted = np.stack([one.predicted for one in saved])
    return SCORES[metric].measure.answers(saved[0].labels, predicted)


def said(comparison):
    return " ".join(comparison.verdict)


def pair_of(comparison, method):
    return next(pair for pair in comparison.methods if pair.method == method)


def test_two_equal_studies_differ_in_nothing(a, tmp_path):
    found = compare_studies(a, make(tmp_path / "b", seeds=2))
    assert found.untested is None
    assert found.differing == []
    assert all(pair.paired.alike and pair.paired.difference == 0 for pair in found.methods)
    assert all(pair.causes == [] for pair in found.methods)
    assert len(found.methods) == len(METHODS)


def test_a_clear_difference_is_paired_and_names_what_else_differs(a, tmp_path):
    b = make(tmp_path / "b", methods=BETTER, seeds=1, settings={"train.epochs": 7, "data.max_length": 64})
    found = compare_studies(a, b)
    assert [place.key for place in found.differing if place.group == "settings"][:2] == [
        "data.max_length",
        "train.epochs",
    ]
    lora = pair_of(found, "lora")
    expected = paired_difference(answers_of(b, "lora"), answers_of(a, "lora"))
    assert (lora.paired.difference, lora.paired.low, lora.paired.high) == pytest.approx(expected[:3])
    assert lora.paired.difference == pytest.approx(lora.b.score_mean - lora.a.score_mean)
    assert lora.paired.p >= expected.p
    assert lora.paired.p < 0.05
    assert "lora (+" in said(found)
    assert {"data.max_length", "train.epochs"} <= set(lora.causes)
    for cause in lora.causes:
        assert cause in said(found)
    assert any("one seed" in note for note in found.notes)


def test_an_option_of_all_methods_concerns_all(a, tmp_path):
    b = make(tmp_path / "b", seeds=2, settings={"method.top_layers": 2})
    found = compare_studies(a, b)
    assert pair_of(found, "lora").causes == pair_of(found, "full").causes == ["method.top_layers"]


def test_the_other_way_round_it_is_less(a, tmp_path):
    b = make(tmp_path / "b", methods=BETTER, seeds=2)
    there, back = compare_studies(a, b), compare_studies(b, a)
    forth, return_ = pair_of(there, "lora").paired, pair_of(back, "lora").paired
    assert forth.difference == -return_.difference
    assert forth.p == return_.p


def test_one_setting_alone_is_said_to_be_alone(a, tmp_path):
    b = make(tmp_path / "b", methods=BETTER, seeds=2, settings={"method.lora": {"r": 32}})
    found = compare_studies(a, b)
    assert pair_of(found, "lora").causes == ["method.lora.r"]
    assert pair_of(found, "full").causes == []
    assert "method.lora.r" in said(found)


def test_what_nothing_should_change_is_no_part_of_the_correction(a, tmp_path):
    b = make(tmp_path / "b", methods=BETTER, seeds=2, settings={"train.epochs": 7})
    found = compare_studies(a, b)
    trained = [pair for pair in found.methods if "train.epochs" in pair.causes]
    assert [pair.method for pair in trained] == ["lora", "full"], "baselines ask nothing of the training loop"
    raw = [paired_difference(answers_of(b, pair.method), answers_of(a, pair.method)).p for pair in trained]
    assert [pair.paired.p for pair in trained] == pytest.approx(holm(raw))


def test_other_test_rows_are_not_tested(a, tmp_path):
    found = compare_studies(a, make(tmp_path / "b", seeds=2, seed=1, methods=BETTER, settings={"data.seed": 1}))
    assert found.untested == "other test rows"
    assert all(pair.paired is None for pair in found.methods)
    assert "lora (" not in said(found)
    assert "data.seed" in said(found)


def test_the_same_rows_under_labels_in_another_order_are_the_same(a, tmp_path):
    b = make(tmp_path / "b", seeds=2)

    def turned(path):
        table = pq.read_table(path)
        for name in {"label", "predicted"} & set(table.column_names):
            column = pa.array(1 - table.column(name).to_numpy(), pa.int32())
            table = table.set_column(table.column_names.index(name), name, column)
        pq.write_table(table, path)

    for path in [b / "test.parquet", *b.glob("runs/*/predictions.parquet")]:
        turned(path)
    edit(b, lambda record: record.data.labels.reverse())
    found = compare_studies(a, b)
    assert found.untested is None
    assert all(pair.paired.alike for pair in found.methods)


def test_balanced_accuracy_is_compared_by_classes(tmp_path):
    a, b = (
        make(tmp_path / name, seeds=2, methods=methods, metric="balanced_accuracy", settings=SCORED)
        for name, methods in (("a", METHODS), ("b", BETTER))
    )
    found = compare_studies(a, b)
    answers = [answers_of(folder, "lora", "balanced_accuracy") for folder in (b, a)]
    assert pair_of(found, "lora").paired.difference == pytest.approx(paired_difference(*answers).mean)
    assert "lora (+" in said(found)
    assert found.a.score == "balanced accuracy"
    edit(b, lambda record: record.data.labels.reverse())
    assert compare_studies(a, b).untested == "other test rows", "the same rows of other classes"


def test_two_scores_have_no_difference(a, tmp_path):
    b = make(tmp_path / "b", seeds=2, metric="balanced_accuracy", settings=SCORED)
    found = compare_studies(a, b)
    assert found.untested == "other metric"
    assert all(pair.paired is None for pair in found.methods)
    assert "study.metric" in [place.key for place in found.differing]
    page = draw_comparison(found).decode()
    assert "other metric" in page
    assert "Accuracy A</th>" in page
    assert "Balanced accuracy B</th>" in page
    assert "A hollow" not in page


def test_missing_test_rows_are_said(a, tmp_path):
    b = make(tmp_path / "b", seeds=2, methods=BETTER)
    (b / "test.parquet").unlink()
    found = compare_studies(a, b)
    assert found.untested == "test rows cannot be read"


def test_a_method_with_half_its_predictions_is_not_tested(a, tmp_path):
    b = make(tmp_path / "b", seeds=2, methods=BETTER)
    (b / "runs" / "lora-s1" / "predictions.parquet").write_bytes(b"PAR1")
    found = compare_studies(a, b)
    assert pair_of(found, "lora").paired is None
    assert pair_of(found, "full").paired is not None
    assert [pair.method for pair in found.methods if pair.untested == "predictions cannot be read"] == ["lora"]


def test_methods_of_one_alone_are_listed(a, tmp_path):
    b = make(tmp_path / "b", methods=many_methods(2), missing=("lora",))
    found = compare_studies(a, b)
    assert [pair.method for pair in found.methods if pair.b is None] == ["lora"]
    assert [pair.method for pair in found.methods if pair.a is None] == ["adapter-00", "adapter-01"]
    assert all(pair.paired is None and pair.untested is None for pair in found.methods if not (pair.a and pair.b))
    assert "B is partial: 11 of 12 planned runs are complete." in found.notes


def test_no_method_in_common(tmp_path):
    a = make(tmp_path / "a", methods=METHODS[:1])
    b = make(tmp_path / "b", methods=METHODS[1:2])
    assert compare_studies(a, b).shared == []


def test_versions_and_hardware_are_named_times_are_not(a, tmp_path):
    b = make(tmp_path / "b", seeds=2, methods=BETTER)

    def change(record):
        record.versions["torch"] = "9.9"
        record.hardware["threads"] = 64
        record.hardware["measured"] = {"fp32_gflops": 1.0}
        record.created = "2030-01-01T00:00:00+00:00"

    edit(b, change)
    found = compare_studies(a, b)
    assert [(place.key, place.a, place.b) for place in found.differing] == [
        ("versions.torch", "2.13.0", "9.9"),
        ("hardware.threads", 2, 64),
    ]
    assert "versions.torch and hardware.threads" in said(found)


def test_what_follows_from_a_setting_is_not_a_second_cause(a, tmp_path):
    b = make(tmp_path / "b", seeds=2, settings={"data.train_size": 500})

    def change(record):
        record.data.n_train, record.data.fingerprint = 500, "0" * 64
        record.bases[0].fingerprint, record.bases[0].hidden_size = "1" * 64, 768

    edit(b, change)
    found = compare_studies(a, b)
    assert {"data.n_train", "data.fingerprint", "base.hidden_size"} <= {place.key for place in found.differing}
    named = [place.key for place in causes(found.differing, "lora", trained=True)]
    assert named == ["data.train_size", "base.fingerprint"]


@pytest.mark.parametrize("content", [None, "[1, 2]", "{", b"\xff"])
def test_without_settings_it_says_so(a, tmp_path, content):
    b = make(tmp_path / "b", seeds=2)
    (b / "config.yaml").unlink()
    if content is not None:
        (b / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert any("config.yaml" in note for note in compare_studies(a, b).notes)


def test_the_same_folder_and_no_folder_are_told(a, tmp_path):
    with pytest.raises(ConfigError, match="are the same study"):
        compare_studies(a, a / ".." / "a")
    with pytest.raises(DataError, match="is not a study folder"):
        compare_studies(a, tmp_path / "nowhere")


def test_the_page_says_all_of_it(a, tmp_path):
    b = make(tmp_path / "b", seeds=2, methods=BETTER, settings={"train.epochs": 7})
    found = compare_studies(a, b)
    page = draw_comparison(found).decode()
    assert said(found) in page
    for pair in found.methods:
        assert f'data-sort="{pair.method}"' in page
        assert f'data-sort="{pair.paired.difference}"' in page
    assert "<code>train.epochs</code>" in page
    assert page.count("<svg") == 2 + len(found.methods)
    assert "http" not in page.replace("http-equiv", "")


def test_the_page_escapes_and_stays_small(a, tmp_path):
    attack = '"><img src=x onerror=alert(1)>'
    b = make(tmp_path / "b", methods=many_methods(120), side_files=False)

    def change(record):
        record.data.source = record.bases[0].id = attack * 1000
        record.versions = {f"{attack}{i}": attack * 100 for i in range(400)}
        for named in [*record.summary, *record.runs]:
            if named.method.startswith("adapter"):
                named.method += attack
        record.status = "failed"

    edit(b, change)
    page = draw_comparison(compare_studies(a, b)).decode()
    assert "<img" not in page
    assert "&lt;img" in page
    assert len(page.encode()) < 500_000
    assert re.search(r"\d+ more methods", page)
    assert re.search(r"\d+ more differences", page)


def test_it_is_json(a, tmp_path):
    found = compare_studies(a, make(tmp_path / "b", seeds=2))
    assert type(found).model_validate(json.loads(found.model_dump_json())) == found

from __future__ import annotations

import csv

import numpy as np
import pytest

from feathertune.records import Calibration, RunRecord, Seconds
from feathertune.study.running.run_files import read_predictions, write_predictions
from feathertune.study.verdict.mislabelled import find_mislabelled, write_mislabelled
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from feathertune.tasks.mislabelled import Mislabelled

LABELS = np.array([0, 0, 1, 1])


@pytest.fixture
def study(tmp_path):
    def run(method, sure_of_1, kind="peft", seed=0, thresholds=None):
        name = f"{method}-s{seed}"
        probabilities = np.array([[1 - p, p] for p in sure_of_1])
        predicted = SINGLE_LABEL.decide(probabilities, thresholds)
        write_predictions(tmp_path / f"{name}.parquet", LABELS, predicted, probabilities)
        return RunRecord(
            id=name,
            method=method,
            kind=kind,
            seed=seed,
            status="complete",
            seconds=Seconds(total=1.0),
            predictions=f"{name}.parquet",
            thresholds=None if thresholds is None else thresholds.tolist(),
        )

    return run, tmp_path


def test_rows_that_every_run_is_sure_to_be_of_another_class(study):
    run, folder = study
    runs = [run("lora", [0.95, 0.1, 0.05, 0.99]), run("full", [0.97, 0.95, 0.2, 0.9], "full")]
    (found,) = find_mislabelled(SINGLE_LABEL, runs, folder)
    assert (found.row, found.label, found.given, found.predicted) == (0, 0, True, 1)
    assert found.confidence == pytest.approx(0.95)
    unsure = run("lora", [0.85, 0.1, 0.05, 0.99], seed=1)
    assert find_mislabelled(SINGLE_LABEL, [*runs, unsure], folder) == []


def test_a_model_that_is_too_sure_of_itself_is_believed_less(study):
    run, folder = study
    runs = [run("lora", [0.95, 0.1, 0.05, 0.999]), run("full", [0.999, 0.2, 0.3, 0.99], "full")]
    assert len(find_mislabelled(SINGLE_LABEL, runs, folder)) == 1
    warm = Calibration(temperature=2.0, ece=0.0, log_loss=0.0, bins=[])
    # The odds of 19 become their root: 81 %.
    assert find_mislabelled(SINGLE_LABEL, [runs[0].model_copy(update={"calibration": warm}), runs[1]], folder) == []


def test_models_that_only_know_that_a_class_is_rare_prove_nothing(tmp_path):
    labels = np.zeros(100, np.int64)
    labels[:2] = 1
    runs = []
    for method, first in (("lora", 0.001), ("full", 0.003)):  # the first is recognised to be of the large class
        of_1 = np.full(100, 0.02)
        of_1[0] = first
        probabilities = np.stack([1 - of_1, of_1], axis=1)
        write_predictions(tmp_path / f"{method}.parquet", labels, probabilities.argmax(axis=1), probabilities)
        runs.append(
            RunRecord(
                id=method,
                method=method,
                kind="peft",
                seed=0,
                status="complete",
                seconds=Seconds(total=1.0),
                predictions=f"{method}.parquet",
            )
        )
    assert [one.row for one in find_mislabelled(SINGLE_LABEL, runs, tmp_path)] == [0]


def test_a_moved_decision_contradicts_no_label(study):
    run, folder = study
    wrong = [0.95, 0.1, 0.05, 0.99]
    rare = np.array([0.98, 0.02])  # of class 1, a twentieth is enough to be given: rows 1 and 2 are
    runs = [run("lora", wrong, thresholds=rare), run("full", wrong, "full", thresholds=rare)]
    assert [one.row for one in find_mislabelled(SINGLE_LABEL, runs, folder)] == [0]
    runs = [run("lora", wrong), run("full", wrong, "full")]
    assert [one.row for one in find_mislabelled(SINGLE_LABEL, runs, folder)] == [0, 2]


def test_one_method_and_baselines_prove_nothing(study):
    run, folder = study
    wrong = [0.95, 0.1, 0.05, 0.99]
    runs = [run("lora", wrong), run("lora", wrong, seed=1), run("tfidf", wrong, "baseline")]
    assert find_mislabelled(SINGLE_LABEL, runs, folder) == []
    assert len(find_mislabelled(SINGLE_LABEL, [*runs, run("full", wrong, "full")], folder)) == 2


def test_the_file_names_classes(study):
    run, folder = study
    runs = [run("lora", [0.95, 0.1, 0.9, 0.99]), run("full", [0.97, 0.2, 0.9, 0.9], "full")]
    found = find_mislabelled(SINGLE_LABEL, runs, folder)
    write_mislabelled(folder / "mislabelled.csv", found, ["good, really", "b", "c", "d"], ["neg", "pos"])
    rows = list(csv.reader((folder / "mislabelled.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["row", "label", "given", "predicted", "confidence", "text"]
    assert rows[1:] == [["0", "neg", "yes", "pos", "0.950", "good, really"]]


# Several labels a text: of ten rows half have the first label, one has the second.
SETS = np.array([[row % 2, row == 9] for row in range(10)], np.int8)


@pytest.fixture
def tagged(tmp_path):
    def run(method, says, seed=0, temperature=None, thresholds=None, kind="peft"):
        """A run that says what is given, but for `says`: row and label to probability."""
        name = f"{method}-s{seed}"
        probabilities = np.where(SETS, 0.97, 0.03)
        for place, p in says.items():
            probabilities[place] = p
        given = MULTI_LABEL.decide(probabilities, thresholds)
        write_predictions(tmp_path / f"{name}.parquet", SETS, given, probabilities)
        calibration = None if temperature is None else Calibration(temperature=temperature, ece=0, log_loss=0, bins=[])
        return RunRecord(
            id=name,
            method=method,
            kind=kind,
            seed=seed,
            status="complete",
            seconds=Seconds(total=1.0),
            test=MULTI_LABEL.evaluate(SETS, probabilities, thresholds),
            calibration=calibration,
            predictions=f"{name}.parquet",
        )

    return run, tmp_path


def test_sets_come_back_from_their_file(tagged):
    run, folder = tagged
    record = run("lora", {(0, 0): 0.9, (9, 1): 0.2})
    saved = read_predictions(folder / record.predictions)
    np.testing.assert_array_equal(saved.labels, SETS)
    np.testing.assert_array_equal(saved.predicted, saved.probabilities >= 0.5)
    assert (saved.probabilities[0, 0], saved.probabilities[9, 1]) == (np.float32(0.9), np.float32(0.2))


def test_single_labels_that_every_run_is_sure_not_to_be_as_given(tagged):
    run, folder = tagged
    # Row 0 lacks the first label, row 1 has it: half of the rows do, so that a twentieth is left to either.
    says = {(0, 0): 0.96, (1, 0): 0.04, (2, 0): 0.94, (3, 0): 0.06}
    runs = [run("lora", says), run("full", {**says, (0, 0): 0.98}, kind="full"), run("tfidf", {}, kind="baseline")]
    missing, given = find_mislabelled(MULTI_LABEL, runs, folder)
    assert (missing.row, missing.label, missing.given) == (0, 0, False)
    assert missing.confidence == pytest.approx(0.96)
    assert (given.row, given.label, given.given) == (1, 0, True)
    unsure = run("lora", {**says, (0, 0): 0.9}, seed=1)
    assert find_mislabelled(MULTI_LABEL, [*runs, unsure], folder) == [given]
    assert find_mislabelled(MULTI_LABEL, [runs[0], unsure], folder) == [], "one method proves nothing"


def test_models_that_know_nothing_of_a_rare_label_prove_nothing(tagged):
    run, folder = tagged
    ignorant = {(row, 1): 0.05 for row in range(10)}  # the label's share is a tenth
    assert find_mislabelled(MULTI_LABEL, [run("lora", ignorant), run("full", ignorant)], folder) == []
    knows = {(9, 1): 0.005}
    assert find_mislabelled(MULTI_LABEL, [run("lora", knows), run("full", ignorant | knows)], folder) == [
        Mislabelled(9, 1, True, None, pytest.approx(0.995))
    ]


def test_the_temperature_and_the_threshold_of_each_run_have_their_say(tagged):
    run, folder = tagged
    says = {(0, 0): 0.97}
    both = [run("lora", says), run("full", says)]
    assert len(find_mislabelled(MULTI_LABEL, both, folder)) == 1
    # The odds of 32 become their root: 85 %.
    assert find_mislabelled(MULTI_LABEL, [both[0], run("full", says, temperature=2.0)], folder) == []
    cautious = run("full", says, thresholds=np.array([0.99, 0.5]))
    assert find_mislabelled(MULTI_LABEL, [both[0], cautious], folder) == [], "it does not give the label either"


def test_the_file_of_single_labels(tagged):
    run, folder = tagged
    says = {(0, 0): 0.96, (1, 0): 0.04}
    found = find_mislabelled(MULTI_LABEL, [run("lora", says), run("full", says)], folder)
    for listed in (found, []):
        write_mislabelled(folder / "mislabelled.csv", listed, [*"abcdefghij"], ["billing", "spam"])
        rows = list(csv.reader((folder / "mislabelled.csv").read_text(encoding="utf-8").splitlines()))
        assert rows[0][:5] == ["row", "label", "given", "predicted", "confidence"]
        assert len(rows) == 1 + len(listed)
        if listed:
            assert rows[1:] == [
                ["0", "billing", "no", "yes", "0.960", "a"],
                ["1", "billing", "yes", "no", "0.960", "b"],
            ]


def test_numbers_have_no_labels_that_could_be_wrong(study):
    run, folder = study
    wrong = [0.95, 0.1, 0.05, 0.99]
    runs = [run("lora", wrong), run("full", wrong, "full")]
    assert find_mislabelled(SINGLE_LABEL, runs, folder)
    assert find_mislabelled(REGRESSION, runs, folder) == []

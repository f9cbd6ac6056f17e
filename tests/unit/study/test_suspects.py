from __future__ import annotations

import csv

import numpy as np
import pytest

from feathertune.records import Calibration, RunRecord, Seconds
from feathertune.study.files import write_predictions
from feathertune.study.suspects import find_suspects, write_suspects
from feathertune.tasks import SINGLE_LABEL

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
    (suspect,) = find_suspects(runs, folder)
    assert (suspect.row, suspect.label, suspect.predicted) == (0, 0, 1)
    assert suspect.confidence == pytest.approx(0.95)
    unsure = run("lora", [0.85, 0.1, 0.05, 0.99], seed=1)
    assert find_suspects([*runs, unsure], folder) == []


def test_a_model_that_is_too_sure_of_itself_is_believed_less(study):
    run, folder = study
    runs = [run("lora", [0.95, 0.1, 0.05, 0.999]), run("full", [0.999, 0.2, 0.3, 0.99], "full")]
    assert len(find_suspects(runs, folder)) == 1
    warm = Calibration(temperature=2.0, ece=0.0, log_loss=0.0, bins=[])
    # The odds of 19 become their root: 81 %.
    assert find_suspects([runs[0].model_copy(update={"calibration": warm}), runs[1]], folder) == []


def test_a_moved_decision_is_no_suspicion(study):
    run, folder = study
    wrong = [0.95, 0.1, 0.05, 0.99]
    rare = np.array([0.98, 0.02])  # of class 1, a twentieth is enough to be given: rows 1 and 2 are
    runs = [run("lora", wrong, thresholds=rare), run("full", wrong, "full", thresholds=rare)]
    assert [suspect.row for suspect in find_suspects(runs, folder)] == [0]
    runs = [run("lora", wrong), run("full", wrong, "full")]
    assert [suspect.row for suspect in find_suspects(runs, folder)] == [0, 2]


def test_one_method_and_baselines_prove_nothing(study):
    run, folder = study
    wrong = [0.95, 0.1, 0.05, 0.99]
    runs = [run("lora", wrong), run("lora", wrong, seed=1), run("tfidf", wrong, "baseline")]
    assert find_suspects(runs, folder) == []
    assert len(find_suspects([*runs, run("full", wrong, "full")], folder)) == 2


def test_the_file_names_classes(study):
    run, folder = study
    runs = [run("lora", [0.95, 0.1, 0.9, 0.99]), run("full", [0.97, 0.2, 0.9, 0.9], "full")]
    write_suspects(
        folder / "suspects.csv", find_suspects(runs, folder), ["good, really", "b", "c", "d"], ["neg", "pos"]
    )
    rows = list(csv.reader((folder / "suspects.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[1] == ["0", "neg", "pos", "0.950", "good, really"]
    assert len(rows) == 2

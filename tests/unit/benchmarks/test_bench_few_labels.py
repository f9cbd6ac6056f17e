"""The table of `bench_few_labels.py`: paired by draw, with signs and intervals that are those of scipy."""

import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from bench_few_labels import SETFIT, Kept, in_turn, over_draws, table, text, without_answers
from few_labels_side import Study
from scipy import stats

from tiny import save_texts, save_tiny_encoder


def run(accuracy, seconds):
    correct = np.zeros(100, dtype=bool)
    correct[: round(100 * accuracy)] = True
    return {"accuracy": accuracy, "seconds": seconds, "loading_seconds": 0.1, "correct": correct}


RUNS = {
    SETFIT: [run(0.60, 4.0), run(0.55, 5.0), run(0.62, 6.0)],
    "probe": [run(0.63, 1.0), run(0.55, 1.0), run(0.61, 1.0)],
}


def test_differences_are_paired_by_draw():
    setfit, probe = table(RUNS)
    assert "difference" not in setfit
    assert setfit["accuracy"] == pytest.approx(0.59)
    found = probe["difference"]
    assert found["mean"] == pytest.approx(0.02 / 3)
    assert (found["draws_won"], found["draws_lost"]) == (1, 1)
    apart = [0.03, 0.0, -0.01]
    expected = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
    assert found["over_draws_95"] == pytest.approx([expected.low, expected.high])
    assert probe["times_as_fast"] == {"median": 5.0, "least": 4.0, "most": 6.0}
    assert over_draws(np.array([0.1])) is None
    assert "probe" in text(8, [setfit, probe])
    assert all("correct" not in one for some in without_answers(RUNS).values() for one in some)


@dataclass
class Draw:
    seed: int
    texts: list[str]
    labels: np.ndarray
    test_labels: np.ndarray


def draw_of(seed):
    return Draw(seed, list("abcdef"), np.array([0, 1] * 3), np.array([1, 1]))


def test_a_stopped_benchmark_goes_on_where_it_was(tmp_path):
    trained = []

    def contestant(name):
        def train(draw):
            trained.append((name, draw.seed))
            if (name, draw.seed) == stop_at:
                raise KeyboardInterrupt
            return {"seconds": 1.0, "loading_seconds": 0.1, "answers": [1, draw.seed % 2]}

        return train

    study = SimpleNamespace(shots=8, draw=draw_of)
    contestants = {name: contestant(name) for name in (SETFIT, "full:read=mean")}
    stop_at = ("full:read=mean", 1)
    with pytest.raises(KeyboardInterrupt):
        in_turn(contestants, study, 3, Kept(tmp_path, "8-2", contestants))
    assert trained == [
        *((SETFIT, 3), (SETFIT, 0), ("full:read=mean", 3), ("full:read=mean", 0), (SETFIT, 1), ("full:read=mean", 1))
    ]
    trained.clear()
    stop_at = None
    runs = in_turn(contestants, study, 3, Kept(tmp_path, "8-2", contestants))
    assert trained == [("full:read=mean", 3), ("full:read=mean", 1), (SETFIT, 3), (SETFIT, 2), ("full:read=mean", 2)]
    assert [run["accuracy"] for run in runs[SETFIT]] == [0.5, 1.0, 0.5]
    assert all(run["date"] for some in runs.values() for run in some)


def test_a_training_of_feathertunes_can_be_kept(tmp_path):
    data = save_texts(tmp_path / "texts.csv", 40)
    encoder = save_tiny_encoder(tmp_path / "encoder", "bert")
    study = Study(str(data), str(encoder), 4, 10, ["full:read=mean"], 16, tmp_path / "runs")
    draw = study.draw(0)
    assert (len(draw.texts), np.bincount(draw.labels).tolist(), len(draw.test_labels)) == (8, [4, 4], 10)
    found = study.trainer("full:read=mean")(draw)
    kept = Kept(tmp_path / "kept", "4-10", ["full:read=mean"])
    kept.add("full:read=mean", found)
    assert kept.runs("full:read=mean") == [json.loads(json.dumps(found))]
    assert set(found["answers"]) <= {0, 1}
    assert len(found["answers"]) == 10
    assert found["steps"] == 40

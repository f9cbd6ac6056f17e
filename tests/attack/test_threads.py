"""Trainings in several threads: each gives what it gives alone, though torch has one random state for the process."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from e2e.cli import reviews, write_csv
from feathertune import TextClassifier
from feathertune.api import finetune
from feathertune.config import EngineConfig, load_config
from feathertune.encoders import load_encoder
from feathertune.predictor import load
from feathertune.runtime import GLOBAL_STATE
from whole import folder

ROWS = reviews(60)
TEXTS, LABELS = [text for text, _ in ROWS], [label for _, label in ROWS]
NEW = ["the film was great", "a bad plot", "very bad actors"]
SEEDS = (0, 1, 2, 0)


def fitted(seed: int) -> np.ndarray:
    # Dropout, so that every step draws from the global state.
    model = TextClassifier(
        base=str(folder("bert")),
        max_length=16,
        epochs=2,
        learning_rate=0.01,
        random_state=seed,
        options={"lora_dropout": 0.3},
        settings={"engine.dtype": "fp32"},
    )
    return model.fit(TEXTS, LABELS).predict_proba(NEW)


def test_estimators_in_threads_equal_those_in_turn():
    alone = {seed: fitted(seed) for seed in set(SEEDS)}
    with ThreadPoolExecutor(len(SEEDS)) as pool:
        together = list(pool.map(fitted, SEEDS))
    for seed, found in zip(SEEDS, together, strict=True):
        np.testing.assert_array_equal(found, alone[seed])
    assert not np.array_equal(alone[0], alone[1])


def test_a_fit_beside_other_work_on_the_random_state():
    """Encoders and bundles that other threads load meanwhile draw from the state too."""
    alone, done = fitted(0), threading.Event()

    def disturb() -> None:
        while not done.is_set():
            load_encoder(str(folder("bert")), labels=("a", "b"), seed=7)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        np.testing.assert_array_equal(fitted(0), alone)
    finally:
        done.set()
        thread.join()


def test_trainings_of_the_command_line_in_threads(tmp_path):
    data = write_csv(tmp_path / "reviews.csv", ROWS)
    options = {"data.source": str(data), "base.id": str(folder("bert")), "data.max_length": 16}
    options |= {"train.epochs": 1, "engine.dtype": "fp32", "data.test_size": 0, "method.lora": {"lora_dropout": 0.3}}

    def trained(name: str, seed: int) -> np.ndarray:
        finetune(load_config(options=options), tmp_path / name, seed=seed)
        return load(tmp_path / name, engine=EngineConfig(dtype="fp32", device="cpu")).probabilities(NEW)

    alone = [trained(f"alone-{seed}", seed) for seed in (0, 1)]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(trained, ("a", "b"), (0, 1)))
    np.testing.assert_array_equal(together, alone)


def test_a_fit_leaves_the_callers_random_state():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fitted(3)
    assert torch.equal(torch.rand(3), expected)
    with GLOBAL_STATE:  # a thread that holds it may fit
        fitted(3)


@pytest.mark.parametrize("n", [2])
def test_bundles_load_in_threads(n, tmp_path):
    with ThreadPoolExecutor(n) as pool:
        encoders = list(pool.map(lambda seed: load_encoder(str(folder("bert")), labels=("a", "b"), seed=seed), [3] * n))
    first, *others = (encoder.model.state_dict() for encoder in encoders)
    assert all(torch.equal(tensor, other[name]) for other in others for name, tensor in first.items())

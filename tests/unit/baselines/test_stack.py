"""The probe of layers and words finds what either part knows, in each kind of label."""

import numpy as np
import pytest

from feathertune.baselines import BASELINES
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from feathertune.tasks.linear_models import Rows

N, TRAIN, VALIDATION = 400, 240, 80
RNG = np.random.default_rng(0)
IN_LAYERS, IN_WORDS = RNG.integers(0, 2, N), RNG.integers(0, 2, N)
LAYERS = RNG.normal(size=(N, 24)) + 2.0 * IN_LAYERS[:, None] * (np.arange(24) < 4)
TEXTS = [f"{RNG.choice(['a', 'the'])} film {('bad', 'good')[word]} {i}" for i, word in enumerate(IN_WORDS)]


def part(first, last):
    return {"layers": LAYERS[first:last], "texts": TEXTS[first:last]}


def fitted(task, labels, n_classes, *, validation=True):
    end = TRAIN + VALIDATION if validation else TRAIN
    held_out = part(TRAIN, end) if validation else {}
    rows = Rows(part(0, TRAIN), labels[:TRAIN], held_out, labels[TRAIN:end], n_classes, task)
    found = BASELINES["stack"].fit(rows)
    return found, found.predict_proba(part(TRAIN + VALIDATION, N)), labels[TRAIN + VALIDATION :]


@pytest.mark.parametrize("labels", [IN_LAYERS, IN_WORDS], ids=["layers", "words"])
@pytest.mark.parametrize("validation", [True, False])
def test_classes_that_one_part_alone_shows(labels, validation):
    found, probabilities, expected = fitted(SINGLE_LABEL, labels, 2, validation=validation)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Without validation rows nothing says that the other part adds nothing.
    assert (probabilities.argmax(axis=1) == expected).mean() > (0.9 if validation else 0.8)
    assert found.chosen["ridge_alpha"] in (0.1, 1, 10, 100, 1000)
    assert found.n_parameters > 24 * 2


def test_classes_that_need_both():
    _, probabilities, expected = fitted(SINGLE_LABEL, IN_LAYERS + 2 * IN_WORDS, 4)
    assert (probabilities.argmax(axis=1) == expected).mean() > 0.85


def test_sets_of_labels():
    labels = np.stack([IN_LAYERS, IN_WORDS, np.ones(N, int)], axis=1)
    _, probabilities, expected = fitted(MULTI_LABEL, labels, 3)
    assert ((probabilities > 0.5) == expected).mean(axis=0).min() > 0.85


def test_numbers():
    numbers = 1_000.0 + 10 * IN_LAYERS + 20 * IN_WORDS
    _, found, expected = fitted(REGRESSION, numbers, 1)
    assert found.shape == (len(expected), 1)
    assert 1 - np.square(found[:, 0] - expected).mean() / expected.var() > 0.6


def test_a_class_without_rows_and_a_constant_value():
    layers = LAYERS[:60].copy()
    layers[:, 7] = 3.0
    inputs = {"layers": layers, "texts": TEXTS[:60]}
    found = BASELINES["stack"].fit(Rows(inputs, 2 * IN_LAYERS[:60], inputs, 2 * IN_LAYERS[:60], 3, SINGLE_LABEL))
    probabilities = found.predict_proba(inputs)
    assert np.isfinite(probabilities).all()
    assert (probabilities.argmax(axis=1) != 1).all()


def test_class_weights_let_a_rare_class_count_the_same():
    rare = IN_LAYERS * (np.arange(N) % 8 == 0)
    recalls = {}
    for weights in ("none", "balanced"):
        rows = Rows(part(0, 320), rare[:320], {}, rare[:0], 2, SINGLE_LABEL, weights)
        found = BASELINES["stack"].fit(rows)
        recalls[weights] = found.predict_proba(part(0, 320)).argmax(axis=1)[rare[:320] == 1].mean()
        assert ("class_weight" in found.chosen) == (weights == "balanced")
    assert recalls["balanced"] > recalls["none"] + 0.1

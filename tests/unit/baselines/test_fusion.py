"""Weights of a fusion: the better part alone if the other adds nothing, the prior if rows are few."""

import numpy as np
import pytest

from feathertune.baselines.fusion import fit_fusion
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL

RNG = np.random.default_rng(0)


def classes(n, noise, *, scale=1.0):
    """Labels of three classes, and logits of parts with independent noise."""
    labels = RNG.integers(0, 3, n)
    truth = 2.0 * np.eye(3)[labels]
    return labels, [
        scale_ * (truth + sd * RNG.normal(size=(n, 3))) for sd, scale_ in zip(noise, (scale, 1), strict=True)
    ]


def right(labels, logits):
    return float((logits.argmax(axis=1) == labels).mean())


def test_two_parts_are_better_than_either():
    labels, (model, words) = classes(400, (1.5, 1.5), scale=10.0)
    fusion = fit_fusion(SINGLE_LABEL, labels, model, words)
    test, (model, words) = classes(4_000, (1.5, 1.5), scale=10.0)
    fused = right(test, fusion.logits(model, words))
    assert fused > max(right(test, model), right(test, words)) + 0.03
    assert fusion.words / fusion.model == pytest.approx(10, rel=0.3)


@pytest.mark.parametrize("useless", ["model", "words"])
def test_a_part_that_says_nothing_is_left_out(useless):
    noise = {"model": (30.0, 1.0), "words": (1.0, 30.0)}[useless]
    labels, (model, words) = classes(1_000, noise)
    fusion = fit_fusion(SINGLE_LABEL, labels, model, words)
    test, (model, words) = classes(4_000, noise)
    better = words if useless == "model" else model
    assert right(test, fusion.logits(model, words)) > right(test, better) - 0.01


def test_logits_in_float32_give_the_same_weights():
    labels, (model, words) = classes(200, (3.0, 1.0))
    expected = fit_fusion(SINGLE_LABEL, labels, model, words)
    found = fit_fusion(SINGLE_LABEL, labels, model.astype(np.float32), words.astype(np.float32))
    assert (found.model, found.words) == pytest.approx((expected.model, expected.words), rel=1e-3)


def test_probabilities_of_an_overconfident_model_become_modest():
    labels, (model, words) = classes(500, (2.0, 2.0), scale=50.0)
    fusion = fit_fusion(SINGLE_LABEL, labels, model, words)
    loss = SINGLE_LABEL.likelihood.loss
    assert loss(labels, fusion.logits(model, words)) < min(loss(labels, model), loss(labels, words))


def test_without_rows_both_parts_count_the_same():
    _, (model, words) = classes(200, (1.0, 1.0), scale=10.0)
    fusion = fit_fusion(SINGLE_LABEL, np.zeros(0, int), model, words)
    assert fusion.words / fusion.model == pytest.approx(10, rel=0.1)


def test_few_rows_move_the_weights_little():
    labels, (model, words) = classes(6, (30.0, 1.0))
    few = fit_fusion(SINGLE_LABEL, labels, model, words)
    labels, (model, words) = classes(600, (30.0, 1.0))
    many = fit_fusion(SINGLE_LABEL, labels, model, words)
    assert few.model / few.words > 2 * many.model / many.words


def test_weights_of_numbers_add_up_to_one():
    numbers = 1_000 * RNG.normal(size=400)
    model, words = ((numbers + sd * RNG.normal(size=400))[:, None] for sd in (300.0, 600.0))
    fusion = fit_fusion(REGRESSION, numbers, model, words)
    assert fusion.model + fusion.words == pytest.approx(1)
    assert fusion.words == pytest.approx(0.2, abs=0.06), "the inverse of the variances"
    assert fit_fusion(REGRESSION, numbers[:0], model, words).words == pytest.approx(0.5)


def test_sets_of_labels():
    labels = RNG.integers(0, 2, (300, 4))
    parts = [3.0 * (2 * labels - 1) + 4 * RNG.normal(size=labels.shape) for _ in range(2)]
    fusion = fit_fusion(MULTI_LABEL, labels, *parts)
    found = [((logits > 0) == labels).mean() for logits in (*parts, fusion.logits(*parts))]
    assert found[2] > max(found[:2]) + 0.05

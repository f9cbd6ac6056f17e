"""Several labels a text beside one: scikit-learn's scores, transformers' losses, thresholds as by a full search."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    label_ranking_average_precision_score,
    log_loss,
    matthews_corrcoef,
)
from torch.nn import functional

from feathertune.baselines.linear import MAJORITY, TFIDF
from feathertune.bundle.files import BundleInfo
from feathertune.config import TrainConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.encoders.classifier_head import head_logits
from feathertune.engine.training.distributed import ALONE
from feathertune.engine.training.gradient import Labelled, add_gradient
from feathertune.engine.training.head import fit_head
from feathertune.engine.training.loop import EpochInfo, Recipe, Training
from feathertune.errors import DataError
from feathertune.records import DataRecord, MultiLabelMetrics, RunRecord
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, sigmoid, softmax, task_of
from feathertune.tasks.linear_models import Rows
from feathertune.tasks.metrics import score, score_sets
from feathertune.tasks.thresholds import fit_f1_thresholds
from tiny import TEXTS
from whole import CPU, folder


def drawn(seed: int = 0, n: int = 60, n_labels: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels of different frequency, some rows without any, and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((n, n_labels)) < np.linspace(0.1, 0.6, n_labels)).astype(np.int8)
    labels[:3] = 0
    probabilities = np.clip(0.3 * rng.random((n, n_labels)) + 0.7 * rng.random((n, n_labels)) * labels, 0, 1)
    return labels, probabilities


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_scikit_learn(seed):
    labels, probabilities = drawn(seed)
    assert labels.any(axis=0).all()
    assert not labels.any(axis=1).all()
    found = score_sets(labels, probabilities, predicted := probabilities >= 0.4)
    assert found.accuracy == pytest.approx(accuracy_score(labels, predicted))
    assert found.micro_f1 == pytest.approx(f1_score(labels, predicted, average="micro", zero_division=0))
    assert found.macro_f1 == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
    assert found.lrap == pytest.approx(label_ranking_average_precision_score(labels, probabilities))
    assert found.mean_average_precision == pytest.approx(average_precision_score(labels, probabilities))
    assert found.mcc == pytest.approx(matthews_corrcoef(labels.ravel(), predicted.ravel()))
    columns = zip(labels.T, np.clip(probabilities, 1e-7, 1 - 1e-7).T, strict=True)
    each = [log_loss(one, p, labels=[0, 1]) for one, p in columns]
    assert found.log_loss == pytest.approx(np.mean(each))
    assert found.n == 60


def test_scores_at_the_edges():
    labels = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]], np.int8)
    perfect = score_sets(labels, labels.astype(float), labels.astype(bool))
    assert (perfect.accuracy, perfect.micro_f1, perfect.lrap, perfect.mean_average_precision) == (1, 1, 1, 1)
    assert perfect.macro_f1 == pytest.approx(2 / 3), "a label that nobody has and nobody is given counts 0"
    assert perfect.ece == 0
    nothing = score_sets(np.zeros((2, 2), np.int8), np.zeros((2, 2)), np.zeros((2, 2), bool))
    assert (nothing.accuracy, nothing.micro_f1, nothing.mcc, nothing.mean_average_precision) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("labels", "probabilities", "message"),
    [
        (np.zeros((2, 3), np.int8), np.zeros((2, 2)), "cannot be scored. Expected .N, C. for all three"),
        (np.full((2, 2), 2, np.int8), np.zeros((2, 2)), "are not all 0 or 1"),
        (np.zeros((2, 2), np.int8), np.array([[0, 0], [np.nan, 0]]), "The probabilities of row 1 are"),
        (np.zeros((2, 2), np.int8), np.array([[0, 1.5], [0, 0]]), "The probabilities of row 0 are"),
    ],
)
def test_what_cannot_be_scored_is_refused(labels, probabilities, message):
    with pytest.raises(DataError, match=message):
        score_sets(labels, probabilities, probabilities > 0.5)


def test_activations():
    logits = np.array([[-1000.0, 0.0, 3.0, 1000.0]], np.float32)
    np.testing.assert_allclose(sigmoid(logits), [[0, 0.5, 1 / (1 + np.exp(-3)), 1]])
    np.testing.assert_allclose(softmax(np.array([[1.0, 1.0], [0.0, 1000.0]])), [[0.5, 0.5], [0, 1]])


def test_the_shape_of_labels_is_the_task():
    assert task_of(np.zeros(3, np.int64)) is SINGLE_LABEL
    assert task_of(np.zeros((3, 2), np.int8)) is MULTI_LABEL
    assert task_of(np.zeros(3)) is REGRESSION
    assert {name: task.primary.title for name, task in TASKS.items()} == {
        "single_label": "accuracy",
        "multi_label": "subset accuracy",
        "regression": "rank correlation",
    }


def test_another_primary_score_orders_epochs():
    constant = score(np.array([0] * 9 + [1]), np.tile([0.9, 0.1], (10, 1)))
    finds = score(np.array([0] * 9 + [1]), np.array([[0.4, 0.6]] * 3 + [[0.9, 0.1]] * 6 + [[0.1, 0.9]]))
    assert (constant.accuracy, finds.accuracy) == (0.9, 0.7)
    assert SINGLE_LABEL.order(constant) > SINGLE_LABEL.order(finds)
    balanced = SINGLE_LABEL.ranked_by("balanced_accuracy")
    assert balanced.order(constant) < balanced.order(finds)
    assert balanced.primary.title == "balanced accuracy"
    assert SINGLE_LABEL.ranked_by("accuracy") is SINGLE_LABEL


@pytest.mark.parametrize("seed", range(3))
def test_thresholds_reach_the_best_f1_that_a_cut_can(seed):
    labels, probabilities = drawn(seed)
    thresholds = fit_f1_thresholds(labels, probabilities)
    for label in np.flatnonzero(labels.sum(axis=0) >= 3):
        reached = f1_score(labels[:, label], probabilities[:, label] >= thresholds[label])
        cuts = [*probabilities[:, label], 0.0]
        best = max(f1_score(labels[:, label], probabilities[:, label] >= cut, zero_division=0) for cut in cuts)
        assert reached == pytest.approx(best)


def test_thresholds_of_which_validation_says_nothing():
    labels = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]], np.int8)
    probabilities = np.array([[0.3, 0.2, 0.1], [0.2, 0.2, 0.1], [0.1, 0.2, 0.1], [0.0, 0.2, 0.1]])
    np.testing.assert_array_equal(fit_f1_thresholds(labels, probabilities), [0.5, 0.5, 0.5])
    assert SINGLE_LABEL.fit_thresholds(np.array([0, 1]), np.eye(2)) is None
    decided = MULTI_LABEL.decide(probabilities, np.array([0.2, 0.5, 0.5]))
    assert decided.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


def loaded(task):
    return load_encoder(str(folder("bert")), labels=("a", "b", "c"), seed=0, attention="eager", task=task)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_the_gradient_is_that_of_plain_transformers(task):
    encoder = loaded(task)
    labels = (
        np.array([2, 0, 1, 1]) if task == "single_label" else np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    )
    tokens = encode(encoder.tokenizer, list(TEXTS), max_length=16)
    model = encoder.model.requires_grad_(True)
    passes = [np.array([0, 3]), np.array([1]), np.array([2])]
    loss, _ = add_gradient(
        model, list(model.parameters()), Labelled(tokens, labels), passes, halvings=0, runtime=CPU, group=ALONE
    )
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    batch = tokens.collate(np.arange(4), CPU.device)
    # transformers chooses the loss by its configuration, which the encoder was given.
    plain = model(**batch, labels=torch.from_numpy(labels).to(torch.float32 if labels.ndim == 2 else torch.int64)).loss
    plain.backward()
    assert loss == pytest.approx(plain.item(), rel=1e-5)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_the_head_is_fitted_to_sets():
    encoder = loaded("multi_label")
    rng = np.random.default_rng(0)
    read = rng.standard_normal((600, 32)).astype(np.float32)
    labels = (read[:, :3] > 0).astype(np.int8)

    def loss():
        with torch.no_grad():
            logits = head_logits(encoder, torch.from_numpy(read))
        return functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels).float()).item()

    before = loss()
    torch.manual_seed(0)
    fit_head(encoder, read, labels, seed=0)
    assert loss() < 0.9 * before


def test_baselines_of_sets():
    words = ("good", "plot", "actor")
    rng = np.random.default_rng(1)
    labels = (rng.random((90, 4)) < [0.5, 0.4, 0.3, 0.0]).astype(np.int8)  # the last one no training row has
    texts = [" ".join(["the", *(w for w, has in zip(words, row, strict=False) if has), "film"]) for row in labels]
    rows = Rows(texts[:60], labels[:60], texts[60:], labels[60:], 4, MULTI_LABEL)
    tfidf = TFIDF.fit(rows).predict_proba(texts[60:])
    assert score_sets(labels[60:], tfidf, tfidf >= 0.5).micro_f1 > 0.95
    assert (tfidf[:, 3] == 0).all()
    majority = MAJORITY.fit(rows).predict_proba(texts[60:])
    np.testing.assert_allclose(majority, np.tile(labels[:60].mean(axis=0), (30, 1)))


def test_records_keep_the_scores_of_sets():
    labels, probabilities = drawn()
    scores = MULTI_LABEL.evaluate_fitted(labels, probabilities)
    common = {"id": "x", "method": "lora", "kind": "peft", "seed": 0, "status": "complete", "seconds": {"total": 1.0}}
    record = RunRecord(**common, test=scores, thresholds=[0.5] * 5)
    again = RunRecord.model_validate_json(record.model_dump_json())
    assert again == record
    assert isinstance(again.test, MultiLabelMetrics)
    one = SINGLE_LABEL.evaluate(np.array([0, 1]), np.eye(2), None)
    plain = RunRecord(**common, test=one).model_dump()
    assert "micro_f1" not in plain["test"]
    assert type(RunRecord.model_validate(plain).test) is type(one)


def test_a_training_on_sets_goes_on_where_it_stood():
    labels = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], np.int8)

    def training():
        encoder = loaded("multi_label")
        data = Labelled(encode(encoder.tokenizer, list(TEXTS), max_length=16), labels)
        settings = TrainConfig(epochs=3, batch_size=2, token_budget=64)
        return Training(
            encoder.model.requires_grad_(True), data, data, Recipe(settings, learning_rate=1e-3, seed=0), runtime=CPU
        )

    torch.manual_seed(0)
    whole = training()
    assert sum(isinstance(event, EpochInfo) for event in whole.events()) == whole.position.epochs_done
    torch.manual_seed(0)
    stopped = training()
    next(event for event in stopped.events() if isinstance(event, EpochInfo))
    again = training()
    again.load_state(stopped.state())
    assert isinstance(again.best.validation, MultiLabelMetrics)
    for _ in again.events():
        pass
    assert again.restore_best().validation == whole.restore_best().validation
    for (name, found), expected in zip(again.model.named_parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(found, expected), name


def test_records_and_bundles_from_before_are_read():
    data = {"source": "x", "fingerprint": "f", "labels": ["a", "b"], "n_train": 1, "n_validation": 1, "n_test": 1}
    data |= {
        "class_counts": {},
        "max_length": 8,
        "duplicates_removed": 0,
        "overlap_removed": 0,
    }
    record = DataRecord.model_validate(data)
    assert (record.task, record.text_columns) == ("single_label", ["text"])
    base = {"id": "x", "revision": None, "fingerprint": "f", "local": None}
    empty = {"metrics": {}, "hyperparameters": {}, "versions": {}, "threshold": None}
    info = {
        "schema_version": 1,
        "kind": "peft",
        "method": "lora",
        "task": "single_label",
        "labels": ["a", "b"],
        **empty,
    }
    info |= {"max_length": 8, "text_columns": ["text"], "base": base, "dtype": "float32"}
    assert not BundleInfo.model_validate(info).reads_pairs
    with pytest.raises(ValueError, match="expected one per label"):
        BundleInfo.model_validate({**info, "threshold": [0.5]})

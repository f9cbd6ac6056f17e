"""scikit-learn's linear models, with the penalty chosen on validation rows, or by cross-validation without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from feathertune.tasks.thresholds import THRESHOLD

if TYPE_CHECKING:
    from feathertune.tasks.task import Task

# Inverse strengths of the penalty of logistic regression, and penalties of ridge regression: the strongest first.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_PENALTIES = (10_000.0, 1_000.0, 100.0, 10.0, 1.0, 0.1)
# scikit-learn's default: a strong penalty for vectors of unit length, which suits few rows.
_USUAL_STRENGTH = 1.0
_FOLDS = 5
# Standard errors by which another choice must beat the usual one.
_CLEAR = 2.0
_MAX_ITERATIONS = 2_000

ClassWeights = Literal["none", "balanced"]
Values = Any  # ``(N, D)``, sparse or dense
Affine = tuple[np.ndarray, np.ndarray]
# Logit of a class that no training row has, or a label that all or none have: its probability is 0 or 1 in float32.
_CERTAIN = 100.0


@dataclass(frozen=True)
class Rows:
    """Training rows, and optional validation rows, to fit and choose a baseline or a linear model on.

    Inputs are N texts, or values ``(N, D)`` by name, one of which is chosen; rows may lack some of `n_classes` classes.
    """

    inputs: Any
    labels: np.ndarray
    validation: Any
    validation_labels: np.ndarray
    n_classes: int
    task: Task
    class_weights: ClassWeights = "none"

    @property
    def weighted(self) -> dict[str, str]:
        """scikit-learn's option for class weights; empty if all rows count alike."""
        return {} if self.class_weights == "none" else {"class_weight": self.class_weights}


@dataclass(frozen=True)
class Fitted:
    """A fitted baseline or linear model, from inputs of N rows to probabilities ``(N, C)`` or numbers ``(N, 1)``.

    `affine` are the weights ``(D, C)`` and the intercept ``(C,)`` of a linear model's logits, or of its numbers.
    """

    predict_proba: Callable[[Any], np.ndarray]
    n_parameters: int
    chosen: dict[str, Any] = field(default_factory=dict)
    input: str = ""
    affine: Affine = field(default_factory=lambda: (np.zeros((0, 0)), np.zeros(0)))


@dataclass(frozen=True)
class LinearModels:
    """Linear models of a task.

    `constant` gives the best constant answer, ``(C,)``, `best` fits and chooses, and `targets` turns labels into the
    numbers ``(N, C)`` that a regression predicts.
    """

    constant: Callable[[np.ndarray, int], np.ndarray]
    best: Callable[[Rows], Fitted]
    targets: Callable[[np.ndarray, int], np.ndarray]


def _logistic(rows: Rows, strength: float) -> Any:  # noqa: ANN401 - scikit-learn has no types
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS, **rows.weighted)


# Several threads wait for each other after every small product: with torch's own threads running, the ten fits of a
# probe took 11 s, compared with 1 s on one thread (benchmarks/LOG.md).
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _best_logistic(rows: Rows) -> Fitted:
    score, labels = rows.task.primary, rows.labels

    def fit(values: Values, labels: np.ndarray, strength: float) -> Any:  # noqa: ANN401 - scikit-learn has no types
        return _logistic(rows, strength).fit(values, labels)

    def order(model: Any, values: Values) -> tuple[float, ...]:  # noqa: ANN401
        return (score.compute(rows.validation_labels, model.predict(values)),)

    def held_out_losses(values: Values, strength: float, folds: Sequence[Any]) -> np.ndarray:
        predicted = np.empty_like(labels)
        for rest, held in folds:
            predicted[held] = fit(values[rest], labels[rest], strength).predict(values[held])
        answers = score.measure.answers(labels, predicted[None])
        losses = np.empty(len(labels))
        for weight, places in answers.strata:
            losses[places] = weight * len(labels) / len(places) * (1.0 - answers.values[0, places])
        return losses

    name, strength, model = _chosen(rows, fit, order, held_out_losses, by_class=True)

    def predict(values: Values) -> np.ndarray:
        probabilities = np.zeros((values.shape[0], rows.n_classes))
        probabilities[:, model.classes_] = model.predict_proba(values)
        return probabilities

    n_parameters = int(model.coef_.size + np.size(model.intercept_))
    return Fitted(predict, n_parameters, {"C": strength}, name, _affine(model, rows.n_classes))


def _affine(model: Any, n_classes: int) -> Affine:  # noqa: ANN401 - scikit-learn has no types
    """Return the logits of a logistic regression; with two classes, the first one's logit is 0."""
    weights, intercept = np.zeros((model.coef_.shape[1], n_classes)), np.full(n_classes, -_CERTAIN)
    classes = model.classes_
    intercept[classes] = 0.0
    with_own = classes[-len(model.coef_) :]
    weights[:, with_own], intercept[with_own] = model.coef_.T, model.intercept_
    return weights, intercept


class OneVsRest:
    """A copy of a model per label ``(N, C)``; a label that all training rows have, or none, gets probability 1 or 0."""

    def __init__(self, values: Values, labels: np.ndarray, model: Any) -> None:  # noqa: ANN401 - of scikit-learn
        from sklearn.base import clone

        self._shares = labels.mean(axis=0)
        self._models = {
            label: clone(model).fit(values, labels[:, label])
            for label in np.flatnonzero((self._shares > 0) & (self._shares < 1))
        }
        self.n_parameters = sum(int(model.coef_.size + model.intercept_.size) for model in self._models.values())

    def affine(self, n_values: int) -> Affine:
        """Return weights and intercepts of the labels' logits."""
        weights, intercept = np.zeros((n_values, len(self._shares))), np.where(self._shares > 0, _CERTAIN, -_CERTAIN)
        for label, model in self._models.items():
            weights[:, label], intercept[label] = model.coef_[0], model.intercept_[0]
        return weights, intercept

    def predict_proba(self, values: Values) -> np.ndarray:
        """Return independent probabilities ``(N, C)``."""
        probabilities = np.tile(self._shares, (values.shape[0], 1))
        for label, model in self._models.items():
            probabilities[:, label] = model.predict_proba(values)[:, 1]
        return probabilities


@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _best_one_vs_rest(rows: Rows) -> Fitted:
    task, labels = rows.task, rows.labels

    def fit(values: Values, labels: np.ndarray, strength: float) -> OneVsRest:
        return OneVsRest(values, labels, _logistic(rows, strength))

    def order(model: OneVsRest, values: Values) -> tuple[float, ...]:
        return task.order(task.evaluate_fitted(rows.validation_labels, model.predict_proba(values)))

    def held_out_losses(values: Values, strength: float, folds: Sequence[Any]) -> np.ndarray:
        losses = np.zeros(len(labels))
        for rest, held in folds:
            given = fit(values[rest], labels[rest], strength).predict_proba(values[held]) > THRESHOLD
            losses[held] = (given != labels[held]).mean(axis=1)
        return losses

    name, strength, model = _chosen(rows, fit, order, held_out_losses)
    affine = model.affine(rows.inputs[name].shape[1])
    return Fitted(model.predict_proba, model.n_parameters, {"C": strength}, name, affine)


@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _best_ridge(rows: Rows) -> Fitted:
    """Ridge regression. Source: Hoerl & Kennard 1970, Technometrics 12, 55-67."""
    from sklearn.linear_model import Ridge

    labels, known = rows.labels, rows.validation_labels

    def fit(values: Values, labels: np.ndarray, penalty: float) -> Any:  # noqa: ANN401 - scikit-learn has no types
        return Ridge(alpha=penalty).fit(values, labels)

    def error(model: Any, values: Values, labels: np.ndarray) -> float:  # noqa: ANN401
        return float(((model.predict(values) - labels) ** 2).mean())

    def held_out(name: str, penalty: float) -> float:
        values, total = rows.inputs[name], 0.0
        for rest, held in _folds(labels):
            total += len(held) * error(fit(values[rest], labels[rest], penalty), values[held], labels[held])
        return total / len(labels)

    pairs = [(name, penalty) for name in rows.inputs for penalty in _PENALTIES]
    if len(known):
        errors = [error(fit(rows.inputs[n], labels, p), rows.validation[n], known) for n, p in pairs]
    else:
        errors = [held_out(name, penalty) for name, penalty in pairs]
    name, penalty = pairs[int(np.argmin(errors))]
    model = fit(rows.inputs[name], labels, penalty)
    return Fitted(
        lambda values: np.asarray(model.predict(values), dtype=np.float64)[:, None],
        int(model.coef_.size + np.size(model.intercept_)),
        {"alpha": penalty},
        name,
        (model.coef_[:, None], np.array([model.intercept_])),
    )


def _chosen(
    rows: Rows,
    fit: Callable[..., Any],
    order: Callable[[Any, Values], tuple[float, ...]],
    losses: Callable[[Values, float, Sequence[Any]], np.ndarray],
    *,
    by_class: bool = False,
) -> tuple[str, float, Any]:
    """Return input, strength and fitted model with the highest `order` on validation rows, or the best by folds."""
    if not len(rows.validation_labels):
        name, strength = _by_folds(rows, losses, _folds(rows.labels, by_class=by_class))
        return name, strength, fit(rows.inputs[name], rows.labels, strength)
    best: tuple[tuple[float, ...], str, float, Any] | None = None
    for name, values in rows.inputs.items():
        for strength in _STRENGTHS:
            model = fit(values, rows.labels, strength)
            found = order(model, rows.validation[name])
            if best is None or found > best[0]:
                best = found, name, strength, model
    assert best is not None, "at least one input is given"
    return best[1:]


def _by_folds(
    rows: Rows, losses: Callable[[Values, float, Sequence[Any]], np.ndarray], folds: Sequence[Any]
) -> tuple[str, float]:
    """Choose input and strength by cross-validation over the training rows.

    The usual choice, the last input at `_USUAL_STRENGTH`, stays unless another is better by `_CLEAR` standard errors:
    with sixteen rows, the best of ten choices is luck and cost two points. Choosing by log loss cost one point.

    Source: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3 (there with one standard error).
    """
    usual = (list(rows.inputs)[-1], _USUAL_STRENGTH)
    if not folds:  # a class has a single row
        return usual
    lost = {
        (name, strength): losses(values, strength, folds)
        for name, values in rows.inputs.items()
        for strength in _STRENGTHS
    }
    best = min(lost, key=lambda choice: float(lost[choice].mean()))
    fewer = lost[usual] - lost[best]
    return best if fewer.mean() > _CLEAR * fewer.std(ddof=1) / np.sqrt(len(rows.labels)) else usual


def _folds(labels: np.ndarray, *, by_class: bool = False) -> list[Any]:
    """Return folds, stratified if `by_class`; none if a class (or without `by_class`, the data) has a single row."""
    from sklearn.model_selection import KFold, StratifiedKFold

    n_rows = int(np.unique(labels, return_counts=True)[1].min()) if by_class else len(labels)
    if n_rows < 2:
        return []
    splitter = (StratifiedKFold if by_class else KFold)(min(_FOLDS, n_rows), shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(labels)), labels))


CLASS_MODELS = LinearModels(
    lambda labels, n_classes: np.bincount(labels, minlength=n_classes) / len(labels),
    _best_logistic,
    lambda labels, n_classes: np.eye(n_classes)[labels],
)
LABEL_MODELS = LinearModels(
    lambda labels, n_classes: labels.mean(axis=0),
    _best_one_vs_rest,
    lambda labels, n_classes: labels.astype(np.float64),
)
# The mean is the constant with the smallest squared error.
NUMBER_MODELS = LinearModels(
    lambda labels, n_classes: np.array([labels.mean()]), _best_ridge, lambda labels, n_classes: labels[:, None]
)

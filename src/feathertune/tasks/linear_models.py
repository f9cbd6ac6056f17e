"""scikit-learn's linear models, with the strength of their penalty chosen: what the baselines fit for each task.

With validation rows, the best validation score wins, then the stronger penalty; without, cross-validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from threadpoolctl import threadpool_limits

from feathertune.tasks.thresholds import THRESHOLD

if TYPE_CHECKING:
    from feathertune.tasks.task import Task

# Inverse strengths of the penalty of logistic regression, and penalties of ridge regression: the strongest first.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_PENALTIES = (10_000.0, 1_000.0, 100.0, 10.0, 1.0, 0.1)
# scikit-learn's default; for vectors of unit length a strong penalty, as few rows need.
_USUAL_STRENGTH = 1.0
_FOLDS = 5
# Standard errors by which another choice must be better than the usual one.
_CLEAR = 2.0
_MAX_ITERATIONS = 2_000

ClassWeights = Literal["none", "balanced"]
Values = Any  # ``(N, D)``, sparse or dense


@dataclass(frozen=True)
class Choices:
    """Training and validation rows to choose a linear model on.

    Attributes:
        inputs: Training values ``(N, D)`` by the name of the input; one of them is chosen.
        labels: Of the training rows.
        validation: Validation values by the same names; empty without validation rows.
        validation_labels: Of the validation rows, perhaps none.
        n_classes: All classes, also those that the rows lack.
        task: Of the labels, with its primary score.
        class_weights: The setting ``train.class_weights``.
    """

    inputs: Mapping[str, Values]
    labels: np.ndarray
    validation: Mapping[str, Values]
    validation_labels: np.ndarray
    n_classes: int
    task: Task
    class_weights: ClassWeights = "none"

    @property
    def class_weight(self) -> str | None:
        """scikit-learn's option."""
        return None if self.class_weights == "none" else self.class_weights


@dataclass(frozen=True)
class FittedLinear:
    """A fitted model.

    Attributes:
        predict: From values ``(N, D)`` to probabilities or numbers ``(N, C)``.
        n_parameters: Fitted numbers.
        input: Name of the chosen input.
        chosen: The chosen strength, by its name in scikit-learn.
    """

    predict: Callable[[Values], np.ndarray]
    n_parameters: int
    input: str
    chosen: dict[str, float]


@dataclass(frozen=True)
class LinearModels:
    """Linear models of a task: `constant` gives the best constant answer, ``(C,)``, and `best` fits and chooses."""

    constant: Callable[[np.ndarray, int], np.ndarray]
    best: Callable[[Choices], FittedLinear]


# Two threads wait for each other after every small product: with torch's own threads running, the ten fits of a probe
# took 11 s, and 1 s with one thread (benchmarks/LOG.md).
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _best_logistic(choices: Choices) -> FittedLinear:
    """Logistic regression, chosen by the primary score."""
    score, labels = choices.task.primary, choices.labels

    def fit(values: Values, labels: np.ndarray, strength: float) -> Any:  # noqa: ANN401 - scikit-learn has no types
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=strength, class_weight=choices.class_weight, max_iter=_MAX_ITERATIONS).fit(
            values, labels
        )

    def held_out_losses(values: Values, strength: float, folds: Sequence[Any]) -> np.ndarray:
        predicted = np.empty_like(labels)
        for rest, held in folds:
            predicted[held] = fit(values[rest], labels[rest], strength).predict(values[held])
        answers = score.measure.answers(labels, predicted[None])
        losses = np.empty(len(labels))
        for weight, rows in answers.strata:
            losses[rows] = weight * len(labels) / len(rows) * (1.0 - answers.values[0, rows])
        return losses

    if len(choices.validation_labels):
        name, strength, model = _by_validation(
            choices, fit, lambda model, values: (score.compute(choices.validation_labels, model.predict(values)),)
        )
    else:
        name, strength = _by_folds(choices, held_out_losses, _stratified_folds(labels))
        model = fit(choices.inputs[name], labels, strength)

    def predict(values: Values) -> np.ndarray:
        probabilities = np.zeros((values.shape[0], choices.n_classes))
        probabilities[:, model.classes_] = model.predict_proba(values)
        return probabilities

    return FittedLinear(predict, int(model.coef_.size + np.size(model.intercept_)), name, {"C": strength})


class OneVsRest:
    """A logistic regression per label ``(N, C)``; a label that all training rows have, or none, gets its share."""

    def __init__(self, values: Values, labels: np.ndarray, strength: float, class_weight: str | None = None) -> None:
        from sklearn.linear_model import LogisticRegression

        self._shares = labels.mean(axis=0)
        self._models = {
            label: LogisticRegression(C=strength, class_weight=class_weight, max_iter=_MAX_ITERATIONS).fit(
                values, labels[:, label]
            )
            for label in np.flatnonzero((self._shares > 0) & (self._shares < 1))
        }
        self.n_parameters = sum(int(model.coef_.size + model.intercept_.size) for model in self._models.values())

    def predict_proba(self, values: Values) -> np.ndarray:
        """Return ``(N, C)``, each label by itself."""
        probabilities = np.tile(self._shares, (values.shape[0], 1))
        for label, model in self._models.items():
            probabilities[:, label] = model.predict_proba(values)[:, 1]
        return probabilities


@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _best_one_vs_rest(choices: Choices) -> FittedLinear:
    """A logistic regression per label, chosen as epochs are."""
    task, labels = choices.task, choices.labels

    def fit(values: Values, labels: np.ndarray, strength: float) -> OneVsRest:
        return OneVsRest(values, labels, strength, choices.class_weight)

    def held_out_losses(values: Values, strength: float, folds: Sequence[Any]) -> np.ndarray:
        losses = np.zeros(len(labels))
        for rest, held in folds:
            given = fit(values[rest], labels[rest], strength).predict_proba(values[held]) > THRESHOLD
            losses[held] = (given != labels[held]).mean(axis=1)
        return losses

    if len(choices.validation_labels):
        name, strength, model = _by_validation(
            choices,
            fit,
            lambda model, values: task.order(
                task.evaluate_fitted(choices.validation_labels, model.predict_proba(values))
            ),
        )
    else:
        name, strength = _by_folds(choices, held_out_losses, _folds(labels))
        model = fit(choices.inputs[name], labels, strength)
    return FittedLinear(model.predict_proba, model.n_parameters, name, {"C": strength})


@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _best_ridge(choices: Choices) -> FittedLinear:
    """Ridge regression with the smallest squared error.

    Source: Hoerl & Kennard 1970, Ridge regression: biased estimation for nonorthogonal problems, Technometrics 12, 55.
    """
    from sklearn.linear_model import Ridge

    labels, known = choices.labels, choices.validation_labels

    def fit(values: Values, labels: np.ndarray, penalty: float) -> Any:  # noqa: ANN401 - scikit-learn has no types
        return Ridge(alpha=penalty).fit(values, labels)

    def error(model: Any, values: Values, labels: np.ndarray) -> float:  # noqa: ANN401
        return float(((model.predict(values) - labels) ** 2).mean())

    def held_out(name: str, penalty: float) -> float:
        values, total = choices.inputs[name], 0.0
        for rest, held in _folds(labels):
            total += len(held) * error(fit(values[rest], labels[rest], penalty), values[held], labels[held])
        return total / len(labels)

    pairs = [(name, penalty) for name in choices.inputs for penalty in _PENALTIES]
    if len(known):
        errors = [error(fit(choices.inputs[n], labels, p), choices.validation[n], known) for n, p in pairs]
    else:
        errors = [held_out(name, penalty) for name, penalty in pairs]
    name, penalty = pairs[int(np.argmin(errors))]
    model = fit(choices.inputs[name], labels, penalty)
    return FittedLinear(
        lambda values: np.asarray(model.predict(values), dtype=np.float64)[:, None],
        int(model.coef_.size + np.size(model.intercept_)),
        name,
        {"alpha": penalty},
    )


def _by_validation(
    choices: Choices, fit: Callable[..., Any], order: Callable[[Any, Values], tuple[float, ...]]
) -> tuple[str, float, Any]:
    """Choose input and strength by validation rows."""
    best: tuple[tuple[float, ...], str, float, Any] | None = None
    for name, values in choices.inputs.items():
        for strength in _STRENGTHS:
            model = fit(values, choices.labels, strength)
            found = order(model, choices.validation[name])
            if best is None or found > best[0]:
                best = found, name, strength, model
    assert best is not None, "at least one input is given"
    return best[1:]


def _by_folds(
    choices: Choices, losses: Callable[[Values, float, Sequence[Any]], np.ndarray], folds: Sequence[Any]
) -> tuple[str, float]:
    """Choose input and strength by cross-validation over the training rows.

    The usual choice, the last input at `_USUAL_STRENGTH`, stays unless another is better by `_CLEAR` standard errors:
    with sixteen rows, the best of ten choices is luck and cost two points. Choosing by log loss cost one.

    Source: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3 (there with one standard error).
    """
    usual = (list(choices.inputs)[-1], _USUAL_STRENGTH)
    if not folds:  # a class has a single row
        return usual
    lost = {
        (name, strength): losses(values, strength, folds)
        for name, values in choices.inputs.items()
        for strength in _STRENGTHS
    }
    best = min(lost, key=lambda choice: float(lost[choice].mean()))
    fewer = lost[usual] - lost[best]
    return best if fewer.mean() > _CLEAR * fewer.std(ddof=1) / np.sqrt(len(choices.labels)) else usual


def _stratified_folds(labels: np.ndarray) -> list[Any]:
    """Return folds with the classes in proportion; none where a class has a single row."""
    from sklearn.model_selection import StratifiedKFold

    n_folds = min(_FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    if n_folds < 2:
        return []
    return list(StratifiedKFold(n_folds, shuffle=True, random_state=0).split(np.zeros(len(labels)), labels))


def _folds(labels: np.ndarray) -> list[Any]:
    from sklearn.model_selection import KFold

    if len(labels) < 2:
        return []
    return list(KFold(min(_FOLDS, len(labels)), shuffle=True, random_state=0).split(np.zeros(len(labels))))


CLASS_MODELS = LinearModels(
    lambda labels, n_classes: np.bincount(labels, minlength=n_classes) / len(labels), _best_logistic
)
LABEL_MODELS = LinearModels(lambda labels, n_classes: labels.mean(axis=0), _best_one_vs_rest)
# The mean is the constant with the smallest squared error.
NUMBER_MODELS = LinearModels(lambda labels, n_classes: np.array([labels.mean()]), _best_ridge)

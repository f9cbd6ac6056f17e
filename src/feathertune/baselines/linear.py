"""What any trained method has to beat: the largest class (of numbers the mean), words counted, the encoder as it is.

They are fitted by scikit-learn on the same training rows and chosen on the same validation rows as everything else; by
cross-validation over the training rows where no rows are kept for that. Numbers are fitted by ridge regression where
classes are by logistic regression (`feathertune.baselines.ridge`).
`foundation` is not fitted at all; `feathertune.study.running.runs` scores it, since it needs the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import sparse
from threadpoolctl import threadpool_limits

from feathertune.baselines.ridge import best_ridge, is_number
from feathertune.baselines.word_ngrams import grams
from feathertune.data.reading.texts import Text, parts, side_by_side
from feathertune.records import Kind, MetricName
from feathertune.tasks import task_of
from feathertune.tasks.metrics import balanced_accuracy
from feathertune.tasks.thresholds import THRESHOLD

ClassWeights = Literal["none", "balanced"]
# Inverse strength of the penalty; the best is chosen on validation, or by so many folds of the training rows.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
# scikit-learn's own; of vectors of unit length it is a strong penalty, as few rows need.
_USUAL_STRENGTH = 1.0
_FOLDS = 5
_CLEAR = 2.0
_MAX_ITERATIONS = 2_000


@dataclass(frozen=True)
class Fitted:
    """A fitted baseline.

    Attributes:
        predict_proba: Inputs of N rows to probabilities ``(N, C)``, or to numbers ``(N, 1)``.
        n_parameters: Numbers that were fitted.
        chosen: What was chosen on validation, or by cross-validation.
    """

    predict_proba: Callable[[Any], np.ndarray]
    n_parameters: int
    chosen: dict[str, Any]


@dataclass(frozen=True)
class Baseline:
    """A row of every study that trains no encoder.

    Attributes:
        reads: Its inputs: ``texts`` (a list of strings or of pairs), ``features`` (a mapping of arrays ``(N, D)``), or
            ``encoder`` for the one that is scored without being fitted.
        of_numbers: `summary` where labels are numbers; empty where it is the same.
        fit: Takes training inputs and labels ``(N,)``, validation inputs and labels, which may be none, the number of
            classes, the score by which a strength is chosen, and the setting ``train.class_weights``.
    """

    name: str
    kind: Kind
    summary: str
    source: str
    reads: Literal["texts", "features", "encoder"]
    fit: Callable[[Any, np.ndarray, Any, np.ndarray, int, MetricName, ClassWeights], Fitted] | None
    of_numbers: str = ""


def fit_majority(
    inputs: Sequence[Text],
    labels: np.ndarray,
    validation: Sequence[Text],
    validation_labels: np.ndarray,
    n_classes: int,
    metric: MetricName = "accuracy",
    class_weights: ClassWeights = "none",
) -> Fitted:
    """Answer with the shares of the classes in training, whatever the text; of several labels, with that of each.

    Numbers: with their mean, the constant with the smallest squared error.
    """
    if is_number(labels):
        mean = float(labels.mean())
        return Fitted(lambda texts: np.full((len(texts), 1), mean), n_parameters=1, chosen={})
    shares = labels.mean(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=n_classes) / len(labels)
    return Fitted(lambda texts: np.tile(shares, (len(texts), 1)), n_parameters=n_classes, chosen={})


class CountedWords:
    """Words and pairs of words, weighted by tf-idf; of a pair of texts those of each, side by side.

    Args:
        texts: N training texts, whose words are known from then on.
    """

    def __init__(self, texts: Sequence[Text]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        # scikit-learn's own words have two letters at least; in Hindi they end at vowel signs, in Chinese at a comma.
        self._vectorizers = [
            TfidfVectorizer(analyzer=grams, sublinear_tf=True, dtype=np.float64) for _ in parts(texts[0])
        ]
        self.train = self._joined(
            [v.fit_transform(column) for v, column in zip(self._vectorizers, side_by_side(texts), strict=True)]
        )

    def transform(self, texts: Sequence[Text]) -> Any:  # noqa: ANN401 - a sparse matrix of scipy's
        """Of N texts ``(N, words)``."""
        columns = side_by_side(texts) or tuple([] for _ in self._vectorizers)
        return self._joined([v.transform(column) for v, column in zip(self._vectorizers, columns, strict=True)])

    @staticmethod
    def _joined(found: list[Any]) -> Any:  # noqa: ANN401 - a sparse matrix of scipy's
        return found[0] if len(found) == 1 else sparse.hstack(found, format="csr")


def fit_tfidf(
    inputs: Sequence[Text],
    labels: np.ndarray,
    validation: Sequence[Text],
    validation_labels: np.ndarray,
    n_classes: int,
    metric: MetricName = "accuracy",
    class_weights: ClassWeights = "none",
) -> Fitted:
    """Words and pairs of words, weighted by tf-idf, into logistic regression; of numbers, ridge regression."""
    words = CountedWords(inputs)
    # The words of a fold that is held out are known, what they say is not.
    held_out = {"tfidf": words.transform(validation)} if len(validation) else {}
    model, chosen = _best_linear({"tfidf": words.train}, labels, held_out, validation_labels, metric, class_weights)
    return Fitted(
        lambda texts: _all_classes(model, words.transform(texts), n_classes),
        n_parameters=_n_parameters(model),
        chosen={**_strength(chosen), "ngram_range": [1, 2], **_weighted(class_weights)},
    )


def fit_probe(
    inputs: Mapping[str, np.ndarray],
    labels: np.ndarray,
    validation: Mapping[str, np.ndarray],
    validation_labels: np.ndarray,
    n_classes: int,
    metric: MetricName = "accuracy",
    class_weights: ClassWeights = "none",
) -> Fitted:
    """Logistic regression on frozen features: on the mean over tokens and on what the head reads; the better counts.

    Of numbers it is ridge regression.

    Each number is divided by its spread over the training rows. Without validation rows each text's vector is brought
    to unit length instead, as sentence encoders compare them: of few rows a spread is not known, and to divide by it
    cost half a point to a point with eight rows a class (docs/few-labels.md).
    """
    few = not len(validation_labels)
    centre = {name: values.mean(axis=0) for name, values in inputs.items()}
    spread = {name: values.std(axis=0) + 1e-6 for name, values in inputs.items()}

    def scaled(features: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        values = features[name]
        if few:
            found = values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-12)
        else:
            found = (values - centre[name]) / spread[name]
        return np.asarray(found, dtype=np.float64)

    model, chosen = _best_linear(
        {name: scaled(inputs, name) for name in inputs},
        labels,
        {name: scaled(validation, name) for name in validation},
        validation_labels,
        metric,
        class_weights,
    )
    return Fitted(
        lambda features: _all_classes(model, scaled(features, chosen["input"]), n_classes),
        n_parameters=_n_parameters(model),
        chosen={**_strength(chosen), "features": chosen["input"], **_weighted(class_weights)},
    )


def _strength(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Of what was chosen, the strength: ``C``, or of numbers ``alpha``."""
    return {name: value for name, value in chosen.items() if name != "input"}


def _weighted(class_weights: ClassWeights) -> dict[str, str]:
    """For the record: nothing where all rows count alike."""
    return {} if class_weights == "none" else {"class_weight": class_weights}


# Of two threads each waits for the other after every small product: with torch's own beside them the ten fits of a
# probe took 11 s where one thread takes 1 s (benchmarks/LOG.md), and 60,000 rows of 768 were no faster either.
@threadpool_limits.wrap(limits=1, user_api="blas")  # type: ignore[untyped-decorator]
def _best_linear(
    inputs: Mapping[str, Any],
    labels: np.ndarray,
    validation: Mapping[str, Any],
    validation_labels: np.ndarray,
    metric: MetricName,
    class_weights: ClassWeights,
) -> tuple[Any, dict[str, Any]]:
    """Fit each input at each strength; the highest validation score wins, then the stronger penalty.

    Of several labels, the best epoch's rule (`Task.order`) is this one's, too. Without validation rows `_by_folds`
    chooses, and all rows are fitted. Of numbers `best_ridge` does all that.
    """
    if is_number(labels):
        return best_ridge(inputs, labels, validation, validation_labels)
    task = task_of(labels)
    if not len(validation_labels):
        name, strength = _by_folds(inputs, labels, metric, class_weights)
        return _logistic(inputs[name], labels, strength, class_weights), {"input": name, "C": strength}
    best: tuple[tuple[float, ...], Any, dict[str, Any]] | None = None
    for name, values in inputs.items():
        for strength in _STRENGTHS:
            model = _logistic(values, labels, strength, class_weights)
            score: tuple[float, ...]
            if labels.ndim == 2:
                score = task.order(task.score_fitted(validation_labels, model.predict_proba(validation[name])))
            else:
                score = (_share_right(validation_labels, model.predict(validation[name]), metric),)
            if best is None or score > best[0]:
                best = score, model, {"input": name, "C": strength}
    assert best is not None, "at least one input is given"
    return best[1], best[2]


def _share_right(labels: np.ndarray, predicted: np.ndarray, metric: MetricName) -> float:
    return balanced_accuracy(labels, predicted) if metric != "accuracy" else float((predicted == labels).mean())


def _by_folds(
    inputs: Mapping[str, Any], labels: np.ndarray, metric: MetricName, class_weights: ClassWeights
) -> tuple[str, float]:
    """Choose input and strength by cross-validation over the training rows: fewest wrong answers on rows held out.

    The usual choice, the last input at `_USUAL_STRENGTH`, stands unless another has fewer by more than `_CLEAR`
    standard errors: of sixteen rows the best of ten choices is a matter of luck, and to take it cost two points where
    it was tried. Nor by the log loss: it asks for a weaker penalty than right answers do, which cost a point.

    Args:
        inputs: ``(N, D)`` by name.
        labels: ``(N,)``, or ``(N, C)`` of 0 and 1.
        metric: Where balanced accuracy leads, the wrong answers to each class weigh the same in sum.
        class_weights: The setting ``train.class_weights``.

    Returns:
        The usual choice, too, where a class has a single row, so that no fold can be held out.

    Source: Breiman et al. 1984, Classification and Regression Trees, section 3.4.3 (there with one standard error).
    """
    from sklearn.model_selection import KFold, StratifiedKFold
    from sklearn.utils.class_weight import compute_sample_weight

    several, usual = labels.ndim == 2, (list(inputs)[-1], _USUAL_STRENGTH)
    n_folds = min(_FOLDS, len(labels) if several else int(np.unique(labels, return_counts=True)[1].min()))
    if n_folds < 2:
        return usual
    make_folds = (KFold if several else StratifiedKFold)(n_folds, shuffle=True, random_state=0)
    folds = list(make_folds.split(np.zeros(len(labels)), labels))
    weighs = compute_sample_weight("balanced", labels) if metric == "balanced_accuracy" else 1.0
    wrong = {
        (name, strength): weighs * _held_out_errors(values, labels, strength, folds, class_weights)
        for name, values in inputs.items()
        for strength in _STRENGTHS
    }
    best = min(wrong, key=lambda choice: float(wrong[choice].mean()))
    fewer = wrong[usual] - wrong[best]
    return best if fewer.mean() > _CLEAR * fewer.std(ddof=1) / np.sqrt(len(labels)) else usual


def _held_out_errors(
    values: Any,  # noqa: ANN401 - sparse or dense
    labels: np.ndarray,
    strength: float,
    folds: Sequence[Any],
    class_weights: ClassWeights,
) -> np.ndarray:
    """Whether a model that has not seen a row is wrong about it, ``(N,)``; of several labels the share of them."""
    wrong = np.zeros(len(labels))
    for rest, held in folds:
        model = _logistic(values[rest], labels[rest], strength, class_weights)
        if labels.ndim == 2:
            wrong[held] = ((model.predict_proba(values[held]) > THRESHOLD) != labels[held]).mean(axis=1)
        else:
            wrong[held] = model.predict(values[held]) != labels[held]
    return wrong


def _logistic(values: Any, labels: np.ndarray, strength: float, class_weights: ClassWeights) -> Any:  # noqa: ANN401
    """scikit-learn's, or one for each label; values sparse or dense."""
    from sklearn.linear_model import LogisticRegression

    class_weight = _weighted(class_weights).get("class_weight")
    if labels.ndim == 2:
        return OneForEach(values, labels, strength, class_weight)
    return LogisticRegression(C=strength, class_weight=class_weight, max_iter=_MAX_ITERATIONS).fit(values, labels)


class OneForEach:
    """A logistic regression for each label (one-vs-rest); a label that all training rows have, or none, has that share.

    Args:
        values: ``(N, D)``.
        labels: ``(N, C)`` of 0 and 1.
        strength: Inverse strength of the penalty.
        class_weight: scikit-learn's; ``balanced`` lets the rows with a label and those without it weigh as much.

    Attributes:
        n_parameters: Of all of them.
    """

    def __init__(
        self,
        values: Any,  # noqa: ANN401 - sparse or dense
        labels: np.ndarray,
        strength: float,
        class_weight: str | None = None,
    ) -> None:
        from sklearn.linear_model import LogisticRegression

        self._shares = labels.mean(axis=0)
        self._models = {
            label: LogisticRegression(C=strength, class_weight=class_weight, max_iter=_MAX_ITERATIONS).fit(
                values, labels[:, label]
            )
            for label in np.flatnonzero((self._shares > 0) & (self._shares < 1))
        }
        self.n_parameters = sum(int(model.coef_.size + model.intercept_.size) for model in self._models.values())

    def predict_proba(self, values: Any) -> np.ndarray:  # noqa: ANN401 - sparse or dense
        """``(N, C)``, each label by itself."""
        probabilities = np.tile(self._shares, (values.shape[0], 1))
        for label, model in self._models.items():
            probabilities[:, label] = model.predict_proba(values)[:, 1]
        return probabilities


def _n_parameters(model: Any) -> int:  # noqa: ANN401 - a scikit-learn model, or one for each label
    return model.n_parameters if isinstance(model, OneForEach) else int(model.coef_.size + np.size(model.intercept_))


def _all_classes(model: Any, values: Any, n_classes: int) -> np.ndarray:  # noqa: ANN401 - a scikit-learn model
    """Probabilities with a column for each class, those included that training never saw; or numbers."""
    if isinstance(model, OneForEach):
        return model.predict_proba(values)
    if not hasattr(model, "classes_"):
        return np.asarray(model.predict(values), dtype=np.float64)[:, None]
    probabilities = np.zeros((values.shape[0], n_classes))
    probabilities[:, model.classes_] = model.predict_proba(values)
    return probabilities


MAJORITY = Baseline(
    name="majority",
    kind="baseline",
    summary="Always the most frequent class of the training rows.",
    source="-",
    reads="texts",
    fit=fit_majority,
    of_numbers="Always the mean of the training rows' numbers.",
)
TFIDF = Baseline(
    name="tfidf",
    kind="baseline",
    summary="Tf-idf of words and word pairs with logistic regression; no neural network.",
    source="Wang & Manning 2012, ACL, P12-2018",
    reads="texts",
    fit=fit_tfidf,
    of_numbers="Tf-idf of words and word pairs with ridge regression; no neural network.",
)
FOUNDATION = Baseline(
    name="foundation",
    kind="baseline",
    summary="The pretrained encoder with an untrained head, as it is; five random heads show the spread of chance.",
    source="-",
    reads="encoder",
    fit=None,
)
PROBE = Baseline(
    name="probe",
    kind="probe",
    summary="Logistic regression on the frozen encoder's features.",
    source="Alain & Bengio 2016, arXiv:1610.01644",
    reads="features",
    fit=fit_probe,
    of_numbers="Ridge regression on the frozen encoder's features.",
)

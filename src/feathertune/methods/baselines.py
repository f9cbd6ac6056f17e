"""What any trained method has to beat: the largest class, words counted, the encoder as it is.

They are fitted by scikit-learn on the same training rows and chosen on the same validation rows as everything else.
`foundation` is not fitted at all; `feathertune.study.runs` scores it, since it needs the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from feathertune.records import Kind

# Inverse strength of the penalty; the best is chosen on validation.
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
_MAX_ITERATIONS = 2_000


@dataclass(frozen=True)
class Fitted:
    """A fitted baseline.

    Attributes:
        predict_proba: Inputs of N rows to probabilities ``(N, C)``.
        n_parameters: Numbers that were fitted.
        chosen: What was chosen on validation.
    """

    predict_proba: Callable[[Any], np.ndarray]
    n_parameters: int
    chosen: dict[str, Any]


@dataclass(frozen=True)
class Baseline:
    """A row of every study that trains no encoder.

    Attributes:
        reads: Its inputs: ``texts`` (a list of strings), ``features`` (a mapping of arrays ``(N, D)``), or
            ``encoder`` for the one that is scored without being fitted.
        fit: Takes training inputs and labels ``(N,)``, validation inputs and labels, and the number of classes.
    """

    name: str
    kind: Kind
    summary: str
    source: str
    reads: Literal["texts", "features", "encoder"]
    fit: Callable[[Any, np.ndarray, Any, np.ndarray, int], Fitted] | None


def fit_majority(
    inputs: Sequence[str], labels: np.ndarray, validation: Sequence[str], validation_labels: np.ndarray, n_classes: int
) -> Fitted:
    """Answer with the shares of the classes in training, whatever the text."""
    shares = np.bincount(labels, minlength=n_classes) / len(labels)
    return Fitted(lambda texts: np.tile(shares, (len(texts), 1)), n_parameters=n_classes, chosen={})


def fit_tfidf(
    inputs: Sequence[str], labels: np.ndarray, validation: Sequence[str], validation_labels: np.ndarray, n_classes: int
) -> Fitted:
    """Words and pairs of words, weighted by tf-idf, into logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # The pattern keeps words of one letter and any script; scikit-learn's own drops both "I" and most of Chinese.
    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b", dtype=np.float64)
    train = vectorizer.fit_transform(inputs)
    model, chosen = _best_logistic(
        {"tfidf": train}, labels, {"tfidf": vectorizer.transform(validation)}, validation_labels
    )
    return Fitted(
        lambda texts: _all_classes(model, vectorizer.transform(texts), n_classes),
        n_parameters=int(model.coef_.size + model.intercept_.size),
        chosen={"C": chosen["C"], "ngram_range": [1, 2]},
    )


def fit_probe(
    inputs: Mapping[str, np.ndarray],
    labels: np.ndarray,
    validation: Mapping[str, np.ndarray],
    validation_labels: np.ndarray,
    n_classes: int,
) -> Fitted:
    """Logistic regression on frozen features: on what the head reads and on the mean over tokens; the better counts."""
    centre = {name: values.mean(axis=0) for name, values in inputs.items()}
    spread = {name: values.std(axis=0) + 1e-6 for name, values in inputs.items()}

    def scaled(features: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        return np.asarray((features[name] - centre[name]) / spread[name], dtype=np.float64)

    model, chosen = _best_logistic(
        {name: scaled(inputs, name) for name in inputs},
        labels,
        {name: scaled(validation, name) for name in inputs},
        validation_labels,
    )
    return Fitted(
        lambda features: _all_classes(model, scaled(features, chosen["input"]), n_classes),
        n_parameters=int(model.coef_.size + model.intercept_.size),
        chosen={"C": chosen["C"], "features": chosen["input"]},
    )


def _best_logistic(
    inputs: Mapping[str, Any], labels: np.ndarray, validation: Mapping[str, Any], validation_labels: np.ndarray
) -> tuple[Any, dict[str, Any]]:
    """Fit each input at each strength; the highest validation accuracy wins, then the stronger penalty."""
    from sklearn.linear_model import LogisticRegression

    best: tuple[float, Any, dict[str, Any]] | None = None
    for name, values in inputs.items():
        for strength in _STRENGTHS:
            model = LogisticRegression(C=strength, max_iter=_MAX_ITERATIONS)
            model.fit(values, labels)
            accuracy = float((model.predict(validation[name]) == validation_labels).mean())
            if best is None or accuracy > best[0]:
                best = accuracy, model, {"input": name, "C": strength}
    assert best is not None, "at least one input is given"
    return best[1], best[2]


def _all_classes(model: Any, values: Any, n_classes: int) -> np.ndarray:  # noqa: ANN401 - a scikit-learn classifier
    """Probabilities with a column for each class, those included that training never saw."""
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
)
TFIDF = Baseline(
    name="tfidf",
    kind="baseline",
    summary="Tf-idf of words and word pairs with logistic regression; no neural network.",
    source="Wang & Manning 2012, ACL, P12-2018",
    reads="texts",
    fit=fit_tfidf,
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
)

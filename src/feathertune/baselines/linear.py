"""Baselines that any trained method has to beat; `foundation` is not fitted, so the study's runs evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import sparse

from feathertune.baselines.word_ngrams import grams
from feathertune.data.reading.texts import Text, parts, side_by_side
from feathertune.records import Kind
from feathertune.tasks import SINGLE_LABEL, Task
from feathertune.tasks.formats import capitalised
from feathertune.tasks.linear_models import Fitted, Rows

# Fitting takes 200 bytes for each class and word: with thousands of classes, only frequent words are counted.
_MOST_WEIGHTS, _LEAST_WORDS = 4_000_000, 1_000


@dataclass(frozen=True)
class Baseline:
    """A row of every study that trains no encoder; ``{constant}`` and ``{linear_model}`` are the task's words.

    It is fitted to ``texts`` (strings or pairs) or ``features`` (a mapping of ``(N, D)``), or is the ``encoder``.
    """

    name: str
    kind: Kind
    about: str
    reads: Literal["texts", "features", "encoder"]
    fit: Callable[[Rows], Fitted] | None
    source: str = "-"

    def described(self, task: Task) -> str:
        """Return what the baseline does, in the task's words."""
        return capitalised(self.about.format(constant=task.words.constant, linear_model=task.words.linear_model))

    @property
    def summary(self) -> str:
        """Description for texts with one label."""
        return self.described(SINGLE_LABEL)


def fit_majority(rows: Rows) -> Fitted:
    """Answer the same for every text: the shares of the classes in training, or the mean number."""
    constant = rows.task.linear.constant(rows.labels, rows.n_classes)
    return Fitted(lambda texts: np.tile(constant, (len(texts), 1)), n_parameters=len(constant))


class CountedWords:
    """Words and pairs of words of texts, the `most` frequent, weighted by tf-idf; the columns of pairs side by side."""

    def __init__(self, texts: Sequence[Text], most: int | None = None) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        # scikit-learn's own words have two letters at least; in Hindi they end at vowel signs, in Chinese at a comma.
        self._vectorizers = [
            TfidfVectorizer(analyzer=grams, sublinear_tf=True, dtype=np.float64, max_features=most)
            for _ in parts(texts[0])
        ]
        self.train = self._joined(
            [v.fit_transform(column) for v, column in zip(self._vectorizers, side_by_side(texts), strict=True)]
        )

    def transform(self, texts: Sequence[Text]) -> Any:  # noqa: ANN401 - a sparse matrix of scipy's
        """Return the weights ``(N, words)``."""
        columns = side_by_side(texts) or tuple([] for _ in self._vectorizers)
        return self._joined([v.transform(column) for v, column in zip(self._vectorizers, columns, strict=True)])

    @staticmethod
    def _joined(found: list[Any]) -> Any:  # noqa: ANN401 - a sparse matrix of scipy's
        return found[0] if len(found) == 1 else sparse.hstack(found, format="csr")


def fit_tfidf(rows: Rows) -> Fitted:
    """Words and word pairs, weighted by tf-idf, into the task's linear model."""
    most = max(_LEAST_WORDS, _MOST_WEIGHTS // (rows.n_classes if rows.n_classes > 2 else 1))
    words = CountedWords(rows.inputs, most)
    # The vocabulary of a fold that is held out is known, its labels are not.
    held_out = {"tfidf": words.transform(rows.validation)} if len(rows.validation) else {}
    model = rows.task.linear.best(replace(rows, inputs={"tfidf": words.train}, validation=held_out))
    return Fitted(
        lambda texts: model.predict_proba(words.transform(texts)),
        n_parameters=model.n_parameters,
        chosen={
            **model.chosen,
            "ngram_range": [1, 2],
            **({"max_features": most} if words.train.shape[1] >= most else {}),
            **rows.weighted,
        },
    )


def fit_probe(rows: Rows) -> Fitted:
    """Fit the task's linear model on frozen features: the mean over tokens or what the head reads, whichever is better.

    Each feature is divided by its spread over the training rows. Without validation rows each vector is scaled to unit
    length: a spread of few rows is not known and cost up to a point with eight rows per class (docs/few-labels.md).
    """
    inputs: Mapping[str, np.ndarray] = rows.inputs
    few = not len(rows.validation_labels)
    centre = {name: values.mean(axis=0) for name, values in inputs.items()}
    spread = {name: values.std(axis=0) + 1e-6 for name, values in inputs.items()}

    def scaled(features: Mapping[str, np.ndarray], name: str) -> np.ndarray:
        values = features[name]
        if few:
            found = values / (np.linalg.norm(values, axis=1, keepdims=True) + 1e-12)
        else:
            found = (values - centre[name]) / spread[name]
        return np.asarray(found, dtype=np.float64)

    scaled_inputs = {name: scaled(inputs, name) for name in inputs}
    scaled_validation = {name: scaled(rows.validation, name) for name in rows.validation}
    model = rows.task.linear.best(replace(rows, inputs=scaled_inputs, validation=scaled_validation))
    return Fitted(
        lambda features: model.predict_proba(scaled(features, model.input)),
        n_parameters=model.n_parameters,
        chosen={**model.chosen, "features": model.input, **rows.weighted},
    )


MAJORITY = Baseline(
    name="majority",
    kind="baseline",
    about="Always {constant}.",
    reads="texts",
    fit=fit_majority,
)
TFIDF = Baseline(
    name="tfidf",
    kind="baseline",
    about="Tf-idf of words and word pairs with {linear_model}; no neural network.",
    source="Wang & Manning 2012, ACL, P12-2018",
    reads="texts",
    fit=fit_tfidf,
)
FOUNDATION = Baseline(
    name="foundation",
    kind="baseline",
    about="The pretrained encoder with an untrained head; five random heads show the spread of chance.",
    reads="encoder",
    fit=None,
)
PROBE = Baseline(
    name="probe",
    kind="probe",
    about="{linear_model} on the frozen encoder's features.",
    source="Alain & Bengio 2016, arXiv:1610.01644",
    reads="features",
    fit=fit_probe,
)

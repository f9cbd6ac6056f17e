"""Baselines that a trained method has to beat; `foundation` is not fitted, so the study's runs evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from feathertune.baselines.stack import fit_stack
from feathertune.baselines.word_model import fit_words
from feathertune.records import Kind
from feathertune.tasks import SINGLE_LABEL, Task
from feathertune.tasks.formats import capitalised
from feathertune.tasks.linear_models import Fitted, Rows

# Fitting takes 200 bytes per class and word, so with thousands of classes only frequent words are counted.
_MOST_WEIGHTS, _LEAST_WORDS = 4_000_000, 1_000
# Features that the probe chooses between.
_PROBED = ("read", "mean")


@dataclass(frozen=True)
class Baseline:
    """A row of every study that trains no encoder; in `about`, the task fills in ``{constant}`` and ``{linear_model}``.

    It reads ``texts`` (strings or pairs), or ``features`` by name (``read`` and ``mean`` ``(N, D)``, ``layers``
    ``(N, K D)``, and ``texts``), or is the ``encoder`` itself.
    """

    name: str
    kind: Kind
    about: str
    reads: Literal["texts", "features", "encoder"]
    fit: Callable[[Rows], Fitted] | None
    source: str = "-"

    def described(self, task: Task) -> str:
        """Return the baseline's description for a task."""
        return capitalised(self.about.format(constant=task.words.constant, linear_model=task.words.linear_model))

    @property
    def summary(self) -> str:
        """Description for texts with one label."""
        return self.described(SINGLE_LABEL)


def fit_majority(rows: Rows) -> Fitted:
    """Predict the same for every text: the class frequencies of the training rows, or the mean number."""
    constant = rows.task.linear.constant(rows.labels, rows.n_classes)
    return Fitted(lambda texts: np.tile(constant, (len(texts), 1)), n_parameters=len(constant))


def fit_tfidf(rows: Rows) -> Fitted:
    """Fit the task's linear model to the tf-idf of words and word pairs."""
    most = max(_LEAST_WORDS, _MOST_WEIGHTS // (rows.n_classes if rows.n_classes > 2 else 1))
    words, model = fit_words(rows, most)
    return Fitted(
        lambda texts: model.predict_proba(words.transform(texts)),
        n_parameters=model.n_parameters,
        chosen={
            **model.chosen,
            "ngram_range": [1, 2],
            **({"max_features": most} if words.n_words >= most else {}),
            **rows.weighted,
        },
    )


def fit_probe(rows: Rows) -> Fitted:
    """Fit the task's linear model to frozen features: the mean over tokens or the head's input, whichever is better.

    Each feature is standardized on the training rows. Without validation rows, each vector is scaled to unit length
    instead: with eight rows per class, standardizing cost up to a point (docs/few-labels.md).
    """
    inputs: Mapping[str, np.ndarray] = {name: rows.inputs[name] for name in _PROBED}
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
    scaled_validation = {name: scaled(rows.validation, name) for name in _PROBED} if rows.validation else {}
    model = rows.task.linear.best(replace(rows, inputs=scaled_inputs, validation=scaled_validation))
    return Fitted(
        lambda features: model.predict_proba(scaled(features, model.input)),
        n_parameters=model.n_parameters,
        chosen={**model.chosen, "features": model.input, **rows.weighted},
    )


MAJORITY = Baseline(
    name="majority",
    kind="baseline",
    about="Always predicts {constant}.",
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
    about="The base model with an untrained head; five random heads show the spread of chance.",
    reads="encoder",
    fit=None,
)
PROBE = Baseline(
    name="probe",
    kind="probe",
    about="{linear_model} on the frozen base model's features.",
    source="Alain & Bengio 2016, arXiv:1610.01644",
    reads="features",
    fit=fit_probe,
)
STACK = Baseline(
    name="stack",
    kind="probe",
    about="Ridge regression on the frozen states of up to six layers, fused with the tf-idf word model.",
    source="Evci et al. 2022, arXiv:2201.03529",
    reads="features",
    fit=fit_stack,
)

"""Find rows that look mislabelled to word models trained on the other rows.

The models are naive Bayes on tf-idf of words and word pairs, which takes seconds for thousands of labels. A study uses
its trained encoders instead: see `feathertune.study.verdict.mislabelled`.

Source: Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.quality.words import Words

FOLDS = 5
# If the models predict fewer labels than this, no row is listed.
_LEAST_ACCURACY = 1 / 3
# With few labels, averaging over several draws of the folds finds more errors and costs little.
_REPEATS, _FEW_CLASSES = 3, 20
# Maximum share of the rows that is listed.
LISTED = 0.04
_BITS = 20  # bits of a hashed feature, before rare features are dropped
_MOST_CELLS = 2_000_000  # maximum of features times labels
_LEAST_ROWS = 2  # minimum number of rows with a feature
_SMOOTHING = 0.3


@dataclass(frozen=True)
class LabelErrors:
    """The S likely label errors among N rows, most likely first."""

    rows: NDArray[np.int64]  # (S,)
    suggested: NDArray[np.int64]  # label predicted by the models, (S,)
    margins: NDArray[np.float64]  # probability of the row's own label minus the suggested one's, (S,)
    n_judged: int  # rows whose label has at least one row per fold
    accuracy: float  # share of the judged rows whose label the models predict


def find_label_errors(words: Words, labels: NDArray[np.int64], *, seed: int = 0) -> LabelErrors:
    """Find label errors among N different texts with labels ``(N,)``; the seed draws the folds."""
    names, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    judged = np.flatnonzero(counts[classes] >= FOLDS)
    names, classes = np.unique(labels[judged], return_inverse=True)
    matrix = features(words, len(names))
    if len(names) < 2 or not matrix.shape[1]:
        return LabelErrors(judged[:0], judged[:0], np.zeros(0), 0, 0.0)
    probabilities = _out_of_fold(matrix[judged], classes, seed)
    margins, best = margins_of(probabilities, classes)
    order = np.argsort(margins, kind="stable")[: int(np.ceil(LISTED * len(judged)))]
    accuracy = float((margins > 0).mean())
    order = order[margins[order] < 0] if accuracy >= _LEAST_ACCURACY else order[:0]
    return LabelErrors(
        rows=judged[order],
        suggested=names[best[order]],
        margins=margins[order],
        n_judged=len(judged),
        accuracy=accuracy,
    )


def features(words: Words, n_classes: int) -> Any:  # noqa: ANN401 - a sparse matrix of scipy
    """Return the tf-idf of the most frequent words and word pairs, ``(N, F)``."""
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfTransformer

    mask = np.uint64((1 << _BITS) - 1)
    columns = np.concatenate([words.hashes & mask, words.pairs() & mask]).astype(np.int64)
    rows = np.concatenate([words.rows, words.rows])
    matrix = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), shape=(len(words), 1 << _BITS))
    in_rows = np.bincount(matrix.indices, minlength=1 << _BITS)
    kept = np.flatnonzero(in_rows >= min(_LEAST_ROWS, max(1, len(words) // FOLDS)))
    most = max(1, _MOST_CELLS // max(1, n_classes))
    if len(kept) > most:
        kept = np.sort(kept[np.argsort(-in_rows[kept], kind="stable")[:most]])
    return TfidfTransformer(sublinear_tf=True).fit_transform(matrix[:, kept]) if len(kept) else matrix[:, kept]


def margins_of(
    probabilities: NDArray[np.float64], classes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the margin of each row over its best other class, and that class, both ``(N,)``, from ``(N, C)``."""
    every = np.arange(len(classes))
    others = probabilities.copy()
    others[every, classes] = -1.0
    best = others.argmax(axis=1)
    return probabilities[every, classes] - others[every, best], best


def _out_of_fold(matrix: Any, classes: NDArray[np.int64], seed: int) -> NDArray[np.float64]:  # noqa: ANN401 - sparse
    """Return each row's probabilities from models fitted on the other folds, ``(N, C)``."""
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.naive_bayes import MultinomialNB

    repeats = _REPEATS if int(classes.max()) < _FEW_CLASSES else 1
    folds = [StratifiedKFold(FOLDS, shuffle=True, random_state=seed + repeat) for repeat in range(repeats)]
    model = MultinomialNB(alpha=_SMOOTHING)
    found = [cross_val_predict(model, matrix, classes, cv=fold, method="predict_proba") for fold in folds]
    return np.asarray(np.mean(found, axis=0), np.float64)

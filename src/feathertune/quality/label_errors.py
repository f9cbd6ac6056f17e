"""Rows whose label may be wrong: what the other rows teach about a text speaks against it.

Tf-idf of words and pairs of words into naive Bayes, which is linear and takes seconds for thousands of labels; each
row is judged by a model that has not seen it. The list is for a person to go through: a rare word, irony or a hard
text look the same. Not for the rows of a study, which are judged by trained encoders: see
`feathertune.study.verdict.mislabelled`.

Source:
    Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", sections 3.1 and
    3.2.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.quality.words import Words

FOLDS = 5
# Where words say less of the label than this, a list of suspects would say nothing.
_LEAST_ACCURACY = 1 / 3
# Of few labels the folds are drawn more than once: the mean of three models finds some more, and costs next to nothing.
_REPEATS, _FEW_CLASSES = 3, 20
# So much of the rows is listed at most: a share that a person can go through.
LISTED = 0.04
_BITS = 20  # of the number of a feature, before the rare ones are left out
_MOST_CELLS = 2_000_000  # features times labels, in 8 bytes each
_LEAST_ROWS = 2  # in which a feature must stand
_SMOOTHING = 0.3


@dataclass(frozen=True)
class LabelErrors:
    """What was found among N rows.

    Attributes:
        rows: The suspects, the most suspicious first, ``(S,)``.
        suggested: The label that a model gives to each, ``(S,)``.
        margins: Probability of the row's own label minus that of the suggested one, ``(S,)``.
        n_judged: Rows that could be judged: those of labels with a row for each fold.
        estimated: How many labels are wrong, by the paper's count; high where the words say little about the label.
        accuracy: Share of the judged rows whose label the models gave.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    margins: NDArray[np.float64]
    n_judged: int
    estimated: int
    accuracy: float


def find_label_errors(words: Words, labels: NDArray[np.int64], *, seed: int = 0) -> LabelErrors:
    """Judge each row by the others.

    Args:
        words: Of N texts, no two of them the same.
        labels: Any number for each label, ``(N,)``.
        seed: Of the folds.
    """
    names, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    judged = np.flatnonzero(counts[classes] >= FOLDS)
    names, classes = np.unique(labels[judged], return_inverse=True)
    matrix = features(words, len(names))
    if len(names) < 2 or not matrix.shape[1]:
        return LabelErrors(judged[:0], judged[:0], np.zeros(0), 0, 0, 0.0)
    probabilities = _out_of_fold(matrix[judged], classes, seed)
    margins, best = margins_of(probabilities, classes)
    wrong = counted_wrong(probabilities, classes)
    order = np.argsort(margins, kind="stable")[: int(np.ceil(LISTED * len(judged)))]
    accuracy = float((margins > 0).mean())
    order = order[margins[order] < 0] if accuracy >= _LEAST_ACCURACY else order[:0]
    return LabelErrors(
        rows=judged[order],
        suggested=names[best[order]],
        margins=margins[order],
        n_judged=len(judged),
        estimated=wrong,
        accuracy=accuracy,
    )


def features(words: Words, n_classes: int) -> Any:  # noqa: ANN401 - a sparse matrix of scipy
    """Tf-idf of words and pairs of words, ``(N, F)``: the most frequent ones, as many as there is memory for."""
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
    """The normalized margin of each row, and the best other class.

    Args:
        probabilities: ``(N, C)``.
        classes: ``(N,)``.

    Returns:
        Probability of the own class minus the largest other one, ``(N,)``; which one that is, ``(N,)``.
    """
    every = np.arange(len(classes))
    others = probabilities.copy()
    others[every, classes] = -1.0
    best = others.argmax(axis=1)
    return probabilities[every, classes] - others[every, best], best


def counted_wrong(probabilities: NDArray[np.float64], classes: NDArray[np.int64]) -> int:
    """How many labels are wrong: the sum off the diagonal of the confident joint, calibrated to the rows of each class.

    A row counts for a class if its probability reaches the mean over the rows of that label; the best of those.

    Args:
        probabilities: ``(N, C)``, each by a model that has not seen the row.
        classes: ``(N,)``.
    """
    n_rows = np.bincount(classes, minlength=probabilities.shape[1])
    own = np.bincount(classes, weights=probabilities[np.arange(len(classes)), classes], minlength=len(n_rows))
    reached = probabilities >= own / np.maximum(1, n_rows)
    counted = reached.any(axis=1)
    best = np.where(reached, probabilities, -1.0).argmax(axis=1)
    total = np.bincount(classes[counted], minlength=len(n_rows))
    wrong = np.bincount(classes[counted & (best != classes)], minlength=len(n_rows))
    return round(float((n_rows * wrong / np.maximum(1, total)).sum()))


def _out_of_fold(matrix: Any, classes: NDArray[np.int64], seed: int) -> NDArray[np.float64]:  # noqa: ANN401 - sparse
    """Probabilities of each row by models that were fitted on the other folds, ``(N, C)``."""
    from sklearn.model_selection import StratifiedKFold
    from sklearn.naive_bayes import MultinomialNB

    n_classes = int(classes.max()) + 1
    probabilities = np.zeros((len(classes), n_classes))
    repeats = _REPEATS if n_classes <= _FEW_CLASSES else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for repeat in range(repeats):
            folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed + repeat)
            for train, held in folds.split(np.zeros(len(classes)), classes):
                model = MultinomialNB(alpha=_SMOOTHING).fit(matrix[train], classes[train])
                probabilities[held] += model.predict_proba(matrix[held]) / repeats
    return probabilities

"""A linear model of words and word pairs, with saving to and loading from safetensors and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from safetensors.numpy import save_file

from feathertune.baselines.word_ngrams import grams
from feathertune.data.reading.texts import Text, side_by_side
from feathertune.storage import write_atomic
from feathertune.tasks.linear_models import Fitted, Rows

# Files of a saved word model.
WORDS_FILE, WEIGHTS_FILE = "words.json", "words.safetensors"
# A shipped model counts only the most frequent words; all words would be larger than an adapter.
_MOST_WEIGHTS, _LEAST_WORDS = 200_000, 1_000


class CountedWords:
    """Tf-idf vectorizer of words and word pairs; for pairs of texts, each column has separate features."""

    def __init__(self, vectorizers: Sequence[Any]) -> None:
        self._vectorizers = vectorizers

    @classmethod
    def fit(cls, texts: Sequence[Text], most: int | None = None) -> tuple[CountedWords, Any]:
        """Return the vectorizer of the `most` frequent words per column, and the weights ``(N, words)``."""
        columns = side_by_side(texts)
        words = cls([_vectorizer(max_features=most) for _ in columns])
        found = zip(words._vectorizers, columns, strict=True)
        return words, _joined([vectorizer.fit_transform(column) for vectorizer, column in found])

    @classmethod
    def of(cls, vocabularies: Sequence[Sequence[str]], idf: Sequence[NDArray[np.floating]]) -> CountedWords:
        """Return a vectorizer from each column's words and their inverse document frequencies ``(words,)``."""
        words = cls([_vectorizer(vocabulary=list(vocabulary)) for vocabulary in vocabularies])
        for vectorizer, found in zip(words._vectorizers, idf, strict=True):
            vectorizer.idf_ = found
        return words

    def transform(self, texts: Sequence[Text]) -> Any:  # noqa: ANN401 - a sparse matrix of scipy's
        """Return the weights ``(N, words)`` of N > 0 texts."""
        found = zip(self._vectorizers, side_by_side(texts), strict=True)
        return _joined([vectorizer.transform(column) for vectorizer, column in found])

    @property
    def vocabularies(self) -> list[list[str]]:
        """Words of each column, in the order of their weights."""
        return [v.get_feature_names_out().tolist() for v in self._vectorizers]

    @property
    def n_words(self) -> int:
        """Number of words in all columns."""
        return sum(map(len, self.idf))

    @property
    def idf(self) -> list[NDArray[np.float64]]:
        """Inverse document frequencies of each column."""
        return [v.idf_ for v in self._vectorizers]


def _vectorizer(**settings: Any) -> Any:  # noqa: ANN401 - scikit-learn has no types
    from sklearn.feature_extraction.text import TfidfVectorizer

    # scikit-learn's default words have at least two letters, end at vowel signs in Hindi, and at commas in Chinese.
    return TfidfVectorizer(analyzer=grams, sublinear_tf=True, dtype=np.float64, **settings)


def _joined(found: list[Any]) -> Any:  # noqa: ANN401 - a sparse matrix of scipy's
    return found[0] if len(found) == 1 else scipy.sparse.hstack(found, format="csr")


def fit_words(rows: Rows, most: int) -> tuple[CountedWords, Fitted]:
    """Fit the task's linear model to the tf-idf of the `most` frequent words."""
    words, train = CountedWords.fit(rows.inputs, most)
    # A held-out fold may contribute to the vocabulary, since no label is used.
    held_out = {"tfidf": words.transform(rows.validation)} if len(rows.validation) else {}
    model = rows.task.linear.best(replace(rows, inputs={"tfidf": train}, validation=held_out))
    return words, model


@dataclass(frozen=True)
class WordModel:
    """Linear model from texts to logits, ``tf-idf @ weights + intercept``: float32 ``(words, C)`` and ``(C,)``."""

    words: CountedWords
    weights: NDArray[np.float32]
    intercept: NDArray[np.float32]

    @classmethod
    def fit(cls, rows: Rows) -> tuple[WordModel, Mapping[str, Any]]:
        """Return a model of the most frequent words, and the hyperparameters that its fit chose."""
        words, model = fit_words(rows, max(_LEAST_WORDS, _MOST_WEIGHTS // rows.n_classes))
        weights, intercept = model.affine
        # In the stored precision, to test exactly the shipped model.
        idf = [found.astype(np.float32) for found in words.idf]
        kept = CountedWords.of(words.vocabularies, idf)
        return cls(kept, weights.astype(np.float32), intercept.astype(np.float32)), model.chosen

    def logits(self, texts: Sequence[Text]) -> NDArray[np.float64]:
        """Return logits ``(N, C)``, or numbers ``(N, 1)``."""
        if not texts:
            return np.zeros((0, len(self.intercept)))
        return np.asarray(self.words.transform(texts) @ self._wide_weights + self.intercept)

    @cached_property
    def _wide_weights(self) -> NDArray[np.float64]:
        return self.weights.astype(np.float64)  # cached, because a server predicts few texts at a time

    def save(self, folder: Path) -> None:
        """Write both files to a folder."""
        tensors = {f"idf.{i}": found.astype(np.float32) for i, found in enumerate(self.words.idf)}
        save_file({**tensors, "weights": self.weights, "intercept": self.intercept}, folder / WEIGHTS_FILE)
        write_atomic(folder / WORDS_FILE, json.dumps(self.words.vocabularies, ensure_ascii=False) + "\n")

    @classmethod
    def of(cls, vocabularies: object, tensors: Mapping[str, NDArray[Any]], *, shape: tuple[int, int]) -> WordModel:
        """Return the model from the two files' contents; `shape` is the number of text columns and of labels.

        ValueError if parts are missing or inconsistent.
        """
        n_columns, n_labels = shape
        if not (isinstance(vocabularies, list) and len(vocabularies) == n_columns):
            raise ValueError(f"{WORDS_FILE} is not a list of {n_columns} lists of words")
        n_words = []
        for vocabulary in vocabularies:
            if not (isinstance(vocabulary, list) and vocabulary and all(isinstance(word, str) for word in vocabulary)):
                raise ValueError(f"{WORDS_FILE} contains an empty list, or values that are not words")
            if len(set(vocabulary)) < len(vocabulary):
                raise ValueError(f"{WORDS_FILE} contains a word twice")
            n_words.append(len(vocabulary))
        expected: dict[str, tuple[int, ...]] = {f"idf.{i}": (n,) for i, n in enumerate(n_words)}
        expected |= {"weights": (sum(n_words), n_labels), "intercept": (n_labels,)}
        if (found := {name: tensor.shape for name, tensor in tensors.items()}) != expected:
            raise ValueError(f"{WEIGHTS_FILE} contains tensors with shapes {found}; expected {expected}")
        words = CountedWords.of(vocabularies, [tensors[f"idf.{i}"] for i in range(n_columns)])
        return cls(words, tensors["weights"], tensors["intercept"])

    @property
    def n_parameters(self) -> int:
        """Number of fitted weights."""
        return int(self.weights.size + self.intercept.size)

"""`TextRegressor`: a number for each text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from feathertune.data.sources.collector import Collector
from feathertune.estimator.base import SOURCE, TextModel, Texts, texts_of
from feathertune.tasks.labels.reader import LabelReader


class TextRegressor(RegressorMixin, TextModel):  # type: ignore[misc]
    """Train a method on a pretrained encoder to predict a number; texts are those of `TextClassifier`.

    Attributes:
        scores_: Scores of the validation rows, by name; empty without validation rows.
        bundle_: The bundle's files: name and content.
    """

    def fit(self, X: Texts, y: Iterable[float]) -> TextRegressor:
        """Train.

        Args:
            X: As in `TextClassifier.fit`.
            y: N finite numbers, at least two different ones.

        Raises:
            FeathertuneError: As `TextClassifier.fit`.
            ValueError: If texts or numbers are invalid.
        """
        texts = texts_of(X)
        numbers = check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(texts, numbers)
        collector = Collector(SOURCE, drop_invalid=False, labels=LabelReader(task="regression"))
        for row, (text, number) in enumerate(zip(texts, numbers.tolist(), strict=True)):
            collector.add(text, number, None, f"X[{row}]")
        self._train(collector.finish(), **{"data.task": "regression"})
        return self

    def predict(self, X: Texts) -> np.ndarray:
        """Return the numbers ``(N,)`` float64 of N texts."""
        return np.asarray(self._logits(X)[:, 0], dtype=np.float64)

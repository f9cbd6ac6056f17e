"""`TextRegressor`: one number per text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from feathertune.data.sources.collector import Collector
from feathertune.estimator.base import SOURCE, TextModel, Texts, texts_of
from feathertune.tasks.labels.reader import LabelReader


class TextRegressor(RegressorMixin, TextModel):  # type: ignore[misc]
    """Text regressor that trains a base model with one method; attributes as in `TextClassifier`."""

    def fit(self, X: Texts, y: Iterable[float]) -> TextRegressor:
        """Train on texts, as in `TextClassifier.fit`, and N finite numbers that are not all equal."""
        texts = texts_of(X)
        numbers = check_array(column_or_1d(y, warn=True), ensure_2d=False, dtype=np.float64, input_name="y")
        check_consistent_length(texts, numbers)
        collector = Collector(SOURCE, drop_invalid=False, labels=LabelReader(task="regression"))
        for row, (text, number) in enumerate(zip(texts, numbers.tolist(), strict=True)):
            collector.add(text, number, None, f"X[{row}]")
        self._train(collector.finish(), **{"data.task": "regression"})
        return self

    def predict(self, X: Texts) -> np.ndarray:
        """Return predicted numbers ``(N,)`` float64."""
        return np.asarray(self._logits(X)[:, 0], dtype=np.float64)

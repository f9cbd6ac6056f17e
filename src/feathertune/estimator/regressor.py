"""`TextRegressor`: texts to numbers. Not for labels, though they be written as digits: `TextClassifier` takes those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import check_array, check_consistent_length, column_or_1d

from feathertune.data.kinds.reader import LabelReader
from feathertune.data.sources.collector import Collector
from feathertune.estimator.base import SOURCE, TextModel, Texts, texts_of


class TextRegressor(RegressorMixin, TextModel):  # type: ignore[misc]
    """Trains a method on a pretrained encoder to predict a number; takes texts as `TextClassifier` does.

    Attributes:
        scores_: As of `TextClassifier`, of `feathertune.records.NumberMetrics`.
        bundle_: As of `TextClassifier`.
    """

    def __init__(
        self,
        method: str = "lora",
        *,
        base: str = "sample:minilm",
        options: Mapping[str, Any] | None = None,
        max_length: int = 256,
        epochs: int = 5,
        learning_rate: float | None = None,
        batch_size: int = 16,
        validation_size: int | float | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        """Keep the settings, which are those of `TextClassifier`."""
        self.method = method
        self.base = base
        self.options = options
        self.max_length = max_length
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validation_size = validation_size
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: Texts, y: Iterable[float]) -> TextRegressor:
        """Train.

        Args:
            X: As in `TextClassifier.fit`.
            y: N finite numbers, two different ones at least.

        Returns:
            Itself.

        Raises:
            FeathertuneError: As `TextClassifier.fit`.
            ValueError: If texts or numbers are not what they must be.
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
        """The number of each of N texts, ``(N,)`` float64."""
        return np.asarray(self._logits(X)[:, 0], dtype=np.float64)

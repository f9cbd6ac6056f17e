"""`TextClassifier`: one label or several for each text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from feathertune.data.reading.texts import Text
from feathertune.data.sources.collector import Collector, RawDataset
from feathertune.estimator.base import SOURCE, TextModel, Texts, plain, texts_of
from feathertune.estimator.targets import Targets, members_of, read_targets
from feathertune.tasks.labels.values import label_name


class TextClassifier(ClassifierMixin, TextModel):  # type: ignore[misc]
    """Train a method on a pretrained encoder, on all rows but the validation rows.

    Attributes:
        classes_: Sorted labels ``(C,)``; for an indicator matrix its columns, by name if it is a table, else by number.
        multilabel_: True if a text may have several labels.
        scores_: Scores of the validation rows, which chose the best epoch, by name; empty without validation rows.
        bundle_: The bundle's files, by name.
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
        class_weight: Literal["balanced"] | None = None,
        validation_size: int | float | None = None,
        settings: Mapping[str, Any] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        """Keep the settings of `TextRegressor`; ``balanced`` weights the loss by inverse class frequency."""
        super().__init__(
            method,
            base=base,
            options=options,
            max_length=max_length,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            validation_size=validation_size,
            settings=settings,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def fit(self, X: Texts, y: Iterable[Any]) -> TextClassifier:
        """Train.

        Args:
            X: N texts in a list, an array or a Series; or N pairs of texts: tuples, or a table of two columns.
            y: N strings, integers or booleans. For several labels a text: N lists or sets, which may be empty, or an
                indicator matrix ``(N, C)`` of 0 and 1, also as a table, sparse, or as lists.

        Raises:
            FeathertuneError: If the settings or the encoder cannot be used, or the training fails.
            ValueError: If settings, texts or labels are invalid.
        """
        texts = texts_of(X)
        targets = read_targets(y, texts)
        self._train(_dataset(texts, targets))
        self.classes_ = targets.classes
        self.multilabel_ = targets.codes.ndim == 2
        return self

    def predict(self, X: Texts) -> np.ndarray:
        """Return the label of each of N texts, ``(N,)``; for several labels a text ``(N, C)`` int64 of 0 and 1.

        The thresholds of several labels, and those of ``train.decision: moved``, were found on validation rows.
        """
        probabilities = self.predict_proba(X)  # first: it checks that `fit` was called
        predictor = self._predictor
        decided = predictor.task.decide(probabilities, predictor.thresholds)
        return decided.astype(np.int64) if self.multilabel_ else np.asarray(self.classes_[decided])

    def predict_proba(self, X: Texts) -> np.ndarray:
        """Return probabilities ``(N, C)`` in the order of `classes_`; for several labels each one's own."""
        logits = self._logits(X)
        return self._predictor.task.probabilities(logits)

    def decision_function(self, X: Texts) -> np.ndarray:
        """Return logits ``(N, C)``; for one of two labels the second logit minus the first, ``(N,)``."""
        logits = self._logits(X).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 and not self.multilabel_ else logits

    def score(self, X: Texts, y: Iterable[Any], sample_weight: Iterable[float] | None = None) -> float:
        """Return the accuracy of `predict`, or the subset accuracy for several labels a text.

        `y` holds labels as for `fit`; the columns of a matrix are those of `classes_`.
        """
        check_is_fitted(self, "bundle_")
        return float(super().score(X, members_of(y, self.classes_) if self.multilabel_ else y, sample_weight))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn's, since 1.6
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {**super()._more_tags(), "multilabel": True}  # the same for scikit-learn 1.5


def _dataset(texts: list[Text], targets: Targets) -> RawDataset:
    labels = [plain(label) for label in targets.classes]
    names = [label_name(label, f"y, class {label!r}") for label in labels]
    if len(set(names)) < len(names) or "" in names:  # they differ in characters that no name may have
        names = [repr(label) for label in labels]
    collector = Collector(SOURCE, drop_invalid=False)
    for row, (text, code) in enumerate(zip(texts, targets.codes, strict=True)):
        label = [names[i] for i in np.flatnonzero(code)] if targets.codes.ndim == 2 else names[code]
        collector.add(text, label, None, f"X[{row}]")
    return collector.finish(label_order=tuple(names))

"""`TextClassifier`: one or several labels per text."""

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
    """Text classifier that trains a base model with one method.

    A part of the rows of `fit` is held out for validation.

    Attributes:
        classes_: Sorted labels ``(C,)``; for an indicator matrix its columns, by name for a table, else by number.
        multilabel_: True if a text may have several labels.
        scores_: Scores on the validation rows, which selected the best epoch, by name; empty without validation rows.
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
        """Store the settings, as in `TextRegressor`; ``balanced`` weights the loss by inverse class frequency."""
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
        """Train on texts and labels.

        Args:
            X: N texts in a list, array or Series; or N pairs of texts, as tuples or a table with two columns.
            y: N strings, integers or booleans. For several labels per text: N lists or sets, which may be empty, or an
                indicator matrix ``(N, C)`` of 0 and 1 as an array, a table, a sparse matrix or lists.

        Raises:
            FeathertuneError: If the settings or the base model cannot be used, or the training fails.
            ValueError: If settings, texts or labels are invalid.
        """
        texts = texts_of(X)
        targets = read_targets(y, texts)
        self._train(_dataset(texts, targets))
        self.classes_ = targets.classes
        self.multilabel_ = targets.codes.ndim == 2
        return self

    def predict(self, X: Texts) -> np.ndarray:
        """Return labels ``(N,)`` of N texts; for several labels per text, ``(N, C)`` int64 of 0 and 1.

        Thresholds for several labels, and those of ``train.decision: moved``, were fitted to the validation rows.
        """
        probabilities = self.predict_proba(X)  # first: it checks that `fit` was called
        predictor = self._predictor
        decided = predictor.task.decide(probabilities, predictor.thresholds)
        return decided.astype(np.int64) if self.multilabel_ else np.asarray(self.classes_[decided])

    def predict_proba(self, X: Texts) -> np.ndarray:
        """Return probabilities ``(N, C)`` in the order of `classes_`; several labels have independent probabilities."""
        logits = self._logits(X)
        return self._predictor.task.probabilities(logits)

    def decision_function(self, X: Texts) -> np.ndarray:
        """Return logits ``(N, C)``; for binary classification, the second logit minus the first, ``(N,)``."""
        logits = self._logits(X).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 and not self.multilabel_ else logits

    def score(self, X: Texts, y: Iterable[Any], sample_weight: Iterable[float] | None = None) -> float:
        """Return the accuracy of `predict`; for several labels per text, the subset accuracy.

        `y` has the same form as for `fit`; the columns of a matrix follow `classes_`.
        """
        check_is_fitted(self, "bundle_")
        return float(super().score(X, members_of(y, self.classes_) if self.multilabel_ else y, sample_weight))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn's, since 1.6
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {**super()._more_tags(), "multilabel": True}  # for scikit-learn 1.5


def _dataset(texts: list[Text], targets: Targets) -> RawDataset:
    labels = [plain(label) for label in targets.classes]
    names = [label_name(label, f"y, class {label!r}") for label in labels]
    if len(set(names)) < len(names) or "" in names:  # the labels differ only in characters that names cannot have
        names = [repr(label) for label in labels]
    collector = Collector(SOURCE, drop_invalid=False)
    for row, (text, code) in enumerate(zip(texts, targets.codes, strict=True)):
        label = [names[i] for i in np.flatnonzero(code)] if targets.codes.ndim == 2 else names[code]
        collector.add(text, label, None, f"X[{row}]")
    return collector.finish(label_order=tuple(names))

"""`TextClassifier`: texts to labels, one a text or several. Not for numbers: see `feathertune.estimator.regressor`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from feathertune.data.reading.labels import label_name
from feathertune.data.reading.texts import Text
from feathertune.data.sources.collector import Collector, RawDataset
from feathertune.estimator.base import SOURCE, TextModel, Texts, plain, texts_of
from feathertune.estimator.targets import Targets, members_of, read_targets


class TextClassifier(ClassifierMixin, TextModel):  # type: ignore[misc]
    """Trains a method on a pretrained encoder; takes texts as a list, an array or a Series.

    Pairs of texts, which the encoder reads together, are a list of tuples or a table of two columns. All rows of `fit`
    are trained on but those that are kept to choose the best epoch. Weights of single rows are not taken. Nothing is
    checked here but by `fit`, as scikit-learn has it.

    Attributes:
        classes_: The labels, sorted, ``(C,)``; of an indicator matrix its columns, in their order: by their names where
            it is a table, else by their numbers.
        multilabel_: Whether a text may have several.
        scores_: Of the rows kept for validation, on which the best epoch was chosen: accuracy and the others of
            `feathertune.records.Metrics`, by name; nothing where no rows are kept.
        bundle_: The bundle, file by file: name and content. `save` writes it into a folder.
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
        """Keep the settings.

        Args:
            method: A name of ``feathertune methods``.
            base: ``sample:minilm``, a hub id or a local folder.
            options: Of the method, such as ``{"r": 4}``.
            max_length: Longest text, in tokens; what is longer is cut.
            epochs: Passes over the training rows, at most.
            learning_rate: None means the method's own default.
            batch_size: Texts of one optimizer step.
            class_weight: ``balanced`` weighs the loss of a text by how rare its class is, as scikit-learn does.
            validation_size: Rows, or a share of them, kept to choose the best epoch; None means a tenth, at least 200
                where that is no more than a quarter. 0 keeps none: for few labels (docs/few-labels.md).
            settings: Any other of `Config`, by its dotted name, such as ``{"train.patience": 3}``.
            random_state: Of the rows for validation, the head, the adapter and the order of texts.
        """
        self.method = method
        self.base = base
        self.options = options
        self.max_length = max_length
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.class_weight = class_weight
        self.validation_size = validation_size
        self.settings = settings
        self.random_state = random_state

    def fit(self, X: Texts, y: Iterable[Any]) -> TextClassifier:
        """Train.

        Args:
            X: N texts, or N pairs of texts: tuples, or a table of two columns.
            y: N labels: strings, whole numbers or booleans, two different ones at least. Where a text may have several:
                N lists or sets of them, which may be empty; or an indicator matrix ``(N, C)`` of 0 and 1, also as a
                table or sparse. Lists that are all as long, and hold 0 and 1 only, are a matrix.

        Returns:
            Itself.

        Raises:
            FeathertuneError: If the settings or the encoder cannot be used, or the training breaks. A `DataError` and
                a `ConfigError` are a `ValueError` too.
            ValueError: If texts or labels are not what they must be.
        """
        texts = texts_of(X)
        targets = read_targets(y, texts)
        self._train(_dataset(texts, targets))
        self.classes_ = targets.classes
        self.multilabel_ = targets.codes.ndim == 2
        return self

    def predict(self, X: Texts) -> np.ndarray:
        """The label of each of N texts, ``(N,)``, of the type that `fit` was given.

        It is the most probable one; where ``train.decision`` is ``moved``, after each probability was divided by its
        threshold. Where a text may have several, an indicator matrix ``(N, C)`` int64 of 0 and 1, in the order of
        `classes_`, as scikit-learn's own classifiers give it: of each label whose probability reaches its threshold,
        which was found on validation rows.
        """
        probabilities = self.predict_proba(X)  # first of all: it knows whether there was a fit
        predictor = self._predictor
        decided = predictor.task.decide(probabilities, predictor.thresholds)
        return decided.astype(np.int64) if self.multilabel_ else np.asarray(self.classes_[decided])

    def predict_proba(self, X: Texts) -> np.ndarray:
        """Probabilities ``(N, C)`` of N texts, in the order of `classes_`; of several labels, each one's own."""
        logits = self._logits(X)
        return self._predictor.task.probabilities(logits)

    def decision_function(self, X: Texts) -> np.ndarray:
        """Logits ``(N, C)`` of N texts; where each has one of two labels, what the second is ahead by, ``(N,)``."""
        logits = self._logits(X).astype(np.float64)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 and not self.multilabel_ else logits

    def score(self, X: Texts, y: Iterable[Any], sample_weight: Iterable[float] | None = None) -> float:
        """Accuracy of `predict`; of several labels, the share of texts with all of them right (subset accuracy).

        Args:
            X: N texts.
            y: N labels, or what `fit` takes for several. The columns of a matrix are those of `classes_`.
            sample_weight: Of the texts, ``(N,)``.

        Raises:
            ValueError: If texts or labels are not what they must be. A `DataError` is one.
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
    """The rows as any source gives them, with the labels in the order of their classes."""
    labels = [plain(label) for label in targets.classes]
    names = [label_name(label, f"y, class {label!r}") for label in labels]
    if len(set(names)) < len(names) or "" in names:  # they differ by what a name in a file may not have
        names = [repr(label) for label in labels]
    collector = Collector(SOURCE, drop_invalid=False)
    for row, (text, code) in enumerate(zip(texts, targets.codes, strict=True)):
        label = [names[i] for i in np.flatnonzero(code)] if targets.codes.ndim == 2 else names[code]
        collector.add(text, label, None, f"X[{row}]")
    return collector.finish(label_order=tuple(names))

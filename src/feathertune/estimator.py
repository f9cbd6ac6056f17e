"""A scikit-learn classifier of texts: `TextClassifier`, on the path that ``feathertune train`` takes.

What it has learned is a bundle, held as the bytes of its files: a pickle of the estimator holds those (safetensors and
JSON) and no object of torch. Loads no torch until it is fitted or predicts. Not for comparing methods: that takes a
study.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from feathertune.config import Config, load_config
from feathertune.data.labels import label_name
from feathertune.data.raw import Collector, RawDataset
from feathertune.data.targets import Targets, members_of, read_targets
from feathertune.data.texts import Pair, Text, are_pairs, of_kind
from feathertune.errors import BundleError, DataError

if TYPE_CHECKING:
    from feathertune.predictor import Predictor

Texts = Iterable[str] | Iterable[tuple[str, str]]
# What the texts of `fit` are called in messages and in the bundle.
_SOURCE = "the texts of fit"


class TextClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
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
        texts = _texts(X)
        targets = read_targets(y, texts)
        data = _dataset(texts, targets)
        seed = _seed(self.random_state)
        config = self._config(seed)
        from feathertune.runtime import kept_random_state
        from feathertune.study.finetune import finetune
        from feathertune.study.observe import Silent

        with tempfile.TemporaryDirectory() as scratch, kept_random_state():
            folder = Path(scratch) / "bundle"
            scores = finetune(config, self.method, folder, seed=seed, observer=Silent(), data=data)
            predictor = self._load(folder)
            found = (path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
        info = predictor.bundle.info
        needs_folder = info.kind != "full" and info.base.local is not None
        self.classes_ = targets.classes
        self.multilabel_ = targets.codes.ndim == 2
        self.scores_ = scores["validation"].model_dump() if "validation" in scores else {}
        self.bundle_ = files
        self._base_folder = str(Path(self.base).expanduser().resolve()) if needs_folder else None
        self._predictor = predictor
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

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the bundle into a folder, for `feathertune.load`, ``feathertune predict`` and the other verbs.

        Args:
            folder: Where; it appears when it is whole.
            overwrite: Replace a bundle that lies there.

        Raises:
            ConfigError: If something lies there that may not be replaced, or nothing can be written.
        """
        check_is_fitted(self, "bundle_")
        from feathertune.bundle.files import MANIFEST_FILE
        from feathertune.storage import check_place

        check_place(Path(folder), marker=MANIFEST_FILE, overwrite=overwrite)
        self._write(Path(folder))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn's, since 1.6
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.classifier_tags.multi_label = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"X_types": ["string"], "multilabel": True}  # the same for scikit-learn 1.5

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_predictor", None)
        return state

    def _config(self, seed: int) -> Config:
        return load_config(
            options={
                "data.source": _SOURCE,
                "data.test_size": 0,
                "data.validation_size": _plain(self.validation_size),
                "data.max_length": _plain(self.max_length),
                "data.seed": seed,
                "base.id": self.base,
                "train.epochs": _plain(self.epochs),
                "train.learning_rate": _plain(self.learning_rate),
                "train.batch_size": _plain(self.batch_size),
                "train.class_weights": self.class_weight,
                "train.checkpoint_every_s": "off",
                f"method.{self.method}": _plain(self.options or {}),
                **_plain(self.settings or {}),
            }
        )

    def _logits(self, X: Texts) -> np.ndarray:
        check_is_fitted(self, "bundle_")
        texts = _texts(X)
        if getattr(self, "_predictor", None) is None:  # it came out of a pickle
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "bundle"
                self._write(folder)
                self._predictor = self._load(folder)
        return self._predictor.logits(texts)

    def _load(self, folder: Path) -> Predictor:
        from feathertune.predictor import load

        engine = {key: value for key, value in (self.settings or {}).items() if key.startswith("engine.")}
        return load(folder, engine=load_config(options=engine).engine)

    def _write(self, folder: Path) -> None:
        """The bundle as a folder that names its base where it lies now, as far as that is a folder."""
        from feathertune.bundle.files import write_files

        base = None
        if self._base_folder is not None:
            base = next((Path(place) for place in (self._base_folder, self.base) if Path(place).is_dir()), None)
            if base is None:
                raise BundleError(
                    f"The encoder that this classifier was trained on is not at {self._base_folder}. Say where its "
                    "folder lies: set_params(base=FOLDER)."
                )
        write_files(folder, self.bundle_, base=base)


def _texts(values: Texts) -> list[Text]:
    """N texts as plain strings, or N pairs of them, at least one.

    Raises:
        DataError: If they are of another shape, not all of one kind, there is none, or one of them is none.
    """
    shape = getattr(values, "shape", None)
    is_table = shape is not None and len(shape) == 2 and shape[1] == 2
    if isinstance(values, (str, bytes, Mapping)) or (shape is not None and len(shape) != 1 and not is_table):
        found = f"an array of shape {shape}" if shape is not None else f"a {type(values).__name__}"
        raise DataError(
            f"X is {found}. Expected a list, an array or a Series of texts, one a row; of a table take one column, or "
            "two for pairs of texts."
        )
    # A table of pandas' gives the names of its columns, if it is asked for its rows.
    texts = [_text(value, row) for row, value in enumerate(np.asarray(values).tolist() if is_table else values)]
    if not texts:
        raise DataError("Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required.")
    return of_kind(texts, pairs=are_pairs(texts), where="X, by its first row,")


def _text(value: object, row: int) -> Text:
    """A text or a pair."""
    given = tuple(value) if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    for part in given:
        if not isinstance(part, str):
            raise DataError(f"X[{row}] is {value!r:.60} of type {type(value).__name__}. Expected a text.")
        if not part.strip():
            raise DataError(f"X[{row}] is an empty text. No label is made up for one: leave it out.")
    strings = [str(part) for part in given]
    return Pair(*strings) if len(strings) == 2 else strings[0]


def _dataset(texts: list[Text], targets: Targets) -> RawDataset:
    """The rows as any source gives them, with the labels in the order of their classes."""
    plain = [_plain(label) for label in targets.classes]
    names = [label_name(label, f"y, class {label!r}") for label in plain]
    if len(set(names)) < len(names) or "" in names:  # they differ by what a name in a file may not have
        names = [repr(label) for label in plain]
    collector = Collector(_SOURCE, drop_invalid=False)
    for row, (text, code) in enumerate(zip(texts, targets.codes, strict=True)):
        label = [names[i] for i in np.flatnonzero(code)] if targets.codes.ndim == 2 else names[code]
        collector.add(text, label, None, f"X[{row}]")
    return collector.finish(label_order=tuple(names))


def _seed(random_state: Any) -> int:  # noqa: ANN401 - whatever scikit-learn takes
    """A whole number from what scikit-learn calls a random state."""
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def _plain(value: Any) -> Any:  # noqa: ANN401 - a setting of any type
    """Numpy's scalars as Python's, which the settings take: a search over parameters hands out the former."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value

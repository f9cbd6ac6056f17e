"""Base class of the estimators: settings, training, bundle, and input texts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from feathertune.config import Config, load_config
from feathertune.data.reading.texts import Pair, Text, are_pairs, of_kind
from feathertune.data.sources.collector import RawDataset
from feathertune.errors import BundleError, DataError

if TYPE_CHECKING:
    from feathertune.predictor import Predictor

Texts = Iterable[str] | Iterable[tuple[str, str]]
SOURCE = "the texts of fit"  # the data's name in messages and in the bundle


class TextModel(BaseEstimator):  # type: ignore[misc]
    """Base estimator; once fitted, it keeps its bundle as bytes, so its pickle contains no torch objects.

    Calls of `fit` in several threads run one after another, with the same results as alone, because torch has one
    random state per process. Use processes to train in parallel.
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
        """Store the settings; `fit` checks them.

        Args:
            method: Method from ``feathertune methods``, e.g. ``"lora"``.
            base: Base model: ``sample:minilm``, a hub id or a local folder.
            options: Options of the method, e.g. ``{"r": 4}``.
            max_length: Maximum tokens per text; longer texts are truncated.
            epochs: Maximum passes over the training rows.
            learning_rate: Peak learning rate; None means the method's default.
            batch_size: Texts per optimizer step.
            validation_size: Number or share of rows for choosing the best epoch, or 0 for none. None means a tenth, at
                least 200 if that is at most a quarter of the rows.
            settings: Other settings of `Config` by dotted name, e.g. ``{"train.patience": 3}``.
            random_state: Seed of the validation split, the head, the adapter and the order of texts.
        """
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

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write the bundle to a folder, for `feathertune.load`, ``feathertune predict`` and other commands."""
        check_is_fitted(self, "bundle_")
        from feathertune.bundle.files import BUNDLE
        from feathertune.output_folder import claimed

        with claimed(Path(folder), BUNDLE, overwrite=overwrite):
            self._write(Path(folder))

    def _train(self, data: RawDataset, **settings: str) -> None:
        """Train on the rows of `fit` and keep the bundle; a failed training changes no attribute."""
        seed = _seed(self.random_state)
        config = self._config(seed, settings)
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
        self.scores_ = scores["validation"].model_dump() if "validation" in scores else {}
        self.bundle_ = files
        self._base_folder = str(Path(self.base).expanduser().resolve()) if needs_folder else None
        self._predictor = predictor

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401 - scikit-learn's, since 1.6
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags

    def _more_tags(self) -> dict[str, Any]:
        return {"X_types": ["string"]}  # for scikit-learn 1.5

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_predictor", None)
        return state

    def _config(self, seed: int, more: Mapping[str, str]) -> Config:
        return load_config(
            options={
                "data.source": SOURCE,
                "data.test_size": 0,
                "data.validation_size": plain(self.validation_size),
                "data.max_length": plain(self.max_length),
                "data.seed": seed,
                "base.id": self.base,
                "train.epochs": plain(self.epochs),
                "train.learning_rate": plain(self.learning_rate),
                "train.batch_size": plain(self.batch_size),
                "train.class_weights": getattr(self, "class_weight", None),
                "train.checkpoint_every_s": "off",
                f"method.{self.method}": plain(self.options or {}),
                **plain(self.settings or {}),
                **more,
            }
        )

    def _logits(self, X: Texts) -> np.ndarray:
        check_is_fitted(self, "bundle_")
        texts = texts_of(X)
        if getattr(self, "_predictor", None) is None:  # from a pickle
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
        """Write the bundle to a folder, with the current path of a local base model."""
        from feathertune.bundle.files import write_files

        base = None
        if self._base_folder is not None:
            base = next((Path(place) for place in (self._base_folder, self.base) if Path(place).is_dir()), None)
            if base is None:
                raise BundleError(
                    f"The base model is not at {self._base_folder}. Set its folder: set_params(base=FOLDER)."
                )
        write_files(folder, self.bundle_, base=base)


def texts_of(values: Texts) -> list[Text]:
    """Return N >= 1 texts as strings, or N pairs."""
    shape = getattr(values, "shape", None)
    is_table = shape is not None and len(shape) == 2 and shape[1] == 2
    if isinstance(values, (str, bytes, Mapping)) or (shape is not None and len(shape) != 1 and not is_table):
        found = f"an array of shape {shape}" if shape is not None else f"a {type(values).__name__}"
        raise DataError(
            f"X is {found}. Expected a list, array or Series of texts, or a table with two columns for pairs of texts."
        )
    # Iterating over a pandas table yields its column names.
    texts = [_text(value, row) for row, value in enumerate(np.asarray(values).tolist() if is_table else values)]
    if not texts:
        raise DataError("Found array with 0 sample(s) (shape=(0,)) while a minimum of 1 is required.")
    return of_kind(texts, pairs=are_pairs(texts), where="X, by its first row,")


def _text(value: object, row: int) -> Text:
    given = tuple(value) if isinstance(value, tuple | list) and len(value) == 2 else (value,)
    for part in given:
        if not isinstance(part, str):
            raise DataError(f"X[{row}] is {value!r:.60} of type {type(value).__name__}. Expected a text.")
        if not part.strip():
            raise DataError(f"X[{row}] is an empty text. Remove it.")
    strings = [str(part) for part in given]
    return Pair(*strings) if len(strings) == 2 else strings[0]


def _seed(random_state: Any) -> int:  # noqa: ANN401 - any random_state of scikit-learn
    if isinstance(random_state, (int, np.integer)) and random_state >= 0:
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))


def plain(value: Any) -> Any:  # noqa: ANN401 - a setting of any type
    """Convert numpy scalars, which a parameter search passes, to Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value

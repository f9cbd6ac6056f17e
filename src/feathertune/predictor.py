"""Predict labels and probabilities, or numbers, with a bundle."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from feathertune.bundle import Bundle, BundleInfo, load_bundle
from feathertune.config import EngineConfig
from feathertune.data.reading.texts import Text, n_characters, of_kind
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.data.tokens.encode import encode
from feathertune.engine.fast_path import fast_parts, fitting_runtime
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.predict import predict_logits
from feathertune.errors import BundleError
from feathertune.records import Scores
from feathertune.runtime import Runtime, choose_runtime
from feathertune.tasks import TASKS, Task
from feathertune.tasks.labels.kind import encode_known
from feathertune.tasks.labels.reader import KINDS
from feathertune.tasks.labels.values import Label

# A text's label or list of labels, with probabilities by name; or a number without probabilities.
Answer = tuple[str | list[str] | float, dict[str, float]]

TOKEN_BUDGET = 8_192
# Texts encoded and sorted by length together: enough to fill batches of similar lengths, in little memory.
CHUNK_TEXTS = 2_000
CHUNK_CHARACTERS = 8_000_000


class Predictor:
    """A loaded bundle that predicts; modifies the bundle's model for speed."""

    def __init__(
        self, bundle: Bundle, runtime: Runtime, engine: EngineConfig, *, matrices: Matrices | None = None
    ) -> None:
        self.bundle = bundle
        bundle.model.to(runtime.device).requires_grad_(False)
        self.runtime, _ = fitting_runtime(bundle.base, engine, runtime)
        if self.runtime.dtype == "fp32":
            bundle.model.float()
        self._parts = contextlib.ExitStack()  # never closed: the parts live as long as the predictor
        self.installed = self._parts.enter_context(fast_parts(bundle.base, engine, self.runtime, matrices=matrices))

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the probabilities; one name for numbers."""
        return tuple(self.bundle.info.labels)

    @property
    def reads_pairs(self) -> bool:
        """True if the bundle reads `Pair` texts."""
        return self.bundle.info.reads_pairs

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Return logits ``(N, C)`` float32 of N texts: strings, or pairs if the bundle reads pairs."""
        if not texts:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        bundle = self.bundle
        read = of_kind(texts, pairs=self.reads_pairs, where=f"The bundle {bundle.folder}")
        encoded = encode(bundle.tokenizer, read, max_length=bundle.info.max_length, reading=bundle.info.reading)
        found = predict_logits(self.bundle.model, encoded, token_budget=TOKEN_BUDGET, runtime=self.runtime)
        require_finite(found, f"The bundle {bundle.folder}", read)
        return bundle.logits(found, bundle.added(read))

    def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
        """Return probabilities ``(N, C)`` float64 of N >= 0 texts, or numbers ``(N, 1)``."""
        return self.task.probabilities(self.logits(texts))

    def predict_proba(self, texts: Iterable[Text]) -> np.ndarray:
        """Return `probabilities` of an iterable, which is read in chunks."""
        return np.concatenate([self.probabilities([]), *map(self.probabilities, _chunks(texts))])

    @property
    def task(self) -> Task:
        """The bundle's task."""
        return TASKS[self.bundle.info.task]

    @property
    def thresholds(self) -> np.ndarray | None:
        """Decision thresholds ``(C,)``; None if the largest probability decides."""
        found = self.bundle.info.threshold
        return None if found is None else np.array(found)

    @property
    def fields(self) -> dict[str, Any]:
        """Fields of an answer with placeholder values."""
        return as_fields(self.named(np.ones(len(self.labels))))

    def named(self, row: np.ndarray) -> Answer:
        """Return the answer for a text's probabilities ``(C,)``."""
        decided = self.task.decide(row[None], self.thresholds)[0]
        if decided.dtype.kind == "f":
            return float(decided), {}
        probabilities = dict(zip(self.labels, row.tolist(), strict=True))
        if decided.ndim:
            return [self.labels[label] for label in np.flatnonzero(decided)], probabilities
        return self.labels[int(decided)], probabilities

    def predict(self, texts: Iterable[Text]) -> Iterator[Answer]:
        """Yield each text's `Answer`, in order; `texts` may be an iterable of any length."""
        for chunk in _chunks(texts):
            for row in self.probabilities(chunk):
                yield self.named(row)


def require_finite(logits: np.ndarray, model: str, texts: Sequence[Text] | None = None) -> None:
    """Require finite logits ``(N, C)``; the BundleError shows the first text without them if `texts` is given."""
    if np.isfinite(logits).all():
        return
    row = int(np.flatnonzero(~np.isfinite(logits).all(axis=1))[0])
    text = "a text" if texts is None else f"the text {texts[row]!r:.80}"
    raise BundleError(
        f"{model} returns logits that are NaN or infinite for {text}. Its weights are too large. Train it again with a "
        "lower learning rate."
    )


def as_fields(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON fields."""
    said, probabilities = answer
    if isinstance(said, float):
        return {"label": said}
    return {"label" if isinstance(said, str) else "labels": said, "probabilities": probabilities}


def _chunks(texts: Iterable[Text]) -> Iterator[list[Text]]:
    chunk: list[Text] = []
    characters = 0
    for text in texts:
        chunk.append(text)
        characters += n_characters(text)
        if len(chunk) == CHUNK_TEXTS or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def load(path: str | Path, *, base: str | None = None, engine: EngineConfig | None = None) -> Predictor:
    """Load a bundle for prediction; `base` is the path of the base model, if it moved.

    Raises:
        BundleError: If the bundle is incomplete, or its base model differs from the one in training.
    """
    engine = engine or EngineConfig()
    runtime = choose_runtime(engine)
    return Predictor(load_bundle(Path(path), base=base, attention=runtime.attention), runtime, engine)


def evaluate(predictor: Predictor, source: str, options: ReadOptions | None = None) -> Scores:
    """Score a bundle on the test rows of labelled data, or on all rows if there are no splits.

    Raises:
        DataError: If a label is unknown to the bundle, or is not a number.
    """
    info = predictor.bundle.info
    texts, names = labelled_rows(info, source, ("test",), options)
    labels = encode_known(KINDS[info.task], names, predictor.labels, source)
    return predictor.task.evaluate(labels, predictor.probabilities(texts), predictor.thresholds)


def labelled_rows(
    info: BundleInfo, source: str, splits: Sequence[str], options: ReadOptions | None = None
) -> tuple[list[Text], list[Label]]:
    """Return texts and labels of the first of `splits` that a source has, otherwise of all rows.

    The bundle determines the task and the label separator, `options` the rest.
    """
    options = replace(
        options or ReadOptions(),
        usual_texts=tuple(info.text_columns),
        label_separator=info.label_separator,
        task=info.task,
    )
    data = load_source(source, options)
    rows = list(range(len(data.texts)))
    if data.split is not None and (found := [split for split in splits if split in data.split]):
        rows = [row for row in rows if data.split[row] == found[0]]
    return [data.texts[row] for row in rows], [data.labels[row] for row in rows]

"""Predict labels and probabilities, or numbers, with a bundle, for any number of texts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feathertune.bundle import Bundle, load_bundle
from feathertune.config import EngineConfig
from feathertune.data.reading.texts import Text, n_characters, of_kind
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.data.tokens.encode import encode
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.predict import predict_logits
from feathertune.records import Scores
from feathertune.runtime import Runtime, choose_runtime
from feathertune.tasks import TASKS, Task
from feathertune.tasks.labels.kind import encode_known

# A text's label, or list of labels, and probabilities by name; or its number and no probabilities.
Answer = tuple[str | list[str] | float, dict[str, float]]

TOKEN_BUDGET = 8_192
# Texts that are encoded and sorted by length at once: enough to fill batches of one length, little memory.
CHUNK_TEXTS = 2_000
CHUNK_CHARACTERS = 8_000_000


class Predictor:
    """A loaded bundle that predicts.

    Args:
        bundle: From `load_bundle`; the predictor changes its model for fast passes.
        runtime: Device and number format.
        engine: Switches.
        matrices: Of other bundles that share tensors with this one.
    """

    def __init__(
        self, bundle: Bundle, runtime: Runtime, engine: EngineConfig, *, matrices: Matrices | None = None
    ) -> None:
        self.bundle = bundle
        self._runtime = runtime
        bundle.model.to(runtime.device).requires_grad_(False)
        self._parts = contextlib.ExitStack()  # never closed: they live as long as the predictor
        self.installed = self._parts.enter_context(fast_parts(bundle.base, engine, runtime, matrices=matrices))

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the C classes, in the order of the probabilities; one name for numbers."""
        return self.bundle.labels

    @property
    def reads_pairs(self) -> bool:
        """True if each text is a `Pair`."""
        return self.bundle.info.reads_pairs

    def logits(self, texts: Sequence[Text]) -> np.ndarray:
        """Return logits ``(N, C)`` float32 of N texts.

        Raises:
            DataError: If one is a pair and the bundle reads single texts, or the reverse.
        """
        if not texts:
            return np.zeros((0, len(self.labels)), dtype=np.float32)
        bundle = self.bundle
        read = of_kind(texts, pairs=self.reads_pairs, where=f"The bundle {bundle.folder}")
        encoded = encode(bundle.tokenizer, read, max_length=bundle.max_length, reading=bundle.reading)
        return predict_logits(self.bundle.model, encoded, token_budget=TOKEN_BUDGET, runtime=self._runtime)

    def probabilities(self, texts: Sequence[Text]) -> np.ndarray:
        """Return probabilities ``(N, C)`` float64 of N >= 0 texts, or numbers ``(N, 1)``."""
        return self.task.probabilities(self.logits(texts))

    def predict_proba(self, texts: Iterable[Text]) -> np.ndarray:
        """Return `probabilities` of a stream, which is read in chunks."""
        return np.concatenate([self.probabilities([]), *map(self.probabilities, _chunks(texts))])

    @property
    def task(self) -> Task:
        """The bundle's task."""
        return TASKS[self.bundle.info.task]

    @property
    def thresholds(self) -> np.ndarray | None:
        """Thresholds ``(C,)``, see `Task.decide`; None if the largest probability decides."""
        found = self.bundle.info.threshold
        return None if found is None else np.array(found)

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
        """Yield each text's label and probabilities, in order; `texts` may be a stream of any length.

        For several labels a text the label is their list; for numbers it is the number, without probabilities.
        """
        for chunk in _chunks(texts):
            for row in self.probabilities(chunk):
                yield self.named(row)


def as_fields(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON fields: ``label`` or ``labels``, and ``probabilities``; a number is ``label`` alone."""
    said, probabilities = answer
    if isinstance(said, float):
        return {"label": said}
    return {"label" if isinstance(said, str) else "labels": said, "probabilities": probabilities}


def _chunks(texts: Iterable[Text]) -> Iterator[list[Text]]:
    """Cut a stream into chunks by number of texts and characters."""
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
    """Load a bundle for prediction.

    Args:
        path: The bundle.
        base: Path of the base model, if it moved.
        engine: Device and number format.

    Raises:
        BundleError: If it is not a whole bundle, or the base has another fingerprint.
    """
    engine = engine or EngineConfig()
    runtime = choose_runtime(engine)
    return Predictor(load_bundle(Path(path), base=base, attention=runtime.attention), runtime, engine)


def evaluate(
    predictor: Predictor, source: str, *, text_column: str | None = None, label_column: str | None = None
) -> Scores:
    """Score a bundle on labelled data.

    Args:
        predictor: The loaded bundle.
        source: Any data source; only its test split is used, if it has one.
        text_column: The column of the texts, if not the bundle's or a usual name; two with a comma for pairs.
        label_column: The column of the labels.

    Raises:
        DataError: If a label is unknown to the bundle, or is no number.
    """
    info = predictor.bundle.info
    data = load_source(
        source,
        ReadOptions(
            text_column=text_column,
            label_column=label_column,
            usual_texts=tuple(info.text_columns),
            label_separator=info.label_separator,
            task=info.task,
        ),
    )
    rows = range(len(data.texts))
    if data.split is not None and "test" in data.split:
        rows = [i for i in rows if data.split[i] == "test"]  # type: ignore[assignment]
    labels = encode_known(data.kind, [data.labels[i] for i in rows], predictor.labels, source)
    probabilities = predictor.probabilities([data.texts[i] for i in rows])
    return predictor.task.evaluate(labels, probabilities, predictor.thresholds)

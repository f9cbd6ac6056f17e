"""The base model of a study: loaded for each run, and read as it is for frozen features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from feathertune.config import BaseConfig, EngineConfig
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import run_passes
from feathertune.engine.training.head import extract_features
from feathertune.records import TaskName
from feathertune.runtime import PeakMemory, Runtime, stopwatch


@dataclass(frozen=True)
class FrozenFeatures:
    """The pretrained encoder's output for one split, and its cost.

    `read` is the head's input and `mean` the mean over tokens, ``(N, D)`` float32; in windows, a row for each window.
    """

    read: np.ndarray
    mean: np.ndarray
    seconds: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Pretrained:
    """The base model under a head for the study's labels; numbers have one name."""

    base: BaseConfig
    labels: tuple[str, ...]
    task: TaskName
    engine: EngineConfig
    token_budget: int
    runtime: Runtime

    def load(self, seed: int) -> LoadedEncoder:
        """Return the pretrained encoder with an untrained head drawn from the seed, on the processor."""
        return load_encoder(
            self.base.id,
            labels=self.labels,
            task=self.task,
            seed=seed,
            revision=self.base.revision,
            attention=self.runtime.attention,
        )

    def features(self, texts: EncodedTexts, on_texts: Callable[[int], None]) -> FrozenFeatures:
        """Return the frozen features of texts; `on_texts` is called with the number of texts done."""
        with stopwatch() as watch, PeakMemory(self.runtime.device) as memory:
            encoder = self.load(seed=0)
            encoder.model.to(self.runtime.device).requires_grad_(False)
            read, mean = self.read_by(encoder, texts, on_texts)
        return FrozenFeatures(read, mean, watch.seconds, memory.peak_bytes)

    def read_by(
        self, encoder: LoadedEncoder, texts: EncodedTexts, on_texts: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return `FrozenFeatures.read` and `mean` of an encoder that is on its device and has no adapter."""
        # The mean over tokens needs all rows of the last layer.
        all_rows = self.engine.model_copy(update={"last_layer": "off"})
        with fast_parts(encoder, all_rows, self.runtime):
            read, mean = run_passes(
                partial(extract_features, encoder),
                texts,
                token_budget=self.token_budget,
                runtime=self.runtime,
                on_texts=on_texts,
                pooled=False,
            )
        return read, mean

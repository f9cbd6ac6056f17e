"""Data and base model shared by all runs of a study: loaded, split and tokenised once.

Sharing does not change any result. The shared cost is charged to every run that uses it, as if the run were alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from feathertune.config import BaseConfig, DataConfig, EngineConfig
from feathertune.data.sources.collector import SplitName
from feathertune.data.splitting.pool import Split, nested_rows, rows_of_each
from feathertune.data.splitting.splits import DataSplits
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.data.tokens.shared_texts import TextBlock
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import run_passes
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.head import extract_features
from feathertune.errors import ConfigError
from feathertune.records import BaseRecord, DataRecord, TaskName
from feathertune.runtime import PeakMemory, Runtime, stopwatch
from feathertune.study.planning.plan import Plan
from feathertune.study.planning.resolve import ResolvedStudy
from feathertune.study.run_spec import RunSpec
from feathertune.tasks.linear_models import Rows


@dataclass(frozen=True)
class FrozenFeatures:
    """The pretrained encoder's output for one split, and its cost.

    `read` is the head's input and `mean` the mean over tokens, ``(N, D)`` float32; `layers` holds the mean states of K
    layers, ``(N, K D)``. Texts read in windows have one row per window.
    """

    read: np.ndarray
    mean: np.ndarray
    layers: np.ndarray
    seconds: float
    peak_memory_bytes: int

    @property
    def by_name(self) -> dict[str, np.ndarray]:
        """The features by name, as baselines receive them."""
        return {"read": self.read, "mean": self.mean, "layers": self.layers}


@dataclass(frozen=True)
class Pretrained:
    """The base model with a head for the study's labels; a numeric label has one name."""

    base: BaseConfig
    labels: tuple[str, ...]
    task: TaskName
    engine: EngineConfig
    token_budget: int
    runtime: Runtime

    def load(self, seed: int, *, in_fp32: bool = False) -> LoadedEncoder:
        """Return the pretrained encoder with an untrained head drawn from the seed, on the CPU.

        A bf16 checkpoint stays in bf16 if products are in bf16. Set `in_fp32` for weights that will be trained.
        """
        return load_encoder(
            self.base.id,
            labels=self.labels,
            task=self.task,
            seed=seed,
            revision=self.base.revision,
            attention=self.runtime.attention,
            dtype=torch.float32 if in_fp32 else self.runtime.weights_dtype,
        )

    def features(self, texts: EncodedTexts, on_texts: Callable[[int], None]) -> FrozenFeatures:
        """Return the frozen features of texts; `on_texts` is called with the number of finished texts."""
        with stopwatch() as watch, PeakMemory(self.runtime.device) as memory:
            encoder = self.load(seed=0)
            encoder.model.to(self.runtime.device).requires_grad_(False)
            found = self.read_by(encoder, texts, on_texts)
        return FrozenFeatures(*found, watch.seconds, memory.peak_bytes)

    def read_by(
        self, encoder: LoadedEncoder, texts: EncodedTexts, on_texts: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return `read`, `mean` and `layers` of `FrozenFeatures`; the encoder is on its device and has no adapter."""
        # The mean over tokens needs all rows of the last layer.
        all_rows = self.engine.model_copy(update={"last_layer": "off"})
        with fast_parts(encoder, all_rows, self.runtime):
            read, mean, layers = run_passes(
                partial(extract_features, encoder),
                texts,
                token_budget=self.token_budget,
                runtime=self.runtime,
                on_texts=on_texts,
                pooled=False,
            )
        return read, mean, layers


@dataclass
class Workbench:
    """A study's data, tokens, runtime and one base model.

    If this workbench has only some training rows, `whole` is the one with all; it keeps the other splits' features.
    """

    runtime: Runtime
    splits: DataSplits
    data: DataRecord
    base: BaseRecord
    encoded: dict[SplitName, EncodedTexts]
    tokenize_seconds: dict[SplitName, float]
    notes: tuple[str, ...]
    pretrained: Pretrained
    activations: ActivationCache
    whole: Workbench | None = None
    _features: dict[SplitName, FrozenFeatures] = field(default_factory=dict, init=False)

    def with_rows(self, n: int, seed: int) -> Workbench:
        """Return a copy with `n` training rows, drawn by the seed, and their share of the shared cost."""
        train, shots = self.splits.train, self.data.shots
        if n == len(train.labels):
            return self
        if shots:
            rows = rows_of_each(train.labels, shots, seed=seed)
        else:
            rows = nested_rows(self.splits.kind, train.labels, n, seed=seed)
        tokens = self.encoded["train"].take(rows)
        fewer = Split([train.texts[row] for row in rows], train.labels[rows])
        part = len(tokens.ids) / len(self.encoded["train"].ids)
        return dataclasses.replace(
            self,
            splits=dataclasses.replace(self.splits, train=fewer),
            encoded={**self.encoded, "train": tokens},
            tokenize_seconds={**self.tokenize_seconds, "train": part * self.tokenize_seconds["train"]},
            activations=self.activations.empty(),
            whole=self,
        )

    def for_processes(self, runtime: Runtime) -> Workbench:
        """Return a copy for other processes on `runtime`, with texts in shared memory and empty caches."""
        return dataclasses.replace(
            self,
            runtime=runtime,
            splits=self.splits.each(lambda _, split: Split(TextBlock(split.texts), split.labels)),
            pretrained=dataclasses.replace(self.pretrained, runtime=runtime),
            activations=self.activations.empty(runtime),
        )

    def features(self, name: SplitName, on_texts: Callable[[int], None]) -> FrozenFeatures:
        """Return a split's frozen features, computed on the first call; `on_texts` reports progress."""
        if self.whole is not None and name != "train":
            return self.whole.features(name, on_texts)
        if name not in self._features:
            self._features[name] = self.pretrained.features(self.encoded[name], on_texts)
        return self._features[name]

    @property
    def has_read_training_texts(self) -> bool:
        """True if the training rows' frozen features are computed."""
        return "train" in self._features

    def take_features(self, found: Mapping[SplitName, FrozenFeatures]) -> None:
        """Store frozen features of the same texts that another process has computed."""
        self._features = {**found, **self._features}

    def drop_caches(self) -> None:
        """Drop frozen features and hidden states."""
        self._features.clear()
        self.activations = self.activations.empty()


@dataclass(frozen=True)
class Prepared:
    """A study ready to start: settings, runs, task, data and base models.

    `benches` holds each base model's workbench by name; `bench` is one of them.
    """

    bench: Workbench
    study: ResolvedStudy
    benches: Mapping[str | None, Workbench] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """All settings and all runs."""
        return self.study.plan

    def rows(self, inputs: Mapping[SplitName, Any]) -> Rows:
        """Return training and validation rows for a linear model, given their inputs; validation may be empty."""
        splits = self.bench.splits
        return Rows(
            inputs["train"],
            splits["train"].labels,
            inputs.get("validation", {}),
            splits["validation"].labels,
            len(splits.labels),
            self.study.task,
            self.study.config.train.class_weights,
        )

    def on_base(self, base: str | None) -> Prepared:
        """Return a copy on a base model's workbench; None, for a run without a base model, returns self."""
        return self if base is None else dataclasses.replace(self, bench=self.benches[base])

    def with_rows(self, n: int, seed: int) -> Prepared:
        """Return a copy with `n` training rows, drawn by the seed."""
        return dataclasses.replace(self, bench=self.bench.with_rows(n, seed))


class Parts:
    """The parts of a study that its runs work on: a base model and a number of training rows.

    Caches the last part, and everything computed on the last base model.
    """

    def __init__(self, prepared: Prepared) -> None:
        self._on_base = prepared
        self._with_rows = functools.lru_cache(maxsize=1)(prepared.with_rows)

    def of(self, spec: RunSpec, *, seed: int | None = None) -> Prepared:
        """Return a run's part of the study; `seed` replaces the run's seed for drawing rows."""
        prepared = self.on_base(spec.base)
        if spec.train_rows is None:
            return prepared
        return self._with_rows(spec.train_rows, spec.seed if seed is None else seed)

    def on_base(self, base: str | None) -> Prepared:
        """Return the study on one base model, with all rows."""
        found = self._on_base.on_base(base)
        if found.bench is not self._on_base.bench:
            self._on_base.bench.drop_caches()
            self._on_base = found
            self._with_rows = functools.lru_cache(maxsize=1)(found.with_rows)
        return found


def check_max_length(data: DataConfig, encoder: LoadedEncoder) -> None:
    """Raise a `ConfigError` if the encoder has too few positions for the text length, or windows would not advance."""
    max_length, reading = data.max_length, data.reading
    room = max_length - encoder.tokenizer.num_special_tokens_to_add()
    if reading.stride >= room:
        raise ConfigError(
            f"data.stride is {reading.stride}, but a window of --max-length {max_length} holds only {room} tokens, so "
            f"windows would not advance. Set data.stride to {room // 2} or less."
        )
    if max_length > encoder.max_positions:
        raise ConfigError(
            f"--max-length is {max_length}, but {encoder.id} reads at most {encoder.max_positions} tokens. "
            f"Pass --max-length {encoder.max_positions} or less."
        )

"""What all runs of a study share: the data split once, tokens made once, frozen features computed once.

Everything here follows from the settings alone, so that sharing it cannot change a run's result; what it cost is
kept beside it and charged to every run that uses it, as if the run had been alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from feathertune.config import Config, DataConfig
from feathertune.data.from_config import load_sources, split_sources
from feathertune.data.sources.collector import SPLITS, RawDataset, SplitName
from feathertune.data.splitting.pool import Split
from feathertune.data.splitting.splits import DataSplits
from feathertune.data.splitting.subsets import nested_rows, rows_of_each
from feathertune.data.tokens.batching import shares_of
from feathertune.data.tokens.encode import EncodedTexts, encode
from feathertune.data.tokens.shared_texts import TextBlock
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import run_passes
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.head import extract_features
from feathertune.engine.training.regression_head import output_layer
from feathertune.errors import ConfigError
from feathertune.records import BaseRecord, DataRecord
from feathertune.report.wording import Context, reason_sentence
from feathertune.runtime import PeakMemory, Runtime, choose_runtime, stopwatch
from feathertune.study.running.data_record import about_labels, class_counts, data_record
from feathertune.study.verdict.verdict import explain_metric
from feathertune.tasks import TASKS, Task, task_of
from feathertune.tasks.losses import Objective, check_fits, objective_of, what_stays

if TYPE_CHECKING:
    from torch import Tensor

    from feathertune.study.observe import Observer


@dataclass(frozen=True)
class FrozenFeatures:
    """What the pretrained encoder makes of one split, and what it cost.

    Attributes:
        read: What the head reads, ``(N, D)`` float32; a row for each window where texts are read in windows. `mean`:
            the mean over tokens, likewise.
    """

    read: np.ndarray
    mean: np.ndarray
    seconds: float
    peak_memory_bytes: int


@dataclass
class Workbench:
    """Data, encoder and machine of one study; made by `Workbench.prepare`.

    Attributes:
        config: The settings, the metric among them as it was chosen.
        whole: What this is a part of, with fewer training rows; it keeps the features of the other splits.
    """

    config: Config
    runtime: Runtime
    splits: DataSplits
    data: DataRecord
    base: BaseRecord
    encoded: dict[SplitName, EncodedTexts]
    tokenize_seconds: dict[SplitName, float]
    notes: tuple[str, ...]
    activations: ActivationCache
    whole: Workbench | None = None
    _features: dict[SplitName, FrozenFeatures] = field(default_factory=dict)

    @classmethod
    def prepare(cls, config: Config, observer: Observer, data: RawDataset | None = None) -> Workbench:
        """Read and split the data, load the encoder once to know it, and tokenise.

        Args:
            config: The settings.
            observer: Is told what is being done.
            data: Texts and labels that are at hand already; else those that the settings name are read.

        Raises:
            FeathertuneError: If the data, the encoder or the settings cannot be used.
        """
        runtime = choose_runtime(config.engine)
        observer.stage(f"reading {config.data.source}")
        splits = split_sources(config.data, *(load_sources(config.data) if data is None else (data, None)))
        if len(splits.text_columns) == 2:
            observer.said(f"Each row is a pair of texts ({' and '.join(splits.text_columns)}), read together.")
        for sentence in about_labels(splits, config.data.task):
            observer.said(sentence)
        task, counts = task_of(splits.train.labels), class_counts(splits)
        check_fits(config.train, task)
        if config.data.shots is not None and splits.numbers:
            splits.kind.check_shots(splits.train.labels, config.data.shots, splits.labels)
        task = task.ranked_by(config.study.metric, counts.get("train", []))
        metric = task.primary.name
        observer.stage(f"loading {config.base.id}")
        encoder = load_base(config, splits, runtime, seed=0)
        check_max_length(config.data, encoder)
        if splits.numbers:
            output_layer(encoder)  # a head that cannot take their unit is refused before anything is trained
        observer.stage("tokenising")
        encoded: dict[SplitName, EncodedTexts] = {}
        seconds: dict[SplitName, float] = {}
        for name in SPLITS:
            with stopwatch() as watch:
                encoded[name] = encode(
                    encoder.tokenizer,
                    splits[name].texts,
                    max_length=config.data.max_length,
                    reading=config.data.reading,
                )
            seconds[name] = watch.seconds
        record = data_record(config, splits, encoded, counts)
        for reason in explain_metric(task, record):
            observer.said(reason_sentence(reason, Context(task, record)))
        unmoved = what_stays(config.train, splits.validation.labels, splits.labels)
        for sentence in unmoved:
            observer.said(sentence)
        return cls(
            config=config.model_copy(update={"study": config.study.model_copy(update={"metric": metric})}),
            runtime=runtime,
            splits=splits,
            data=record,
            base=BaseRecord(
                id=encoder.id,
                revision=encoder.revision,
                fingerprint=encoder.fingerprint,
                model_type=encoder.spec.model_type,
                n_parameters=encoder.n_parameters,
                n_layers=encoder.n_layers,
                hidden_size=encoder.hidden_size,
                new_parameters=list(encoder.new_parameters),
            ),
            encoded=encoded,
            tokenize_seconds=seconds,
            notes=(*encoder.notes, *unmoved),
            activations=ActivationCache(
                config.engine,
                runtime,
                token_budget=config.train.token_budget,
                base_fingerprint=encoder.fingerprint,
            ),
        )

    def with_rows(self, n: int, seed: int) -> Workbench:
        """The same with fewer training rows, drawn by the seed; `feathertune.data.splitting.subsets` says how.

        What is shared is charged as if these rows were all: their part of tokenising, features of their own.
        """
        train = self.splits.train
        if n == len(train.labels):
            return self
        shots = self.config.data.shots
        if shots:
            rows = rows_of_each(train.labels, shots, seed=seed)
        else:
            rows = nested_rows(self.splits.kind, train.labels, n, seed=seed)
        tokens = self.encoded["train"].take(rows)
        part = len(tokens.ids) / len(self.encoded["train"].ids)
        return dataclasses.replace(
            self,
            splits=dataclasses.replace(
                self.splits, train=Split([train.texts[row] for row in rows], train.labels[rows])
            ),
            encoded={**self.encoded, "train": tokens},
            tokenize_seconds={**self.tokenize_seconds, "train": part * self.tokenize_seconds["train"]},
            activations=self.activations.empty(),
            whole=self,
            _features={},
        )

    def for_processes(self, runtime: Runtime) -> Workbench:
        """The same to be sent to other processes: texts in memory that they can share, nothing computed yet.

        Args:
            runtime: Device and number format there.
        """

        def block(split: Split) -> Split:
            return Split(TextBlock(split.texts), split.labels)

        splits = self.splits
        return dataclasses.replace(
            self,
            runtime=runtime,
            splits=dataclasses.replace(
                splits, train=block(splits.train), validation=block(splits.validation), test=block(splits.test)
            ),
            activations=self.activations.empty(runtime),
            _features={},
        )

    @property
    def task(self) -> Task:
        """Whether a text has one label, any number of them, or a number, and all that follows from it."""
        return TASKS[self.data.task].deciding(self.config.train.decision).ranked_by(self.metric)

    @property
    def metric(self) -> str:
        """The score by which methods are ranked, and epochs, trials and strengths chosen."""
        metric = self.config.study.metric
        assert metric != "auto", "it was settled when this was made"
        return metric

    @property
    def objective(self) -> Objective:
        """What a training on the training rows lowers."""
        return objective_of(self.config.train, self.split("train").labels, len(self.splits.labels))

    @property
    def shares(self) -> np.ndarray | None:
        """How often each training row is drawn in an epoch; None where each is taken once."""
        return shares_of(self.split("train").labels, self.config.train.sampling)

    def load_encoder(self, seed: int) -> LoadedEncoder:
        """The pretrained encoder with an untrained head drawn from the seed."""
        return load_base(self.config, self.splits, self.runtime, seed=seed)

    def split(self, name: SplitName) -> Split:
        """Texts and labels of a split."""
        return self.splits[name]

    def labelled(self, name: SplitName) -> Labelled:
        """Tokens and labels of a split."""
        return Labelled(self.encoded[name], self.split(name).labels, self.objective)

    def features(self, name: SplitName, on_texts: Callable[[int], None]) -> FrozenFeatures:
        """Frozen features of a split, computed at the first call.

        Args:
            name: The split.
            on_texts: Called with the number of texts done; not for what was done before, which says nothing of the
                speed.
        """
        if self.whole is not None and name != "train":
            return self.whole.features(name, on_texts)
        if name not in self._features:
            self._features[name] = self._compute_features(self.encoded[name], on_texts)
        return self._features[name]

    def take_features(self, found: Mapping[SplitName, FrozenFeatures]) -> None:
        """Take frozen features that another process has computed of the same texts, where there are none yet."""
        self._features = {**found, **self._features}

    def _compute_features(self, texts: EncodedTexts, on_texts: Callable[[int], None]) -> FrozenFeatures:
        with stopwatch() as watch, PeakMemory(self.runtime.device) as memory:
            encoder = self.load_encoder(seed=0)
            encoder.model.to(self.runtime.device).requires_grad_(False)
            read, mean = self.read_by(encoder, texts, on_texts)
        return FrozenFeatures(read, mean, watch.seconds, memory.peak_bytes)

    def read_by(
        self, encoder: LoadedEncoder, texts: EncodedTexts, on_texts: Callable[[int], None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What an encoder makes of texts as it is: `FrozenFeatures.read` and `mean`.

        Args:
            encoder: On its device, without an adapter.
            texts: Tokens.
            on_texts: Called with the number of texts done.
        """
        # The mean over tokens needs the last layer's rows, all of them.
        all_rows = self.config.engine.model_copy(update={"last_layer": "off"})

        def features(batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            found = extract_features(encoder, batch)
            return found.read, found.mean

        with fast_parts(encoder, all_rows, self.runtime):
            read, mean = run_passes(
                features,
                texts,
                token_budget=self.config.train.token_budget,
                runtime=self.runtime,
                on_texts=on_texts,
                pooled=False,
            )
        return read, mean


def by_rows(bench: Workbench) -> Callable[[int | None, int], Workbench]:
    """From training rows (``None`` for all) and seed to a bench with these rows; see `Workbench.with_rows`.

    The last one is kept, since the runs with the same rows come together.
    """
    with_rows = functools.lru_cache(maxsize=1)(bench.with_rows)
    return lambda rows, seed: bench if rows is None else with_rows(rows, seed)


def load_base(config: Config, splits: DataSplits, runtime: Runtime, *, seed: int) -> LoadedEncoder:
    """Load the encoder that the settings name, with a head for the labels drawn from the seed."""
    return load_encoder(
        config.base.id,
        labels=splits.labels,
        task=task_of(splits.train.labels).name,
        seed=seed,
        revision=config.base.revision,
        attention=runtime.attention,
    )


def check_max_length(data: DataConfig, encoder: LoadedEncoder) -> None:
    """Refuse a text length for which the encoder has no positions, and windows that get nowhere.

    Raises:
        ConfigError: If `max_length` is more than the encoder can read, or `stride` leaves nothing new to a window.
    """
    max_length, reading = data.max_length, data.reading
    room = max_length - encoder.tokenizer.num_special_tokens_to_add()
    if reading.stride >= room:
        raise ConfigError(
            f"data.stride is {reading.stride}, but a window of --max-length {max_length} holds {room} tokens of a "
            f"text: the next one would begin where it began. Give {room // 2} or less."
        )
    if max_length > encoder.max_positions:
        raise ConfigError(
            f"--max-length is {max_length}, but {encoder.id} reads at most {encoder.max_positions} tokens. "
            f"Give --max-length {encoder.max_positions} or less."
        )

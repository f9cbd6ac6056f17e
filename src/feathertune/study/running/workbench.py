"""What all runs of a study share: the data split once, tokens made once, frozen features computed once.

Sharing changes no run's result. Its cost is kept and charged to every run that uses it, as if the run were alone.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from feathertune.config import DataConfig
from feathertune.data.sources.collector import SplitName
from feathertune.data.splitting.pool import Split
from feathertune.data.splitting.splits import DataSplits
from feathertune.data.splitting.subsets import nested_rows, rows_of_each
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.data.tokens.shared_texts import TextBlock
from feathertune.encoders import LoadedEncoder
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.errors import ConfigError
from feathertune.records import BaseRecord, DataRecord
from feathertune.runtime import Runtime
from feathertune.study.running.pretrained import FrozenFeatures, Pretrained


@dataclass
class Workbench:
    """Data, tokens, base model and machine of one study; made by `feathertune.study.prepared.prepare_study`.

    Attributes:
        notes: Sentences for the record of each run that uses the base model.
        whole: The workbench that has all training rows, if this one has fewer; it keeps the other splits' features.
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
    _features: dict[SplitName, FrozenFeatures] = field(default_factory=dict)

    def with_rows(self, n: int, seed: int) -> Workbench:
        """Return the same with fewer training rows, drawn by the seed (`feathertune.data.splitting.subsets`).

        Shared work is charged as if these rows were all: their part of tokenising, features of their own.
        """
        train, shots = self.splits.train, self.data.shots
        if n == len(train.labels):
            return self
        rows = (
            rows_of_each(train.labels, shots, seed=seed)
            if shots
            else nested_rows(self.splits.kind, train.labels, n, seed=seed)
        )
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
        """Return the same for other processes: texts in memory that they can share, nothing computed yet.

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
            pretrained=dataclasses.replace(self.pretrained, runtime=runtime),
            activations=self.activations.empty(runtime),
            _features={},
        )

    def load_encoder(self, seed: int) -> LoadedEncoder:
        """Return the pretrained encoder with an untrained head drawn from the seed."""
        return self.pretrained.load(seed)

    def split(self, name: SplitName) -> Split:
        """Return the texts and labels of a split."""
        return self.splits[name]

    def features(self, name: SplitName, on_texts: Callable[[int], None]) -> FrozenFeatures:
        """Return the frozen features of a split, computed at the first call.

        Args:
            name: The split.
            on_texts: Called with the number of texts done, if they are computed now.
        """
        if self.whole is not None and name != "train":
            return self.whole.features(name, on_texts)
        if name not in self._features:
            self._features[name] = self.pretrained.features(self.encoded[name], on_texts)
        return self._features[name]

    def take_features(self, found: Mapping[SplitName, FrozenFeatures]) -> None:
        """Keep frozen features that another process has computed of the same texts."""
        self._features = {**found, **self._features}


def by_rows(bench: Workbench) -> Callable[[int | None, int], Workbench]:
    """Return a function from training rows (``None`` for all) and seed to `Workbench.with_rows`.

    It keeps the last one, since the runs with the same rows come together.
    """
    with_rows = functools.lru_cache(maxsize=1)(bench.with_rows)
    return lambda rows, seed: bench if rows is None else with_rows(rows, seed)


def check_max_length(data: DataConfig, encoder: LoadedEncoder) -> None:
    """Refuse a text length for which the encoder has no positions, and windows that do not advance.

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

"""Rank base models before anything is trained: one forward pass over a sample of training rows, and a linear probe.

The probe reads the mean over tokens after every layer: LoRA reaches what middle layers know, which a probe of the last
layer misses. Validation and test rows are never read. For a decision that a point decides, train: `compare`.

Source: probes: Alain & Bengio 2016, arXiv:1610.01644; as a ranking: benchmarks/bench_bases.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from feathertune.baselines.leave_one_out import leave_one_out
from feathertune.config import BaseConfig, Config
from feathertune.data.splitting.pool import Split, nested_rows
from feathertune.data.splitting.splits import DataSplits
from feathertune.data.tokens.encode import encode
from feathertune.errors import ConfigError, FeathertuneError, first_line
from feathertune.records.base_ranking import BaseRanking, RankedBase
from feathertune.runtime import Runtime, choose_runtime, stopwatch
from feathertune.statistics.inference import paired_difference, seed_interval
from feathertune.statistics.measures import EXPLAINED, Answers
from feathertune.study.observe import Observer
from feathertune.study.planning.resolve import decide_task
from feathertune.study.prepared import load_checked, read_splits
from feathertune.study.running.data_record import class_counts
from feathertune.study.running.workbench import Pretrained
from feathertune.tasks import Task


def rank_bases(config: Config, bases: Sequence[str], *, n_rows: int, observer: Observer) -> BaseRanking:
    """Rank base models by a probe on `n_rows` training rows, or all if there are fewer.

    A base that cannot be used is a row with the reason. FeathertuneError if the data cannot be used.
    """
    if len({*bases}) < len(bases) or not bases:
        raise ConfigError(f"--base is '{','.join(bases)}'. Expected different base models, such as sample:minilm,PATH.")
    splits = read_splits(config.data, observer)
    task = decide_task(config, splits, class_counts(splits).get("train", []))
    labels = splits.train.labels
    rows = nested_rows(splits.kind, labels, min(n_rows, len(labels)), seed=config.data.seed)
    sample = Split([splits.train.texts[row] for row in rows], labels[rows])
    ranking = _Ranking(config, splits, task, sample, choose_runtime(config.engine))
    read: list[tuple[RankedBase, Answers]] = []
    failed: list[RankedBase] = []
    for base in bases:
        observer.stage(f"reading {len(rows):,} texts by {base}")
        try:
            read.append(ranking.probe(base))
        except OSError:
            raise
        except Exception as error:
            kind = "" if isinstance(error, FeathertuneError) else f"{type(error).__name__}: "
            failed.append(RankedBase(base=base, error=f"{kind}{first_line(error)}"))
    read.sort(key=lambda found: -found[1].score)
    ranked = [_behind(row, read[0][1], answers) for row, answers in read]
    return BaseRanking(
        source=config.data.source,
        task=task.name,
        n_rows=len(rows),
        max_length=config.data.max_length,
        bases=[*ranked, *failed],
    )


@dataclass(frozen=True)
class _Ranking:
    """Everything that is the same for all base models."""

    config: Config
    splits: DataSplits
    task: Task
    sample: Split
    runtime: Runtime

    def probe(self, base: str) -> tuple[RankedBase, Answers]:
        """Return the row of a base, without a comparison, and the probe's predictions."""
        config, data, n = self.config, self.config.data, len(self.sample.texts)
        pretrained = Pretrained(
            BaseConfig(id=base),
            self.splits.labels,
            self.task.name,
            config.engine,
            config.train.token_budget,
            self.runtime,
        )
        with stopwatch() as watch:
            encoder = load_checked(pretrained, data, self.splits)
            encoder.model.to(self.runtime.device).requires_grad_(False)
            texts = encode(encoder.tokenizer, self.sample.texts, max_length=data.max_length, reading=data.reading)
            with stopwatch() as reading:
                layers = pretrained.layers_of(encoder, texts, lambda _: None)
            targets = self.task.linear.targets(self.sample.labels, len(self.splits.labels))
            predicted = leave_one_out(np.hstack(layers), targets)
        assert texts.n_tokens is not None, "counted by `encode`"
        assert texts.n_unread is not None, "counted by `encode`"
        answers = EXPLAINED.answers(targets, predicted[None])
        score = seed_interval(answers)
        row = RankedBase(
            base=base,
            score=score.mean,
            low=score.low,
            high=score.high,
            n_parameters=encoder.n_parameters,
            n_layers=encoder.n_layers,
            seconds_per_1000=1000 * reading.seconds / n,
            seconds=watch.seconds,
            unread=float(texts.n_unread.sum() / texts.n_tokens.sum()),
        )
        return row, answers


def _behind(row: RankedBase, best: Answers, answers: Answers) -> RankedBase:
    if answers is best:
        return row.model_copy(update={"behind": 0.0, "behind_low": 0.0, "behind_high": 0.0})
    behind = paired_difference(best, answers)
    return row.model_copy(update={"behind": behind.mean, "behind_low": behind.low, "behind_high": behind.high})

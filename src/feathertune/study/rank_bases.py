"""Rank base models without training them: one forward pass over a sample of training rows, then a linear probe.

The probe gets the same vectors as the head would. Validation and test rows are never read. The ranking cannot resolve
differences of about one point; train the base models to do that.

Source: Alain & Bengio 2016, arXiv:1610.01644; compared with LogME and H-score in benchmarks/bench_bases.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

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
from feathertune.study.observe import Observer, Silent
from feathertune.study.planning.resolve import decide_task
from feathertune.study.prepared import load_checked, read_splits
from feathertune.study.running.data_record import class_counts
from feathertune.study.running.workbench import Pretrained
from feathertune.tasks import Task


def rank_bases(
    config: Config, bases: Sequence[str], *, rows: int = 1000, observer: Observer | None = None
) -> BaseRanking:
    """Rank base models by a linear probe on a sample of the training rows, without fine-tuning them.

    Args:
        config: Settings from `feathertune.load_config`; its base model is ignored.
        bases: Base models, as for ``base.id``.
        rows: Maximum number of training rows to read.
        observer: Receives progress.

    Raises:
        FeathertuneError: If the settings or the data are invalid. A base model that fails gets a row with its error.
    """
    observer = observer or Silent()
    if len({*bases}) < len(bases) or not bases:
        raise ConfigError(
            f"--base is '{','.join(bases)}'. Expected a list of different base models, such as sample:minilm,PATH."
        )
    splits = read_splits(config.data, observer)
    task, runtime = decide_task(config, splits, class_counts(splits).get("train", [])), choose_runtime(config.engine)
    texts, labels = splits.train.texts, splits.train.labels
    drawn = nested_rows(splits.kind, labels, min(rows, len(labels)), seed=config.data.seed)
    splits = replace(splits, train=Split([texts[row] for row in drawn], labels[drawn]))
    read: list[tuple[RankedBase, Answers]] = []
    failed: list[RankedBase] = []
    for base in bases:
        observer.stage(f"reading {len(drawn):,} texts with {base}")
        try:
            read.append(_probe(base, config, task, splits, runtime))
        except Exception as error:
            kind = "" if isinstance(error, FeathertuneError) else f"{type(error).__name__}: "
            failed.append(RankedBase(base=base, error=f"{kind}{first_line(error)}"))
    read.sort(key=lambda found: -found[1].score)
    return BaseRanking(
        source=config.data.source,
        task=task.name,
        n_rows=len(drawn),
        max_length=config.data.max_length,
        bases=[*(_compared(row, answers, read[0][1]) for row, answers in read), *failed],
    )


def _probe(base: str, config: Config, task: Task, splits: DataSplits, runtime: Runtime) -> tuple[RankedBase, Answers]:
    """Return a base model's row, not yet compared with the best, and the probe's predictions for the training rows."""
    budget, train = config.train.token_budget, splits.train
    pretrained = Pretrained(BaseConfig(id=base), splits.labels, task.name, config.engine, budget, runtime)
    with stopwatch() as watch:
        encoder, pretrained = load_checked(pretrained, config.data, splits)
        encoder.model.to(runtime.device).requires_grad_(False)
        texts = encode(encoder.tokenizer, train.texts, max_length=config.data.max_length, reading=config.data.reading)
        with stopwatch() as reading:
            read, *_ = pretrained.read_by(encoder, texts, lambda _: None)
        targets = task.linear.targets(train.labels, len(splits.labels))
        answers = EXPLAINED.answers(targets, leave_one_out(texts.pooled(read), targets)[None])
    score = seed_interval(answers)
    n_tokens, n_unread = (0 if counts is None else int(counts.sum()) for counts in (texts.n_tokens, texts.n_unread))
    row = RankedBase(
        base=base,
        score=score.mean,
        low=score.low,
        high=score.high,
        n_parameters=encoder.n_parameters,
        seconds_per_1000=1000 * reading.seconds / len(texts),
        seconds=watch.seconds,
        unread=n_unread / n_tokens,
    )
    return row, answers


def _compared(row: RankedBase, answers: Answers, best: Answers) -> RankedBase:
    if answers is best:
        return row.model_copy(update={"behind": 0.0, "behind_low": 0.0, "behind_high": 0.0})
    behind = paired_difference(best, answers)
    return row.model_copy(update={"behind": behind.mean, "behind_low": behind.low, "behind_high": behind.high})

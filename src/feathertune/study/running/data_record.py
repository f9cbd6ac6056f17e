"""Describe a study's data and base models for its record: rows, classes, label distribution, unread tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from feathertune.config import DataConfig
from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.data.splitting.splits import DataSplits
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.encoders import LoadedEncoder
from feathertune.records import BaseRecord, DataRecord, LabelSummary, TaskName
from feathertune.tasks.labels.alike import notes_on
from feathertune.tasks.labels.values import all_numbers

# Two whole numbers, such as 0 and 1, are never a scale.
_NO_SCALE = 2
# Above this many classes, warn about linear models, which need this many bytes per row and class.
_MANY_CLASSES, _ROW_BYTES = 1_000, 80


def about_labels(splits: DataSplits, task: str) -> list[str]:
    """Return a sentence about the labels, unless they are plain class names; `task` is the setting ``data.task``."""
    if splits.kind.numbers:
        train = summary_of(splits.train.labels)
        return [
            f"The label is a number, '{splits.labels[0]}' (data.task: regression): {train.low:.4g} to {train.high:.4g} "
            f"in the training rows, mean {train.mean:.4g}, standard deviation {train.sd:.4g}."
        ]
    if splits.kind.sets:
        return [f"A text may have several of the {len(splits.labels):,} labels, or none (data.task: multi_label)."]
    if len(splits.labels) > _MANY_CLASSES:
        n_bytes = _ROW_BYTES * len(splits.labels) * len(splits.train.labels)
        return [
            f"The label has {len(splits.labels):,} classes: the baselines may take hours and need about "
            f"{1 + n_bytes / 1e9:.0f} GB of memory. Check that the label column is the right one."
        ]
    if task == "auto" and len(splits.labels) > _NO_SCALE and all_numbers(splits.labels):
        return [
            f"The labels are whole numbers, treated as {len(splits.labels):,} classes. Pass --set data.task=regression "
            "to predict numbers."
        ]
    return []


def about_alike(splits: DataSplits, counts: Mapping[str, list[int]]) -> list[str]:
    """Return sentences about labels that look alike; `counts` are from `class_counts`."""
    totals = np.sum([*counts.values()], axis=0).tolist() if counts else []
    return notes_on(dict(zip(splits.labels, totals, strict=False)))


def class_counts(splits: DataSplits) -> dict[str, list[int]]:
    """Return the rows of each class, by split; a row counts once per label. Numeric labels have no classes."""
    counts: dict[str, list[int]] = {}
    if splits.kind.numbers:
        return counts
    for name in SPLITS:
        labels = splits[name].labels
        found = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(splits.labels))
        counts[name] = found.tolist()
    return counts


def summary_of(numbers: NDArray[np.float64]) -> LabelSummary:
    """Return the distribution of numbers ``(N,)``, N at least 1."""
    low, q25, median, q75, high = np.quantile(numbers, (0, 0.25, 0.5, 0.75, 1)).tolist()
    return LabelSummary(
        mean=float(numbers.mean()), sd=float(numbers.std()), low=low, q25=q25, median=median, q75=q75, high=high
    )


def base_record(encoder: LoadedEncoder, name: str, encoded: Mapping[SplitName, EncodedTexts]) -> BaseRecord:
    """Return a base model's record, including the share of tokens that stay unread."""
    n_texts = sum(len(texts) for texts in encoded.values())
    n_tokens = sum(int(texts.n_tokens.sum()) for texts in encoded.values() if texts.n_tokens is not None)
    n_unread = sum(int(texts.n_unread.sum()) for texts in encoded.values() if texts.n_unread is not None)
    return BaseRecord(
        id=encoder.id,
        name=name,
        revision=encoder.revision,
        fingerprint=encoder.fingerprint,
        tokenizer_fingerprint=encoder.tokenizer_fingerprint,
        model_type=encoder.spec.model_type,
        n_parameters=encoder.n_parameters,
        n_layers=encoder.n_layers,
        hidden_size=encoder.hidden_size,
        new_parameters=list(encoder.new_parameters),
        truncated_fraction=sum(texts.n_truncated for texts in encoded.values()) / n_texts,
        unread_fraction=n_unread / n_tokens,
    )


def data_record(config: DataConfig, task: TaskName, splits: DataSplits, counts: dict[str, list[int]]) -> DataRecord:
    """Return the record of the data as used; `counts` are from `class_counts`."""
    shots = config.shots
    notes, n_pool = (*about_alike(splits, counts), *splits.notes), len(splits.train.labels)
    if shots:
        counts = counts | {"train": [shots] * len(splits.labels)}
        drawn = f"Each seed draws {shots:,} rows of each class from {n_pool:,} training rows,"
        notes = (*notes, f"{drawn} so intervals over seeds include the spread over draws.")
    if not splits.kind.sets:  # the source has already noted multi-label data
        notes = (*about_labels(splits, config.task), *notes)
    return DataRecord(
        source=splits.source,
        test_source=splits.test_source,
        fingerprint=splits.fingerprint,
        task=task,
        text_columns=list(splits.text_columns),
        labels=[] if splits.kind.numbers else list(splits.labels),
        n_train=shots * len(splits.labels) if shots else n_pool,
        shots=shots,
        n_validation=len(splits.validation.labels),
        n_test=len(splits.test.labels),
        class_counts=counts,
        numbers={name: summary_of(splits[name].labels) for name in SPLITS if len(splits[name].labels)}
        if splits.kind.numbers
        else {},
        max_length=config.max_length,
        reading=config.reading,
        duplicates_removed=splits.duplicates_removed,
        overlap_removed=splits.overlap_removed,
        notes=list(notes),
    )

"""Read and split the data that the settings name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from feathertune.config import DataConfig
from feathertune.data.sources.collector import RawDataset, ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.data.splitting.splits import DataSplits, make_splits
from feathertune.tasks.labels.alike import groups_of, listed_groups, merged, merges_of


def read_options(data: DataConfig) -> ReadOptions:
    """Return the settings for reading a source."""
    return ReadOptions(
        text_column=data.text_column,
        label_column=data.label_column,
        split_column=data.split_column,
        drop_invalid=data.drop_invalid,
        label_separator=data.label_separator,
        task=data.task,
    )


def load_sources(data: DataConfig) -> tuple[RawDataset, RawDataset | None]:
    """Read the data source, and the separate test source if one is set."""
    options = read_options(data)
    dataset = load_source(data.source, options)
    # Whole-number test labels are read as numbers if the training labels are numbers.
    test = load_source(data.test, replace(options, task=dataset.kind.name)) if data.test else None
    return _merged(dataset, test) if data.merge_labels else (dataset, test)


def _merged(dataset: RawDataset, test: RawDataset | None) -> tuple[RawDataset, RawDataset | None]:
    """Replace labels that look alike with their most frequent spelling, in both sources."""
    both = [dataset] if test is None else [dataset, test]
    counts = Counter(name for one in both for label in one.labels for name in one.kind.names_of(label))
    merges = merges_of(counts)
    if not merges:
        return dataset, test
    note = (
        f"Labels that look alike were merged into the first of each group: {listed_groups(groups_of(counts), counts)}."
    )
    done = [replace(one, labels=[merged(label, merges) for label in one.labels]) for one in both]
    return replace(done[0], notes=(*dataset.notes, note)), done[1] if test else None


def split_sources(data: DataConfig, dataset: RawDataset, test: RawDataset | None) -> DataSplits:
    """Split the data that `load_sources` returned."""
    return make_splits(
        dataset,
        test=test,
        train_size=data.train_size,
        validation_size=data.validation_size,
        test_size=data.test_size,
        seed=data.seed,
    )

"""Data as the settings name it: read, and split.

Without torch. Not for one source by its name, which is `feathertune.data.sources.registry`.
"""

from __future__ import annotations

from feathertune.config import DataConfig
from feathertune.data.reading.labels import TaskChoice
from feathertune.data.sources.collector import RawDataset
from feathertune.data.sources.registry import load_source
from feathertune.data.splitting.splits import DataSplits, make_splits


def load_sources(data: DataConfig) -> tuple[RawDataset, RawDataset | None]:
    """Read the sources that the settings name: of all rows, and of the test rows where those have one of their own."""

    def read(name: str, task: TaskChoice) -> RawDataset:
        return load_source(
            name,
            text_column=data.text_column,
            label_column=data.label_column,
            split_column=data.split_column,
            drop_invalid=data.drop_invalid,
            label_separator=data.label_separator,
            task=task,
        )

    dataset = read(data.source, data.task)
    if not data.test:
        return dataset, None
    # Test rows with whole numbers alone are numbers nevertheless.
    return dataset, read(data.test, "regression" if dataset.numbers else data.task)


def split_sources(data: DataConfig, dataset: RawDataset, test: RawDataset | None) -> DataSplits:
    """Split what `load_sources` read as the settings say."""
    return make_splits(
        dataset,
        test=test,
        train_size=data.train_size,
        validation_size=data.validation_size,
        test_size=data.test_size,
        seed=data.seed,
    )

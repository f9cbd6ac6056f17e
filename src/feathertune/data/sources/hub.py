"""Load datasets from the Hugging Face hub with the package ``datasets``, without running any dataset's code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from feathertune.data.reading.columns import Columns
from feathertune.data.sources.collector import SPLITS, Collector, RawDataset, ReadOptions, as_split
from feathertune.errors import ConfigError, DataError, MissingExtraError

_NO_LABEL = -1  # a hidden label in a ClassLabel column


def load_hub(name: str, options: ReadOptions) -> RawDataset:
    """Read ``NAME[:CONFIG]`` with its splits; skip, with a note, other splits and rows whose ClassLabel is -1."""
    source = f"hub:{name}"
    if options.split_column is not None:
        raise ConfigError(f"{source} already has splits. Leave out data.split_column.")
    loaded = _load(*name.partition(":")[::2], source=source)
    notes, parts = [], {}
    for split_name, part in loaded.items():
        split = as_split(split_name)
        if split is None or split in parts:
            notes.append(f"The split {split_name} ({part.num_rows:,} rows) was left out.")
        else:
            parts[split] = (split_name, part)
    if not parts:
        raise DataError(
            f"{source} has the splits {', '.join(map(str, loaded))}. Expected train, optionally validation and test."
        )
    collector = Collector(source, drop_invalid=options.drop_invalid, labels=options.labels)
    order: tuple[str, ...] | None = None
    columns: Columns | None = None
    for split in filter(parts.__contains__, SPLITS):
        split_name, part = parts[split]
        found = options.columns(part.column_names, source)
        columns = columns or found
        names = _class_names(part.features[found.label])
        order = order or names
        hidden = 0
        for number, (text, label) in enumerate(_rows(part, found), start=1):
            if names is not None and label == _NO_LABEL:
                hidden += 1
                continue
            if names is not None and label is not None:
                label = [names[one] for one in label] if isinstance(label, list) else names[label]
            collector.add(text, label, split, f"{source}, {split_name} row {number}")
        if hidden:
            notes.append(f"{hidden:,} rows of the split {split_name} were left out: their label is hidden (-1).")
    return collector.finish(label_order=order, notes=notes, columns=columns)


def _rows(part: Any, columns: Columns) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - datasets.Dataset
    """Yield the text (or both texts of a pair) and the label of each row."""
    for batch in part.select_columns(list(columns.read)).iter(1000):
        for number, label in enumerate(batch[columns.label]):
            yield columns.text_of({column: batch[column][number] for column in columns.texts}), label


def _class_names(feature: Any) -> tuple[str, ...] | None:  # noqa: ANN401 - datasets' feature types
    inner = getattr(feature, "feature", feature)  # a list of labels has an inner feature
    names = getattr(inner, "names", None)  # only a ClassLabel has names
    return tuple(names) if names else None


def _load(name: str, config: str, *, source: str) -> dict[str, Any]:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("hub", source) from None
    if not name:
        raise DataError(f"'{source}' names no dataset. Expected hub:NAME or hub:NAME:CONFIG.")
    try:
        return dict(datasets.load_dataset(name, config or None))
    except Exception as error:  # datasets raises many kinds of error, including its HTTP library's
        raise DataError(
            f"{source} cannot be loaded: {str(error).strip() or type(error).__name__}\n"
            "Check the name (hub:NAME or hub:NAME:CONFIG). With HF_HUB_OFFLINE=1 or without a network, only "
            "datasets in the hub cache can be read. Load it once while online, or use a local file."
        ) from error

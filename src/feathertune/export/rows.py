"""Real texts to compare an exported model on, with their labels if they have some."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.bundle import BundleInfo
from feathertune.data.reading.columns import LABEL_COLUMNS, find_text_columns
from feathertune.data.reading.rows import columns, read_rows
from feathertune.data.reading.texts import Pair, Text, of_kind
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.errors import ConfigError, DataError
from feathertune.export.check import DEFAULT_ROWS, LEAST_ROWS, Check
from feathertune.tasks.labels.kind import encode_known
from feathertune.tasks.labels.reader import KINDS
from feathertune.tasks.labels.values import Label

_SEED = 0


@dataclass(frozen=True)
class RealTexts:
    """Texts from data.

    Attributes:
        source: As given; only the name of a path, since the export may go to other machines.
        labels: Class indices ``(N,)``, which labels each has ``(N, C)``, or numbers ``(N,)``; None if unknown.
    """

    source: str
    texts: list[Text]
    labels: NDArray[Any] | None


def real_texts(check: Check, info: BundleInfo) -> RealTexts:
    """Draw the rows of a check, the same each time.

    Raises:
        DataError: If the source cannot be read, or a label is unknown to the bundle.
        ConfigError: If the source holds too few rows.
    """
    source = str(check.data)
    texts, names = (
        _texts_alone(source, check, info) if _is_unlabelled(source, check) else _labelled(source, check, info)
    )
    n = check.rows or min(DEFAULT_ROWS, len(texts))
    if n > len(texts):
        raise ConfigError(
            f"{source} holds {len(texts):,} rows to compare on, fewer than the {n:,} asked for by --rows."
        )
    if check.rows is None and n < LEAST_ROWS:
        raise ConfigError(
            f"{source} holds {n:,} rows to compare on; on fewer than {LEAST_ROWS} half a point of accuracy cannot be "
            f"seen. Give more of them, or say --rows {n} to do with these."
        )
    chosen = np.sort(np.random.default_rng(_SEED).choice(len(texts), n, replace=False))
    labels = None
    if names is not None:
        labels = encode_known(KINDS[info.task], names, info.labels, source)[chosen]
    shown = Path(source).name if Path(source).exists() else source
    return RealTexts(shown, [texts[row] for row in chosen], labels)


def _labelled(source: str, check: Check, info: BundleInfo) -> tuple[list[Text], list[Label]]:
    data = load_source(
        source,
        ReadOptions(
            text_column=check.text_column,
            label_column=check.label_column,
            usual_texts=tuple(info.text_columns),
            label_separator=info.label_separator,
            task=info.task,
        ),
    )
    of_kind(data.texts, pairs=info.reads_pairs, where="The bundle")
    rows = list(range(len(data.texts)))
    # Test rows are read once, at the end, so an export is judged on validation rows if there are some.
    for split in ("validation", "test"):
        if data.split is not None and split in data.split:
            rows = [row for row in rows if data.split[row] == split]
            break
    return [data.texts[row] for row in rows], [data.labels[row] for row in rows]


def _is_unlabelled(source: str, check: Check) -> bool:
    path = Path(source)
    if check.label_column is not None or not path.is_file():
        return False
    return not any(name.strip().lower() in LABEL_COLUMNS for name in columns(path))


def _texts_alone(source: str, check: Check, info: BundleInfo) -> tuple[list[Text], None]:
    path = Path(source)
    wanted = find_text_columns(columns(path), check.text_column, path.name, usual=info.text_columns)
    texts: list[Text] = []
    for row, _ in read_rows(path, only=wanted):
        values = [value for column in wanted if isinstance(value := row.get(column), str) and value.strip()]
        if len(values) == len(wanted):
            texts.append(Pair(*values) if len(values) == 2 else values[0])
    if not texts:
        raise DataError(f"{path.name} holds no text in its column{'s' * (len(wanted) - 1)} {' and '.join(wanted)}.")
    return texts, None

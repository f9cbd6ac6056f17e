"""Draw real texts, with their labels if they have any, to compare an exported model on."""

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
from feathertune.errors import ConfigError, DataError
from feathertune.export.check import DEFAULT_ROWS, LEAST_ROWS, Check
from feathertune.predictor import labelled_rows
from feathertune.tasks.labels.kind import encode_known
from feathertune.tasks.labels.reader import KINDS
from feathertune.tasks.labels.values import Label

_SEED = 0


@dataclass(frozen=True)
class RealTexts:
    """Texts of a source, with class indices ``(N,)``, members ``(N, C)`` or numbers ``(N,)``, if it is labelled."""

    source: str
    texts: list[Text]
    labels: NDArray[Any] | None


def real_texts(check: Check, info: BundleInfo) -> RealTexts:
    """Draw a check's rows, the same each time."""
    source = str(check.data)
    texts, names = (
        _texts_alone(source, check, info) if _is_unlabelled(source, check) else _labelled(source, check, info)
    )
    n = check.rows or min(DEFAULT_ROWS, len(texts))
    if n > len(texts):
        raise ConfigError(f"--rows is {n:,}, but {source} has only {len(texts):,} rows to compare on. Lower --rows.")
    if check.rows is None and n < LEAST_ROWS:
        raise ConfigError(
            f"{source} has {n:,} rows to compare on. With fewer than {LEAST_ROWS}, a loss of half a point of accuracy "
            f"does not show. Add rows, or pass --rows {n} to accept these."
        )
    chosen = np.sort(np.random.default_rng(_SEED).choice(len(texts), n, replace=False))
    labels = None
    if names is not None:
        labels = encode_known(KINDS[info.task], names, info.labels, source)[chosen]
    # No path: an export may go to other machines.
    shown = Path(source).name if Path(source).exists() else source
    return RealTexts(shown, [texts[row] for row in chosen], labels)


def _labelled(source: str, check: Check, info: BundleInfo) -> tuple[list[Text], list[Label]]:
    # Test rows are for the final evaluation only, so an export is judged on validation rows if there are any.
    splits = ("validation", "test")
    options = ReadOptions(text_column=check.text_column, label_column=check.label_column)
    found = labelled_rows(info, source, splits, options)
    of_kind(found[0], pairs=info.reads_pairs, where="The bundle")
    return found


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
        raise DataError(f"{path.name} has no text in its column{'s' * (len(wanted) - 1)} {' and '.join(wanted)}.")
    return texts, None

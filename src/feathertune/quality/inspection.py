"""``feathertune inspect``: the data as a study would meet it, under the encoder's own tokenizer; nothing is trained.

All rows are read once and none is kept but a sample; those that something was found about are then read again, for
their texts. Rows that a study would refuse are counted and listed, so that all is said at once and not only the first
fault. Not for the cost of a study: that is `feathertune.study.cost.estimate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from feathertune.data.from_config import split_sources
from feathertune.data.sources.collector import ReadOptions
from feathertune.errors import ConfigError, DataError
from feathertune.gc_freeze import gc_frozen
from feathertune.quality.findings import Found, clipped, find, rows_of, what
from feathertune.quality.label_errors import LabelErrors
from feathertune.quality.near import Pairs, Shingles, shingles_of, similarities
from feathertune.quality.notes import Searches, as_dataset, inspect_scan
from feathertune.quality.repeats import Repeats, find_repeats
from feathertune.quality.sampled import Examiner, examiner
from feathertune.quality.scan import Scan, scan
from feathertune.quality.tables import FileTable, Table, table_of
from feathertune.quality.words import words_of
from feathertune.records.inspection import Finding, FoundRow, Inspection
from feathertune.tasks.labels.values import all_numbers, has_fraction

if TYPE_CHECKING:
    from feathertune.config import Config, DataConfig
    from feathertune.study.observe import Observer

_LARGE_BYTES = 30_000_000  # of a file that is worth a second process
# So many pairs are compared at most, and of so many rows the text is kept.
_MOST_PAIRS, _MOST_TEXTS = 50_000, 100_000
_COMPARED_AT_ONCE = 2_000
_MANY_ROWS, _ROWS_A_LABEL = 200_000, 200
_LISTED = 10_000  # rows of each kind in the record; all are in the CSV


@dataclass(frozen=True)
class Inspected:
    """An inspection, and what it was made of.

    Attributes:
        record: What is said.
        scan: One pass over all rows.
        found: All rows of each finding.
        texts: The beginning of the text of the rows that were found, as far as they are kept.
    """

    record: Inspection
    scan: Scan
    found: list[Found]
    texts: dict[int, str]

    def rows(self) -> Iterator[tuple[str, FoundRow]]:
        """All rows of all findings, each with its kind."""
        for found in self.found:
            for row in rows_of(found, self.scan, self.texts):
                yield found.kind, row


def inspect_data(config: Config, observer: Observer, *, beside: bool = False) -> Inspected:
    """Read the data and look at it.

    Args:
        config: The settings; the ``data`` and ``base`` parts count.
        observer: Is told what is being done.
        beside: Whether other processes may be started: one that loads the encoder, one more for a large file.

    Raises:
        FeathertuneError: If the source cannot be read at all, or the encoder cannot be loaded.
    """
    data = config.data
    if data.task == "regression":
        _refuse_numbers(data.source)
    observer.stage(f"reading {data.source}")
    options = ReadOptions(
        data.text_column,
        data.label_column,
        data.split_column,
        drop_invalid=True,
        label_separator=data.label_separator,
        task=data.task,
    )
    tables = [table_of(name, options) for name in (data.source, data.test) if name]
    observer.stage(f"loading {config.base.id}")
    with examiner(config, beside=beside) as sampled, gc_frozen():
        observer.stage(f"reading all rows of {data.source}")
        return _look(tables, sampled, config, observer, beside=beside)


def _look(tables: list[Table], sampled: Examiner, config: Config, observer: Observer, *, beside: bool) -> Inspected:
    """One pass, the searches, and a second look at what was found."""
    data = config.data
    n_bytes = sum(table.path.stat().st_size for table in tables if isinstance(table, FileTable))
    seen = scan(tables, seed=data.seed, beside=beside and n_bytes >= _LARGE_BYTES, check=sampled.check)
    if not seen.usable.any():
        raise DataError(f"{data.source} holds no usable row.")
    if data.task == "auto" and (numbers := all_numbers(seen.names)) and has_fraction(numbers.values()):
        _refuse_numbers(data.source)
    repeats = find_repeats(seen.hashes, seen.labels, seen.splits, seen.usable)
    rows, texts = seen.sample.finish()
    judged = _label_errors(seen, repeats, rows, texts, sampled, data.seed)
    counted = sampled.tokens(texts)
    observer.stage("looking for nearly equal texts")
    candidates = seen.sketches.candidates(repeats.is_first)
    compared = _chosen(candidates, seen, data.seed)
    seen.sketches.forget()
    refused = _refused(seen, data)
    observer.stage("looking for wrong labels")
    errors = judged()
    observer.stage(f"reading what was found in {data.source}")
    found = find(seen, repeats, compared, np.ones(len(compared)), errors)
    sets, kept = _read_again(seen, compared, found)
    found = find(seen, repeats, compared, similarities(compared, sets), errors)
    observer.stage("tokenising")
    tokens = counted()
    searches = Searches(repeats, found, len(candidates), len(compared), errors)
    record = inspect_scan(seen, searches, tokens, base=config.base.id, max_length=data.max_length)
    findings = [Finding(kind=one.kind, what=what(one), n=len(one), rows=_first_rows(one, seen, kept)) for one in found]
    return Inspected(record.model_copy(update={"findings": findings, "refused": refused}), seen, found, kept)


def _refuse_numbers(source: str) -> NoReturn:
    raise ConfigError(
        f"The labels of {source} are numbers, and inspect looks at classes only. To look at the texts alone, give "
        "another --label-column; to take each number for a class, --set data.task=single_label."
    )


def _refused(seen: Scan, data: DataConfig) -> str | None:
    """Why a study would not take the data; it is asked to split it."""
    n_dropped = len(seen.unusable) + sum(table.n_dropped for table in seen.tables)
    if n_dropped and not data.drop_invalid:
        return f"{n_dropped:,} rows cannot be used."
    sizes = (data.train_size, data.validation_size, data.test_size)
    # Splitting two million rows takes seconds, and says nothing more.
    most = _ROWS_A_LABEL if len(seen.hashes) > _MANY_ROWS and not any(isinstance(size, int) for size in sizes) else None
    datasets = [as_dataset(seen, table, most_a_label=most) for table in range(len(seen.tables))]
    try:
        split_sources(data, datasets[0], datasets[1] if len(datasets) > 1 else None)
    except DataError as error:
        return str(error)
    return None


def _label_errors(
    seen: Scan, repeats: Repeats, rows: np.ndarray, texts: list[str], sampled: Examiner, seed: int
) -> Callable[[], LabelErrors]:
    """Suspected labels among the sample: each text once, and none that has several labels anyway."""
    judged = repeats.is_first.copy()
    judged[repeats.first_rows()[repeats.contradicted]] = False
    places = np.flatnonzero(judged[rows])
    labels = seen.labels[rows[places]].astype(np.int64)
    found = sampled.label_errors([texts[place] for place in places.tolist()], labels, seed)

    def with_rows() -> LabelErrors:
        errors = found()
        return replace(errors, rows=rows[places[errors.rows]])

    return with_rows


def _chosen(candidates: Pairs, seen: Scan, seed: int) -> Pairs:
    """The pairs that are compared: all, or first those of two splits, then a sample of the others."""
    if len(candidates) <= _MOST_PAIRS:
        return candidates
    within = seen.splits[candidates[:, 0]] == seen.splits[candidates[:, 1]]
    drawn = np.random.default_rng(seed).random(len(candidates))
    return candidates[np.sort(np.lexsort((drawn, within))[:_MOST_PAIRS])]


def _read_again(seen: Scan, compared: Pairs, found: list[Found]) -> tuple[dict[int, Shingles], dict[int, str]]:
    """The sets of words of all rows that are compared, and the beginnings of all texts that are shown."""
    for_words = np.unique(compared)
    wanted = np.unique(np.concatenate([for_words, *(one.rows[:_LISTED] for one in found)]))
    if len(wanted) < _MOST_TEXTS:
        others = np.setdiff1d(np.concatenate([for_words, *(one.rows for one in found)]), wanted)
        wanted = np.sort(np.concatenate([wanted, others[: _MOST_TEXTS - len(wanted)]]))
    compare = np.zeros(len(seen.hashes), bool)
    compare[for_words] = True
    sets: dict[int, Shingles] = {}
    kept: dict[int, str] = {}
    waiting: dict[int, str] = {}

    def work() -> None:
        sets.update(zip(waiting, shingles_of(words_of(list(waiting.values()))), strict=True))
        waiting.clear()

    for row, text in seen.texts(wanted):
        kept[row] = clipped(text)
        if compare[row]:
            waiting[row] = text
            if len(waiting) == _COMPARED_AT_ONCE:
                work()
    work()
    return sets, kept


def _first_rows(found: Found, seen: Scan, texts: dict[int, str]) -> list[FoundRow]:
    return [row for row, _ in zip(rows_of(found, seen, texts), range(_LISTED), strict=False)]

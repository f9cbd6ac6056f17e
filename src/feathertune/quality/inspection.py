"""``feathertune inspect``: profile the data as a study would read it, and flag likely problems; nothing is trained.

All rows are read once; those that are compared, sampled or shown are read again for their texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from feathertune.data.from_config import split_sources
from feathertune.data.reading.labels import all_numbers, has_fraction
from feathertune.data.sources.collector import ReadOptions
from feathertune.errors import ConfigError, DataError
from feathertune.gc_freeze import loaded_objects_aside
from feathertune.quality.duplicates import Duplicates, find_duplicates
from feathertune.quality.findings import Found, clipped, find, rows_of
from feathertune.quality.label_errors import LabelErrors, find_label_errors
from feathertune.quality.near_duplicates import Pairs, Shingles, shingles_of, similarities
from feathertune.quality.profile import Searches, Tokens, as_dataset, profile
from feathertune.quality.scan import Scan, scan
from feathertune.quality.tables import Table, table_of
from feathertune.quality.words import words_of
from feathertune.records.inspection import Finding, FoundRow, Inspection

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from feathertune.config import Config, DataConfig
    from feathertune.study.observe import Observer

# At most this many pairs are compared, and texts shown.
_MOST_PAIRS, _MOST_TEXTS = 50_000, 100_000
_COMPARED_AT_ONCE = 2_000
# Splitting millions of rows takes seconds; a study's refusals show with fewer rows of each label.
_MANY_ROWS, _ROWS_A_LABEL = 200_000, 200
_LISTED = 10_000  # rows of each kind in the record; the CSV has all
_NO_LIMIT = 1 << 30  # in tokens


@dataclass(frozen=True)
class Inspected:
    """An inspection and its parts.

    Attributes:
        record: The result.
        scan: One pass over all rows.
        found: All rows of each finding.
        texts: By row, the beginning of its text, as far as it was kept.
    """

    record: Inspection
    scan: Scan
    found: list[Found]
    texts: dict[int, str]

    def rows(self) -> Iterator[tuple[str, FoundRow]]:
        """Yield all rows of all findings, each with its kind."""
        for found in self.found:
            for row in rows_of(found, self.scan, self.texts):
                yield found.kind, row


def inspect_data(config: Config, observer: Observer) -> Inspected:
    """Read the data and look for problems.

    Args:
        config: The ``data`` and ``base`` sections are used.
        observer: Receives the progress.

    Raises:
        FeathertuneError: If the source cannot be read, or the encoder cannot be loaded.
    """
    data = config.data
    if data.task == "regression":
        _refuse_numbers(data.source)
    options = ReadOptions(
        data.text_column,
        data.label_column,
        data.split_column,
        drop_invalid=True,
        label_separator=data.label_separator,
        task=data.task,
    )
    observer.stage(f"reading {data.source}")
    tables = [table_of(name, options) for name in (data.source, data.test) if name]
    observer.stage(f"loading {config.base.id}")
    tokenizer = _tokenizer(config)
    with loaded_objects_aside():
        return _inspect(tables, tokenizer, config, observer)


def _inspect(tables: list[Table], tokenizer: PreTrainedTokenizerBase, config: Config, observer: Observer) -> Inspected:
    data = config.data
    observer.stage(f"reading all rows of {data.source}")
    seen = scan(tables)
    if not seen.usable.any():
        raise DataError(f"{data.source} holds no usable row.")
    if data.task == "auto" and (numbers := all_numbers(seen.names)) and has_fraction(numbers.values()):
        _refuse_numbers(data.source)
    duplicates = find_duplicates(seen.hashes, seen.labels, seen.splits, seen.usable)
    observer.stage("looking for nearly equal texts")
    candidates = seen.sketches.candidates(duplicates.is_first)
    seen.sketches.clear()
    compared = _chosen(candidates, seen, data.seed)
    refused = _refused(seen, data)
    observer.stage(f"reading what was found in {data.source}")
    certain = find(seen, duplicates, compared[:0], np.zeros(0), None)
    read = _read_again(seen, compared, seen.sample(data.seed), certain)
    observer.stage("looking for wrong labels")
    errors = _label_errors(seen, duplicates, read.sample, data.seed)
    found = find(seen, duplicates, compared, similarities(compared, read.shingles), errors)
    observer.stage("tokenising")
    tokens = _tokens(tokenizer, list(read.sample.values()))
    searches = Searches(duplicates, found, len(candidates), len(compared), errors)
    record = profile(seen, searches, tokens, base=config.base.id, max_length=data.max_length)
    texts = read.shown | {row: clipped(read.sample[row]) for row in errors.rows.tolist()}
    findings = [
        Finding(kind=one.kind, what=one.what, n=len(one), rows=list(islice(rows_of(one, seen, texts), _LISTED)))
        for one in found
    ]
    return Inspected(record.model_copy(update={"findings": findings, "refused": refused}), seen, found, texts)


def _tokenizer(config: Config) -> PreTrainedTokenizerBase:
    from feathertune.encoders import load_encoder
    from feathertune.study.running.workbench import check_max_length

    encoder = load_encoder(config.base.id, labels=("a", "b"), seed=0, revision=config.base.revision)
    check_max_length(config.data, encoder)
    return encoder.tokenizer


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> Tokens:
    from feathertune.data.tokens.encode import encode

    encoded = encode(tokenizer, texts, max_length=_NO_LIMIT)
    unknown = tokenizer.unk_token_id
    return Tokens(
        lengths=encoded.lengths,
        n_special=tokenizer.num_special_tokens_to_add(),
        unknown_share=0.0 if unknown is None else float((encoded.ids == unknown).mean()),
    )


def _refuse_numbers(source: str) -> NoReturn:
    raise ConfigError(
        f"The labels of {source} are numbers, and inspect looks at classes only. To look at the texts alone, give "
        "another --label-column; to take each number for a class, --set data.task=single_label."
    )


def _refused(seen: Scan, data: DataConfig) -> str | None:
    """Why a study would refuse the data, found by splitting it; None if it would not."""
    if seen.n_dropped and not data.drop_invalid:
        return f"{seen.n_dropped:,} rows cannot be used."
    sizes = (data.train_size, data.validation_size, data.test_size)
    most = _ROWS_A_LABEL if len(seen.hashes) > _MANY_ROWS and not any(isinstance(size, int) for size in sizes) else None
    source, *test = [as_dataset(seen, table, most_a_label=most) for table in range(len(seen.tables))]
    try:
        split_sources(data, source, test[0] if test else None)
    except DataError as error:
        return str(error)
    return None


def _label_errors(seen: Scan, duplicates: Duplicates, sample: dict[int, str], seed: int) -> LabelErrors:
    """Likely label errors in the sample: each text once, and none that has several labels."""
    judged = duplicates.is_first.copy()
    judged[duplicates.rows[duplicates.contradicted]] = False
    rows = np.array([row for row in sample if judged[row]], np.int64)
    words = words_of([sample[row] for row in rows.tolist()])
    errors = find_label_errors(words, seen.labels[rows].astype(np.int64), seed=seed)
    return replace(errors, rows=rows[errors.rows])


def _chosen(candidates: Pairs, seen: Scan, seed: int) -> Pairs:
    """The pairs to compare: all, or first those of two splits, then a sample of the others."""
    if len(candidates) <= _MOST_PAIRS:
        return candidates
    within = seen.splits[candidates[:, 0]] == seen.splits[candidates[:, 1]]
    drawn = np.random.default_rng(seed).random(len(candidates))
    return candidates[np.sort(np.lexsort((drawn, within))[:_MOST_PAIRS])]


@dataclass
class _Read:
    """Texts that were read a second time, by row.

    Attributes:
        sample: Whole texts of the sample.
        shown: Beginnings of the texts that findings may show.
        shingles: Sets of words of the rows that are compared.
    """

    sample: dict[int, str] = field(default_factory=dict)
    shown: dict[int, str] = field(default_factory=dict)
    shingles: dict[int, Shingles] = field(default_factory=dict)


def _read_again(seen: Scan, compared: Pairs, sample: NDArray[np.int64], certain: list[Found]) -> _Read:
    """Read the rows that are compared, of the sample, and of the findings so far."""
    most = max(_LISTED, _MOST_TEXTS // max(1, len(certain)))
    in_pairs, in_sample = {*compared.ravel().tolist()}, {*sample.tolist()}
    shown = in_pairs.union(*(one.rows[:most].tolist() for one in certain))
    read = _Read()
    waiting: dict[int, str] = {}

    def make_shingles() -> None:
        read.shingles.update(zip(waiting, shingles_of(words_of(list(waiting.values()))), strict=True))
        waiting.clear()

    for row, text in seen.texts(np.array([*(shown | in_sample)], np.int64)):
        if row in in_sample:
            read.sample[row] = text
        if row in shown:
            read.shown[row] = clipped(text)
        if row in in_pairs:
            waiting[row] = text
            if len(waiting) == _COMPARED_AT_ONCE:
                make_shingles()
    make_shingles()
    return read

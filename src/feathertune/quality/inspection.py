"""``feathertune inspect``: profile the data as a study would read it, and flag likely problems, without training.

All rows are read once; rows that are compared, sampled or displayed are read again for their texts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from feathertune.data.from_config import read_options, split_sources
from feathertune.errors import ConfigError, DataError
from feathertune.gc_freeze import gc_frozen
from feathertune.quality.duplicates import Duplicates, find_duplicates
from feathertune.quality.findings import Found, clipped, find, rows_of
from feathertune.quality.label_errors import LabelErrors, find_label_errors
from feathertune.quality.near_duplicates import Pairs, Shingles, candidates, shingles_of, similarities
from feathertune.quality.profile import Tokens, as_dataset, profile
from feathertune.quality.scan import Scan, scan
from feathertune.quality.tables import Table, table_of
from feathertune.quality.words import words_of
from feathertune.records.inspection import Finding, FoundRow, Inspection, Looked
from feathertune.tasks.labels.values import all_numbers, has_fraction

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from feathertune.config import Config, DataConfig
    from feathertune.study.observe import Observer

# Limits on compared pairs and displayed texts.
_MOST_PAIRS, _MOST_TEXTS = 50_000, 100_000
_READ_AT_ONCE = 2_000
# Splitting millions of rows takes seconds; fewer rows per label reveal the same errors.
_MANY_ROWS, _ROWS_A_LABEL = 200_000, 200
_LISTED = 10_000  # rows per kind in the record; the CSV has all
_NO_LIMIT = 1 << 30  # in tokens


@dataclass(frozen=True)
class Inspected:
    """An inspection and its parts; `texts` has the beginnings of kept texts, by row."""

    record: Inspection
    scan: Scan
    found: list[Found]
    texts: dict[int, str]

    def rows(self) -> Iterator[tuple[str, FoundRow]]:
        """Yield the rows of all findings, each with its kind."""
        for found in self.found:
            for row in rows_of(found, self.scan, self.texts):
                yield found.kind, row


def inspect_data(config: Config, observer: Observer) -> Inspected:
    """Read the data and check it for problems; FeathertuneError if the source or encoder cannot be read."""
    data, base = config.data, config.one_base()
    options = replace(read_options(data), drop_invalid=True)
    if options.labels.kind.numbers:
        _refuse_numbers(data.source)
    observer.stage(f"reading {data.source}")
    tables = [table_of(name, options) for name in (data.source, data.test) if name]
    observer.stage(f"loading {base.id}")
    tokenizer = _tokenizer(config)
    with gc_frozen():
        return _inspect(tables, tokenizer, config, observer)


def _inspect(tables: list[Table], tokenizer: PreTrainedTokenizerBase, config: Config, observer: Observer) -> Inspected:
    data = config.data
    observer.stage(f"reading all rows of {data.source}")
    seen = scan(tables)
    if not seen.usable.any():
        raise DataError(f"{data.source} has no usable row.")
    if data.task == "auto" and (numbers := all_numbers(seen.names)) and has_fraction(numbers.values()):
        _refuse_numbers(data.source)
    duplicates = find_duplicates(seen.hashes, seen.labels, seen.splits, seen.usable)
    observer.stage("searching for near-duplicates")
    pairs = candidates(seen.sketches, duplicates.is_first)
    seen.sketches.clear()
    compared = _chosen(pairs, seen, data.seed)
    refused = _refused(seen, data)
    observer.stage(f"reading the texts of findings in {data.source}")
    certain = find(seen, duplicates, compared[:0], np.zeros(0), None)
    sample, shown, shingles = _read_again(seen, compared, seen.sample(data.seed), certain)
    observer.stage("searching for label errors")
    errors = _label_errors(seen, duplicates, sample, data.seed)
    found = find(seen, duplicates, compared, similarities(compared, shingles), errors)
    observer.stage("tokenising")
    tokens = _tokens(tokenizer, list(sample.values()))
    looked = Looked(
        near_candidates=len(pairs),
        near_compared=len(compared),
        sampled=len(sample),
        judged=errors.n_judged,
        accuracy=errors.accuracy,
    )
    record = profile(seen, duplicates, found, tokens, looked, base=config.one_base().id, max_length=data.max_length)
    texts = shown | {row: clipped(sample[row]) for row in errors.rows.tolist()}
    findings = [
        Finding(kind=one.kind, what=one.what, n=len(one), rows=list(islice(rows_of(one, seen, texts), _LISTED)))
        for one in found
    ]
    return Inspected(record.model_copy(update={"findings": findings, "refused": refused}), seen, found, texts)


def _tokenizer(config: Config) -> PreTrainedTokenizerBase:
    from feathertune.encoders import load_encoder
    from feathertune.study.running.workbench import check_max_length

    base = config.one_base()
    encoder = load_encoder(base.id, labels=("a", "b"), seed=0, revision=base.revision)
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
        f"The labels of {source} are numbers, but inspect supports only classes. Pass another --label-column to check "
        "only the texts, or --set data.task=single_label to treat each number as a class."
    )


def _refused(seen: Scan, data: DataConfig) -> str | None:
    """Return the error that a study would raise when splitting the data; None without one."""
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
    """Find label errors in the sample, excluding repeats and texts with conflicting labels."""
    judged = duplicates.is_first.copy()
    judged[duplicates.rows[duplicates.contradicted]] = False
    rows = np.array([row for row in sample if judged[row]], np.int64)
    words = words_of([sample[row] for row in rows.tolist()])
    errors = find_label_errors(words, seen.labels[rows].astype(np.int64), seed=seed)
    return replace(errors, rows=rows[errors.rows])


def _chosen(pairs: Pairs, seen: Scan, seed: int) -> Pairs:
    """Return the pairs to compare: all, or first pairs across splits, then a sample of the others."""
    if len(pairs) <= _MOST_PAIRS:
        return pairs
    within = seen.splits[pairs[:, 0]] == seen.splits[pairs[:, 1]]
    drawn = np.random.default_rng(seed).random(len(pairs))
    return pairs[np.sort(np.lexsort((drawn, within))[:_MOST_PAIRS])]


def _read_again(
    seen: Scan, compared: Pairs, sample: NDArray[np.int64], certain: list[Found]
) -> tuple[dict[int, str], dict[int, str], dict[int, Shingles]]:
    """Return, by row, the sample's texts, the beginnings of texts to display, and the shingles of compared rows."""
    most = max(_LISTED, _MOST_TEXTS // max(1, len(certain)))
    in_pairs, in_sample = {*compared.ravel().tolist()}, {*sample.tolist()}
    in_shown = in_pairs.union(*(one.rows[:most].tolist() for one in certain))
    sampled: dict[int, str] = {}
    shown: dict[int, str] = {}
    shingles: dict[int, Shingles] = {}
    source = seen.texts(np.array([*(in_shown | in_sample)], np.int64))
    while texts := dict(islice(source, _READ_AT_ONCE)):
        sampled |= {row: text for row, text in texts.items() if row in in_sample}
        shown |= {row: clipped(text) for row, text in texts.items() if row in in_shown}
        paired = {row: text for row, text in texts.items() if row in in_pairs}
        shingles.update(zip(paired, shingles_of(words_of(list(paired.values()))), strict=True))
    return sampled, shown, shingles

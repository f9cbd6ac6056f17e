"""Record of an inspection: classes, lengths, duplicates, and one sentence per likely problem."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from feathertune.data.sources.collector import SPLITS, RawDataset
from feathertune.errors import isolated
from feathertune.quality.duplicates import Duplicates
from feathertune.quality.findings import Found
from feathertune.quality.scan import NO_SPLIT, PROBLEMS, TEST, TRAIN, Scan
from feathertune.quality.tables import set_of
from feathertune.records.inspection import Inspection, Lengths, Looked, ReadColumns
from feathertune.tasks.labels.alike import notes_on

# Length limits in the truncation table.
CUTS = (64, 128, 256, 512)
_QUANTILES = {"5%": 0.05, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95, "99%": 0.99}
# Thresholds from which a problem is reported.
_RARE_ROWS, _RARE_SHARE, _LARGE_SHARE = 10, 0.01, 0.8
_ROWS_A_CLASS, _FEW_TEST_ROWS = 5, 200
_UNKNOWN_SHARE, _MARKUP_SHARE, _BARE_SHARE, _CUT_SHARE = 0.01, 0.05, 0.05, 0.5
_SHOWN, _SHOWN_ROWS = 8, 3


@dataclass(frozen=True)
class Tokens:
    """Token statistics of a sample of the texts."""

    lengths: np.ndarray  # with special tokens, (S,)
    n_special: int  # special tokens of an empty text
    unknown_share: float  # share of unknown tokens


def profile(
    scan: Scan,
    duplicates: Duplicates,
    found: Sequence[Found],
    tokens: Tokens,
    looked: Looked,
    *,
    base: str,
    max_length: int,
) -> Inspection:
    """Return the record of an inspection, without `Inspection.findings`."""
    usable = scan.usable
    columns, splits = scan.tables[0].columns, scan.splits[usable]
    counts = np.bincount(scan.labels[usable], minlength=len(scan.names))
    order = np.argsort(-counts, kind="stable")
    record = Inspection(
        source=scan.tables[0].name,
        base=base,
        max_length=max_length,
        columns=None if columns is None else ReadColumns(**{**vars(columns), "others": list(columns.others)}),
        rows=_by_split(splits),
        classes={scan.names[label]: int(counts[label]) for label in order if counts[label]},
        repeated=duplicates.n_repeated + sum(table.n_repeated for table in scan.tables),
        contradicted=duplicates.n_texts(duplicates.contradicted),
        crossing=duplicates.n_texts((duplicates.last_split == TEST) & (duplicates.first_split < TEST)),
        lengths=_lengths(tokens.lengths, max_length),
        looked=looked,
        scripts=dict(scan.checks.scripts.most_common()),
        constant=scan.constant,
        notes=[*(note for table in scan.tables for note in table.notes), *_left_out(scan)],
    )
    said = [*_about_rows(scan, record, found), *_about_classes(scan, record), *_about_texts(scan, record, tokens)]
    return record.model_copy(update={"suspicious": said})


def as_dataset(scan: Scan, table: int, *, most_a_label: int | None = None) -> RawDataset:
    """Return a table's usable rows, at most `most_a_label` per label and split, with hashes instead of texts."""
    rows = np.arange(scan.starts[table], scan.starts[table + 1])
    rows = rows[scan.usable[rows]]
    if most_a_label is not None:
        kinds = scan.splits[rows].astype(np.int64) * len(scan.names) + scan.labels[rows]
        order = np.argsort(kinds, kind="stable")
        place = np.arange(len(order)) - np.searchsorted(kinds[order], kinds[order])
        rows = np.sort(rows[order[place < most_a_label]])
    splits = scan.splits[rows]
    names = [scan.names[label] for label in scan.labels[rows].tolist()]
    return RawDataset(
        texts=cast("list[str]", scan.hashes[rows].tolist()),
        labels=[set_of(name) for name in names] if scan.tables[table].has_sets else names,
        split=None if (splits == NO_SPLIT).all() else [SPLITS[split] for split in splits.tolist()],
        label_order=scan.tables[table].label_order,
        source=scan.tables[table].name,
        fingerprint="",
    )


def _by_split(splits: np.ndarray) -> dict[str, int]:
    if (splits == NO_SPLIT).all():
        return {"all": len(splits)}
    # With a separate test source, rows without a split are training rows.
    counts = np.bincount(np.where(splits == NO_SPLIT, TRAIN, splits), minlength=len(SPLITS)).tolist()
    return {name: n for name, n in zip(SPLITS, counts, strict=True) if n}


def _left_out(scan: Scan) -> list[str]:
    rows = scan.unusable
    if not len(rows):
        return []
    parts = []
    for problem in dict.fromkeys(scan.problems[rows].tolist()):
        of_it = rows[scan.problems[rows] == problem]
        shown = [f"{scan.table(row).place} {scan.numbers[row]}" for row in of_it[:_SHOWN_ROWS].tolist()]
        more = ["..."] if len(of_it) > _SHOWN_ROWS else []
        parts.append(f"{len(of_it):,} {PROBLEMS[problem]} ({', '.join(shown + more)})")
    return [f"{len(rows):,} row{'s' if len(rows) > 1 else ''} skipped: {'; '.join(parts)}."]


def _lengths(lengths: np.ndarray, max_length: int) -> Lengths:
    ordered = np.sort(lengths)
    return Lengths(
        n=len(ordered),
        shortest=int(ordered[0]),
        longest=int(ordered[-1]),
        mean=float(ordered.mean()),
        quantiles={name: int(ordered[math.ceil(share * len(ordered)) - 1]) for name, share in _QUANTILES.items()},
        cut={limit: float((ordered > limit).mean()) for limit in sorted({*CUTS, max_length})},
    )


def _about_rows(scan: Scan, record: Inspection, found: Sequence[Found]) -> list[str]:
    said = []
    if scan.n_dropped:
        said.append(
            f"{scan.n_dropped:,} rows cannot be used (see the notes). A study needs --drop-invalid to skip them."
        )
    if record.crossing:
        said.append(f"{record.crossing:,} test texts are also in training or validation. A study removes them there.")
    for one in found:
        if one.kind == "unusable" or (one.kind == "overlap" and record.crossing):
            continue
        if one.kind == "suspect-label":
            said.append(
                f"Likely wrong labels: {len(one):,}. Word models trained on the other rows disagree with them. The "
                f"models predict only {record.looked.accuracy:.0%} of {record.looked.judged:,} labels, so many listed "
                "labels are right."
            )
        else:
            said.append(f"{len(one):,} {one.what}.")
    n_test = record.rows.get("test", round(0.2 * sum(record.rows.values())))
    if n_test < _FEW_TEST_ROWS:
        half = 196 * math.sqrt(0.8 * 0.2 / max(1, n_test))
        said.append(
            f"About {n_test:,} test rows are too few to separate methods: an accuracy of 80% would have a 95% CI of "
            f"±{half:.0f} points."
        )
    for column, value in record.constant.items():
        said.append(f"The column '{column}' " + (f"is {value!r:.40} in all rows." if value else "is empty."))
    return said


def _about_classes(scan: Scan, record: Inspection) -> list[str]:
    n, said = sum(record.classes.values()), notes_on(scan.label_counts())
    if len(record.classes) == 1:
        return [*said, "All rows have the same label. Check the label column."]
    if n < _ROWS_A_CLASS * len(record.classes):
        return [
            *said,
            f"{len(record.classes):,} labels for {n:,} rows are very many. Check the label column; numbers to predict "
            "are not classes.",
        ]
    rare = {name: rows for name, rows in record.classes.items() if rows < max(_RARE_ROWS, _RARE_SHARE * n)}
    if rare and len(record.classes) <= 1 / _RARE_SHARE:  # with more classes, each is rare
        shown = ", ".join(f"'{isolated(name)}' ({rows:,})" for name, rows in list(rare.items())[-_SHOWN:])
        said.append(f"Rare labels: {shown}. Few of their rows reach the test split, so their scores are uncertain.")
    most, rows = next(iter(record.classes.items()))
    if rows >= _LARGE_SHARE * n:
        said.append(
            f"{rows / n:.1%} of the rows are '{isolated(most)}', so accuracy says little. Look at balanced accuracy, "
            "macro F1 and MCC."
        )
    return said


def _about_texts(scan: Scan, record: Inspection, tokens: Tokens) -> list[str]:
    said = []
    bare = float((tokens.lengths <= tokens.n_special + 1).mean())
    if bare >= _BARE_SHARE:
        said.append(f"{bare:.1%} of texts have at most one token.")
    if tokens.unknown_share >= _UNKNOWN_SHARE:
        said.append(
            f"{tokens.unknown_share:.1%} of tokens are unknown to the tokenizer. Check that the base model was trained "
            "on the language of the texts."
        )
    marked = scan.checks.n_marked / sum(record.classes.values())
    if marked >= _MARKUP_SHARE:
        said.append(f"{marked:.0%} of texts contain markup, such as <br> or &amp;, which the model reads as words.")
    if (cut := record.lengths.cut[record.max_length]) > _CUT_SHARE:
        said.append(f"{cut:.0%} of texts exceed --max-length {record.max_length} and are truncated.")
    return said

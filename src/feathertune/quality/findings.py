"""Findings: rows to review, by kind, from the numbers of one pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feathertune.data.sources.collector import SPLITS
from feathertune.quality.duplicates import Duplicates
from feathertune.quality.label_errors import LabelErrors
from feathertune.quality.near_duplicates import ALIKE, Pairs
from feathertune.quality.scan import NO_SPLIT, PROBLEMS, TRAIN, Scan
from feathertune.records.inspection import FoundRow
from feathertune.tasks.labels.alike import MISSING, look_of, merges_of

# In display order; each description follows the number of rows.
KINDS = {
    "unusable": "without a usable text or label",
    "unseen-label": "for validation or test whose label no training row has",
    "alike-label": "whose label is a variant of a more frequent one, or a placeholder for a missing label",
    "overlap": "whose text is also in a later split (train, validation, test)",
    "conflict": "whose text also occurs with another label",
    "duplicate": "repeating an earlier text and label",
    "suspect-label": "with a likely wrong label",
    "near-overlap": "nearly repeating a text of a later split",
    "near-conflict": "nearly repeating a text with another label",
    "near-duplicate": "nearly repeating an earlier text with the same label",
    "mojibake": "with UTF-8 decoded as another encoding, such as 'Ã©' for 'é'",
    "lost-character": "with U+FFFD, which replaces a character lost in decoding",
    "control-character": "with control characters",
    "byte-order-mark": "with a byte order mark (U+FEFF)",
    "mixed-script": "with letters of two scripts in one word, such as a Cyrillic 'а' among Latin letters",
    "unusual-script": "in a script that few other texts use",
    "not-normalised": "not in Unicode's normal form NFC, so texts that look equal differ for a tokenizer",
}
_CLIP = 300  # displayed characters of a text


@dataclass(frozen=True)
class Found:
    """A finding: K rows, the rows similar to them (-1 if none), scores and suggested labels, all ``(K,)``."""

    kind: str
    rows: NDArray[np.int64]
    others: NDArray[np.int64] | None = None
    scores: NDArray[np.float64] | None = None
    suggested: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def what(self) -> str:
        """Description of the finding, to follow the number of rows."""
        return f"{'row' if len(self) == 1 else 'rows'} {KINDS[self.kind]}"


def find(
    scan: Scan, duplicates: Duplicates, near: Pairs, similarity: NDArray[np.float64], errors: LabelErrors | None
) -> list[Found]:
    """Return the findings that have rows, in the order of `KINDS`; `near` are candidates, ``(K, 2)``."""
    rows, contradicted = duplicates.rows, duplicates.contradicted
    again = ~contradicted & ~duplicates.overlapping & (rows != duplicates.kept)
    found = [
        Found("unusable", scan.unusable),
        Found("unseen-label", _unseen_labels(scan)),
        Found("alike-label", _alike_labels(scan)),
        Found("overlap", rows[duplicates.overlapping], duplicates.kept[duplicates.overlapping]),
        Found("conflict", rows[contradicted], duplicates.against[contradicted]),
        Found("duplicate", rows[again], duplicates.kept[again]),
        *([] if errors is None else [Found("suspect-label", errors.rows, None, errors.margins, errors.suggested)]),
        *_nearly(scan, duplicates, near[similarity >= ALIKE], similarity[similarity >= ALIKE]),
        *(Found(kind, np.array(rows, np.int64)) for kind, rows in scan.checks.rows.items()),
    ]
    kinds = list(KINDS)
    return sorted((one for one in found if len(one)), key=lambda one: kinds.index(one.kind))


def _unseen_labels(scan: Scan) -> NDArray[np.int64]:
    usable = scan.usable
    trained = usable & ((scan.splits == TRAIN) | (scan.splits == NO_SPLIT))
    if not trained.any():
        return np.zeros(0, np.int64)
    return np.flatnonzero(usable & ~trained & ~np.isin(scan.labels, scan.labels[trained]))


def _alike_labels(scan: Scan) -> NDArray[np.int64]:
    counts = scan.label_counts()
    odd = {*merges_of(counts), *(name for name in counts if look_of(name) == MISSING[0])}
    has = np.array([not odd.isdisjoint(scan.parts(name)) for name in scan.names] or [False])
    return np.flatnonzero(scan.usable & has[scan.labels])


def _nearly(scan: Scan, duplicates: Duplicates, near: Pairs, similarity: NDArray[np.float64]) -> list[Found]:
    first, last = scan.splits.copy(), scan.splits.copy()
    first[duplicates.rows], last[duplicates.rows] = duplicates.first_split, duplicates.last_split
    a, b = near[:, 0], near[:, 1]
    before = last[b] > first[a]
    crossing = before | (last[a] > first[b])
    differing = ~crossing & (scan.labels[a] != scan.labels[b])
    # List the row of the earlier split; within a split, the later row.
    rows, others = np.where(before, a, b), np.where(before, b, a)
    order = np.argsort(-similarity, kind="stable")
    chosen = {"near-overlap": crossing, "near-conflict": differing, "near-duplicate": ~crossing & ~differing}
    kept = {kind: order[of_kind[order]] for kind, of_kind in chosen.items()}
    return [Found(kind, rows[at], others[at], similarity[at]) for kind, at in kept.items()]


def rows_of(found: Found, scan: Scan, texts: Mapping[int, str]) -> Iterator[FoundRow]:
    """Describe a finding's rows; `texts` has the beginnings of some texts, by row."""
    for place, row in enumerate(found.rows.tolist()):
        other = -1 if found.others is None else int(found.others[place])
        detail = PROBLEMS[scan.problems[row]] or None
        if found.suggested is not None:
            detail = f"suggested: '{scan.names[found.suggested[place]]}'"
        elif other >= 0 and scan.labels[row] != scan.labels[other]:
            detail = f"other label: '{scan.label(other)}'"
        yield FoundRow(
            source=scan.table(row).name,
            row=int(scan.numbers[row]),
            split=None if scan.splits[row] == NO_SPLIT else SPLITS[scan.splits[row]],
            label=scan.label(row),
            text=texts.get(row),
            other=None if other < 0 else int(scan.numbers[other]),
            other_source=None if other < 0 else scan.table(other).name,
            score=None if found.scores is None else round(float(found.scores[place]), 4),
            detail=detail,
        )


def clipped(text: str) -> str:
    """Return the beginning of a text for display; lone surrogates become question marks."""
    start = text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"
    return start.encode("utf-8", "replace").decode()

"""Rows that a person should look at, kind by kind, from the numbers of one pass."""

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

# In the order in which they are shown; each follows the number of rows.
KINDS = {
    "unusable": "without a usable text or label",
    "unseen-label": "for validation or test with a label that no training row has",
    "alike-label": "with a label that looks like a more frequent one, or says that there is none",
    "overlap": "with a text that a later split (train, validation, test) has too",
    "conflict": "with a text that occurs with another label too",
    "duplicate": "with a text and label that occurred before",
    "suspect-label": "with a label that may be wrong",
    "near-overlap": "with nearly the text of a row in a later split",
    "near-conflict": "with nearly the text of a row with another label",
    "near-duplicate": "with nearly the text of an earlier row, and its label",
    "mojibake": "with UTF-8 that was read as another encoding, such as 'Ã©' for 'é'",
    "lost-character": "with U+FFFD: a character was lost when the text was decoded",
    "control-character": "with control characters",
    "byte-order-mark": "with a byte order mark (U+FEFF)",
    "mixed-script": "with letters of two scripts in one word, such as a Cyrillic 'а' among Latin letters",
    "unusual-script": "in a script that hardly any other text is in",
    "not-normalised": "not in Unicode's normal form NFC: texts that look the same differ to a tokenizer",
}
_CLIP = 300  # characters of a text that are shown


@dataclass(frozen=True)
class Found:
    """The K rows of a finding, the rows that they are like (-1 if none), scores and suggested labels, all ``(K,)``."""

    kind: str
    rows: NDArray[np.int64]
    others: NDArray[np.int64] | None = None
    scores: NDArray[np.float64] | None = None
    suggested: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def what(self) -> str:
        """The finding in plain words, to follow the number of rows."""
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
    # The row of the earlier split is the one to look at; in one split, the later row.
    rows, others = np.where(before, a, b), np.where(before, b, a)
    order = np.argsort(-similarity, kind="stable")
    chosen = {"near-overlap": crossing, "near-conflict": differing, "near-duplicate": ~crossing & ~differing}
    kept = {kind: order[of_kind[order]] for kind, of_kind in chosen.items()}
    return [Found(kind, rows[at], others[at], similarity[at]) for kind, at in kept.items()]


def rows_of(found: Found, scan: Scan, texts: Mapping[int, str]) -> Iterator[FoundRow]:
    """Describe the rows of a finding; `texts` has the beginnings of some texts, by row."""
    for place, row in enumerate(found.rows.tolist()):
        other = -1 if found.others is None else int(found.others[place])
        detail = PROBLEMS[scan.problems[row]] or None
        if found.suggested is not None:
            detail = f"rather '{scan.names[found.suggested[place]]}'"
        elif other >= 0 and scan.labels[row] != scan.labels[other]:
            detail = f"there '{scan.label(other)}'"
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
    """Return the beginning of a text, as findings show it: half a surrogate pair is a question mark."""
    start = text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"
    return start.encode("utf-8", "replace").decode()

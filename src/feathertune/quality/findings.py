"""What a person should look at in a data set, kind by kind, with the rows: from the numbers of one pass.

Not for what is done about it: see `feathertune.quality.fix`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from feathertune.data.sources.collector import SPLITS
from feathertune.quality import oddities
from feathertune.quality.label_errors import LabelErrors
from feathertune.quality.near import ALIKE, Pairs
from feathertune.quality.repeats import Repeats
from feathertune.quality.scan import NO_SPLIT, PROBLEMS, TRAIN, Scan
from feathertune.records.inspection import FoundRow

# In the order in which they are told; what is said of one row, and of several.
KINDS = {
    "unusable": ("row cannot be used", "rows cannot be used"),
    "unseen-label": (
        "row for validation or test has a label that no training row has",
        "rows for validation or test have labels that no training row has",
    ),
    "overlap": (
        "row has a text that stands in a later split, too (train, validation, test)",
        "rows have a text that stands in a later split, too (train, validation, test)",
    ),
    "conflict": (
        "row has a text that stands there with another label, too",
        "rows have a text that stands there with another label, too",
    ),
    "duplicate": ("row repeats a text and its label", "rows repeat a text and its label"),
    "suspect-label": ("label may be wrong", "labels may be wrong"),
    "near-overlap": (
        "row nearly has the text of a row in a later split",
        "rows nearly have the text of a row in a later split",
    ),
    "near-conflict": (
        "row nearly has the text of a row with another label",
        "rows nearly have the text of a row with another label",
    ),
    "near-duplicate": (
        "row nearly has the text of an earlier row, with its label",
        "rows nearly have the text of an earlier row, with its label",
    ),
    **oddities.KINDS,
}
_CLIP = 300  # characters of a text that are shown


@dataclass(frozen=True)
class Found:
    """The rows of a finding, as numbers.

    Attributes:
        rows: ``(K,)``.
        others: The row that each is like, ``(K,)``.
        scores: ``(K,)``.
        suggested: A label, ``(K,)``.
    """

    kind: str
    rows: NDArray[np.int64]
    others: NDArray[np.int64] | None = None
    scores: NDArray[np.float64] | None = None
    suggested: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)


def find(
    scan: Scan, repeats: Repeats, near: Pairs, alike: NDArray[np.float64], errors: LabelErrors | None
) -> list[Found]:
    """All that was found, in the order of `KINDS`; kinds without a row are left out.

    Args:
        scan: Of all rows.
        repeats: Of the same.
        near: Pairs of rows that are candidates, ``(K, 2)``.
        alike: How alike those are, ``(K,)``.
        errors: Labels that may be wrong, by row of all; None where it was not looked for them.
    """
    found = [
        Found("unusable", scan.unusable),
        Found("unseen-label", unseen_labels(scan)),
        *_repeated(scan, repeats),
        *([] if errors is None else [Found("suspect-label", errors.rows, None, errors.margins, errors.suggested)]),
        *_nearly(scan, repeats, near[alike >= ALIKE], alike[alike >= ALIKE]),
        *(Found(kind, np.array(rows, np.int64)) for kind, rows in scan.oddities.rows.items()),
    ]
    kinds = list(KINDS)
    return sorted((one for one in found if len(one)), key=lambda one: kinds.index(one.kind))


def unseen_labels(scan: Scan) -> NDArray[np.int64]:
    """Rows of validation and test whose label no training row has; a source without splits trains on all its rows."""
    usable = scan.usable
    trained = usable & ((scan.splits == TRAIN) | (scan.splits == NO_SPLIT))
    if not trained.any():
        return np.zeros(0, np.int64)
    known = np.zeros(len(scan.names) + 1, bool)
    known[scan.labels[trained]] = True
    return np.flatnonzero(usable & ~trained & ~known[scan.labels])


def _repeated(scan: Scan, repeats: Repeats) -> list[Found]:
    rows, groups = repeats.rows, repeats.groups
    earlier = scan.splits[rows] < repeats.last_split[groups]
    in_last = repeats.first_where(~earlier)
    contradicted = repeats.contradicted[groups]
    again = ~contradicted & ~earlier & (rows != in_last)
    return [
        Found("overlap", rows[earlier], in_last[earlier]),
        Found("conflict", rows[contradicted], repeats.against(scan.labels)[contradicted]),
        Found("duplicate", rows[again], in_last[again]),
    ]


def _nearly(scan: Scan, repeats: Repeats, near: Pairs, alike: NDArray[np.float64]) -> list[Found]:
    low, high = scan.splits.copy(), scan.splits.copy()
    first = repeats.first_rows()
    low[first], high[first] = repeats.first_split, repeats.last_split
    a, b = near[:, 0], near[:, 1]
    behind, before = high[a] > low[b], high[b] > low[a]
    crossing = behind | before
    differing = ~crossing & (scan.labels[a] != scan.labels[b])
    same = ~crossing & ~differing
    order = np.argsort(-alike, kind="stable")

    def of(kind: str, chosen: NDArray[np.bool_]) -> Found:
        kept = order[chosen[order]]
        # The row that is in the earlier split is the one to look at; else the later row.
        swapped = before[kept]
        rows, others = np.where(swapped, a[kept], b[kept]), np.where(swapped, b[kept], a[kept])
        return Found(kind, rows, others, alike[kept])

    return [of("near-overlap", crossing), of("near-conflict", differing), of("near-duplicate", same)]


def rows_of(found: Found, scan: Scan, texts: Mapping[int, str]) -> Iterator[FoundRow]:
    """The rows of a finding, for a person."""
    for place, row in enumerate(found.rows.tolist()):
        table, number = scan.place(row)
        other = None if found.others is None or found.others[place] < 0 else scan.place(int(found.others[place]))
        detail = PROBLEMS[scan.problems[row]] or None
        if found.suggested is not None:
            detail = f"rather '{scan.names[found.suggested[place]]}'"
        elif other is not None and scan.labels[row] != scan.labels[int(found.others[place])]:  # type: ignore[index]
            detail = f"there '{scan.names[scan.labels[int(found.others[place])]]}'"  # type: ignore[index]
        yield FoundRow(
            source=scan.tables[table].name,
            row=number,
            split=None if scan.splits[row] == NO_SPLIT else SPLITS[scan.splits[row]],
            label=None if scan.labels[row] < 0 else scan.names[scan.labels[row]],
            text=texts.get(row),
            other=None if other is None else other[1],
            other_source=None if other is None else scan.tables[other[0]].name,
            score=None if found.scores is None else round(float(found.scores[place]), 4),
            detail=detail,
        )


def what(found: Found) -> str:
    """What is said of a finding, after the number of its rows."""
    return KINDS[found.kind][len(found) > 1]


def clipped(text: str) -> str:
    """The beginning of a text, as findings show it."""
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"

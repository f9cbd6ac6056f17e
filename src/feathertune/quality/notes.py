"""What is in a data set before anything is trained on it: classes, repeated texts, lengths, and what looks wrong.

A pure function of one pass over the rows (`feathertune.quality.scan`), without torch. Not for refusing data: that is
done where it is read and split (`feathertune.data.sources.collector`, `feathertune.data.splitting.splits`); here
things are only said.
"""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from feathertune.data.sources.collector import SPLITS, RawDataset
from feathertune.errors import isolated
from feathertune.quality.findings import Found, what
from feathertune.quality.label_errors import LabelErrors
from feathertune.quality.repeats import Repeats
from feathertune.quality.scan import NO_SPLIT, PROBLEMS, TEST, Scan
from feathertune.quality.tables import set_of
from feathertune.records.inspection import Inspection, Lengths, Looked, ReadColumns
from feathertune.tasks.labels.classes import CLASS_LABELS
from feathertune.tasks.labels.sets import LABEL_SETS

# The limits of which `feathertune inspect` says what they would cut off.
CUTS = (64, 128, 256, 512)
_QUANTILES = {"5 %": 0.05, "25 %": 0.25, "half": 0.5, "75 %": 0.75, "95 %": 0.95, "99 %": 0.99}
# When something is worth a line.
_RARE_ROWS, _RARE_SHARE, _LARGE_SHARE = 10, 0.01, 0.8
_ROWS_A_CLASS = 5
_UNKNOWN_SHARE, _MARKUP_SHARE, _BARE_SHARE = 0.01, 0.05, 0.05
_FEW_TEST_ROWS = 200
_SHOWN, _SHOWN_ROWS = 8, 3


@dataclass(frozen=True)
class Tokens:
    """What a tokenizer makes of some of the texts.

    Attributes:
        lengths: Tokens of each, special tokens included, ``(N,)``.
        n_special: Special tokens of an empty text.
        unknown_share: Share of the tokens that the tokenizer does not know.
    """

    lengths: np.ndarray
    n_special: int
    unknown_share: float


@dataclass(frozen=True)
class Searches:
    """What was looked for beyond single rows; `near_candidates` and the ones that were compared are pairs."""

    repeats: Repeats
    found: Sequence[Found]
    near_candidates: int
    near_compared: int
    errors: LabelErrors | None


def inspect_scan(scan: Scan, searches: Searches, tokens: Tokens, *, base: str, max_length: int) -> Inspection:
    """Say what one pass and the searches after it have found; `Inspection.findings` are left empty.

    Args:
        scan: Of all rows.
        searches: What was found.
        tokens: Of a sample of the texts.
        base: The encoder whose tokens they are.
        max_length: The limit that a study would use, in tokens.

    Raises:
        DataError: If no row can be used.
    """
    usable, repeats, errors = scan.usable, searches.repeats, searches.errors
    columns = scan.tables[0].columns
    counts = np.bincount(scan.labels[usable], minlength=len(scan.names))
    order = np.argsort(-counts, kind="stable")
    inspection = Inspection(
        source=scan.tables[0].name,
        base=base,
        max_length=max_length,
        columns=None if columns is None else ReadColumns(**{**vars(columns), "others": list(columns.others)}),
        rows=_by_split(scan.splits[usable]),
        classes={scan.names[label]: int(counts[label]) for label in order if counts[label]},
        repeated=repeats.n_repeated + sum(table.n_repeated for table in scan.tables),
        contradicted=int(repeats.contradicted.sum()),
        crossing=int(((repeats.last_split == TEST) & (repeats.first_split < TEST)).sum()),
        lengths=_lengths(tokens.lengths, max_length),
        looked=Looked(
            near_one_in=scan.sketches.one_in,
            near_candidates=searches.near_candidates,
            near_compared=searches.near_compared,
            sampled=len(tokens.lengths),
            judged=0 if errors is None else errors.n_judged,
            estimated_errors=0 if errors is None else errors.estimated,
            accuracy=0.0 if errors is None else errors.accuracy,
        ),
        scripts=dict(scan.oddities.scripts.most_common()),
        constant=scan.constant,
        notes=[*(note for table in scan.tables for note in table.notes), *_left_out(scan)],
    )
    said = [
        *_about_rows(scan, inspection, searches.found),
        *_about_classes(inspection),
        *_about_texts(scan, inspection, tokens, max_length),
    ]
    return inspection.model_copy(update={"suspicious": said})


def as_dataset(scan: Scan, table: int, *, most_a_label: int | None = None) -> RawDataset:
    """The usable rows of one table as a study would split them, hashes in place of texts.

    Splitting compares texts and counts labels, and does nothing else with them: what it refuses here it refuses there.

    Args:
        scan: Of all rows.
        table: Which one.
        most_a_label: So many rows of each label in each split are enough, where no size in rows is asked for; None
            means all.
    """
    rows = np.arange(scan.starts[table], scan.starts[table + 1])
    rows = rows[scan.usable[rows]]
    if most_a_label is not None:
        kinds = scan.splits[rows].astype(np.int64) * len(scan.names) + scan.labels[rows]
        order = np.argsort(kinds, kind="stable")
        begins = np.concatenate([[True], np.diff(kinds[order]) != 0])
        place = np.arange(len(order)) - np.flatnonzero(begins)[np.cumsum(begins) - 1] if len(order) else order
        rows = np.sort(rows[order[place < most_a_label]])
    splits = scan.splits[rows]
    names = [scan.names[label] for label in scan.labels[rows].tolist()]
    return RawDataset(
        texts=cast("list[str]", scan.hashes[rows].tolist()),
        labels=[set_of(name) if scan.tables[table].has_sets else name for name in names],
        split=None if (splits == NO_SPLIT).all() else [SPLITS[split] for split in splits.tolist()],
        label_order=scan.tables[table].label_order,
        source=scan.tables[table].name,
        fingerprint="",
        kind=LABEL_SETS if scan.tables[table].has_sets else CLASS_LABELS,
    )


def _by_split(splits: np.ndarray) -> dict[str, int]:
    if not (splits != NO_SPLIT).any():
        return {"all": len(splits)}
    counts = Counter(splits.tolist())
    names = {NO_SPLIT: "train", **dict(enumerate(SPLITS))}
    found: Counter[str] = Counter()
    for split, n in counts.items():
        found[names[split]] += n
    return {name: found[name] for name in SPLITS if found[name]}


def _left_out(scan: Scan) -> list[str]:
    rows = scan.unusable
    if not len(rows):
        return []
    parts = []
    for problem in dict.fromkeys(scan.problems[rows].tolist()):
        of_it = rows[scan.problems[rows] == problem]
        places = [(scan.tables[table].place, number) for table, number in map(scan.place, of_it[:_SHOWN_ROWS].tolist())]
        more = ", ..." if len(of_it) > _SHOWN_ROWS else ""
        parts.append(f"{len(of_it):,} {PROBLEMS[problem]} ({', '.join(f'{p} {n}' for p, n in places)}{more})")
    return [f"{len(rows):,} row{'s' if len(rows) > 1 else ''} left out: {'; '.join(parts)}."]


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


def _about_rows(scan: Scan, inspection: Inspection, found: Sequence[Found]) -> list[str]:
    said = []
    n_dropped = len(scan.unusable) + sum(table.n_dropped for table in scan.tables)
    if n_dropped:
        said.append(
            f"{n_dropped:,} rows cannot be used (see the notes): a study leaves them out only with --drop-invalid."
        )
    if inspection.crossing:
        said.append(
            f"{inspection.crossing:,} test texts are training or validation texts, too; a study takes them out of "
            "those."
        )
    for one in found:
        if one.kind == "overlap" and inspection.crossing:
            continue
        if one.kind == "suspect-label":
            said.append(_about_labels(inspection.looked, len(one)))
        elif one.kind == "conflict":
            said.append(f"{inspection.contradicted:,} texts stand there with more than one label ({len(one):,} rows).")
        elif one.kind != "unusable":
            said.append(f"{len(one):,} {what(one)}.")
    n_test = inspection.rows.get("test", round(0.2 * sum(inspection.rows.values())))
    if n_test < _FEW_TEST_ROWS:
        half = 1.96 * math.sqrt(0.8 * 0.2 / max(1, n_test))
        said.append(
            f"About {n_test:,} test rows: an accuracy of 80 % is then known to {100 * half:.0f} points either way, and "
            "methods can hardly be told apart."
        )
    for column, value in inspection.constant.items():
        said.append(f"The column '{column}' " + (f"is {value!r:.40} in all rows." if value else "is empty."))
    return said


def _about_labels(looked: Looked, listed: int) -> str:
    return (
        f"{listed:,} labels to look at: models of the words that had not seen the row speak against them. Of "
        f"{looked.judged:,} rows they found the label of {looked.accuracy:.0%}, so many of these are right as they are."
    )


def _about_classes(inspection: Inspection) -> list[str]:
    n, said = sum(inspection.classes.values()), []
    if len(inspection.classes) == 1:
        return ["All rows have one label: is the label column the right one?"]
    if n < _ROWS_A_CLASS * len(inspection.classes):
        return [
            f"{len(inspection.classes):,} labels for {n:,} rows: is the label column the right one? A number to "
            "predict is not a class."
        ]
    rare = {name: rows for name, rows in inspection.classes.items() if rows < max(_RARE_ROWS, _RARE_SHARE * n)}
    # Of many classes each is rare: there it says nothing.
    if rare and len(inspection.classes) <= 1 / _RARE_SHARE:
        shown = ", ".join(f"'{isolated(name)}' ({rows:,})" for name, rows in list(rare.items())[-_SHOWN:])
        said.append(f"Nearly absent: {shown}. Few such rows reach the test split, and less is learned of them.")
    folded: dict[str, list[str]] = {}
    for name in inspection.classes:
        folded.setdefault(" ".join(unicodedata.normalize("NFKC", name).casefold().split()), []).append(name)
    for names in [names for names in folded.values() if len(names) > 1][:_SHOWN]:
        shown = ", ".join(f"'{isolated(name)}'" for name in names)
        said.append(f"Labels that differ in capitals, spaces or the form of a letter alone: {shown}. Are they one?")
    most, rows = next(iter(inspection.classes.items()))
    if rows >= _LARGE_SHARE * n:
        said.append(
            f"Always to answer '{isolated(most)}' is right in {rows / n:.1%} of the rows: look at balanced accuracy, "
            "macro F1 and MCC, not at accuracy."
        )
    return said


def _about_texts(scan: Scan, inspection: Inspection, tokens: Tokens, max_length: int) -> list[str]:
    said, n = [], sum(inspection.classes.values())
    bare = float((tokens.lengths <= tokens.n_special + 1).mean())
    if bare >= _BARE_SHARE:
        said.append(f"{bare:.1%} of the texts are one token or less.")
    if tokens.unknown_share >= _UNKNOWN_SHARE:
        said.append(
            f"The tokenizer does not know {tokens.unknown_share:.1%} of the tokens: does the encoder speak the "
            "language of the texts?"
        )
    if scan.n_marked >= _MARKUP_SHARE * n:
        said.append(f"{scan.n_marked / n:.0%} of the texts hold markup, such as <br> or &amp;: it is read as words.")
    if (cut := inspection.lengths.cut[max_length]) > 0.5:
        said.append(f"{cut:.0%} of the texts are longer than --max-length {max_length}: what comes after is not read.")
    return said

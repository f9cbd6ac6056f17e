"""What is in a data set before anything is trained on it: classes, repeated texts, lengths, and what looks wrong.

A pure function of rows and token counts, without torch. Not for refusing data: that is done where it is read and
split (`feathertune.data.raw`, `feathertune.data.splits`); here things are only said.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from pydantic import Field

from feathertune.data.columns import Columns
from feathertune.data.labels import Label, names_of
from feathertune.data.raw import RawDataset
from feathertune.data.texts import Text, parts
from feathertune.records import Record

# The limits of which `feathertune inspect` says what they would cut off.
CUTS = (64, 128, 256, 512)
_QUANTILES = {"5 %": 0.05, "25 %": 0.25, "half": 0.5, "75 %": 0.75, "95 %": 0.95, "99 %": 0.99}
_MARKUP = ("<br", "</", "&amp;", "&lt;", "&nbsp;", "&quot;")
# When something is worth a line.
_RARE_ROWS, _RARE_SHARE, _LARGE_SHARE = 10, 0.01, 0.8
_ROWS_A_CLASS = 5
_REPEATED_SHARE, _UNKNOWN_SHARE, _MARKUP_SHARE, _BARE_SHARE = 0.01, 0.01, 0.05, 0.05
_FEW_TEST_ROWS = 200
_SHOWN = 8


class Lengths(Record):
    """Tokens a text, special tokens included, without any limit.

    Attributes:
        n: Texts that were counted: all, or a sample of them.
        quantiles: Share of the texts, in words, to the length that so many do not exceed.
        cut: Limit in tokens to the share of the texts that are longer.
    """

    n: int
    shortest: int
    longest: int
    mean: float
    quantiles: dict[str, int]
    cut: dict[int, float]


class Inspection(Record):
    """What was found.

    Attributes:
        rows: By split where the source has splits, else under ``all``; rows that cannot be used are not among them.
        classes: Rows of each label, the most frequent first.
        repeated: Rows whose text stood there before, in any split; `contradicted` of those texts have several labels.
        crossing: Different test texts that are among the training or validation texts too.
        suspicious: What a person should look at, one sentence each.
        refused: Why a study would not take the data as it is; null where it would.
    """

    source: str
    fingerprint: str
    columns: Columns | None
    rows: dict[str, int]
    classes: dict[str, int]
    repeated: int
    contradicted: int
    crossing: int
    lengths: Lengths
    suspicious: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    refused: str | None = None


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


def inspect_rows(dataset: RawDataset, tokens: Tokens, *, max_length: int) -> Inspection:
    """Look at a data set.

    Args:
        dataset: As it was read, rows that cannot be used left out.
        tokens: Of all its texts, or of a sample.
        max_length: The limit that a study would use, in tokens.
    """
    labels_of: dict[Text, set[Label]] = {}
    for text, label in zip(dataset.texts, dataset.labels, strict=True):
        labels_of.setdefault(text, set()).add(label)
    found = Inspection(
        source=dataset.source,
        fingerprint=dataset.fingerprint,
        columns=dataset.columns,
        rows={"all": len(dataset.texts)} if dataset.split is None else dict(Counter(dataset.split)),
        classes=dict(Counter(name for label in dataset.labels for name in names_of(label)).most_common()),
        repeated=dataset.duplicates_removed + len(dataset.texts) - len(labels_of),
        contradicted=sum(len(labels) > 1 for labels in labels_of.values()),
        crossing=_crossing(dataset),
        lengths=_lengths(tokens.lengths, max_length),
        notes=list(dataset.notes),
    )
    return found.model_copy(update={"suspicious": _suspicious(dataset, found, tokens, max_length)})


def _crossing(dataset: RawDataset) -> int:
    if dataset.split is None:
        return 0
    by_split: dict[bool, set[Text]] = {True: set(), False: set()}
    for text, split in zip(dataset.texts, dataset.split, strict=True):
        by_split[split == "test"].add(text)
    return len(by_split[True] & by_split[False])


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


def _suspicious(dataset: RawDataset, found: Inspection, tokens: Tokens, max_length: int) -> list[str]:
    return [
        *_about_rows(dataset, found),
        *_about_classes(found),
        *_about_texts(dataset, found, tokens, max_length),
    ]


def _about_rows(dataset: RawDataset, found: Inspection) -> list[str]:
    said = []
    n = len(dataset.texts)
    if dataset.rows_dropped:
        said.append(
            f"{dataset.rows_dropped:,} rows cannot be used (see the notes): a study leaves them out only with "
            "--drop-invalid."
        )
    if found.contradicted:
        said.append(f"{found.contradicted:,} texts stand there with more than one label.")
    if found.repeated - dataset.duplicates_removed > _REPEATED_SHARE * n:
        again = found.repeated - dataset.duplicates_removed
        said.append(f"{again:,} rows ({again / n:.1%}) repeat a text that stood there before.")
    if found.crossing:
        said.append(
            f"{found.crossing:,} test texts are training or validation texts, too; a study takes them out of those."
        )
    n_test = found.rows.get("test", round(0.2 * n))
    if n_test < _FEW_TEST_ROWS:
        half = 1.96 * math.sqrt(0.8 * 0.2 / max(1, n_test))
        said.append(
            f"About {n_test:,} test rows: an accuracy of 80 % is then known to {100 * half:.0f} points either way, and "
            "methods can hardly be told apart."
        )
    return said


def _about_classes(found: Inspection) -> list[str]:
    n, said = sum(found.rows.values()), []
    if len(found.classes) == 1:
        return ["All rows have one label: is the label column the right one?"]
    if n < _ROWS_A_CLASS * len(found.classes):
        return [
            f"{len(found.classes):,} labels for {n:,} rows: is the label column the right one? A number to predict is "
            "not a class."
        ]
    rare = {name: rows for name, rows in found.classes.items() if rows < max(_RARE_ROWS, _RARE_SHARE * n)}
    # Of many classes each is rare: there it says nothing.
    if rare and len(found.classes) <= 1 / _RARE_SHARE:
        shown = ", ".join(f"'{name}' ({rows:,})" for name, rows in list(rare.items())[-_SHOWN:])
        said.append(f"Nearly absent: {shown}. Few such rows reach the test split, and less is learned of them.")
    most, rows = next(iter(found.classes.items()))
    if rows >= _LARGE_SHARE * n:
        said.append(
            f"Always to answer '{most}' is right in {rows / n:.1%} of the rows: look at macro F1 and MCC, not at "
            "accuracy."
        )
    return said


def _about_texts(dataset: RawDataset, found: Inspection, tokens: Tokens, max_length: int) -> list[str]:
    said, n = [], len(dataset.texts)
    bare = float((tokens.lengths <= tokens.n_special + 1).mean())
    if bare >= _BARE_SHARE:
        said.append(f"{bare:.1%} of the texts are one token or less.")
    if tokens.unknown_share >= _UNKNOWN_SHARE:
        said.append(
            f"The tokenizer does not know {tokens.unknown_share:.1%} of the tokens: does the encoder speak the "
            "language of the texts?"
        )
    marked = sum(any(mark in part for part in parts(text) for mark in _MARKUP) for text in dataset.texts)
    if marked >= _MARKUP_SHARE * n:
        said.append(f"{marked / n:.0%} of the texts hold markup, such as <br> or &amp;: it is read as words.")
    if (cut := found.lengths.cut[max_length]) > 0.5:
        said.append(f"{cut:.0%} of the texts are longer than --max-length {max_length}: what comes after is not read.")
    return said

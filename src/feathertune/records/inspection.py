"""The schema of ``inspection.json``, the result of ``feathertune inspect``."""

from __future__ import annotations

from pydantic import Field

from feathertune.records.values import Record


class ReadColumns(Record):
    """The columns of the texts and labels, and those that were not read.

    Attributes:
        text_pair: Column of the second texts, if the rows are pairs.
    """

    text: str
    label: str
    others: list[str]
    text_pair: str | None = None

    @property
    def texts(self) -> list[str]:
        """The one column of the texts, or both."""
        return [self.text] if self.text_pair is None else [self.text, self.text_pair]


class Lengths(Record):
    """Tokens per text, special tokens included, before truncation.

    Attributes:
        n: Number of texts that were counted: all, or a sample.
        quantiles: Length by the share of the texts that do not exceed it.
        cut: Share of the texts that are longer, by limit in tokens.
    """

    n: int
    shortest: int
    longest: int
    mean: float
    quantiles: dict[str, int]
    cut: dict[int, float]


class Looked(Record):
    """Extent of the searches that do not cover all rows.

    Attributes:
        near_candidates: Pairs that might be nearly equal; `near_compared` of them were compared.
        sampled: Rows of the sample for lengths and labels.
        judged: Rows of the sample whose label was judged by models of the other rows.
        accuracy: Share of the judged rows whose label those models found.
    """

    near_candidates: int
    near_compared: int
    sampled: int
    judged: int
    accuracy: float


class FoundRow(Record):
    """A row of a finding.

    Attributes:
        source: The file or source.
        row: Its number there, counted from 1 after the header; the line number in JSON lines.
        text: Its beginning; null if too many rows were found to keep their texts.
        other: The row that it is like, in `other_source`.
        score: Similarity from 0 to 1 for nearly equal texts; for labels, the probability of the row's own label minus
            that of the suggested one.
        detail: More information, such as the suggested label.
    """

    source: str
    row: int
    split: str | None
    label: str | None
    text: str | None
    other: int | None = None
    other_source: str | None = None
    score: float | None = None
    detail: str | None = None


class Finding(Record):
    """One kind of problem.

    Attributes:
        kind: One word, such as ``conflict``.
        what: In plain words, to follow the number.
        n: Number of rows.
        rows: The first of them; the most suspicious first if they have scores.
    """

    kind: str
    what: str
    n: int
    rows: list[FoundRow]


class Inspection(Record):
    """Result of an inspection.

    Attributes:
        base: The encoder whose tokens are counted.
        max_length: The limit that a study would use, in tokens.
        rows: Usable rows by split, or under ``all`` without splits.
        classes: Rows of each label, the most frequent first.
        repeated: Rows whose text occurred before, in any split.
        contradicted: Texts with several labels.
        crossing: Test texts that are also training or validation texts.
        scripts: Texts by the script of most of their letters.
        constant: The one value of each unread column that has only one; empty for an empty column.
        findings: The first ten thousand rows of each kind.
        suspicious: One sentence for each thing to look at.
        refused: Why a study would refuse the data; null if it would not.
    """

    source: str
    base: str
    max_length: int
    columns: ReadColumns | None
    rows: dict[str, int]
    classes: dict[str, int]
    repeated: int
    contradicted: int
    crossing: int
    lengths: Lengths
    looked: Looked
    scripts: dict[str, int]
    constant: dict[str, str]
    findings: list[Finding] = Field(default_factory=list)
    suspicious: list[str] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    refused: str | None = None

"""The schema of ``inspection.json``, the result of ``feathertune inspect``."""

from __future__ import annotations

from pydantic import Field

from feathertune.records.values import Record


class ReadColumns(Record):
    """The columns of the texts and labels, and those that were not read."""

    text: str
    label: str
    others: list[str]
    text_pair: str | None = None  # column of the second texts, if the rows are pairs

    @property
    def texts(self) -> list[str]:
        """The text column, or both columns of pairs."""
        return [self.text] if self.text_pair is None else [self.text, self.text_pair]


class Lengths(Record):
    """Tokens per text, special tokens included, before truncation."""

    n: int  # number of texts counted: all, or a sample
    shortest: int
    longest: int
    mean: float
    quantiles: dict[str, int]  # share of texts to the length that they do not exceed
    cut: dict[int, float]  # limit in tokens to the share of texts that are longer


class Looked(Record):
    """Coverage of the checks that do not read all rows."""

    near_candidates: int  # pairs that may be near duplicates
    near_compared: int  # pairs that were compared
    sampled: int  # rows used for lengths and labels
    judged: int  # sampled rows whose label was predicted by models trained on other rows
    accuracy: float  # share of those rows whose label was predicted correctly


class FoundRow(Record):
    """One row of a finding."""

    source: str  # the file or source
    row: int  # counted from 1 after the header; the line number in JSON lines
    split: str | None
    label: str | None
    text: str | None  # its beginning; null if too many rows were found to keep their texts
    other: int | None = None  # the similar row, in `other_source`
    other_source: str | None = None
    score: float | None = None  # similarity from 0 to 1; for labels, its probability minus the suggested label's
    detail: str | None = None  # such as the suggested label


class Finding(Record):
    """One kind of problem."""

    kind: str  # one word, such as ``conflict``
    what: str  # description that follows the number
    n: int  # number of rows
    rows: list[FoundRow]  # the first of them; the most suspicious first if they have scores


class Inspection(Record):
    """Result of an inspection."""

    source: str
    base: str  # base model whose tokenizer counted the tokens
    max_length: int  # maximum tokens per text that a study would use
    columns: ReadColumns | None
    rows: dict[str, int]  # usable rows by split, or under ``all`` without splits
    classes: dict[str, int]  # rows of each label, the most frequent first
    repeated: int  # rows whose text occurred before, in any split
    contradicted: int  # texts with several labels
    crossing: int  # test texts that are also training or validation texts
    lengths: Lengths
    looked: Looked
    scripts: dict[str, int]  # texts by the script of most of their letters
    constant: dict[str, str]  # the one value of each unread column that has only one
    findings: list[Finding] = Field(default_factory=list)  # the first ten thousand rows of each kind
    suspicious: list[str] = Field(default_factory=list)  # one sentence per likely problem
    notes: list[str] = Field(default_factory=list)
    refused: str | None = None  # why a study would refuse the data

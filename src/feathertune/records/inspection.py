"""What ``feathertune inspect`` finds: the schema of ``inspection.json``.

Not for how it is found: see `feathertune.quality.notes`.
"""

from __future__ import annotations

from pydantic import Field

from feathertune.records.values import Record


class ReadColumns(Record):
    """Where a source's texts and labels were found, and the columns that were not read.

    Attributes:
        text_pair: Of the second text of each row, where the rows are pairs.
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


class Looked(Record):
    """How far it was looked where not all rows could be, and what the searches say of themselves.

    Attributes:
        near_candidates: Pairs that might have been alike; `near_compared` of them were compared.
        sampled: Rows of the sample for lengths and labels.
        judged: Rows of it whose label was judged by the others.
        estimated_errors: How many of those are labelled wrongly, by confident learning; a rough count.
        accuracy: Share of the judged rows whose label the models found that had not seen the row.
    """

    near_candidates: int
    near_compared: int
    sampled: int
    judged: int
    estimated_errors: int
    accuracy: float


class FoundRow(Record):
    """A row that a finding is about.

    Attributes:
        source: The file or source.
        row: Its number there, counted from 1 after the header; of JSON lines the line.
        text: Its beginning; null where too many rows were found to keep their texts.
        other: The row that it is like, in `other_source`.
        score: Of nearly the same text how alike both are, from 0 to 1; of a label the probability of its own minus
            that of the suggested one.
        detail: What else there is to say, such as the suggested label.
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
    """One kind of thing that was found.

    Attributes:
        kind: One word, such as ``conflict``.
        what: In plain words, after the number.
        n: How many rows.
        rows: The first of them; the most suspicious first, where one can be more so.
    """

    kind: str
    what: str
    n: int
    rows: list[FoundRow]


class Inspection(Record):
    """What was found.

    Attributes:
        base: The encoder whose tokens are counted.
        max_length: The limit that a study would use, in tokens.
        rows: By split where the source has splits, else under ``all``; rows that cannot be used are not among them.
        classes: Rows of each label, the most frequent first.
        repeated: Rows whose text stood there before, in any split; `contradicted` of those texts have several labels.
        crossing: Different test texts that are among the training or validation texts too.
        scripts: Texts by the script that most of their letters are of.
        constant: By column that is not read: the one value that all rows have; empty for an empty column.
        findings: What is wrong with which rows; of each kind the first ten thousand.
        suspicious: What a person should look at, one sentence each.
        refused: Why a study would not take the data as it is; null where it would.
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

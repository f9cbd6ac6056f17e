"""Reading of a text with more tokens than an encoder takes at once; part of a study's record and of a bundle."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from feathertune.records.values import Record

Long = Literal["head", "head-tail", "windows"]


class Reading(Record):
    """Reading of a text of more than ``max_length`` tokens.

    Attributes:
        long: ``head``: first tokens; ``head-tail``: first and last; ``windows``: pieces whose logits are averaged.
        stride: Tokens that neighboring windows share at least, as in transformers' tokenizers; 0 without windows.
        max_windows: Windows of one text at most; 1 without windows.
    """

    model_config = ConfigDict(frozen=True)

    long: Long = "head"
    stride: int = 0
    max_windows: int = 1

    def in_words(self, max_length: int) -> str:
        """Say what happens to a text of more tokens than `max_length`, as a clause after its subject."""
        if self.long == "head":
            return f"are cut after {max_length:,}"
        if self.long == "head-tail":
            return f"are read at both ends, {max_length:,} tokens in all"
        return f"are read in up to {self.max_windows:,} windows of {max_length:,}"


HEAD = Reading()


class ScoreOfBucket(Record):
    """A method's score (the study's metric) on the test rows of a bucket, with its 95% interval."""

    method: str
    score: float
    low: float
    high: float


class LengthBucket(Record):
    """Test rows of similar length in tokens, and the share of their tokens that no trained method read."""

    shortest: int
    longest: int
    n: int
    unread_fraction: float
    scores: list[ScoreOfBucket]

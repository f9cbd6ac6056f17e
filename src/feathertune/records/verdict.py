"""Verdict of a study, as codes with parameters; `feathertune.report.wording` turns them into sentences."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field

from feathertune.records.values import Record


class Coded(Record):
    """A statement as a code with parameters: JSON values, in which scores and differences are fractions."""

    code: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of(cls, code: str, **parameters: Any) -> Self:  # noqa: ANN401 - any JSON value
        """Make one from keyword arguments."""
        return cls(code=code, parameters=parameters)


class Reason(Coded):
    """Why a method is recommended, or what else the comparison shows."""


class Caveat(Coded):
    """Something that speaks against relying on the recommendation."""


class Verdict(Record):
    """The recommended method, the reasons, and what speaks against it; `feathertune.study.verdict` has the rules."""

    recommended: str | None
    reasons: list[Reason] = Field(default_factory=list)
    caveats: list[Caveat] = Field(default_factory=list)

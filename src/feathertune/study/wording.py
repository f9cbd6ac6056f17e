"""How the verdict and its caveats say names and numbers. Not for the report and the tables: see their `units`."""

from __future__ import annotations

from collections.abc import Iterable

from feathertune.records import SummaryRow, TaskName

MOST_NAMED = 12


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; of very many, the first."""
    every = list(names)
    more = len(every) - MOST_NAMED
    return ", ".join(every) if more <= 0 else f"{', '.join(every[:MOST_NAMED])} and {more} more"


def constant_answer(task: TaskName) -> str:
    """What `majority` says, whatever the text."""
    return "the commonest class" if task == "single_label" else "the labels that most texts have"


def percent(share: float) -> str:
    """``85.3 %``."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of shares: ``1.0 points``."""
    return f"{100 * difference:.1f} points"


def probability(p: float) -> str:
    """``p = 0.012``; small ones are not pretended to be known exactly."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def small_share(share: float) -> str:
    """A share that may be tiny, in percent, with digits that say something."""
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2g} %"


def bounds(row: SummaryRow) -> str:
    """The interval of a row's accuracy, in percent: ``83.1 to 87.5``."""
    return f"{100 * row.accuracy_low:.1f} to {100 * row.accuracy_high:.1f}"

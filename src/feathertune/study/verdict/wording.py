"""How the verdict and its caveats say names and numbers. Not for the report and the tables: see their `units`."""

from __future__ import annotations

from collections.abc import Iterable

from feathertune.records import METRIC_TITLES, MetricName, SummaryRow, TaskName

MOST_NAMED = 12
_CONSTANT = {
    "single_label": "the commonest class",
    "multi_label": "the labels that most texts have",
    "regression": "the mean of the training labels",
}


def listed(names: Iterable[str]) -> str:
    """Names in a sentence; of very many, the first."""
    every = list(names)
    more = len(every) - MOST_NAMED
    return ", ".join(every) if more <= 0 else f"{', '.join(every[:MOST_NAMED])} and {more} more"


def constant_answer(task: TaskName) -> str:
    """What `majority` says, whatever the text."""
    return _CONSTANT[task]


def linear_model(task: TaskName) -> str:
    """What stands on words, or on frozen features."""
    return "ridge regression" if task == "regression" else "logistic regression"


def percent(share: float) -> str:
    """``85.3 %``."""
    return f"{100 * share:.1f} %"


def points(difference: float) -> str:
    """A difference of shares: ``1.0 points``."""
    return f"{100 * difference:.1f} points"


def correlation(value: float) -> str:
    """``0.843``; what is rounded to 0 has no sign."""
    return f"{round(value, 3) + 0.0:.3f}"


def score(value: float, of: MetricName) -> str:
    """A score as its kind is said: ``85.3 %``, or ``0.843``."""
    return correlation(value) if of == "spearman" else percent(value)


def difference(value: float, of: MetricName) -> str:
    """A difference of two such: ``1.0 points``, or ``0.010``."""
    return correlation(value) if of == "spearman" else points(value)


def score_of(row: SummaryRow) -> str:
    """The leading score of a row."""
    return score(row.score_mean, row.metric)


def reached(row: SummaryRow, task: TaskName) -> str:
    """The same with its name and its interval, to stand after a verb."""
    name = METRIC_TITLES[task, row.metric]
    if row.metric == "spearman":
        return f"a {name} of {score_of(row)} ({bounds(row)})"
    return f"{score_of(row)} {name} ({bounds(row)})"


def probability(p: float) -> str:
    """``p = 0.012``; small ones are not pretended to be known exactly."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def small_share(share: float) -> str:
    """A share that may be tiny, in percent, with digits that say something."""
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2g} %"


def bounds(row: SummaryRow) -> str:
    """The interval of a row's score, in percent but of a correlation: ``83.1 to 87.5``."""
    if row.metric == "spearman":
        return f"{correlation(row.score_low)} to {correlation(row.score_high)}"
    return f"{100 * row.score_low:.1f} to {100 * row.score_high:.1f}"

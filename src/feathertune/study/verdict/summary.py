"""From the runs of a study to one row a method.

A pure function of the records and of which test rows each run got right (or what numbers it predicted), so that it can
be made again from a study folder at any time. Not for single runs: their scores stand in `RunRecord.test`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feathertune.records import MoreLabels, RunRecord, SummaryRow, at_largest_size
from feathertune.statistics.answers import Answers, AnyAnswers, Scored, as_answers
from feathertune.statistics.inference import equivalence, holm, paired_difference, seed_interval
from feathertune.statistics.ranking import Ranking

YARDSTICK = "full"
_POINTS_OF_A_SLOPE = 2
_BASELINE_KINDS = ("baseline", "probe")
# By the id of each complete run, whether its test predictions are right, ``(N,)``; or the numbers that it predicts.
Predicted = Mapping[str, NDArray[Any]]
# Of the test rows, ``(N,)``: their classes, where balanced accuracy leads; where labels are numbers, those.
Labels = NDArray[Any]


def answers_of(runs: Sequence[RunRecord], predicted: Predicted, labels: Labels | None = None) -> dict[str, Scored]:
    """Which test rows each method gets right, or how it orders them.

    Args:
        runs: All runs, in the order they were planned; those that failed are left out.
        predicted: Of each complete run.
        labels: ``None`` where accuracy leads.

    Returns:
        By method, in the order of the summary: baselines and probe first, then as planned.

    Raises:
        ValueError: If a complete run has no entry in `predicted`, or the runs of a method hold different test rows.
    """
    complete = [run for run in runs if run.status == "complete"]
    if missing := [run.id for run in complete if run.id not in predicted]:
        raise ValueError(f"The complete runs {', '.join(missing)} have no test predictions to summarise.")
    return {method: scored([predicted[run.id] for run in group], labels) for method, group in _by_method(runs).items()}


def scored(predicted: Sequence[NDArray[Any]], labels: Labels | None) -> Scored:
    """The answers of one method's runs, as `answers_of` takes them."""
    together = np.stack(predicted)
    if together.dtype == np.bool_:
        return Answers(together, labels)
    assert labels is not None, "numbers are compared with numbers"
    return Ranking(labels, together)


def summarise(runs: Sequence[RunRecord], answers: Mapping[str, AnyAnswers], *, margin: float) -> list[SummaryRow]:
    """Put the complete runs of each method together.

    Args:
        runs: All runs, in the order they were planned; those that failed are left out.
        answers: Of `answers_of` the same runs.
        margin: The loss of score that is still "as good", as a fraction.

    Returns:
        One row for each method with a complete run. Seconds and memory are means over the runs, trained
        parameters and bytes the largest of them. What compares with `full` is null where no run of `full` is
        complete, and so are the differences of `full` itself.

    Raises:
        ValueError: If the methods hold different test rows.
    """
    rows = [_row(group, answers[method]) for method, group in _by_method(runs).items()]
    if YARDSTICK in answers:
        rows = _against_yardstick(rows, answers, margin)
    return [row.model_copy(update={"pareto": not _dominated(row, rows)}) for row in rows]


def _by_method(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    for run in sorted(runs, key=lambda run: run.kind not in _BASELINE_KINDS):
        if run.status == "complete":
            groups.setdefault(run.method, []).append(run)
    return groups


def summarise_sizes(
    runs: Sequence[RunRecord],
    predicted: Predicted,
    labels: Labels | None = None,
    *,
    margin: float,
) -> list[SummaryRow]:
    """Put the runs of a study together that may be a learning curve.

    Args:
        runs: As in `summarise`.
        predicted: As in `answers_of`.
        labels: Likewise.
        margin: As in `summarise`.

    Returns:
        The rows of `summarise` for each number of training rows, from few to many, each compared within itself.
    """
    complete = [run for run in runs if run.status == "complete"]
    *fewer, _ = _sizes(complete) or [0]
    groups = [[run for run in complete if run.train_rows == size] for size in fewer] + [at_largest_size(complete)]
    return [row for group in groups for row in summarise(group, answers_of(group, predicted, labels), margin=margin)]


def _sizes(runs: Sequence[RunRecord]) -> list[int]:
    """Numbers of training rows of a learning curve, ascending."""
    return sorted({run.train_rows for run in runs if run.train_rows is not None})


def more_labels(runs: Sequence[RunRecord], predicted: Predicted, labels: Labels | None = None) -> list[MoreLabels]:
    """What the last doubling of the training rows bought each method; nothing without a learning curve.

    Args:
        runs: All runs; those that failed are left out.
        predicted: As in `answers_of`.
        labels: Likewise.

    Source: learning curves follow an inverse power law (Figueroa et al. 2012, BMC Medical Informatics and Decision
    Making 12:8), so that the next doubling rather buys less than the last.
    """
    complete = [run for run in runs if run.status == "complete" and run.train_rows is not None]
    sizes = _sizes(complete)
    if len(sizes) < _POINTS_OF_A_SLOPE:
        return []
    largest = sizes[-1]
    fewer = max((size for size in sizes if 2 * size <= largest), default=sizes[-2])
    before, after = (
        answers_of([run for run in complete if run.train_rows == size], predicted, labels) for size in (fewer, largest)
    )
    doublings = math.log2(largest / fewer)
    found = []
    for method in (method for method in after if method in before):
        difference = paired_difference(after[method], before[method])
        gain, low, high = (value / doublings for value in (difference.mean, difference.low, difference.high))
        found.append(MoreLabels(method=method, fewer=fewer, rows=largest, gain=gain, low=low, high=high))
    return found


def _row(runs: Sequence[RunRecord], answers: AnyAnswers) -> SummaryRow:
    accuracy = seed_interval(answers)
    memory = [run.peak_memory_bytes for run in runs if run.peak_memory_bytes is not None]
    said_s = [run.predicted_seconds for run in runs if run.predicted_seconds is not None]
    said_bytes = [run.predicted_memory_bytes for run in runs if run.predicted_memory_bytes is not None]
    return SummaryRow(
        method=runs[0].method,
        kind=runs[0].kind,
        train_rows=runs[0].train_rows,
        n_seeds=len(runs),
        metric=as_answers(answers).metric,
        score_mean=accuracy.mean,
        score_sd=accuracy.sd,
        score_low=accuracy.low,
        score_high=accuracy.high,
        seconds_mean=fmean(run.seconds.total for run in runs),
        memory_mean_bytes=fmean(memory) if memory else None,
        trainable_parameters=max(run.trainable_parameters for run in runs),
        adapter_bytes=max(run.adapter_bytes for run in runs),
        predicted_seconds=fmean(said_s) if said_s else None,
        predicted_memory_bytes=fmean(said_bytes) if said_bytes else None,
    )


def _against_yardstick(
    rows: Sequence[SummaryRow], answers: Mapping[str, AnyAnswers], margin: float
) -> list[SummaryRow]:
    full = next(row for row in rows if row.method == YARDSTICK)
    others = [row.method for row in rows if row.method != YARDSTICK]
    differences = {method: paired_difference(answers[method], answers[YARDSTICK]) for method in others}
    corrected = dict(zip(others, holm([differences[method].p for method in others]), strict=True))
    compared = []
    for row in rows:
        update: dict[str, float | None] = {
            "speedup_vs_full": _ratio(full.seconds_mean, row.seconds_mean),
            "memory_vs_full": _ratio(row.memory_mean_bytes, full.memory_mean_bytes),
        }
        if row.method != YARDSTICK:
            difference = differences[row.method]
            update |= {
                "delta_vs_full": difference.mean,
                "delta_low": difference.low,
                "delta_high": difference.high,
                "p_vs_full_holm": corrected[row.method],
                "p_equivalent": equivalence(answers[row.method], answers[YARDSTICK], margin=margin),
            }
        compared.append(row.model_copy(update=update))
    return compared


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _dominated(row: SummaryRow, rows: Sequence[SummaryRow]) -> bool:
    """Whether another row is at least as good in everything that both have, and better in something."""
    for other in rows:
        pairs = [
            (other.score_mean, row.score_mean),
            (-other.seconds_mean, -row.seconds_mean),
            (-other.trainable_parameters, -row.trainable_parameters),
        ]
        if other.memory_mean_bytes is not None and row.memory_mean_bytes is not None:
            pairs.append((-other.memory_mean_bytes, -row.memory_mean_bytes))
        if all(theirs >= ours for theirs, ours in pairs) and any(theirs > ours for theirs, ours in pairs):
            return True
    return False

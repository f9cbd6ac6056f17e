"""Summarise a study's runs: one row per method, pairs of methods, and scores by length. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from feathertune.records import (
    LengthBucket,
    MoreLabels,
    PairRecord,
    RunRecord,
    ScoreOfBucket,
    SummaryRow,
    at_largest_size,
)
from feathertune.records.row_names import base_of_row, reference_of
from feathertune.statistics import inference
from feathertune.statistics.measures import Answers
from feathertune.tasks import Labels, Score

_POINTS_OF_A_SLOPE = 2
_BASELINE_KINDS = ("baseline", "probe")
# Upper bounds of the length buckets in tokens, in addition to the maximum length.
EDGES = (32, 64, 128, 256, 512, 1024, 2048, 4096)
# A bucket with fewer rows is merged with its neighbour, but texts that fit are never merged with longer ones.
LEAST_ROWS = 20


@dataclass(frozen=True)
class RunPredictions:
    """Test predictions of all complete runs, by run id; ``(N,)`` or ``(N, C)``, like the labels."""

    score: Score
    labels: Labels
    by_run: Mapping[str, Labels]

    def answers(self, runs: Sequence[RunRecord]) -> dict[str, Answers]:
        """Return the answers of each row with a complete run, grouped by base model, baselines and probe first."""
        complete = [run for run in runs if run.status == "complete"]
        if missing := [run.id for run in complete if run.id not in self.by_run]:
            raise ValueError(f"The complete runs {', '.join(missing)} have no test predictions to summarise.")
        return {
            method: self.score.measure.answers(self.labels, np.stack([self.by_run[run.id] for run in group]))
            for method, group in _by_method(runs).items()
        }


def summarise(runs: Sequence[RunRecord], answers: Mapping[str, Answers], *, margin: float) -> list[SummaryRow]:
    """Return one row per method with a complete run, from the answers of the same runs.

    Seconds and memory are means over the runs; trained parameters and bytes are maxima. `margin` is the largest drop in
    score that still counts as equally good, as a fraction.
    """
    rows = [_row(group, answers[method]) for method, group in _by_method(runs).items()]
    rows = _against_reference(rows, answers, margin)
    return [row.model_copy(update={"pareto": not _dominated(row, rows)}) for row in rows]


def _by_method(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    groups: dict[str, list[RunRecord]] = {}
    bases = list(dict.fromkeys(base_of_row(run.method) for run in runs))
    for run in sorted(runs, key=lambda run: (bases.index(base_of_row(run.method)), run.kind not in _BASELINE_KINDS)):
        if run.status == "complete":
            groups.setdefault(run.method, []).append(run)
    return groups


def summarise_sizes(runs: Sequence[RunRecord], predictions: RunPredictions, *, margin: float) -> list[SummaryRow]:
    """Return the rows of `summarise` for each number of training rows, from few to many."""
    complete = [run for run in runs if run.status == "complete"]
    *fewer, _ = _sizes(complete) or [0]
    groups = [[run for run in complete if run.train_rows == size] for size in fewer] + [at_largest_size(complete)]
    return [row for group in groups for row in summarise(group, predictions.answers(group), margin=margin)]


def _sizes(runs: Sequence[RunRecord]) -> list[int]:
    return sorted({run.train_rows for run in runs if run.train_rows is not None})


def more_labels(runs: Sequence[RunRecord], predictions: RunPredictions) -> list[MoreLabels]:
    """Return each method's gain from the last doubling of the training rows; empty without a learning curve.

    Source: learning curves follow an inverse power law (Figueroa et al. 2012, BMC Medical Informatics and Decision
    Making 12:8), so the next doubling gains less than the last.
    """
    complete = [run for run in runs if run.status == "complete" and run.train_rows is not None]
    sizes = _sizes(complete)
    if len(sizes) < _POINTS_OF_A_SLOPE:
        return []
    largest = sizes[-1]
    fewer = max((size for size in sizes if 2 * size <= largest), default=sizes[-2])
    before, after = (
        predictions.answers([run for run in complete if run.train_rows == size]) for size in (fewer, largest)
    )
    doublings = math.log2(largest / fewer)
    found = []
    for method in (method for method in after if method in before):
        difference = inference.paired_difference(after[method], before[method])
        gain, low, high = (value / doublings for value in (difference.mean, difference.low, difference.high))
        found.append(MoreLabels(method=method, fewer=fewer, rows=largest, gain=gain, low=low, high=high))
    return found


def _row(runs: Sequence[RunRecord], answers: Answers) -> SummaryRow:
    score = inference.seed_interval(answers)
    return SummaryRow(
        method=runs[0].method,
        kind=runs[0].kind,
        train_rows=runs[0].train_rows,
        n_seeds=len(runs),
        metric=answers.measure.name,
        score_mean=score.mean,
        score_sd=score.sd,
        score_low=score.low,
        score_high=score.high,
        seconds_mean=fmean(run.seconds.total for run in runs),
        memory_mean_bytes=_mean(run.peak_memory_bytes for run in runs),
        trainable_parameters=max(run.trainable_parameters for run in runs),
        adapter_bytes=max(run.adapter_bytes for run in runs),
        predicted_seconds=_mean(run.predicted_seconds for run in runs),
        predicted_memory_bytes=_mean(run.predicted_memory_bytes for run in runs),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _against_reference(rows: Sequence[SummaryRow], answers: Mapping[str, Answers], margin: float) -> list[SummaryRow]:
    """Compare each row with full fine-tuning on its base model, if present; p is corrected over all base models."""
    by_name = {row.method: row for row in rows}
    references = {row.method: reference_of(row.method) for row in rows}
    others = [row for row, reference in references.items() if reference in answers and row != reference]
    differences = {row: inference.paired_difference(answers[row], answers[references[row]]) for row in others}
    corrected = dict(zip(others, inference.holm([differences[row].p for row in others]), strict=True))
    compared = []
    for row in rows:
        full = by_name.get(references[row.method])
        if full is None:
            compared.append(row)
            continue
        update: dict[str, float | None] = {
            "speedup_vs_full": _ratio(full.seconds_mean, row.seconds_mean),
            "memory_vs_full": _ratio(row.memory_mean_bytes, full.memory_mean_bytes),
        }
        if row is not full:
            difference = differences[row.method]
            update |= {
                "delta_vs_full": difference.mean,
                "delta_low": difference.low,
                "delta_high": difference.high,
                "p_vs_full_holm": corrected[row.method],
                "p_equivalent": inference.equivalence(answers[row.method], answers[full.method], margin=margin),
            }
        compared.append(row.model_copy(update=update))
    return compared


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _dominated(row: SummaryRow, rows: Sequence[SummaryRow]) -> bool:
    """Return True if another row is at least as good on every measure that both have, and better on one."""
    for other in rows:
        pairs = [(other.score_mean, row.score_mean), (-other.seconds_mean, -row.seconds_mean)]
        pairs.append((-other.trainable_parameters, -row.trainable_parameters))
        if other.memory_mean_bytes is not None and row.memory_mean_bytes is not None:
            pairs.append((-other.memory_mean_bytes, -row.memory_mean_bytes))
        if all(theirs >= ours for theirs, ours in pairs) and any(theirs > ours for theirs, ours in pairs):
            return True
    return False


def compare_pairs(answers: Mapping[str, Answers], *, resamples: int = inference.RESAMPLES) -> list[PairRecord]:
    """Compare all pairs of methods by their answers ``(S, N)``; scores to six places, p-values to three digits.

    `low`, `high` and p include the spread over seeds; `rows_low` and `rows_high` come from a paired bootstrap over test
    rows. `p_holm` is corrected over all pairs; for the one planned comparison, use `SummaryRow.p_vs_full_holm`.
    """
    pairs = list(combinations(answers, 2))
    if not pairs:
        return []
    differences = [inference.paired_difference(answers[a], answers[b]) for a, b in pairs]
    corrected = inference.holm([difference.p for difference in differences])
    drawn = dict(zip(answers, inference.bootstrap_scores(list(answers.values()), resamples=resamples).T, strict=True))
    records = []
    for (a, b), difference, p_holm in zip(pairs, differences, corrected, strict=True):
        rows = inference.percentile_interval(drawn[a] - drawn[b])
        records.append(
            PairRecord(
                a=a,
                b=b,
                delta=round(difference.mean, 6),
                low=round(difference.low, 6),
                high=round(difference.high, 6),
                rows_low=round(rows.low, 6),
                rows_high=round(rows.high, 6),
                p=_three_digits(difference.p),
                p_holm=_three_digits(p_holm),
            )
        )
    return records


def find_pair(pairs: Sequence[PairRecord], one: str, other: str) -> PairRecord | None:
    """Return the record of two methods, in either order; ``None`` if they were not compared."""
    return next((pair for pair in pairs if {pair.a, pair.b} == {one, other}), None)


def _three_digits(p: float) -> float:
    return float(f"{p:.3g}")


def by_length(
    answers: Mapping[str, Answers], *, n_tokens: NDArray[np.int64], n_unread: NDArray[np.int64], max_length: int
) -> list[LengthBucket]:
    """Return scores from the answers ``(S, N)`` in buckets by text length, from short to long, without empty buckets.

    `n_tokens` and `n_unread` are each text's total tokens and unread tokens, ``(N,)``.
    """
    edges = sorted({*EDGES, max_length})
    places = np.searchsorted(edges, n_tokens, side="left")
    whole, longer = edges.index(max_length) + 1, len(edges) + 1
    groups = [
        rows
        for span in (range(whole), range(whole, longer))
        for rows in _merged([np.flatnonzero(places == place) for place in span])
    ]
    return [
        LengthBucket(
            shortest=int(n_tokens[rows].min()),
            longest=int(n_tokens[rows].max()),
            n=len(rows),
            unread_fraction=float(n_unread[rows].sum() / n_tokens[rows].sum()),
            scores=[_score(method, given.of_rows(rows)) for method, given in answers.items()],
        )
        for rows in groups
    ]


def _merged(groups: Sequence[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    kept: list[NDArray[np.int64]] = []
    for rows in (group for group in groups if len(group)):
        if kept and min(len(rows), len(kept[-1])) < LEAST_ROWS:
            kept[-1] = np.concatenate([kept[-1], rows])
        else:
            kept.append(rows)
    return kept


def _score(method: str, answers: Answers) -> ScoreOfBucket:
    found = inference.seed_interval(answers)
    return ScoreOfBucket(method=method, score=found.mean, low=found.low, high=found.high)

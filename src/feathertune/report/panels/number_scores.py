"""How far predicted numbers are off: what stands beside the rank correlation, as means over the seeds.

From the records alone. Not for classes: see `feathertune.report.panels.confusions` and `label_scores`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from feathertune.records import NumberMetrics, RunRecord
from feathertune.report.drawing.svg import Style
from feathertune.report.rows import Method


@dataclass(frozen=True)
class NumberScores:
    """One method's scores; `mae` and `rmse` are in the labels' unit."""

    method: str
    style: Style
    n_seeds: int
    spearman: float
    pearson: float
    r2: float
    mae: float
    rmse: float


def find_number_scores(methods: Sequence[Method], done: Sequence[RunRecord]) -> tuple[NumberScores, ...]:
    """Of each method whose runs have such scores; none where labels are classes."""
    found = []
    for method in methods:
        own = [run.test for run in done if run.method == method.row.method]
        scores = [test for test in own if isinstance(test, NumberMetrics)]
        if scores:
            found.append(
                NumberScores(
                    method=method.row.method,
                    style=method.style,
                    n_seeds=len(scores),
                    spearman=fmean(one.spearman for one in scores),
                    pearson=fmean(one.pearson for one in scores),
                    r2=fmean(one.r2 for one in scores),
                    mae=fmean(one.mae for one in scores),
                    rmse=fmean(one.rmse for one in scores),
                )
            )
    return tuple(found)

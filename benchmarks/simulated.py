"""Measure how often the statistics are right in simulated studies of two methods with known true scores."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from feathertune.statistics.inference import equivalence, paired_difference, seed_interval
from feathertune.statistics.measures import Answers


def how_often(
    drawn: Iterable[tuple[Answers, Answers]], truths: Sequence[float], *, apart: float, studies: int
) -> dict[str, float]:
    """Return shares of the studies, and mean half-widths of their intervals.

    Args:
        drawn: Both methods' answers in each study.
        truths: True score of each method.
        apart: True difference, 0 or more.
        studies: Number of studies.
    """
    counts = dict.fromkeys(("covered_single", "covered_difference", "clear", "as_good"), 0.0)
    widths = []
    for a, b in drawn:
        for answers, truth in zip((a, b), truths, strict=True):
            estimate = seed_interval(answers)
            counts["covered_single"] += (estimate.low <= truth <= estimate.high) / 2
        found = paired_difference(a, b)
        counts["covered_difference"] += found.low <= apart <= found.high
        counts["clear"] += found.p < 0.05
        counts["as_good"] += apart > 0 and equivalence(a, b, margin=apart) < 0.05
        widths.append((estimate.high - estimate.low, found.high - found.low))
    half = np.mean(widths, axis=0) / 2
    return {
        **{name: round(count / studies, 4) for name, count in counts.items()},
        "half_width_single": round(float(half[0]), 4),
        "half_width_difference": round(float(half[1]), 4),
    }


def record(path: Path, about: str | None, settings: Mapping[str, Any], cells: Callable[[int], Iterable[dict]]) -> None:
    """Simulate all cases, print each result, and write them to a file.

    Args:
        path: Output file.
        about: Text of ``--help``.
        settings: Settings that all cases have in common.
        cells: Function from the number of studies per case to the cases' results.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--studies", type=int, default=2000, help="simulated studies per case")
    n, started, found = parser.parse_args().studies, time.process_time(), []
    for cell in cells(n):
        print(json.dumps(cell), flush=True)
        found.append(cell)
    result = {**settings, "cells": found, "processor_s": round(time.process_time() - started)}
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

"""Measure interval coverage and false winners in simulated studies with known true accuracies.

A method's answer is correct if a sum of normal variables is above 0: the row's difficulty for all methods, its
difficulty for the method, the randomness of one answer, and the seed's effect, which shifts the accuracy of all rows.
The code under test is feathertune's: `seed_interval`, `paired_difference`, `bootstrap_scores`, and whole studies
through `summarise`, `compare_pairs` and `judge`.

Writes ``benchmarks/results/simulated-studies.json``, in a few minutes on one core. Results may differ for real studies:
the similarity of errors here (about 8% of answers differ between two seeds, 11% between two methods) is a guess.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from answers import right_or_wrong
from scipy import special

from feathertune.records import DataRecord, RunRecord, Seconds, Verdict
from feathertune.statistics.inference import bootstrap_scores, paired_difference, percentile_interval, seed_interval
from feathertune.study.verdict.evidence import Evidence
from feathertune.study.verdict.summary import compare_pairs, summarise
from feathertune.study.verdict.verdict import CLEAR_P, judge
from feathertune.tasks import SINGLE_LABEL

RESULT = Path(__file__).with_name("results") / "simulated-studies.json"
BEST = 0.86
MARGIN = 0.01
GAPS, ROWS, SEEDS, SPREADS = (0.0, 0.01, 0.02, 0.05), (200, 1000, 5000), (3, 5), (0.005, 0.01)
# Share of the variance common to two seeds of a method, and to two methods.
ALIKE_SEEDS, ALIKE_METHODS = 0.9, 0.8
KINDS = {"tfidf": "baseline", "probe": "probe", "lora": "peft", "ia3": "peft", "ln-tuning": "peft", "full": "full"}
CHEAPEST = "tfidf"
# Number of answers drawn at a time, to limit memory.
AT_ONCE = 20_000_000


def draw(
    rng: np.random.Generator, studies: int, n_rows: int, methods: list[tuple[float, int, float]]
) -> Iterator[tuple[list[np.ndarray], list[np.ndarray]]]:
    """Yield simulated studies.

    Args:
        rng: Random generator.
        studies: Number of studies.
        n_rows: Number of test rows.
        methods: Accuracy over all rows and seeds, number of seeds, and standard deviation of the seeds' accuracies.

    Yields:
        For each method, its correct answers ``(S, N)`` and the true accuracy of each trained model ``(S,)``.
    """
    at_once = max(1, AT_ONCE // (n_rows * sum(seeds for _, seeds, _ in methods)))
    for start in range(0, studies, at_once):
        n = min(at_once, studies - start)
        hard = ALIKE_METHODS**0.5 * rng.standard_normal((n, 1, n_rows), dtype=np.float32)
        answers, truths = [], []
        for accuracy, seeds, spread in methods:
            mean, luck = _levels(rng, accuracy, seeds, spread, n)
            own = (ALIKE_SEEDS - ALIKE_METHODS) ** 0.5 * rng.standard_normal((n, 1, n_rows), dtype=np.float32)
            chance = rng.standard_normal((n, seeds, n_rows), dtype=np.float32)
            chance *= (1 - ALIKE_SEEDS) ** 0.5
            chance += hard + own
            answers.append(chance > -(mean + luck)[:, :, None].astype(np.float32))
            truths.append(special.ndtr(mean + luck))
        for study in range(n):
            yield [method[study] for method in answers], [truth[study] for truth in truths]


def _levels(
    rng: np.random.Generator, accuracy: float, seeds: int, spread: float, studies: int
) -> tuple[float, np.ndarray]:
    """Return a method's threshold and its seeds' effects ``(studies, S)``, chosen to give the exact mean accuracy."""
    level = special.ndtri(accuracy)
    sd = spread / (np.exp(-(level**2) / 2) / np.sqrt(2 * np.pi))
    return level * np.sqrt(1 + sd**2), sd * rng.standard_normal((studies, seeds))


def coverage(*, gap: float, rows: int, seeds: int, spread: float, studies: int) -> dict:
    """Return how often intervals for one method, and for a difference of two, cover the true value."""
    rng = np.random.default_rng([round(1000 * gap), rows, seeds, round(1000 * spread)])
    single = difference = 0
    widths = []
    accuracies = (BEST, BEST - gap)
    for drawn, _ in draw(rng, studies, rows, [(accuracy, seeds, spread) for accuracy in accuracies]):
        a, b = map(right_or_wrong, drawn)
        for answers, accuracy in ((a, BEST), (b, BEST - gap)):
            estimate = seed_interval(answers)
            single += estimate.low <= accuracy <= estimate.high
        found = paired_difference(a, b)
        difference += found.low <= gap <= found.high
        widths.append((estimate.high - estimate.low, found.high - found.low))
    half_widths = np.mean(widths, axis=0) / 2
    return {
        "gap": gap,
        "rows": rows,
        "seeds": seeds,
        "spread": spread,
        "studies": studies,
        "covered_single": single / (2 * studies),
        "covered_difference": difference / studies,
        "half_width_single": round(float(half_widths[0]), 5),
        "half_width_difference": round(float(half_widths[1]), 5),
    }


def coverage_of_rows(*, gap: float, rows: int, seeds: int, spread: float, studies: int) -> dict:
    """Return how often bootstrap intervals cover the models' true difference; for one seed, other intervals too."""
    rng = np.random.default_rng([7, rows, seeds])
    bootstrapped = interval = 0
    methods = [(BEST, seeds, spread), (BEST - gap, seeds, spread)]
    for drawn, (true_a, true_b) in draw(rng, studies, rows, methods):
        a, b = map(right_or_wrong, drawn)
        truth = true_a.mean() - true_b.mean()
        one, other = bootstrap_scores([a, b], resamples=1000).T
        low, high = percentile_interval(one - other)
        bootstrapped += low <= truth <= high
        found = paired_difference(a, b)
        interval += found.low <= truth <= found.high
    result = {"gap": gap, "rows": rows, "seeds": seeds, "spread": spread, "studies": studies}
    result["covered_bootstrap"] = bootstrapped / studies
    return result | ({"covered_t": interval / studies} if seeds == 1 else {})


def verdicts(*, gap: float, rows: int, seeds: int, spread: float, studies: int, adapters: int = 3) -> dict:
    """Return the verdicts of whole studies in which all methods are equal, except that `full` is better by the gap.

    Returns:
        Shares of studies: ``wrong_winner_verdict`` and ``wrong_winner_pair`` name a method that is not better;
        ``as_good`` says that the recommended method is within the margin of `full`, which is wrong if the gap reaches
        the margin; ``full_ahead`` recommends `full`, or calls it better than the recommended method.
    """
    rng = np.random.default_rng([11, round(1000 * gap), rows, seeds, round(1000 * spread), adapters])
    kinds = KINDS | {f"adapter-{i}": "peft" for i in range(adapters - 3)}
    accuracy = {name: BEST if name == "full" else BEST - gap for name in kinds}
    trained = {name: kind in ("peft", "full") for name, kind in kinds.items()}
    methods = [(accuracy[name], seeds if trained[name] else 1, spread if trained[name] else 0.0) for name in kinds]
    runs = [
        _run(name, kind, seed, cost)
        for cost, (name, kind) in enumerate(kinds.items())
        for seed in range(seeds if trained[name] else 1)
    ]
    data = _data(rows)
    counts = dict.fromkeys(("wrong_winner_verdict", "wrong_winner_pair", "as_good", "full_ahead"), 0)
    for drawn, _ in draw(rng, studies, rows, methods):
        answers = {name: right_or_wrong(correct) for name, correct in zip(kinds, drawn, strict=True)}
        summary = summarise(runs, answers, margin=MARGIN)
        pairs = compare_pairs(answers, resamples=20)  # the verdict does not use the bootstrap
        verdict = judge(Evidence(SINGLE_LABEL, data, summary, runs, pairs, MARGIN))
        better = {(p.a, p.b) if p.delta > 0 else (p.b, p.a) for p in pairs if p.p_holm < CLEAR_P}
        counts["wrong_winner_pair"] += any(accuracy[a] <= accuracy[b] for a, b in better)
        counts["wrong_winner_verdict"] += names_wrong_winner(verdict, accuracy)
        counts["full_ahead"] += verdict.recommended == "full" or against_full(verdict) == "within_margin"
        counts["as_good"] += against_full(verdict) == "equivalent"
    cell = {"gap": gap, "rows": rows, "seeds": seeds, "spread": spread, "methods": len(kinds), "studies": studies}
    return cell | {name: count / studies for name, count in counts.items()}


def against_full(verdict: Verdict) -> str | None:
    """Return the verdict's code for the recommended method against `full`, or None without a comparison."""
    return next((r.parameters.get("against_full") for r in verdict.reasons if r.code == "recommended"), None)


def names_wrong_winner(verdict: Verdict, accuracy: dict[str, float]) -> bool:
    """Return True if a verdict calls a method better than an equally good one.

    Recommending a more expensive method without mentioning an equally good cheaper one counts too.
    """
    chosen = verdict.recommended
    if against_full(verdict) == "better":
        return accuracy[chosen] <= accuracy["full"]
    if against_full(verdict) == "within_margin":
        return accuracy["full"] <= accuracy[chosen]
    cheaper = list(accuracy)[: list(accuracy).index(chosen)]
    dismissed = cheaper and all(reason.code != "cheaper_not_clearly_worse" for reason in verdict.reasons)
    return bool(dismissed) and any(accuracy[name] >= accuracy[chosen] for name in cheaper)


def _run(name: str, kind: str, seed: int, cost: int) -> RunRecord:
    return RunRecord(
        id=f"{name}-s{seed}",
        method=name,
        kind=kind,
        seed=seed,
        status="complete",
        trainable_parameters=cost,
        seconds=Seconds(total=1.0),
    )


def _data(rows: int) -> DataRecord:
    return DataRecord(
        source="simulated",
        fingerprint="",
        labels=["negative", "positive"],
        n_train=1000,
        n_validation=100,
        n_test=rows,
        class_counts={"test": [rows // 2, rows - rows // 2]},
        max_length=128,
        duplicates_removed=0,
        overlap_removed=0,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1500, help="simulated studies per coverage case")
    arguments = parser.parse_args()
    n = arguments.studies
    started = time.process_time()
    cells = [dict(zip(("gap", "rows", "seeds", "spread"), c, strict=True)) for c in product(GAPS, ROWS, SEEDS, SPREADS)]
    result = {
        "accuracy": BEST,
        "margin": MARGIN,
        "coverage": [_said(coverage(**cell, studies=n)) for cell in cells],
        "rows_alone": [
            _said(coverage_of_rows(gap=0.02, rows=rows, seeds=seeds, spread=0.01, studies=n // 5))
            for rows, seeds in product(ROWS, (1, 3))
        ],
        "verdicts": [
            *(_said(verdicts(**cell, studies=n // (10 if cell["gap"] else 4))) for cell in cells),
            _said(verdicts(gap=0.0, rows=1000, seeds=3, spread=0.01, studies=n // 5, adapters=20)),
        ],
    }
    result["processor_s"] = round(time.process_time() - started)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _said(cell: dict) -> dict:
    print(json.dumps(cell), flush=True)
    return cell


if __name__ == "__main__":
    main()

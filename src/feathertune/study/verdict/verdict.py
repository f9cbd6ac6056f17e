"""Recommend a method by stated rules. They ignore seconds and memory, which vary between identical runs.

1. Candidates are all rows except `majority` and `foundation`; the best has the highest mean primary test score.
2. The recommended row is the cheapest candidate within `margin` of the best. From cheap to expensive: baseline, probe,
   adapters, full fine-tuning; then by trained parameters. A smaller base model is cheaper than a larger one with any
   method.

A difference from `full` on the same base model is clear if its Holm-corrected p-value is below `CLEAR_P`. A row is
equivalent to `full` if two one-sided tests place it within `margin`. A cheaper row that scored lower by more than the
margin is named if its pair's p-value, times the number of candidates, is consistent with chance (Bonferroni over the
rows compared with the recommended one).
"""

from __future__ import annotations

from feathertune.records import DataRecord, Reason, SummaryRow, Verdict
from feathertune.records.row_names import base_of_row, method_of_row
from feathertune.study.verdict.base_or_method import base_or_method
from feathertune.study.verdict.caveats import failed_runs, find_caveats
from feathertune.study.verdict.evidence import CLEAR_P, ROUNDING, Evidence
from feathertune.study.verdict.summary import find_pair
from feathertune.tasks import Task


def judge(evidence: Evidence) -> Verdict:
    """Recommend a method; `recommended` is None if no candidate is complete."""
    candidates = evidence.candidates
    if not candidates:
        reasons = [Reason.of("nothing_complete"), *_untrained(evidence)]
        return Verdict(recommended=None, reasons=reasons, caveats=failed_runs(evidence.runs))
    best = max(candidates, key=lambda row: row.score_mean)
    chosen = next(row for row in candidates if row.score_mean >= best.score_mean - evidence.margin - ROUNDING)
    reasons = [
        _recommendation(chosen, evidence),
        *_rival(chosen, best, evidence),
        *_cheaper(chosen, evidence),
        *base_or_method(evidence),
        *_untrained(evidence),
        *explain_metric(evidence.task, evidence.data),
    ]
    return Verdict(recommended=chosen.method, reasons=reasons, caveats=find_caveats(chosen, evidence))


def explain_metric(task: Task, data: DataRecord) -> list[Reason]:
    """Name the primary metric if it is not the task's default, and the class that caused the choice."""
    score, counts = task.primary, data.class_counts.get("train", [])
    if score is task.scores[0]:
        return []
    found = {"metric": score.name, "chance": score.chance(_n_tested(data))}
    if counts and score is task.choose(counts):
        found |= {"label": data.labels[counts.index(max(counts))], "share": max(counts) / sum(counts)}
    return [Reason.of("ranked_by", **found)]


def _recommendation(chosen: SummaryRow, evidence: Evidence) -> Reason:
    majority = evidence.row("majority")
    score = {
        "method": chosen.method,
        "kind": chosen.kind,
        "score": chosen.score_mean,
        "low": chosen.score_low,
        "high": chosen.score_high,
        "n_test": evidence.data.n_test,
    }
    if majority is not None and chosen.score_mean <= majority.score_mean + ROUNDING:
        return Reason.of("not_worth_training", **score, majority=majority.score_mean)
    return Reason.of("recommended", **score, **_against_full(chosen, evidence), **_trained(chosen, evidence))


def _against_full(chosen: SummaryRow, evidence: Evidence) -> dict[str, object]:
    full = evidence.reference(chosen)
    if full is None or chosen.p_vs_full_holm is None:
        return {}
    found: dict[str, object] = {"full": full.score_mean, "margin": evidence.margin}
    clear = chosen.p_vs_full_holm < CLEAR_P
    if clear and chosen.score_mean > full.score_mean:
        return found | {"against_full": "better"}
    if chosen.p_equivalent is not None and chosen.p_equivalent < CLEAR_P:
        return found | {"against_full": "equivalent", "p": chosen.p_equivalent}
    return found | {"against_full": "within_margin" if clear else "not_clear"}


def _trained(chosen: SummaryRow, evidence: Evidence) -> dict[str, object]:
    """Return an adapter's trained parameters, also as a share of full fine-tuning's or of the model's."""
    if chosen.kind != "peft":
        return {}
    full = evidence.reference(chosen)
    totals = [run.total_parameters for run in evidence.complete(chosen.method)]
    whole = full.trainable_parameters if full is not None else max(totals, default=0)
    share = chosen.trainable_parameters / whole if whole else None
    return {"trained": chosen.trainable_parameters, "trained_share": share}


def _rival(chosen: SummaryRow, best: SummaryRow, evidence: Evidence) -> list[Reason]:
    if chosen.method == best.method:
        alone = chosen.kind != "full" or len(evidence.candidates) == 1
        return [] if alone else [Reason.of("nothing_cheaper_close", margin=evidence.margin)]
    if best is evidence.reference(chosen):  # the recommendation compares with it
        return []
    return [Reason.of("scored_highest", method=best.method, score=best.score_mean, margin=evidence.margin)]


def _cheaper(chosen: SummaryRow, evidence: Evidence) -> list[Reason]:
    """Return the best cheaper row that scored too low to be recommended, if its gap may be chance."""
    candidates, maybe = evidence.candidates, []
    for row in candidates[: candidates.index(chosen)]:
        pair = find_pair(evidence.pairs, chosen.method, row.method)
        if pair is not None and pair.p * (len(candidates) - 1) >= CLEAR_P:
            maybe.append(row)
    if not maybe:
        return []
    best = max(maybe, key=lambda row: row.score_mean)
    return [Reason.of("cheaper_not_clearly_worse", method=best.method, score=best.score_mean)]


def _untrained(evidence: Evidence) -> list[Reason]:
    rows = [row for row in evidence.summary if method_of_row(row.method) == "foundation"]
    task = evidence.task
    # If the metric is not the default, its own reason already states the chance level.
    chance = task.primary.chance(_n_tested(evidence.data)) if task.primary is task.scores[0] else None
    if len(rows) > 1:
        return [Reason.of("untrained", scores={base_of_row(row.method): row.score_mean for row in rows}, chance=chance)]
    return [Reason.of("untrained", score=row.score_mean, chance=chance) for row in rows]


def _n_tested(data: DataRecord) -> int:
    """Return the number of classes with test rows, or of all classes if that is unknown."""
    return sum(count > 0 for count in data.class_counts.get("test", ())) or max(len(data.labels), 1)

"""What to do, in two or three plain sentences, by stated rules.

The recommendation:

1. Candidates are all rows but `majority` (reads no text) and `foundation` (was not trained).
2. The best is the candidate with the highest mean test score: accuracy, balanced accuracy or rank correlation
   (`feathertune.study.verdict.primary_metric`).
3. Recommended is the cheapest candidate that is within `margin` of the best. The order of cost is tf-idf,
   probe, adapters, full fine-tuning; and among equals, the trained parameters.

A difference from `full` is called clear when its Holm-corrected p (over the methods) is below `CLEAR_P`, and a row as
good as `full` when two one-sided tests say that it is within `margin` (not corrected: it is said of one row; where all
are worse by just the margin, the simulations hear it in at most 4 of 100 studies). What is cheaper than the
recommended row scored lower by more than the margin; where the p of the pair leaves that to chance, the best such
row is named. It is corrected for the rows that the recommended one stands beside (Bonferroni), not for all pairs: with
36 methods those are 630, and twelve points on 1,700 rows would pass for chance. What speaks against the recommendation
stands in `feathertune.study.verdict.caveats`.

Nothing here reads seconds or memory: they vary between equal runs, and the verdict must not. Not for
choosing between studies: it knows one.
"""

from __future__ import annotations

from collections.abc import Sequence

from feathertune.records import DataRecord, PairRecord, RunRecord, SummaryRow, Verdict
from feathertune.study.verdict.caveats import ROUNDING, failed_runs, find_caveats
from feathertune.study.verdict.pairs import find_pair
from feathertune.study.verdict.primary_metric import why_metric
from feathertune.study.verdict.wording import (
    constant_answer,
    difference,
    linear_model,
    percent,
    probability,
    reached,
    score_of,
    small_share,
)

CLEAR_P = 0.05
_NOT_TRAINED = ("majority", "foundation")
_COST_ORDER = ("baseline", "probe", "peft", "full")


def judge(
    summary: Sequence[SummaryRow],
    data: DataRecord,
    runs: Sequence[RunRecord],
    pairs: Sequence[PairRecord],
    *,
    margin: float,
    n_suspects: int = 0,
) -> Verdict:
    """Recommend a method and say what the recommendation rests on.

    Args:
        summary: One row for each method with a complete run; any of them may be missing.
        data: The data as it was used.
        runs: All runs of the study, the failed ones too.
        pairs: The methods of the summary, two by two.
        margin: The loss of score that is still "as good", as a fraction (0.01 is one point).
        n_suspects: Test rows whose label may be wrong.

    Returns:
        The verdict; `recommended` is None where no candidate is complete.
    """
    rows = {row.method: row for row in summary}
    candidates = sorted((row for row in summary if row.method not in _NOT_TRAINED), key=_cost)
    if not candidates:
        sentences = ["No run that could be recommended is complete.", *_untrained(rows, data)]
        return Verdict(recommended=None, text=" ".join(sentences), caveats=failed_runs(runs))
    best = max(candidates, key=lambda row: row.score_mean)
    chosen = next(row for row in candidates if row.score_mean >= best.score_mean - margin - ROUNDING)
    chosen_runs = [run for run in runs if run.method == chosen.method and run.status == "complete"]
    caveats = find_caveats(
        chosen, candidates, rows.get("majority"), data, runs, pairs, margin=margin, n_suspects=n_suspects
    )
    sentences = [
        _recommendation(chosen, rows, chosen_runs, data, margin),
        *_rival(chosen, best, candidates, margin),
        *_cheaper(chosen, candidates, pairs),
        *_untrained(rows, data),
        *why_metric(chosen.metric, data),
    ]
    return Verdict(recommended=chosen.method, text=" ".join(sentences), caveats=caveats)


# -- the sentences -------------------------------------------------------------


def _recommendation(
    chosen: SummaryRow,
    rows: dict[str, SummaryRow],
    chosen_runs: Sequence[RunRecord],
    data: DataRecord,
    margin: float,
) -> str:
    majority = rows.get("majority")
    score = reached(chosen, data.task)
    on_rows = f"on these {data.n_test:,} test rows"
    if majority is not None and chosen.score_mean <= majority.score_mean + ROUNDING:
        return (
            f"Nothing here is clearly worth training: {chosen.method} reaches {score} {on_rows}, and always "
            f"answering {constant_answer(data.task)} {score_of(majority)}."
        )
    if chosen.kind == "baseline":
        name = f"tf-idf with {linear_model(data.task)}" if chosen.method == "tfidf" else chosen.method
        return f"You need no transformer: {name} reaches {score} {on_rows}{_versus_full(chosen, rows, margin)}."
    if chosen.kind == "probe":
        return (
            f"The frozen features with {linear_model(data.task)} ({chosen.method}) already do it: {score} {on_rows}"
            f"{_versus_full(chosen, rows, margin)}."
        )
    if chosen.kind == "full":  # or full under options of its own, which is compared with it
        name = "full fine-tuning" if chosen.method == "full" else chosen.method
        return f"Take {name}: {score} {on_rows}{_versus_full(chosen, rows, margin)}."
    return (
        f"Take {chosen.method}: {score} {on_rows}{_versus_full(chosen, rows, margin)}, with "
        f"{_trained_share(chosen, rows.get('full'), chosen_runs)} trained."
    )


def _versus_full(chosen: SummaryRow, rows: dict[str, SummaryRow], margin: float) -> str:
    full = rows.get("full")
    if full is None or chosen.p_vs_full_holm is None:
        return ""
    against = f"full fine-tuning ({score_of(full)})"
    clear = chosen.p_vs_full_holm < CLEAR_P
    if clear and chosen.score_mean > full.score_mean:
        return f", clearly better than {against}"
    if chosen.p_equivalent is not None and chosen.p_equivalent < CLEAR_P:
        within = difference(margin, full.metric)
        return f", as good as {against} within {within} (TOST, {probability(chosen.p_equivalent)})"
    if not clear:
        return f", not clearly different from {against}"
    return f", below {against} by no more than the margin of {difference(margin, full.metric)}"


def _trained_share(chosen: SummaryRow, full: SummaryRow | None, chosen_runs: Sequence[RunRecord]) -> str:
    if full is not None and full.trainable_parameters:
        return f"{small_share(chosen.trainable_parameters / full.trainable_parameters)} of its parameters"
    total = max((run.total_parameters for run in chosen_runs), default=0)
    if not total:
        return f"{chosen.trainable_parameters:,} parameters"
    return f"{small_share(chosen.trainable_parameters / total)} of the model's parameters"


def _rival(chosen: SummaryRow, best: SummaryRow, candidates: Sequence[SummaryRow], margin: float) -> list[str]:
    if chosen.method == best.method:
        alone = chosen.kind != "full" or len(candidates) == 1
        return [] if alone else [f"Nothing cheaper came within {difference(margin, best.metric)} of it."]
    if best.method == "full":  # the first sentence compares with it
        return []
    return [
        f"{best.method} scored highest ({score_of(best)}), by no more than the margin of "
        f"{difference(margin, best.metric)}, and costs more."
    ]


def _cheaper(chosen: SummaryRow, candidates: Sequence[SummaryRow], pairs: Sequence[PairRecord]) -> list[str]:
    """The best row that costs less and scored too low to be recommended, if that may have been chance."""
    maybe = []
    for row in candidates[: candidates.index(chosen)]:
        pair = find_pair(pairs, chosen.method, row.method)
        if pair is not None and pair.p * (len(candidates) - 1) >= CLEAR_P:
            maybe.append(row)
    if not maybe:
        return []
    best = max(maybe, key=lambda row: row.score_mean)
    return [f"{best.method} ({score_of(best)}) costs less and is not clearly worse on these rows."]


def _untrained(rows: dict[str, SummaryRow], data: DataRecord) -> list[str]:
    foundation = rows.get("foundation")
    if foundation is None:
        return []
    chance = ""
    if data.task == "regression":
        chance = "; chance is 0"
    elif data.task == "single_label" and foundation.metric == "accuracy":  # of balanced accuracy it is said with it
        chance = f"; chance is {percent(1 / len(data.labels))}"
    return [f"Before any training, the foundation model with a new head stands at {score_of(foundation)}{chance}."]


def _cost(row: SummaryRow) -> tuple[int, int]:
    return _COST_ORDER.index(row.kind), row.trainable_parameters

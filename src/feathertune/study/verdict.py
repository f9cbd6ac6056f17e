"""What to do, in two or three plain sentences, by stated rules.

The recommendation:

1. Candidates are all rows but `majority` (reads no text) and `foundation` (was not trained).
2. The best is the candidate with the highest mean test accuracy.
3. Recommended is the cheapest candidate that is within `margin` of the best. The order of cost is tf-idf,
   probe, adapters, full fine-tuning; and among equals, the trained parameters.

A difference from `full` is called clear when its Holm-corrected p is below `CLEAR_P`. Caveats, one line each:

* a method's accuracy is not above that of `majority`, or it only ever answers one class;
* trained methods have one seed only;
* the test rows cannot tell the recommended row and its best rival apart: with a 95 % half-width h of their
  difference on N rows, about N (h / margin)^2 rows bring the half-width down to the margin (h is that of the
  paired difference where one of the two is `full`, else it is put together from both accuracies as if they
  were not paired);
* more than `LONG_SHARE` of the texts were cut at `max_length`;
* the recommended row was still getting better in its last planned epoch;
* one class holds more than `IMBALANCED_SHARE` of the test rows;
* runs failed;
* the recommended row was picked among several by these same test rows.

Nothing here reads seconds or memory: they vary between equal runs, and the verdict must not. Not for
choosing between studies: it knows one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from feathertune.records import DataRecord, RunRecord, SummaryRow, Verdict

CLEAR_P = 0.05
LONG_SHARE = 0.2
IMBALANCED_SHARE = 0.7
MOST_NAMED = 12
_NOT_TRAINED = ("majority", "foundation")
_COST_ORDER = ("baseline", "probe", "peft", "full")
# In binary, 0.54 - 0.05 is above 0.49; accuracies that differ do so by 1 / N at least.
_ROUNDING = 1e-9


def judge(summary: Sequence[SummaryRow], data: DataRecord, runs: Sequence[RunRecord], *, margin: float) -> Verdict:
    """Recommend a method and say what the recommendation rests on.

    Args:
        summary: One row for each method with a complete run; any of them may be missing.
        data: The data as it was used.
        runs: All runs of the study, the failed ones too.
        margin: The loss of accuracy that is still "as good", as a fraction (0.01 is one point).

    Returns:
        The verdict; `recommended` is None where no candidate is complete.
    """
    rows = {row.method: row for row in summary}
    candidates = sorted((row for row in summary if row.method not in _NOT_TRAINED), key=_cost)
    if not candidates:
        sentences = ["No run that could be recommended is complete.", *_untrained(rows, data)]
        return Verdict(recommended=None, text=" ".join(sentences), caveats=_failed(runs))
    best = max(candidates, key=lambda row: row.accuracy_mean)
    chosen = next(row for row in candidates if row.accuracy_mean >= best.accuracy_mean - margin - _ROUNDING)
    chosen_runs = [run for run in runs if run.method == chosen.method and run.status == "complete"]
    caveats = [
        *_learned_nothing(candidates, rows.get("majority"), data, runs),
        *_one_seed(candidates),
        *_too_few_rows(chosen, candidates, data.n_test, margin),
        *_cut_texts(data),
        *_still_improving(chosen_runs),
        *_imbalanced(data),
        *_failed(runs),
    ]
    if len(candidates) > 1:
        caveats.append(
            f"{chosen.method} was picked by its score on these test rows, which makes that score slightly "
            "too good: check it on rows that no method has seen."
        )
    sentences = [
        _recommendation(chosen, rows, chosen_runs, data.n_test, margin),
        *_rival(chosen, best, candidates, margin),
        *_untrained(rows, data),
    ]
    return Verdict(recommended=chosen.method, text=" ".join(sentences), caveats=caveats)


# -- the sentences -------------------------------------------------------------


def _recommendation(
    chosen: SummaryRow,
    rows: dict[str, SummaryRow],
    chosen_runs: Sequence[RunRecord],
    n_test: int,
    margin: float,
) -> str:
    majority = rows.get("majority")
    score = f"{_percent(chosen.accuracy_mean)} accuracy ({_bounds(chosen)})"
    on_rows = f"on these {n_test:,} test rows"
    if majority is not None and chosen.accuracy_mean <= majority.accuracy_mean + _ROUNDING:
        return (
            f"Nothing here is clearly worth training: {chosen.method} reaches {score} {on_rows}, and always "
            f"answering the commonest class {_percent(majority.accuracy_mean)}."
        )
    if chosen.kind == "baseline":
        name = "tf-idf with logistic regression" if chosen.method == "tfidf" else chosen.method
        return f"You need no transformer: {name} reaches {score} {on_rows}{_versus_full(chosen, rows, margin)}."
    if chosen.kind == "probe":
        return (
            f"The frozen features with logistic regression ({chosen.method}) already do it: {score} {on_rows}"
            f"{_versus_full(chosen, rows, margin)}."
        )
    if chosen.kind == "full":
        return f"Take full fine-tuning: {score} {on_rows}."
    return (
        f"Take {chosen.method}: {score} {on_rows}{_versus_full(chosen, rows, margin)}, with "
        f"{_trained_share(chosen, rows.get('full'), chosen_runs)} trained."
    )


def _versus_full(chosen: SummaryRow, rows: dict[str, SummaryRow], margin: float) -> str:
    full = rows.get("full")
    if full is None or chosen.p_vs_full_holm is None:
        return ""
    against = f"full fine-tuning ({_percent(full.accuracy_mean)})"
    if chosen.p_vs_full_holm >= CLEAR_P:
        return f", not clearly different from {against}"
    if chosen.accuracy_mean > full.accuracy_mean:
        return f", clearly better than {against}"
    return f", below {against} by no more than the margin of {_points(margin)}"


def _trained_share(chosen: SummaryRow, full: SummaryRow | None, chosen_runs: Sequence[RunRecord]) -> str:
    if full is not None and full.trainable_parameters:
        return f"{_share(chosen.trainable_parameters / full.trainable_parameters)} of its parameters"
    total = max((run.total_parameters for run in chosen_runs), default=0)
    if not total:
        return f"{chosen.trainable_parameters:,} parameters"
    return f"{_share(chosen.trainable_parameters / total)} of the model's parameters"


def _rival(chosen: SummaryRow, best: SummaryRow, candidates: Sequence[SummaryRow], margin: float) -> list[str]:
    if chosen.method == best.method:
        alone = chosen.kind != "full" or len(candidates) == 1
        return [] if alone else [f"Nothing cheaper came within {_points(margin)} of it."]
    if best.method == "full":  # the first sentence compares with it
        return []
    return [
        f"{best.method} scored highest ({_percent(best.accuracy_mean)}), by no more than the margin of "
        f"{_points(margin)}, and costs more."
    ]


def _untrained(rows: dict[str, SummaryRow], data: DataRecord) -> list[str]:
    foundation = rows.get("foundation")
    if foundation is None:
        return []
    return [
        f"Before any training, the foundation model with a new head stands at "
        f"{_percent(foundation.accuracy_mean)}; chance is {_percent(1 / len(data.labels))}."
    ]


# -- the caveats ---------------------------------------------------------------


def _learned_nothing(
    candidates: Sequence[SummaryRow],
    majority: SummaryRow | None,
    data: DataRecord,
    runs: Sequence[RunRecord],
) -> list[str]:
    shares = _test_shares(data)
    constants: list[tuple[str, int, int]] = []
    below: list[str] = []
    for row in candidates:
        scores = [run.test for run in runs if run.method == row.method and run.test is not None]
        constant = sum(
            score.mcc == 0 and any(abs(score.accuracy - share) < _ROUNDING for share in shares) for score in scores
        )
        if constant:
            constants.append((row.method, constant, len(scores)))
        elif majority is not None and row.accuracy_mean <= majority.accuracy_mean + _ROUNDING:
            below.append(f"{row.method} ({_percent(row.accuracy_mean)})")
    caveats = _constant(constants)
    if majority is not None and below:
        caveats.append(
            f"{_list(below)} {'is' if len(below) == 1 else 'are'} not above always answering the commonest class "
            f"({_percent(majority.accuracy_mean)})."
        )
    return caveats


def _constant(constants: Sequence[tuple[str, int, int]]) -> list[str]:
    """One line for all methods that did not learn: name, runs that answer one class, all its runs."""
    if not constants:
        return []
    alone = len(constants) == 1
    return [
        f"{_list(name for name, _, _ in constants)} {'seems' if alone else 'seem'} to answer one and the same class in "
        f"{sum(n for _, n, _ in constants)} of {sum(n for _, _, n in constants)} runs (MCC 0, accuracy that class's "
        f"share): {'it' if alone else 'they'} learned nothing; try another learning rate or more epochs."
    ]


def _one_seed(candidates: Sequence[SummaryRow]) -> list[str]:
    single = [row.method for row in candidates if row.kind in ("peft", "full") and row.n_seeds == 1]
    if not single:
        return []
    return [
        f"One seed only ({_list(single)}): how far these scores move from seed to seed is unknown. "
        "Three seeds or more (--seeds 3) would show it."
    ]


def _too_few_rows(chosen: SummaryRow, candidates: Sequence[SummaryRow], n_test: int, margin: float) -> list[str]:
    rivals = [row for row in candidates if row.method != chosen.method]
    if not rivals or margin == 0:
        return []
    rival = max(rivals, key=lambda row: row.accuracy_mean)
    half = _half_width(chosen, rival)
    if half <= max(margin, abs(chosen.accuracy_mean - rival.accuracy_mean)):
        return []
    needed = int(float(f"{n_test * (half / margin) ** 2:.2g}"))
    return [
        f"These {n_test:,} test rows cannot tell {chosen.method} and {rival.method} apart: their difference "
        f"is known to {_points(half)} either way. To see {_points(margin)}, about {needed:,} rows are needed "
        f"({n_test:,} x ({100 * half:.1f} / {100 * margin:.1f})^2)."
    ]


def _half_width(one: SummaryRow, other: SummaryRow) -> float:
    for row, partner in ((one, other), (other, one)):
        if partner.method == "full" and row.delta_low is not None and row.delta_high is not None:
            return (row.delta_high - row.delta_low) / 2
    return math.hypot(*((row.accuracy_high - row.accuracy_low) / 2 for row in (one, other)))


def _cut_texts(data: DataRecord) -> list[str]:
    if data.truncated_fraction <= LONG_SHARE:
        return []
    return [
        f"{_percent(data.truncated_fraction)} of the texts have more than {data.max_length:,} tokens and "
        "were cut: with a larger --max-length the encoder would read more of them."
    ]


def _still_improving(chosen_runs: Sequence[RunRecord]) -> list[str]:
    rising = [
        run for run in chosen_runs if run.epochs > 0 and run.best_epoch == run.hyperparameters.get("epochs", run.epochs)
    ]
    if not rising:
        return []
    return [
        f"{rising[0].method} was still getting better in its last planned epoch ({rising[0].best_epoch}) in "
        f"{len(rising)} of {len(chosen_runs)} runs: training longer (train.epochs) may help."
    ]


def _imbalanced(data: DataRecord) -> list[str]:
    shares = _test_shares(data)
    largest = max(shares, default=0.0)
    if largest <= IMBALANCED_SHARE:
        return []
    label = data.labels[shares.index(largest)]
    return [
        f"{_percent(largest)} of the test rows are '{label}': accuracy alone says little here, look at macro "
        "F1 and MCC too."
    ]


def _failed(runs: Sequence[RunRecord]) -> list[str]:
    failed = [run.id for run in runs if run.status == "failed"]
    if not failed:
        return []
    return [f"{len(failed)} of {len(runs)} runs failed and are missing from the summary: {_list(failed)}."]


# -- order and format ----------------------------------------------------------


def _cost(row: SummaryRow) -> tuple[int, int]:
    return _COST_ORDER.index(row.kind), row.trainable_parameters


def _test_shares(data: DataRecord) -> list[float]:
    counts = data.class_counts.get("test", [])
    return [count / sum(counts) for count in counts] if any(counts) else []


def _list(names: Iterable[str]) -> str:
    """Names in a sentence; of very many, the first."""
    listed = list(names)
    more = len(listed) - MOST_NAMED
    return ", ".join(listed) if more <= 0 else f"{', '.join(listed[:MOST_NAMED])} and {more} more"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else f"{100 * share:.2g} %"


def _bounds(row: SummaryRow) -> str:
    return f"{100 * row.accuracy_low:.1f} to {100 * row.accuracy_high:.1f}"

"""What speaks against a recommendation, by stated rules.

One line each, where:

* a method's score is not above that of `majority`, or it only ever answers one class, or one number;
* trained methods have one seed only;
* the test rows cannot tell the recommended row and its best rival apart: with a 95 % half-width h of their
  difference over N rows (`PairRecord.rows_low` and `rows_high`), about N (h / margin)^2 rows bring it down to the
  margin; where h is below it already, only more seeds tell more;
* more than `LONG_SHARE` of the texts have more than `max_length` tokens, and some of those were never read;
* the recommended row was still getting better in its last planned epoch;
* the recommended row overfits: from its lowest to the last epoch the validation loss rose by more than `RISE`, while
  the training loss went on falling;
* the leading score hides a class, or rests on few rows of one (`feathertune.study.verdict.primary_metric`);
* the recommended row orders numbers that are further off than their mean would be (R2 not above 0);
* more than `SUSPECT_SHARE` of the test rows have a label that all trained methods speak against
  (`feathertune.study.verdict.mislabelled`); where a text may have several, as many labels of test rows;
* texts of a later split were removed from an earlier one, more than `REPEATED_SHARE` of the test rows;
* runs failed;
* the recommended row was picked among several by these same test rows.

Nothing here reads seconds or memory: they vary between equal runs, and the verdict must not. Not for what a study did
not measure: the report says that.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from feathertune.records import (
    HEAD,
    SUSPECTS_FILE,
    TRAINED_KINDS,
    DataRecord,
    NumberMetrics,
    PairRecord,
    RunRecord,
    Scores,
    SummaryRow,
)
from feathertune.study.verdict.pairs import find_pair
from feathertune.study.verdict.primary_metric import metric_caveats
from feathertune.study.verdict.wording import constant_answer, correlation, difference, listed, percent, score_of

LONG_SHARE = 0.2
RISE = 0.1
SUSPECT_SHARE = 0.005
REPEATED_SHARE = 0.01
# In binary, 0.54 - 0.05 is above 0.49; accuracies that differ do so by 1 / N at least.
ROUNDING = 1e-9


def find_caveats(
    chosen: SummaryRow,
    candidates: Sequence[SummaryRow],
    majority: SummaryRow | None,
    data: DataRecord,
    runs: Sequence[RunRecord],
    pairs: Sequence[PairRecord],
    *,
    margin: float,
    n_suspects: int,
) -> list[str]:
    """What to know before the recommendation is taken.

    Args:
        chosen: The row that is recommended.
        candidates: All rows that could have been, the chosen one among them.
        majority: The row of the baseline that reads no text.
        data: The data as it was used.
        runs: All runs of the study, the failed ones too.
        pairs: The methods two by two.
        margin: The loss of score that is still "as good", as a fraction.
        n_suspects: Test rows whose label may be wrong; where a text may have several, labels of test rows.
    """
    chosen_runs = [run for run in runs if run.method == chosen.method and run.status == "complete"]
    caveats = [
        *_learned_nothing(candidates, majority, data, runs),
        *_one_seed(candidates),
        *_too_few_rows(chosen, candidates, pairs, data.n_test, margin),
        *_cut_texts(data),
        # Without validation rows the last epoch counts as the best, whatever it is worth.
        *(_still_improving(chosen_runs) if data.n_validation else ()),
        *_overfitting(chosen_runs),
        *metric_caveats(chosen.metric, data),
        *_far_off(chosen_runs),
        *_wrong_labels(n_suspects, data),
        *_repeated_texts(data),
        *failed_runs(runs),
    ]
    if len(candidates) > 1:
        caveats.append(
            f"{chosen.method} was picked by its score on these test rows, which makes that score slightly "
            "too good: check it on rows that no method has seen."
        )
    return caveats


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
        constant = sum(_is_constant(score, shares) for score in scores)
        if constant:
            constants.append((row.method, constant, len(scores)))
        elif majority is not None and row.score_mean <= majority.score_mean + ROUNDING:
            below.append(f"{row.method} ({score_of(row)})")
    caveats = _constant(constants, numbers=data.task == "regression")
    if majority is not None and below:
        caveats.append(
            f"{listed(below)} {'is' if len(below) == 1 else 'are'} not above always answering "
            f"{constant_answer(data.task)} ({score_of(majority)})."
        )
    return caveats


def _is_constant(score: Scores, shares: Sequence[float]) -> bool:
    """Whether one answer to all rows would be scored like this."""
    if isinstance(score, NumberMetrics):
        return score.spearman == score.pearson == 0
    return score.mcc == 0 and any(abs(score.accuracy - share) < ROUNDING for share in shares)


def _constant(constants: Sequence[tuple[str, int, int]], *, numbers: bool) -> list[str]:
    """One line for all methods that did not learn: name, runs that answer one class or number, all its runs."""
    if not constants:
        return []
    alone = len(constants) == 1
    what, seen = ("number", "no correlation") if numbers else ("class", "MCC 0, accuracy that class's share")
    return [
        f"{listed(name for name, _, _ in constants)} {'seems' if alone else 'seem'} to answer one and the same {what} "
        f"in {sum(n for _, n, _ in constants)} of {sum(n for _, _, n in constants)} runs ({seen}): "
        f"{'it' if alone else 'they'} learned nothing; try another learning rate or more epochs."
    ]


def _far_off(chosen_runs: Sequence[RunRecord]) -> list[str]:
    explained = [run.test.r2 for run in chosen_runs if isinstance(run.test, NumberMetrics)]
    if not explained or fmean(explained) > 0:
        return []
    return [
        f"The numbers of {chosen_runs[0].method} are further off than always saying the mean of the test labels (R2 "
        f"{correlation(fmean(explained))}): their order is what was measured, trust no more than that."
    ]


def _one_seed(candidates: Sequence[SummaryRow]) -> list[str]:
    single = [row.method for row in candidates if row.kind in TRAINED_KINDS and row.n_seeds == 1]
    if not single:
        return []
    return [
        f"One seed only ({listed(single)}): how far these scores move from seed to seed is unknown. "
        "Three seeds or more (--seeds 3) would show it."
    ]


def _too_few_rows(
    chosen: SummaryRow, candidates: Sequence[SummaryRow], pairs: Sequence[PairRecord], n_test: int, margin: float
) -> list[str]:
    rivals = [row for row in candidates if row.method != chosen.method]
    if not rivals or margin == 0:
        return []
    rival = max(rivals, key=lambda row: row.score_mean)
    pair = find_pair(pairs, chosen.method, rival.method)
    if pair is None or (half := (pair.high - pair.low) / 2) <= max(margin, abs(pair.delta)):
        return []
    of = chosen.metric
    known = f"{chosen.method} and {rival.method} apart: their difference is known to {difference(half, of)} either way."
    of_rows = (pair.rows_high - pair.rows_low) / 2
    if of_rows <= margin:
        return [
            f"These seeds cannot tell {known} The {n_test:,} test rows leave {difference(of_rows, of)} of that open: "
            f"to see {difference(margin, of)}, more seeds are needed (--seeds)."
        ]
    needed = int(float(f"{n_test * (of_rows / margin) ** 2:.2g}"))
    alike = " with the same shares of the classes" if of == "balanced_accuracy" else ""
    ratio = " / ".join(difference(value, of).removesuffix(" points") for value in (of_rows, margin))
    # By variances: where the rows make less than half of the whole, twice as many of them would change little.
    seeds = " More seeds come first (--seeds): most of that is their spread." if 2 * of_rows**2 < half**2 else ""
    return [
        f"These {n_test:,} test rows cannot tell {known}{seeds} To see {difference(margin, of)}, about {needed:,} "
        f"rows{alike} are needed{' as well' if seeds else ''} ({n_test:,} x ({ratio})^2)."
    ]


def _cut_texts(data: DataRecord) -> list[str]:
    if data.truncated_fraction <= LONG_SHARE or data.unread_fraction == 0:
        return []
    unread = "" if data.unread_fraction is None else f", {percent(data.unread_fraction)} of all tokens was never read"
    more = "a larger --max-length" + (" or another --long" if data.reading == HEAD else "")
    return [
        f"{percent(data.truncated_fraction)} of the texts have more than {data.max_length:,} tokens and "
        f"{data.reading.in_words(data.max_length)}{unread}: with {more} the encoder would read more of them."
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


def _overfitting(chosen_runs: Sequence[RunRecord]) -> list[str]:
    overfitted = [run for run in chosen_runs if _overfits(run)]
    if not overfitted:
        return []
    train, validation = overfitted[0].train_losses, overfitted[0].validation_losses
    lowest = validation.index(min(validation))
    return [
        f"{overfitted[0].method} overfits in {len(overfitted)} of {len(chosen_runs)} runs: from epoch {lowest + 1} to "
        f"{len(validation)}, its validation loss rose from {validation[lowest]:.2f} to {validation[-1]:.2f} while the "
        f"training loss fell from {train[lowest]:.2f} to {train[-1]:.2f}. Fewer epochs or more training rows may help."
    ]


def _overfits(run: RunRecord) -> bool:
    if not run.validation_losses:
        return False
    lowest = run.validation_losses.index(min(run.validation_losses))
    rose = run.validation_losses[-1] > (1 + RISE) * run.validation_losses[lowest]
    return rose and run.train_losses[-1] < run.train_losses[lowest]


def _wrong_labels(n_suspects: int, data: DataRecord) -> list[str]:
    if n_suspects <= SUSPECT_SHARE * data.n_test:
        return []
    if data.task == "multi_label":
        return [
            f"{n_suspects:,} labels of test rows may be wrong, given or missing: every trained model says the "
            f"opposite, and is sure of it. {SUSPECTS_FILE} lists them; look at some."
        ]
    return [
        f"{n_suspects:,} test rows may have a wrong label: every trained model gives the same other class, and is "
        f"sure of it. {SUSPECTS_FILE} lists them; look at some."
    ]


def _repeated_texts(data: DataRecord) -> list[str]:
    if data.overlap_removed <= REPEATED_SHARE * data.n_test:
        return []
    return [
        f"{data.overlap_removed:,} training or validation texts stood in a later split, too, and were removed: this "
        "source repeats itself, and what is almost the same text is not found. The scores may be too good."
    ]


def failed_runs(runs: Sequence[RunRecord]) -> list[str]:
    """One line for all runs that failed."""
    failed = [run.id for run in runs if run.status == "failed"]
    if not failed:
        return []
    return [f"{len(failed)} of {len(runs)} runs failed and are missing from the summary: {listed(failed)}."]


def _test_shares(data: DataRecord) -> list[float]:
    """Of the classes; of several labels a text none, since they do not add up to the rows, nor of numbers."""
    if data.task != "single_label":
        return []
    counts = data.class_counts.get("test", [])
    return [count / sum(counts) for count in counts] if any(counts) else []

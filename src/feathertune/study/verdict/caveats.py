"""Reasons against relying on a recommendation, by stated rules that ignore seconds and memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from feathertune.records import TRAINED_KINDS, Caveat, RunRecord, SummaryRow
from feathertune.study.verdict.evidence import ROUNDING, Evidence
from feathertune.study.verdict.summary import find_pair

# Share of texts that are truncated; rise of the validation loss from its lowest epoch; shares of test rows.
LONG_SHARE = 0.2
RISE = 0.1
MISLABELLED_SHARE = 0.005
REPEATED_SHARE = 0.01


def find_caveats(chosen: SummaryRow, evidence: Evidence) -> list[Caveat]:
    """Return what a reader should know before relying on the recommended row, the most important first.

    This order is the order of importance everywhere: a terminal shows only the first caveats.
    """
    runs = evidence.complete(chosen.method)
    tests = [run.test for run in runs if run.test is not None]
    return [
        # The result may be void,
        *_learned_nothing(evidence),
        *failed_runs(evidence.runs),
        *evidence.task.primary.caveats(evidence.data),
        *evidence.task.caveats(chosen.method, tests),
        # or chance,
        *_cannot_separate(chosen, evidence),
        *_one_seed(evidence),
        # or better with other settings or data.
        *_truncated(evidence),
        *_training(chosen.method, runs, evidence),
        *_bad_test_rows(evidence),
        *([Caveat.of("selected_on_test", method=chosen.method)] if len(evidence.candidates) > 1 else []),
    ]


def _learned_nothing(evidence: Evidence) -> Iterable[Caveat]:
    """Report methods that give one answer to all texts, and methods not above the majority baseline."""
    majority, counts = evidence.row("majority"), evidence.data.class_counts.get("test", [])
    constant: dict[str, tuple[int, int]] = {}
    below: dict[str, float] = {}
    for row in evidence.candidates:
        tests = [run.test for run in evidence.runs if run.method == row.method and run.test is not None]
        n = sum(evidence.task.is_constant(test, counts) for test in tests)
        if n:
            constant[row.method] = n, len(tests)
        elif majority is not None and row.score_mean <= majority.score_mean + ROUNDING:
            below[row.method] = row.score_mean
    if constant:
        n, total = (sum(values) for values in zip(*constant.values(), strict=True))
        yield Caveat.of("learned_nothing", methods=list(constant), n=n, total=total)
    if majority is not None and below:
        yield Caveat.of("not_above_majority", methods=below, majority=majority.score_mean)


def _one_seed(evidence: Evidence) -> Iterable[Caveat]:
    single = [row.method for row in evidence.candidates if row.kind in TRAINED_KINDS and row.n_seeds == 1]
    if single:
        yield Caveat.of("one_seed", methods=single)


def _cannot_separate(chosen: SummaryRow, evidence: Evidence) -> Iterable[Caveat]:
    """Report that the recommended row and its best rival are too close for this many test rows or seeds.

    With a 95% half-width h over N test rows, about N (h / margin)^2 rows reduce it to the margin. If h is already below
    the margin, only more seeds help. Seeds come first if rows make up less than half of the variance.
    """
    rivals = [row for row in evidence.candidates if row.method != chosen.method]
    if not rivals or evidence.margin == 0:
        return
    rival = max(rivals, key=lambda row: row.score_mean)
    pair = find_pair(evidence.pairs, chosen.method, rival.method)
    if pair is None or (half := (pair.high - pair.low) / 2) <= max(evidence.margin, abs(pair.delta)):
        return
    by_rows, n = (pair.rows_high - pair.rows_low) / 2, evidence.data.n_test
    sign = 1 if pair.a == chosen.method else -1
    found = {
        "method": chosen.method,
        "rival": rival.method,
        "difference": sign * pair.delta,
        "half_width": half,
        "half_width_of_rows": by_rows,
        "margin": evidence.margin,
        "n_test": n,
    }
    if by_rows <= evidence.margin:
        yield Caveat.of("too_few_seeds", **found)
        return
    needed = int(float(f"{n * (by_rows / evidence.margin) ** 2:.2g}"))
    yield Caveat.of("too_few_test_rows", **found, n_needed=needed, seeds_first=2 * by_rows**2 < half**2)


def _truncated(evidence: Evidence) -> Iterable[Caveat]:
    for base in evidence.bases:
        if base.truncated_fraction > LONG_SHARE and base.unread_fraction != 0:
            named = {"base": base.name} if len(evidence.bases) > 1 else {}
            yield Caveat.of("truncated", share=base.truncated_fraction, unread=base.unread_fraction, **named)


def _training(method: str, runs: Sequence[RunRecord], evidence: Evidence) -> Iterable[Caveat]:
    """Report the most frequent state of the recommended method's trainings."""
    states = [training_state(run, validates=evidence.data.n_validation > 0) for run in runs]
    found = Counter(state for state in states if state is not None)
    if not found:
        return
    (state, n), *_ = found.most_common(1)
    run = runs[states.index(state)]
    losses = {}
    if state != "still_improving":
        lowest = _lowest_epoch(run)
        losses = {
            "from_epoch": lowest + 1,
            "validation_losses": [run.validation_losses[lowest], run.validation_losses[-1]],
            "train_losses": [run.train_losses[lowest], run.train_losses[-1]],
        }
    yield Caveat.of(state, method=method, n=n, total=len(runs), epoch=run.epochs, **losses)


def training_state(run: RunRecord, *, validates: bool = True) -> str | None:
    """Return a code for how a run's training ended, or None if there is nothing to report.

    ``still_improving``: the best epoch is the last planned one, and the validation loss does not rise.
    ``overconfident``: the best epoch is the last planned one, but the validation loss rose by more than `RISE` while
    the training loss fell. ``overfits``: the same, but an earlier epoch was the best. Without validation rows: None.
    """
    if not validates or run.epochs == 0:
        return None
    rose = _loss_rose(run)
    if run.best_epoch == run.hyperparameters.get("epochs", run.epochs):
        return "overconfident" if rose else "still_improving"
    return "overfits" if rose else None


def _lowest_epoch(run: RunRecord) -> int:
    return run.validation_losses.index(min(run.validation_losses))


def _loss_rose(run: RunRecord) -> bool:
    if not run.validation_losses:
        return False
    lowest = _lowest_epoch(run)
    rose = run.validation_losses[-1] > (1 + RISE) * run.validation_losses[lowest]
    return rose and run.train_losses[-1] < run.train_losses[lowest]


def _bad_test_rows(evidence: Evidence) -> Iterable[Caveat]:
    if evidence.n_mislabelled > MISLABELLED_SHARE * evidence.data.n_test:
        yield Caveat.of("mislabelled", n=evidence.n_mislabelled)
    if evidence.data.overlap_removed > REPEATED_SHARE * evidence.data.n_test:
        yield Caveat.of("repeated_texts", n=evidence.data.overlap_removed)


def failed_runs(runs: Sequence[RunRecord]) -> list[Caveat]:
    """Return one caveat for all runs that failed."""
    failed = [run.id for run in runs if run.status == "failed"]
    return [Caveat.of("failed_runs", runs=failed, total=len(runs))] if failed else []

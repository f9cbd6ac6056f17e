"""Turn a study's record and the files next to it into the values of the template, cut at the `Limits`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from feathertune.records import TRAINED_KINDS, RunRecord, StudyRecord
from feathertune.records.row_names import REFERENCE, base_of_row, reference_of, row_name
from feathertune.report.drawing import charts, run_charts, svg
from feathertune.report.format import units
from feathertune.report.panels.changes import find_changes
from feathertune.report.panels.classes import class_names, find_confusions, find_label_scores
from feathertune.report.panels.curves import at_most_rows, by_length, label_curve
from feathertune.report.panels.not_measured import find_gaps
from feathertune.report.panels.reliability import find_reliability
from feathertune.report.panels.searches import searches
from feathertune.report.rows import Limits, Method, find_mean_scores, method_rows, most_telling, run_cells
from feathertune.report.side_files import Epoch, read_epochs, read_predictions
from feathertune.report.wording import caveat_texts, verdict_text
from feathertune.tasks import Score, Task, task_of_study
from feathertune.tasks.formats import ScoreFormat, capitalised

Tile = tuple[str, str, tuple[str, ...]]  # question, answer, and more lines
Learning = tuple[Method, Markup, tuple[run_charts.Curve, ...]]


def build_view(study: StudyRecord, folder: Path, limits: Limits) -> dict[str, Any]:
    """Read the files next to the record, draw the charts, and return everything that the template needs.

    `labels_curve` and `failed` cover all numbers of training rows, the rest the largest one.
    """
    whole, study = study, at_most_rows(study)
    done = [run for run in study.runs if run.status == "complete"]
    task = task_of_study(study)
    methods = method_rows(task, study, done)
    shown = most_telling(methods, limits.methods)
    n_classes = len(study.data.labels)
    predictions = {run.id: found for run in done if (found := read_predictions(folder, run, n_classes)) is not None}
    readable = [run for run in done if run.id in predictions]
    trained = [run for run in done if run.kind in TRAINED_KINDS]
    curves = {run.id: read_epochs(folder, run) for run in trained}
    title, say = capitalised(task.primary.title), task.primary.format
    changes = None
    if "changes" in task.panels:
        changes = find_changes(study, folder, predictions, at_most=limits.examples)
    return dict(
        study=study,
        task=task,
        metric=title,
        verdict=verdict_text(study),
        caveats=tuple(caveat_texts(study)),
        column_notes=" ".join(column.note for column in task.columns if column.note),
        run_cells={run.id: run_cells(run.test, task) for run in study.runs if run.test is not None},
        limits=limits,
        methods=shown,
        tiles=_tiles(study, methods, task.primary),
        failed=tuple(run for run in whole.runs if run.status == "failed"),
        labels_curve=label_curve(whole, shown[: limits.cards]),
        by_length=[one for base in study.bases if (one := by_length(study, base, shown, limits.cards)) is not None],
        intervals=interval_charts(task, shown),
        tradeoffs=_tradeoffs(shown, title, say),
        searches=searches(whole)[: limits.methods],
        learning=_learning(shown, trained, curves, limits, task.primary),
        reliability=find_reliability(task, shown, done, limits),
        confusions=find_confusions(task, study, shown, readable, predictions, limits),
        label_scores=find_label_scores(task, study, shown, readable, predictions, limits),
        mean_scores=find_mean_scores(task, shown, done),
        numbers=tuple(
            (split, tuple(map(units.in_unit, found.model_dump().values())))
            for split, found in study.data.numbers.items()
        ),
        changes=changes,
        gaps=tuple(
            find_gaps(
                study,
                unreadable=[run.id for run in done if "predictions" in task.panels and run.id not in predictions],
                without_curve=[run.id for run in trained if not curves[run.id]],
            )
        ),
        labels=tuple(class_names(study, limits)),
        hyperparameters=_hyperparameters(shown, done, limits),
        hardware=_word_pairs(study.hardware, limits),
        versions=_word_pairs(study.versions, limits),
        command=units.clip(shlex.join(study.command), 10 * limits.text),
    )


def _tiles(study: StudyRecord, methods: Sequence[Method], score: Score) -> tuple[Tile, ...]:
    """Return questions with their answers: the method, its score, its interval and its cost."""
    say = score.format
    chosen = next((method for method in methods if method.recommended), None)
    if chosen is None:
        return ()
    row = chosen.row
    named = [row_name(name, base_of_row(row.method)) for name in ("foundation", REFERENCE)]
    others = [m.row for name in named for m in methods if m.row.method == name and m is not chosen]
    good = tuple(f"{other.method}: {say.score(other.score_mean)}" for other in others)
    sure = [f"{study.data.n_test:,} test rows, {row.n_seeds} {'seed' if row.n_seeds == 1 else 'seeds'}"]
    if row.delta_vs_full is not None:
        span = f" ({say.span(row.delta_low, row.delta_high)})" if row.delta_low is not None else ""
        sure.insert(0, f"{say.difference(row.delta_vs_full)}{say.unit} against full{span}")
    cheap = []
    if row.speedup_vs_full is not None and row.method != reference_of(row.method):
        cheap.append(f"{units.times(row.speedup_vs_full)} as fast as full")
    if chosen.trained_share is not None:
        size = f", {units.size(row.adapter_bytes)} to ship" if row.adapter_bytes else ""
        cheap.append(f"{units.percent_of_weights(chosen.trained_share)} of the weights trained{size}")
    return (
        ("Take", units.clip(row.method, 40), (chosen.description,)),
        ("How good", say.score(row.score_mean), (score.meaning, *good)),
        ("How sure", say.interval(row.score_low, row.score_high), tuple(sure)),
        ("How cheap", units.seconds(row.seconds_mean), tuple(cheap)),
    )


def interval_charts(task: Task, methods: Sequence[Method]) -> tuple[Markup, ...]:
    """Draw the methods' scores with their intervals, for a desktop and a phone; nothing without methods."""
    if not methods:
        return ()
    rows = [charts.Estimate(m.row.method, m.style, m.row, m.scores, m.recommended) for m in methods]
    chance = next((m.row.score_mean for m in methods if m.row.method == "majority"), None)
    title = capitalised(task.primary.title)
    reference = None if chance is None else (task.words.constant_line, chance)
    return tuple(
        charts.intervals(rows, reference=reference, width=width, score=title, say=task.primary.format)
        for width in (charts.WIDE_PX, charts.SMALL_PX)
    )


def _tradeoffs(methods: Sequence[Method], score: str, say: ScoreFormat) -> tuple[SimpleNamespace, ...]:
    """Return the score against each cost; without a chart if fewer than two methods have a number."""
    fields = {svg.SECONDS: "seconds_mean", svg.BYTES: "memory_mean_bytes", svg.PARAMETERS: "trainable_parameters"}
    found = []
    for quantity, field in fields.items():
        rows = [
            charts.Tradeoff(method.row.method, method.style, float(cost), method.row.score_mean)
            for method in methods
            if (cost := getattr(method.row, field)) is not None
        ]
        found.append(
            SimpleNamespace(
                quantity=quantity,
                chart=charts.tradeoffs(rows, quantity, score=score, say=say) if len(rows) > 1 else None,
                rows=sorted(rows, key=lambda point: point.cost),
                front={point.name for point in charts.pareto_front(rows)},
            )
        )
    return tuple(found)


def _learning(
    methods: Sequence[Method],
    trained: Sequence[RunRecord],
    curves: Mapping[str, Sequence[Epoch]],
    limits: Limits,
    score: Score,
) -> tuple[Learning, ...]:
    by_method: list[tuple[Method, tuple[run_charts.Curve, ...]]] = []
    for method in methods:
        runs = [run for run in trained if run.method == method.row.method and curves[run.id]]
        found = tuple(
            run_charts.Curve(run.seed, tuple(curves[run.id][: limits.epochs]), run.best_epoch)
            for run in runs[: limits.cards]
        )
        if found:
            by_method.append((method, found))
    by_method = by_method[: limits.cards]
    everything = [curve for _, found in by_method for curve in found]
    drawn = partial(run_charts.learning, everything=everything, score=score.title, say=score.format)
    return tuple((m, drawn(m.row.method, m.style, found), found) for m, found in by_method)


def _hyperparameters(
    methods: Sequence[Method], done: Sequence[RunRecord], limits: Limits
) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """Return them by method; a value that differs between seeds is given for each."""
    found = []
    for method in methods:
        merged: dict[str, dict[str, None]] = {}
        for run in (run for run in done if run.method == method.row.method):
            for key, value in run.hyperparameters.items():
                merged.setdefault(key, {})[units.plain(key, value, 2 * limits.words)] = None
        pairs = [(units.clip(key, limits.words), " / ".join(list(said)[:5])) for key, said in merged.items()]
        if pairs:
            found.append((method.row.method, tuple(pairs[: limits.labels])))
    return tuple(found)


def _word_pairs(mapping: Mapping[str, Any], limits: Limits) -> tuple[tuple[str, str], ...]:
    """Return a mapping of the record, such as its hardware, in words."""
    words = limits.words
    return tuple(
        (units.clip(key, words).removesuffix("_bytes").replace("_", " "), units.plain(key, value, 2 * words))
        for key, value in list(mapping.items())[: limits.labels]
    )

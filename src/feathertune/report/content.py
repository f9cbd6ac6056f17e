"""Values of the report's template, from a study's record and the files next to it, shortened to the `Limits`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from markupsafe import Markup

from feathertune.records import CONFIG_FILE, TRAINED_KINDS, RunRecord, StudyRecord
from feathertune.records.row_names import base_of_row, method_of_row, reference_of
from feathertune.report.context import context_of
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
from feathertune.report.wording import MOST_CAVEATS, caveat_texts, headline, short_caveats, verdict_text
from feathertune.tasks import Score, Task, task_of_study
from feathertune.tasks.formats import ScoreFormat, capitalised

Learning = tuple[Method, Markup, tuple[run_charts.Curve, ...]]


def build_view(study: StudyRecord, folder: Path, limits: Limits) -> dict[str, Any]:
    """Read the files next to the record, draw the charts, and return everything that the template needs.

    `labels_curve` and `failed` cover every number of training rows; everything else covers the largest.
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
        opening=_opening(study, folder, methods),
        column_notes=" ".join(column.note for column in task.columns if column.note),
        run_cells={run.id: run_cells(run.test, task) for run in study.runs if run.test is not None},
        limits=limits,
        methods=shown,
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


def _opening(study: StudyRecord, folder: Path, methods: Sequence[Method]) -> SimpleNamespace:
    """Return the first screen: what to do, how sure that is, what it costs, the command, and the caveats."""
    chosen = next((method for method in methods if method.recommended), None)
    score = context_of(study).task.primary
    return SimpleNamespace(
        headline=headline(study),
        evidence="" if chosen is None else _evidence(study, methods, chosen),
        cost="" if chosen is None else _cost(chosen),
        ship=_ship(study, folder, methods, chosen),
        short_caveats=tuple(short_caveats(study))[:MOST_CAVEATS],
        verdict=verdict_text(study),
        meaning="" if chosen is None else _meaning(score, chosen.row.score_mean),
        caveats=tuple(caveat_texts(study)),
    )


def _meaning(score: Score, value: float) -> str:
    """Return a sentence on what a score measures; a meaning that starts with a number explains the scale."""
    start = f"{capitalised(score.title)}:" if score.meaning[0].isdigit() else score.format.score(value)
    return f"{start} {score.meaning}."


def _evidence(study: StudyRecord, methods: Sequence[Method], chosen: Method) -> str:
    """Return the score with its interval, and the gain over full fine-tuning, or that of the next best method."""
    context, row = context_of(study), chosen.row
    seeds = f"{row.n_seeds} {'seed' if row.n_seeds == 1 else 'seeds'}"
    score = f"{context.score(row.score_mean)} {context.task.primary.title}"
    said = f"{score} ({context.interval(row.score_low, row.score_high)}) on {study.data.n_test:,} test rows, {seeds}"
    if row.delta_vs_full is not None:
        difference = context.difference(row.delta_vs_full, row.delta_low, row.delta_high)
        return f"{said}. Gain over full fine-tuning: {difference}."
    rivals = (m.row for m in methods if m is not chosen and reference_of(m.row.method) == row.method)
    for rival in rivals:
        if rival.delta_vs_full is not None:
            difference = context.difference(rival.delta_vs_full, rival.delta_low, rival.delta_high)
            return f"{said}. Next best, {units.clip(rival.method, 40)}: {difference}."
    return f"{said}."


def _cost(chosen: Method) -> str:
    """Return time, memory and size of the recommended method."""
    row = chosen.row
    speed = ""
    if row.speedup_vs_full is not None and row.method != reference_of(row.method):
        speed = f" ({units.times(row.speedup_vs_full)} as fast as full fine-tuning)"
    said = [f"{units.seconds(row.seconds_mean)} per run{speed}"]
    if row.memory_mean_bytes is not None:
        said.append(f"{units.size(row.memory_mean_bytes)} peak memory")
    if row.adapter_bytes:
        said.append(f"{units.size(row.adapter_bytes)} to ship")
    if chosen.trained_share is not None and chosen.trained_share < 1:
        said.append(f"{units.percent_of_weights(chosen.trained_share)} of the parameters trained")
    return ", ".join(said)


def _ship(study: StudyRecord, folder: Path, methods: Sequence[Method], chosen: Method | None) -> SimpleNamespace | None:
    """Return the command that serves or trains the recommended method, else the best trained one; None without any."""
    trained = [method for method in methods if method.row.kind in TRAINED_KINDS]
    if chosen is None or not trained:
        return None
    shipped = chosen if chosen in trained else trained[0]
    name, place = shipped.row.method, _study_folder(study, folder)
    run = next((run for run in study.runs if run.method == name and run.bundle is not None), None)
    if run is not None:
        command = ["feathertune", "serve", f"{place}/{run.bundle}"]
        about = f"Serves the bundle that this study trained with seed {run.seed}."
    else:
        command = ["feathertune", "train", study.data.source, "--config", f"{place}/{CONFIG_FILE}"]
        command += [word for one in study.bases if one.name == base_of_row(name) for word in ("--base", one.id)]
        command += [] if study.data.shots is None else ["--set", "data.shots=null"]
        command += ["--method", _with_found_options(study, name), "--out", "my-model"]
        about = "Trains the model again with the settings of this study and writes a bundle."
    if shipped is not chosen:
        plain, best = (units.clip(one.row.method, 40) for one in (chosen, shipped))
        about = f"{plain} is plain scikit-learn and has no bundle. This ships {best}, the best trained method."
    return SimpleNamespace(command=units.clip(shlex.join(command), 400), about=about)


def _study_folder(study: StudyRecord, folder: Path) -> str:
    """Return the study's folder as the study's command names it; without ``--out``, its place by default."""
    ours = study.command[:1] == ["feathertune"]  # a script has options of its own
    for option, value in zip(study.command, study.command[1:], strict=False):
        if ours and option == "--out":
            return value.rstrip("/")
    return f"runs/{folder.name}"


def _with_found_options(study: StudyRecord, row: str) -> str:
    """Return a row's method with the options that its search found, such as ``lora:r=16``."""
    method = method_of_row(row)
    found = [one.trials[one.chosen].options for one in study.searches if one.method == row and one.chosen is not None]
    if not found:
        return method
    name, fused, rest = method.partition("+")
    said = (f":{key}={value}" for key, value in found[-1].items() if f":{key}=" not in name)
    return "".join([name, *said, fused, rest])


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
    """Return the score against each cost, with a chart if at least two methods have a number."""
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
    """Return the hyperparameters by method; a value that differs between seeds is listed for each."""
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
    """Return a mapping of the record, such as its hardware, as pairs of texts."""
    words = limits.words
    return tuple(
        (units.clip(key, words).removesuffix("_bytes").replace("_", " "), units.plain(key, value, 2 * words))
        for key, value in list(mapping.items())[: limits.labels]
    )

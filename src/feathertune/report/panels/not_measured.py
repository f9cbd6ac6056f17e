"""Sentences about gaps: what a study did not measure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from feathertune.records import TRAINED_KINDS, StudyRecord
from feathertune.records.row_names import REFERENCE, method_of_row
from feathertune.report.format import units
from feathertune.report.panels.searches import most_trials
from feathertune.report.wording import MOST_NAMED, listed
from feathertune.tasks import SCORES, task_of_study

_FEW_TEST_ROWS = 1000
_FEW_CLASS_ROWS = 20


def find_gaps(study: StudyRecord, *, unreadable: Collection[str], without_curve: Collection[str]) -> list[str]:
    """Return one sentence per gap, the most important first.

    `unreadable` lists finished runs without readable predictions, `without_curve` those without metrics, by id.
    """
    return [
        *_runs(study),
        *_methods(study),
        *_precision(study),
        *_texts(study),
        *_costs(study),
        *_files(unreadable, without_curve),
        "Other data and base models: the numbers hold for this data and "
        f"{'this base model' if len(study.bases) == 1 else 'these base models'}. {_settings(study)}",
    ]


def _settings(study: StudyRecord) -> str:
    n_trials = most_trials(study.searches)
    if not n_trials:
        return "Other settings: each method ran with the settings below, without a recorded search for better ones."
    return (
        f"A longer search: options are the best of {n_trials} trials on validation rows with one seed. Times exclude "
        "the trials."
    )


def _runs(study: StudyRecord) -> Iterator[str]:
    missing = set(study.planned_runs) - {run.id for run in study.runs}
    if missing:
        yield (
            f"{len(missing)} of {len(study.planned_runs)} planned runs: "
            "the study stopped, or this report was made, before they finished."
        )
    failed = [run for run in study.runs if run.status == "failed"]
    if failed:
        names = ", ".join(sorted({units.clip(run.method, 40) for run in failed})[:8])
        yield f"{len(failed)} failed {_runs_word(len(failed))} ({names}): no scores. Their errors are listed above."
    if study.summary and not any(method_of_row(row.method) == REFERENCE for row in study.summary):
        yield "Full fine-tuning: without this reference, the report gives no differences."


def _methods(study: StudyRecord) -> Iterator[str]:
    """Yield sentences on methods without a row, and on rows that miss the parameter budget."""
    for name, why in list(study.left_out.items())[:MOST_NAMED]:
        yield f"{units.clip(name, 40)}: left out. {units.clip(why, 300)}"
    if len(study.left_out) > MOST_NAMED:
        yield f"{len(study.left_out) - MOST_NAMED} more methods were left out; study.json lists the reasons."
    if study.parameter_budget is not None and study.off_budget:
        names = listed(units.clip(name, 40) for name in study.off_budget)
        yield (
            f"Equal sizes: the budget is {study.parameter_budget:,} trained parameters of the encoder, but {names} "
            "miss it by more than a quarter."
        )


def _runs_word(n: int) -> str:
    return "run" if n == 1 else "runs"


def _precision(study: StudyRecord) -> Iterator[str]:
    trained = [row for row in study.summary if row.kind in TRAINED_KINDS]
    fewest = min((row.n_seeds for row in trained), default=0)
    if fewest == 1:
        yield ("Variation between seeds: with one seed, the intervals cover other test rows, but not other seeds.")
    elif 1 < fewest < 5:
        yield f"Variation between seeds, precisely: {fewest} seeds give only a rough estimate."
    row = next((row for row in study.summary if row.method == study.verdict.recommended), None)
    if study.data.n_test < _FEW_TEST_ROWS and row is not None:
        half = SCORES[row.metric].format.within((row.score_high - row.score_low) / 2)
        yield (
            f"Small differences: with {study.data.n_test:,} test rows, "
            f"the {task_of_study(study).primary.title} of {units.clip(row.method, 40)} is known to about ±{half}."
        )
    counts = study.data.class_counts.get("test", [])
    rare = sum(1 for count in counts if count < _FEW_CLASS_ROWS)
    if rare:
        yield (
            f"Rare classes: {rare} of {len(counts)} have fewer than {_FEW_CLASS_ROWS} test rows, too few to judge each."
        )


def _texts(study: StudyRecord) -> list[str]:
    data = study.data
    long = [base for base in study.bases if base.truncated_fraction and base.unread_fraction != 0]
    what = {
        "head": f"Text after the first {data.max_length:,} tokens",
        "head-tail": "The middle of long texts",
        "windows": "Text between the windows of very long texts",
    }[data.reading.long]
    return [
        f"{what}{'' if base.unread_fraction is None else f', {units.percent(base.unread_fraction)} of all tokens'}: "
        f"{units.percent(base.truncated_fraction)} of texts exceed {data.max_length:,} tokens "
        f"{f'of {base.name} ' if len(study.bases) > 1 else ''}and {data.reading.in_words(data.max_length)}."
        for base in long
    ]


def _costs(study: StudyRecord) -> Iterator[str]:
    if not _used_gpu(study.hardware):
        yield ("A GPU: times and memory are from a CPU. Another machine may rank methods differently by cost.")
    trained = [run for run in study.runs if run.status == "complete" and run.kind in TRAINED_KINDS]
    if trained and all(run.mfu is None for run in trained):
        yield "Model FLOPs utilization (MFU)."
    without = sorted({row.method for row in study.summary if row.memory_mean_bytes is None})
    if without:
        names = ", ".join(units.clip(name, 30) for name in without[:8])
        yield f"Peak memory of {names}{' and others' if len(without) > 8 else ''}."


def _used_gpu(hardware: dict[str, Any]) -> bool:
    device = hardware.get("device")
    if isinstance(device, str):
        return not device.lower().startswith("cpu")
    return any(("gpu" in key.lower() or "cuda" in key.lower()) and bool(value) for key, value in hardware.items())


def _files(unreadable: Collection[str], without_curve: Collection[str]) -> Iterator[str]:
    if unreadable:
        yield (
            f"Predictions of {len(unreadable)} finished {_runs_word(len(unreadable))} could not be read: "
            "confusion matrices and examples exclude them."
        )
    if without_curve:
        yield (f"Learning curves of {len(without_curve)} finished {_runs_word(len(without_curve))}: no metrics found.")

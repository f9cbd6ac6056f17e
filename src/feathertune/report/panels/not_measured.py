"""Sentences on what a study did not measure."""

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
    """Return sentences, the weightiest first.

    `unreadable` has the ids of finished runs without readable predictions, `without_curve` those without metrics.
    """
    return [
        *_runs(study),
        *_methods(study),
        *_precision(study),
        *_texts(study),
        *_costs(study),
        *_files(unreadable, without_curve),
        f"Other data and other encoders: the numbers hold for this data and "
        f"{'this encoder' if len(study.bases) == 1 else 'these encoders'}. {_settings(study)}",
    ]


def _settings(study: StudyRecord) -> str:
    n_trials = most_trials(study.searches)
    if not n_trials:
        return "The record holds no search for better settings: each method ran with those listed below."
    return (
        f"Nor what a longer search would find: options were the best of {n_trials} trials on validation rows with one "
        "seed, and times are those of the runs, without the trials."
    )


def _runs(study: StudyRecord) -> Iterator[str]:
    missing = set(study.planned_runs) - {run.id for run in study.runs}
    if missing:
        yield (
            f"{len(missing)} of {len(study.planned_runs)} planned runs: "
            "the study stopped, or was read, before they ended."
        )
    failed = [run for run in study.runs if run.status == "failed"]
    if failed:
        names = ", ".join(sorted({units.clip(run.method, 40) for run in failed})[:8])
        yield f"{len(failed)} failed {_runs_word(len(failed))} ({names}): no numbers, the errors are below."
    if study.summary and not any(method_of_row(row.method) == REFERENCE for row in study.summary):
        yield "Full fine-tuning: without it there is no yardstick, and no differences are given."


def _methods(study: StudyRecord) -> Iterator[str]:
    """Return sentences on methods without a row, and on rows of another size."""
    for name, why in list(study.left_out.items())[:MOST_NAMED]:
        yield f"{units.clip(name, 40)}: left out. {units.clip(why, 300)}"
    if len(study.left_out) > MOST_NAMED:
        yield f"{len(study.left_out) - MOST_NAMED} more methods that were left out; study.json says why."
    if study.parameter_budget is not None and study.off_budget:
        names = listed(units.clip(name, 40) for name in study.off_budget)
        yield (
            f"All methods at one size: each was sized to train {study.parameter_budget:,} parameters of the encoder, "
            f"but {names} could come no nearer than a quarter more or less."
        )


def _runs_word(n: int) -> str:
    return "run" if n == 1 else "runs"


def _precision(study: StudyRecord) -> Iterator[str]:
    trained = [row for row in study.summary if row.kind in TRAINED_KINDS]
    fewest = min((row.n_seeds for row in trained), default=0)
    if fewest == 1:
        yield (
            "The spread between seeds: with one seed, the intervals show what other test rows would change, "
            "not what another seed would."
        )
    elif 1 < fewest < 5:
        yield f"The spread between seeds, well: {fewest} seeds give only a rough idea of it."
    row = next((row for row in study.summary if row.method == study.verdict.recommended), None)
    if study.data.n_test < _FEW_TEST_ROWS and row is not None:
        half = SCORES[row.metric].format.within((row.score_high - row.score_low) / 2)
        yield (
            f"Small differences: with {study.data.n_test:,} test rows, "
            f"the {task_of_study(study).primary.title} of {units.clip(row.method, 40)} is known to about ± {half}."
        )
    counts = study.data.class_counts.get("test", [])
    rare = sum(1 for count in counts if count < _FEW_CLASS_ROWS)
    if rare:
        yield (
            f"Rare classes: {rare} of {len(counts)} have fewer than {_FEW_CLASS_ROWS} test rows, "
            "so little can be said about each."
        )


def _texts(study: StudyRecord) -> list[str]:
    data = study.data
    long = [base for base in study.bases if base.truncated_fraction and base.unread_fraction != 0]
    what = {
        "head": f"What stands after the first {data.max_length:,} tokens",
        "head-tail": "What stands in the middle of long texts",
        "windows": "What stands between the windows of very long texts",
    }[data.reading.long]
    return [
        f"{what}{'' if base.unread_fraction is None else f', {units.percent(base.unread_fraction)} of all tokens'}: "
        f"{units.percent(base.truncated_fraction)} of the texts have more than {data.max_length:,} "
        f"{f'tokens of {base.name} ' if len(study.bases) > 1 else ''}and {data.reading.in_words(data.max_length)}."
        for base in long
    ]


def _costs(study: StudyRecord) -> Iterator[str]:
    if not _used_gpu(study.hardware):
        yield ("A GPU: times and memory are those of a CPU, and another machine may order methods differently.")
    trained = [run for run in study.runs if run.status == "complete" and run.kind in TRAINED_KINDS]
    if trained and all(run.mfu is None for run in trained):
        yield "How much of the machine's peak was used (MFU)."
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
            "confusion matrices and examples leave them out."
        )
    if without_curve:
        yield (
            f"Learning curves of {len(without_curve)} finished {_runs_word(len(without_curve))}: no metrics were found."
        )

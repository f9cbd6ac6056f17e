"""Trials of each search, for the report and the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace

from feathertune.records import SearchRecord, StudyRecord, TrialRecord
from feathertune.report.format import units
from feathertune.tasks import task_of_study
from feathertune.tasks.formats import ScoreFormat

_LENGTH = 120


def searches(study: StudyRecord) -> tuple[SimpleNamespace, ...]:
    """Return the searches as text, in the order of the methods; `before` is the validation score of the defaults."""
    return tuple(_search(record, task_of_study(study).primary.format) for record in study.searches)


def options_text(trial: TrialRecord) -> str:
    """Return a trial's options as text."""
    said = {name: f"{value:.2g}" if isinstance(value, float) else value for name, value in trial.options.items()}
    return ", ".join(f"{name} {units.plain(name, value, _LENGTH)}" for name, value in said.items())


def most_trials(found: Sequence[SearchRecord]) -> int:
    """Return the largest number of trials of any method; 0 without a search."""
    return max((len(one.trials) for one in found), default=0)


def _outcome(trial: TrialRecord, say: ScoreFormat) -> str:
    scored = say.score(trial.score)
    outcome = {"complete": scored, "pruned": f"{scored}, stopped early", "failed": f"failed: {trial.error}"}
    return units.clip(outcome[trial.status], _LENGTH)


def _search(record: SearchRecord, say: ScoreFormat) -> SimpleNamespace:
    chosen = None if record.chosen is None else record.trials[record.chosen]
    counts: Counter[str] = Counter(trial.status for trial in record.trials)
    words = {"complete": "complete", "pruned": "stopped early", "failed": "failed"}
    found = "the defaults: all trials failed" if chosen is None else options_text(chosen)
    return SimpleNamespace(
        method=units.clip(record.method, 60),
        train_rows=record.train_rows,
        ended=", ".join(f"{counts[status]} {said}" for status, said in words.items() if counts[status]),
        before=record.trials[0].score if record.trials else None,
        after=None if chosen is None else chosen.score,
        found=f"{found} (the defaults)" if chosen is not None and chosen.number == 0 else found,
        seconds=sum(trial.seconds for trial in record.trials),
        chosen=record.chosen,
        trials=tuple((trial, options_text(trial), _outcome(trial, say)) for trial in record.trials),
    )

"""Compare two finished studies: what differs between them, and each method's results in both.

Results are tested only if both studies have the same test rows and the same primary metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import yaml
from numpy.typing import NDArray

from feathertune.baselines import BASELINES
from feathertune.config.loading import read_yaml
from feathertune.errors import ConfigError
from feathertune.records import (
    CONFIG_FILE,
    TRAINED_KINDS,
    RunRecord,
    StudyRecord,
    SummaryRow,
    at_largest_size,
    comparable,
    differences,
    load_study,
)
from feathertune.records.row_names import base_of_row, method_of_row, row_name
from feathertune.report.comparison import Comparison, Differing, Group, MethodPair, Paired, Side, Untested
from feathertune.report.format import units
from feathertune.report.side_files import read_answers, read_test_fingerprint
from feathertune.statistics.inference import holm, paired_difference
from feathertune.statistics.measures import Answers
from feathertune.tasks import SCORES, task_of_study
from feathertune.tasks.formats import ScoreFormat

_ALPHA = 0.05
# Largest number of names in a sentence; the table lists all of them.
_NAMED = 8
# Settings that choose runs and wording, but change no run's result.
_OF_THE_STUDY = ("study.methods", "study.seeds", "study.margin", "study.keep_full")

Settings = Mapping[str, Any]
Named = TypeVar("Named", RunRecord, SummaryRow)


def compare_studies(first: Path, second: Path) -> Comparison:
    """Compare two study folders; differences are B (`second`) minus A (`first`)."""
    if first.resolve() == second.resolve():
        raise ConfigError(f"{first} and {second} are the same study. Expected two different study folders.")
    a, b = _same_names(load_study(first), load_study(second))
    settings = (_read_settings(first), _read_settings(second))
    differing = _find_differing(a, b, settings=settings)
    found = Comparison(
        a=_side(a, first),
        b=_side(b, second),
        untested=_why_untested((a, first), (b, second)),
        differing=differing,
        methods=_pair_methods(a, b, differing),
        verdict=[],
    )
    if found.untested is None:
        _fill_tests(found.shared, (a, first), (b, second))
    found.verdict = _verdict(found)
    found.notes = _notes(found)
    if None in settings:
        found.notes.append("Settings were not compared: a config.yaml is missing or damaged.")
    return found


def _same_names(*studies: StudyRecord) -> list[StudyRecord]:
    """Return the studies with the base model in each row's name, if either has several base models."""
    if all(len(study.bases) == 1 for study in studies):
        return list(studies)
    return [study if len(study.bases) > 1 else _with_base(study, study.bases[0].name) for study in studies]


def _with_base(study: StudyRecord, base: str) -> StudyRecord:
    def named(one: Named) -> Named:
        if one.method in BASELINES and BASELINES[one.method].reads == "texts":
            return one
        return one.model_copy(update={"method": row_name(one.method, base)})

    found = {"runs": [named(run) for run in study.runs], "summary": [named(row) for row in study.summary]}
    return study.model_copy(update=found)


def _side(study: StudyRecord, folder: Path) -> Side:
    return Side(
        folder=str(folder),
        created=study.created,
        status=study.status,
        base=study.base_ids(),
        source=study.data.source,
        n_train=study.data.n_train,
        n_test=study.data.n_test,
        runs_complete=sum(run.status == "complete" for run in study.runs),
        runs_planned=len(study.planned_runs),
        metric=study.metric,
        score=task_of_study(study).primary.title,
    )


def _why_untested(*sides: tuple[StudyRecord, Path]) -> Untested | None:
    if len({task_of_study(study).primary.title for study, _ in sides}) > 1:
        return "other metric"
    rows = {read_test_fingerprint(folder, study.data.labels) for study, folder in sides}
    if None in rows:
        return "test rows cannot be read"
    return "other test rows" if len(rows) > 1 else None


def _pair_methods(a: StudyRecord, b: StudyRecord, differing: Sequence[Differing]) -> list[MethodPair]:
    """Return the methods in both studies, in A's order, then the methods in only one."""
    rows_a, rows_b = ({row.method: row for row in study.summary} for study in (a, b))
    trained = {row.method for row in (*a.summary, *b.summary) if row.kind in TRAINED_KINDS}
    names = sorted({**rows_a, **rows_b}, key=lambda name: (name not in rows_a) + (name not in rows_b))
    return [
        MethodPair(
            method=name,
            a=rows_a.get(name),
            b=rows_b.get(name),
            causes=[place.key for place in causes(differing, name, trained=name in trained)],
        )
        for name in names
    ]


def _fill_tests(pairs: Sequence[MethodPair], first: tuple[StudyRecord, Path], second: tuple[StudyRecord, Path]) -> None:
    """Fill in Holm-corrected paired tests for methods with results in both studies."""
    for pair in pairs:
        before, after = _answers(*first, pair.method), _answers(*second, pair.method)
        if before is None or after is None:
            pair.untested = "predictions cannot be read"
            continue
        mean, low, high, p = paired_difference(after, before)
        alike = np.array_equal(before.values, after.values)
        pair.paired = Paired(difference=mean, low=low, high=high, p=p, alike=alike)
    # Methods without a recorded difference answer another question, so they are corrected separately.
    for expected in (True, False):
        family = [pair.paired for pair in pairs if pair.paired is not None and bool(pair.causes) == expected]
        for paired, p in zip(family, holm([paired.p for paired in family]), strict=True):
            paired.p = p


def _answers(study: StudyRecord, folder: Path, method: str) -> Answers | None:
    predicted: list[NDArray[Any]] = []
    labels = np.zeros(0)
    for run in at_largest_size(study.runs):  # like the rows of the summary
        if run.method == method and run.status == "complete":
            found = read_answers(folder, run, study.data.labels)
            if found is None or not np.array_equal(found.row, np.arange(study.data.n_test)):
                return None
            labels = found.label
            predicted.append(found.predicted)
    return task_of_study(study).primary.measure.answers(labels, np.stack(predicted)) if predicted else None


def _verdict(found: Comparison) -> list[str]:
    """Return sentences on clear differences (5% level after Holm's correction) and their possible reasons."""
    if not found.shared:
        return ["No method has a result in both studies."]
    tested = [(pair, pair.paired) for pair in found.shared if pair.paired is not None]
    if not tested:
        return [f"No difference was tested: {found.untested or 'predictions cannot be read'}.", _reasons(found.shared)]
    clear = [(pair, paired) for pair, paired in tested if paired.p < _ALPHA]
    say = SCORES[found.b.metric].format
    if not clear:
        if all(paired.alike for _, paired in tested):
            return ["All methods have the same results on the test rows in both studies.", _reasons(found.shared)]
        widest = max(max(abs(paired.low), abs(paired.high)) for _, paired in tested)
        return [
            f"No method differs clearly on the same {found.b.n_test:,} test rows. Differences of up to "
            f"{say.within(widest)} cannot be ruled out.",
            _reasons(found.shared),
        ]
    claims = _listed([_claim(pair, paired, say) for pair, paired in clear])
    rest = len(tested) - len(clear)
    others = f" No clear difference for {rest} other {'method' if rest == 1 else 'methods'}." if rest else ""
    return [f"B minus A differs clearly for {claims}.{others}", _reasons([pair for pair, _ in clear])]


def _claim(pair: MethodPair, paired: Paired, say: ScoreFormat) -> str:
    span = say.span(paired.low, paired.high)
    return f"{units.clip(pair.method, 40)} ({say.difference(paired.difference)}{say.unit}, {span})"


def _reasons(pairs: Sequence[MethodPair]) -> str:
    names = [units.clip(name, 60) for name in dict.fromkeys(name for pair in pairs for name in pair.causes)]
    if not names:
        return "Nothing else differs: data, base model, settings, versions and hardware are the same."
    if len(names) > _NAMED:
        names = [*names[:_NAMED], f"{len(names) - _NAMED} more, listed below"]
    if len(names) == 1:
        return f"The studies differ only in {names[0]}."
    return f"The studies differ in {_listed(names)}; their results do not show which of these matters."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _notes(found: Comparison) -> list[str]:
    notes = [
        f"{letter} is {side.status}: {side.runs_complete} of {side.runs_planned} planned runs are complete."
        for letter, side in (("A", found.a), ("B", found.b))
        if side.status != "complete"
    ]
    tested = [row for pair in found.shared if pair.paired for row in (pair.a, pair.b) if row]
    if any(row.n_seeds == 1 and row.kind in TRAINED_KINDS for row in tested):
        notes.append("With one seed, intervals reflect the choice of test rows, but not the seed.")
    if unread := [units.clip(pair.method, 40) for pair in found.methods if pair.untested]:
        notes.append(f"Not tested because predictions are missing or damaged: {', '.join(unread[:_NAMED])}.")
    return notes


def _find_differing(
    a: StudyRecord, b: StudyRecord, *, settings: tuple[Settings | None, Settings | None]
) -> list[Differing]:
    """Return recorded differences, except times, memory and dates; settings only if both are known."""
    known = settings if None not in settings else ({}, {})
    several = max(len(study.bases) for study in (a, b)) > 1
    first, second = (
        _on_record(study, config or {}, several=several) for study, config in zip((a, b), known, strict=True)
    )
    return [
        Differing(group=group, key=key.removeprefix("settings."), a=old, b=new)
        for group in get_args(Group)
        for key, old, new in differences({group: first[group]}, {group: second[group]})
    ]


def _read_settings(folder: Path) -> Settings | None:
    """Return a study's settings, or None if they are missing or damaged."""
    try:
        content = read_yaml((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def causes(found: Sequence[Differing], method: str, *, trained: bool) -> list[Differing]:
    """Return the possible reasons for a difference in a row's results, without consequences of other reasons.

    For example, the number of rows follows from ``data.train_size``. Settings of ``train`` affect only `trained`
    methods, and in a study of several base models, each affects only its rows.
    """
    method, base = method_of_row(method), base_of_row(method)
    settings = [
        place
        for place in found
        if place.group == "settings"
        and place.key not in _OF_THE_STUDY
        and _concerns(place.key, method)
        and (trained or not place.key.startswith("train."))
    ]
    named = {place.key.partition(".")[0] for place in settings}
    contents: list[Differing] = []
    for group in ("data", "base"):
        places = [place for place in found if place.group == group and group not in named]
        if group == "base":  # with several base models, keep this row's: base.NAME.FIELD
            places = [one for one in places if one.key.count(".") == 1 or one.key.startswith(f"base.{base}.")]
        contents += [place for place in places if place.key.endswith(".fingerprint")] or places
    return [*settings, *contents, *(place for place in found if place.group in ("versions", "hardware"))]


def _concerns(key: str, method: str) -> bool:
    """Return False for another method's option; ``method.top_layers`` applies to all methods."""
    if key.count(".") < 2 or not key.startswith("method."):
        return True
    return any(key.startswith(f"method.{name}.") for name in (method, method.partition(":")[0]))


def _on_record(study: StudyRecord, settings: Settings, *, several: bool) -> dict[str, Any]:
    """Return everything that may differ; `several` base models are keyed by name and removed from the settings."""
    record = study.model_dump(mode="json", include={"data", "versions", "hardware"})
    follow = {"name", "truncated_fraction", "unread_fraction"}
    bases = {base.name: base.model_dump(mode="json", exclude=follow) for base in study.bases}
    record["base"] = bases if several else bases[study.bases[0].name]
    if several:
        settings = {key: value for key, value in settings.items() if key != "base"}
    if study.data.numbers:  # one line per split is enough
        record["data"]["numbers"] = {split: found.in_words() for split, found in study.data.numbers.items()}
    return {**record, "hardware": comparable(record["hardware"]), "settings": settings}

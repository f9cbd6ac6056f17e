"""Run a whole study: plan, runs, record, report. It can be interrupted and resumed.

The plan is written before the first run, and ``study.json`` after each run.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from feathertune.baselines import BASELINES
from feathertune.bundle.files import BUNDLE, check_manifest
from feathertune.config import Config
from feathertune.errors import BundleError, ConfigError
from feathertune.gc_freeze import gc_frozen
from feathertune.methods import method_named
from feathertune.output_folder import FolderKind, claim_folder, writing_into
from feathertune.records import (
    CONFIG_FILE,
    MISLABELLED_FILE,
    STUDY_FILE,
    TEST_FILE,
    LengthBucket,
    RunRecord,
    Status,
    StudyRecord,
    at_largest_size,
    first_differences,
    load_study,
    save_study,
)
from feathertune.records.cost_estimate import COST_FILE, CostEstimate
from feathertune.records.row_names import base_of_row
from feathertune.report import REPORT_FILE, render_report
from feathertune.report.comparison import COMPARISON_FILE
from feathertune.runtime import choose_runtime, hardware, versions
from feathertune.statistics.measures import Answers
from feathertune.storage import sha256_of, write_atomic
from feathertune.study.observe import Observer
from feathertune.study.planning.plan import CONTENT, PLAN_FILE, Plan
from feathertune.study.planning.resolve import settle
from feathertune.study.prepared import prepare_study
from feathertune.study.run_spec import RunSpec
from feathertune.study.runners import RUNNERS, check_runner
from feathertune.study.running.run_files import read_predictions, read_record, write_test_rows
from feathertune.study.running.runs import expected_work
from feathertune.study.running.search import read_search, search_id, search_work
from feathertune.study.running.workbench import Prepared, Workbench
from feathertune.study.verdict.evidence import Evidence
from feathertune.study.verdict.mislabelled import find_mislabelled, write_mislabelled
from feathertune.study.verdict.summary import RunPredictions, by_length, compare_pairs, more_labels, summarise_sizes
from feathertune.study.verdict.verdict import judge

STUDY = FolderKind(
    PLAN_FILE,
    keys=("fingerprint", "config", "runs"),
    patterns=(
        *(CONFIG_FILE, TEST_FILE, STUDY_FILE, MISLABELLED_FILE, COST_FILE, REPORT_FILE, COMPARISON_FILE),
        *("runs/*/*.json", "runs/*/*.parquet", "runs/*/*.jsonl", "runs/*/error.txt", "search/*.json", "search/*.db*"),
        "track/**/*",
    ),
    inner=(("runs/*/bundle", BUNDLE),),
)
# A record that takes less time than this is assembled after every run.
_QUICK_S = 0.5


def prepare(config: Config, observer: Observer) -> Prepared:
    """Read the data, load the base model, and list the runs; nothing is trained or written."""
    settled = settle(config)  # rejects a misspelt method before reading any data
    check_runner(config.runner)
    if config.data.test_size == 0:
        raise ConfigError("data.test_size is 0, but a study needs test rows. Set a number, or leave it out.")
    return prepare_study(settled, choose_runtime(config.engine), observer)


def default_folder(plan: Plan) -> Path:
    """Return the study folder used without ``--out``; equal plans get the same folder."""
    first, *more = (base.id for base in plan.config.base)
    words = (plan.config.data.source, f"{first}-and-{len(more)}" if more else first)
    stems = [Path(word.rpartition(":")[2]).stem.lower() for word in words]
    # Keep letters of all scripts: a file of reviews may be called отзывы.
    names = [re.sub(r"[\x00-\x2f\x3a-\x60\x7b-\x7f\s]+", "-", stem).strip("-") for stem in stems]
    return Path("runs", "-".join([*names, plan.fingerprint[:8]]))


def run(
    prepared: Prepared, out: Path, *, observer: Observer, command: Sequence[str], overwrite: bool = False
) -> StudyRecord:
    """Run or resume a study, and return its record, as in ``study.json``.

    If the folder holds the same plan, the study resumes. `overwrite` deletes a different study there.

    Raises:
        ConfigError: If the folder contains a different study or other files, or another process is writing to it.
        OSError: If the disk is full or not writable; finished runs are kept.
    """
    with writing_into(out):
        return _run(prepared, out, observer, command, overwrite=overwrite)


def _run(prepared: Prepared, out: Path, observer: Observer, command: Sequence[str], *, overwrite: bool) -> StudyRecord:
    plan = prepared.plan
    estimate = read_record(out / COST_FILE, CostEstimate)
    if estimate is not None and estimate.plan != plan.fingerprint:
        estimate = None
    _enter_folder(out, prepared, overwrite=overwrite)
    if estimate is not None:  # write it again, since the folder may be new
        write_atomic(out / COST_FILE, estimate.model_dump_json(indent=1) + "\n")
    records = {spec.id: record for spec in plan.runs if (record := _finished(spec, out)) is not None}
    observer.planned(_work(prepared, out), list(records.values()))
    if len(records) == len(plan.runs):
        study = read_record(out / STUDY_FILE, StudyRecord)
        if study is not None and study.status == "complete":  # else it stopped between the last run and its record
            render_report(out)
            return study
    created = datetime.now(UTC).isoformat(timespec="seconds")

    def assembled() -> StudyRecord:
        runs = [records[spec.id] for spec in plan.runs if spec.id in records]
        record = assemble(prepared, runs, out, created, command)
        save_study(record, out)
        return record

    with (
        gc_frozen(),
        _renewing(assembled) as renew,
        contextlib.closing(
            RUNNERS[plan.config.runner.name](
                [spec for spec in plan.runs if spec.id not in records], prepared, out, observer, estimate
            )
        ) as ended,
    ):
        for record in ended:
            records[record.id] = record
            observer.ended(record)
            renew()
    render_report(out)
    return load_study(out)


@contextlib.contextmanager
def _renewing(assembled: Callable[[], object]) -> Iterator[Callable[[], None]]:
    """Assemble the record now, on request, and at the end, even if the block raises.

    With a thousand runs this takes seconds, so requests are skipped to keep it below one twentieth of the time.
    """
    due, stale = 0.0, True

    def renew() -> None:
        nonlocal due, stale
        stale = True
        start = time.monotonic()
        if start < due:
            return
        assembled()
        end = time.monotonic()
        due = end + (20 * (end - start) if end - start > _QUICK_S else 0.0)
        stale = False

    renew()
    try:
        yield renew
    finally:
        if stale:
            assembled()


def keep_cost_estimate(found: CostEstimate, prepared: Prepared, out: Path) -> None:
    """Save a cost estimate in its study's folder; raise a `ConfigError` if that folder cannot be used."""
    with writing_into(out):
        if (out / PLAN_FILE).is_file():
            _check_same(out, prepared.plan)
        else:
            claim_folder(out, STUDY, overwrite=False, aside=(COST_FILE,))
        write_atomic(out / COST_FILE, found.model_dump_json(indent=1) + "\n")


def assemble(
    prepared: Prepared, runs: list[RunRecord], folder: Path, created: str, command: Sequence[str]
) -> StudyRecord:
    """Return the study's record, assembled from the runs that have ended."""
    bench, plan, task = prepared.bench, prepared.plan, prepared.study.task
    test, margin = bench.splits["test"], plan.config.study.margin
    complete = [run for run in runs if run.status == "complete"]
    found = {run.id: read_predictions(folder / run.predictions).predicted for run in complete if run.predictions}
    predictions = RunPredictions(task.primary, test.labels, found)
    whole = at_largest_size(complete)
    mislabelled = find_mislabelled(task, whole, folder)
    write_mislabelled(folder / MISLABELLED_FILE, mislabelled, test.texts, bench.data.labels)
    summary = summarise_sizes(runs, predictions, margin=margin)
    answers = predictions.answers(whole)
    pairs, rows = compare_pairs(answers), at_largest_size(summary)
    bases = [one.base for one in prepared.benches.values()]
    evidence = Evidence(task, bench.data, rows, at_largest_size(runs), pairs, margin, len(mislabelled), bases)
    searched = {search_id(spec): spec for spec in plan.runs if spec.space}
    return StudyRecord(
        created=created,
        status=_status(plan, runs),
        data=bench.data,
        bases=bases,
        hardware=hardware(bench.runtime),
        versions=versions(),
        command=list(command),
        planned_runs=[spec.id for spec in plan.runs],
        runs=runs,
        summary=summary,
        verdict=judge(evidence),
        metric=task.primary.name,
        more_labels=more_labels(runs, predictions),
        descriptions={
            row: BASELINES[name].described(task) if name in BASELINES else method_named(name).summary
            for row, name in {spec.row: spec.method for spec in plan.runs}.items()
        },
        left_out=plan.left_out,
        parameter_budget=plan.parameter_budget,
        off_budget=plan.off_budget,
        margin=margin,
        pairs=pairs,
        n_mislabelled=len(mislabelled),
        searches=[search for spec in searched.values() if (search := read_search(spec, folder)) is not None],
        by_length=[bucket for base, one in prepared.benches.items() for bucket in _by_length(answers, one, base)],
    )


def _by_length(answers: Mapping[str, Answers], bench: Workbench, base: str | None) -> list[LengthBucket]:
    """Return length buckets in one base model's tokens, for its rows and the rows without a base model."""
    texts = bench.encoded["test"]
    if texts.n_tokens is None or texts.n_unread is None:
        return []
    own = {row: given for row, given in answers.items() if base_of_row(row) in (base, None)}
    max_length = bench.data.max_length
    found = by_length(own, n_tokens=texts.n_tokens, n_unread=texts.n_unread, max_length=max_length)
    return [bucket.model_copy(update={"base": base}) for bucket in found]


def _work(prepared: Prepared, out: Path) -> dict[str, float]:
    """Return the work of each run; a search counts towards the first of its runs."""
    work, searched = {}, set()
    for spec in prepared.plan.runs:
        work[spec.id] = expected_work(spec, prepared)
        if (key := search_id(spec)) not in searched and read_search(spec, out) is None:
            work[spec.id] += search_work(spec, prepared)
        searched.add(key)
    return work


def _status(plan: Plan, runs: list[RunRecord]) -> Status:
    complete = [run for run in runs if run.status == "complete"]
    if len(complete) == len(plan.runs):
        return "complete"
    return "failed" if len(runs) == len(plan.runs) and not complete else "partial"


def _finished(spec: RunSpec, folder: Path) -> RunRecord | None:
    """Return a completed run's record; failed runs and runs with changed files return None and are repeated."""
    record = read_record(folder / "runs" / spec.id / "run.json", RunRecord)
    if record is None or record.status != "complete" or not record.predictions:
        return None
    try:
        if sha256_of(folder / record.predictions) != record.predictions_sha256:
            return None
        if record.bundle is not None:
            check_manifest(folder / record.bundle)
    except (OSError, BundleError):
        return None
    return record


def _enter_folder(out: Path, prepared: Prepared, *, overwrite: bool) -> None:
    """Write the plan and the test rows, or check that the folder holds the study to resume."""
    plan, test = prepared.plan, prepared.bench.splits["test"]
    if overwrite or not (out / PLAN_FILE).is_file():
        claim_folder(out, STUDY, overwrite=overwrite, aside=(COST_FILE,))
        write_atomic(out / PLAN_FILE, plan.model_dump_json(indent=1) + "\n")
    else:
        _check_same(out, plan)
    # Rewritten when resuming, in case the study stopped between the plan and these files.
    write_atomic(out / CONFIG_FILE, plan.config.to_yaml())
    write_test_rows(out / TEST_FILE, test.texts, test.labels)


def _check_same(out: Path, plan: Plan) -> None:
    found = read_record(out / PLAN_FILE, Plan)
    if found is None:
        raise ConfigError(
            f"Cannot read the plan {out / PLAN_FILE}, so the study cannot resume. "
            "Pass another --out, or --overwrite to start over."
        )
    if found.fingerprint != plan.fingerprint:
        difference = first_differences(found.config.model_dump(mode="json"), plan.config.model_dump(mode="json"))
        parts = zip(CONTENT, found.content, plan.content, strict=False)
        changed = " and ".join(name for name, there, now in parts if there != now)
        changed = f"the settings are the same, but {changed or 'the list of runs'} changed"
        raise ConfigError(
            f"The output folder {out} contains a different study ({difference or changed}). "
            "Pass another --out, or --overwrite to replace it."
        )

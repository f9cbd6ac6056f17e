"""Python API of the commands: `compare`, `finetune`, `load` and others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from feathertune.bundle.adopt import adopt_adapter as import_adapter
from feathertune.bundle.push import push_bundle as push
from feathertune.config import Config
from feathertune.export import export_model
from feathertune.predictor import Predictor, load
from feathertune.records import Scores
from feathertune.report.study_result import Study
from feathertune.study import compare as study
from feathertune.study import finetune as single
from feathertune.study.observe import Observer, Silent
from feathertune.study.rank_bases import rank_bases
from feathertune.track import choose_trackers, tracked

__all__ = [
    "Predictor",
    "Study",
    "compare",
    "evaluate_base",
    "export_model",
    "finetune",
    "import_adapter",
    "load",
    "push",
    "rank_bases",
]


def compare(
    config: Config,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    track: Sequence[str] = (),
) -> Study:
    """Run or continue a study and return its result.

    Args:
        config: Settings from `feathertune.load_config`.
        out: Study folder; None means a folder under ``runs/`` that is named after the plan.
        overwrite: Replace another study in the folder.
        observer: Receives progress; None shows a progress bar in a notebook, and nothing elsewhere.
        track: Trackers to log to, e.g. ``["tensorboard"]``.

    Raises:
        FeathertuneError: If the settings, the data or the folder cannot be used.
    """
    trackers = choose_trackers(track)
    with _observing(observer) as shown:
        prepared = study.prepare(config, shown)
        folder = Path(out) if out is not None else study.default_folder(prepared.plan)
        with tracked(shown, trackers, folder, prepared.plan.config) as watched:
            record = study.run(prepared, folder, observer=watched, command=sys.argv, overwrite=overwrite)
    return Study(record, folder)


def evaluate_base(config: Config, out: str | Path | None = None, *, overwrite: bool = False) -> Study:
    """Run `compare` with the baselines only, including the untrained base model (``foundation``)."""
    baselines_only = config.study.model_copy(update={"methods": ()})
    return compare(config.model_copy(update={"study": baselines_only}), out, overwrite=overwrite)


def finetune(
    config: Config,
    out: str | Path,
    *,
    method: str = "lora",
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    observer: Observer | None = None,
    track: Sequence[str] = (),
) -> dict[str, Scores]:
    """Train one method, write a bundle, and return its scores on ``validation`` and ``test``.

    Args:
        config: Settings from `feathertune.load_config`.
        out: Output folder for the bundle.
        method: Method from ``feathertune methods``, e.g. ``lora:r=4``.
        seed: Seed of the head, the adapter and the order of texts.
        overwrite: Replace an existing bundle once the new one is complete.
        resume: Continue a stopped training from its last checkpoint; a finished bundle stays as it is.
        observer: Receives progress; None shows a progress bar in a notebook, and nothing elsewhere.
        track: Trackers to log to, e.g. ``["tensorboard"]``.

    Raises:
        FeathertuneError: If the settings, the data or the folder cannot be used, or the training fails.
    """
    trackers = choose_trackers(track)
    with _observing(observer) as shown, tracked(shown, trackers, Path(out), config, beside=True) as watched:
        return single.finetune(
            config, method, Path(out), seed=seed, observer=watched, overwrite=overwrite, resume=resume
        )


def _observing(observer: Observer | None) -> contextlib.AbstractContextManager[Observer]:
    if observer is not None or not Console().is_jupyter:
        return contextlib.nullcontext(observer or Silent())
    from feathertune.cli.output.progress import NotebookBar

    return contextlib.closing(NotebookBar())

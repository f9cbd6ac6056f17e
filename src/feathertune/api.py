"""The verbs of the command line in Python, such as `compare`, `finetune` and `load`; `__all__` has all of them.

Settings come as a `Config` (see `feathertune.config.load_config`), so that a notebook and a YAML file mean the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from feathertune.bundle.adopt import Adopted, ImportedTask, adopt_adapter
from feathertune.bundle.push import Pushed, push_bundle
from feathertune.config import Config
from feathertune.export import export_model
from feathertune.predictor import Predictor, load
from feathertune.records import Scores, StudyRecord
from feathertune.study import compare as study
from feathertune.study import finetune as single
from feathertune.study.observe import Observer, Silent
from feathertune.track import choose_trackers, tracked

__all__ = ["Predictor", "compare", "evaluate_base", "export_model", "finetune", "import_adapter", "load", "push"]


def compare(
    config: Config,
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    observer: Observer | None = None,
    track: Sequence[str] = (),
) -> StudyRecord:
    """Run a study, or continue it; see `feathertune.study.compare.run`.

    Args:
        config: The settings.
        out: The study folder; by default one under ``runs/`` whose name follows from the plan.
        overwrite: Delete another study in that folder.
        observer: Hears of the progress.
        track: Names of `feathertune.track.TRACKERS` that hear of it, too.

    Returns:
        The record, as in ``study.json``.

    Raises:
        FeathertuneError: If the settings, the data or the folder cannot be used.
    """
    observer, trackers = observer or Silent(), choose_trackers(track)
    prepared = study.prepare(config, observer)
    folder = Path(out) if out is not None else study.default_folder(prepared.plan)
    with tracked(observer, trackers, folder, prepared.plan.config) as watched:
        return study.run(prepared, folder, observer=watched, command=sys.argv, overwrite=overwrite)


def evaluate_base(config: Config, out: str | Path | None = None, *, overwrite: bool = False) -> StudyRecord:
    """Score the pretrained encoder as it is, and the baselines; otherwise as `compare`.

    Returns:
        The record; its rows are ``majority``, ``tfidf``, ``foundation`` (untrained heads) and ``probe``.
    """
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
    """Train one method once and write a bundle; see `feathertune.study.finetune.finetune`.

    Args:
        config: The settings.
        out: The bundle's folder.
        method: A name of the registry.
        seed: Of the head, the adapter and the order of examples.
        overwrite: Replace an existing bundle, once the new one is proven.
        resume: Go on from the last checkpoint of a training that was stopped.
        observer: Hears of the progress.
        track: As in `compare`.

    Returns:
        The scores on ``validation`` and ``test``.

    Raises:
        FeathertuneError: If the settings, the data or the folder cannot be used, or the training breaks.
    """
    with tracked(observer or Silent(), choose_trackers(track), Path(out), config, beside=True) as watched:
        return single.finetune(
            config, method, Path(out), seed=seed, observer=watched, overwrite=overwrite, resume=resume
        )


def push(
    bundle: str | Path,
    repo_id: str,
    *,
    revision: str = "main",
    public: bool = False,
    message: str | None = None,
    base: str | None = None,
) -> Pushed:
    """Upload a bundle to the hub; see `feathertune.bundle.push.push_bundle`.

    Args:
        bundle: The bundle's folder.
        repo_id: ``OWNER/NAME``; made where it does not exist.
        revision: The branch; made where it does not exist.
        public: Whether a repository that is made by this can be seen by everyone.
        message: Of the commit.
        base: Where the encoder lies, if not where the bundle says.

    Returns:
        Where it lies now, and what whoever loads it should know.

    Raises:
        BundleError: If it is not a whole bundle.
        HubError: If the hub refuses or cannot be reached.
    """
    return push_bundle(Path(bundle), repo_id, revision=revision, public=public, message=message, base=base)


def import_adapter(
    adapter: str | Path,
    out: str | Path,
    *,
    labels: Sequence[str],
    base: str | None = None,
    max_length: int | None = None,
    pairs: bool = False,
    task: ImportedTask | None = None,
    overwrite: bool = False,
) -> Adopted:
    """Make a bundle of an adapter folder that plain PEFT wrote; see `feathertune.bundle.adopt.adopt_adapter`.

    Args:
        adapter: The folder.
        out: Where the bundle shall be.
        labels: Names of the classes, in the order of the logits; PEFT does not keep them.
        base: The encoder that it was trained on; None takes the one that the folder names.
        max_length: The length in tokens at which texts were cut in training; None takes the encoder's longest.
        pairs: It was trained on pairs of texts.
        task: ``single_label``, ``multi_label``, or `feathertune.bundle.adopt.MultiLabel` with thresholds; None reads
            the model's ``problem_type``.
        overwrite: Replace a bundle that lies there, once the new one is proven.

    Returns:
        What was written to ``feathertune.json``, and notes in plain words.

    Raises:
        FeathertuneError: If it is no whole adapter for classification, does not fit the encoder or the labels, or would
            answer otherwise than in plain PEFT.
    """
    return adopt_adapter(
        Path(adapter),
        Path(out),
        labels=labels,
        base=base,
        max_length=max_length,
        pairs=pairs,
        task=task,
        overwrite=overwrite,
    )

"""Fuse a trained model with a word model; the words are fitted to training rows, the weights to validation rows.

If another run of the study has already trained the same model, the fused run starts from that run's bundle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from feathertune.baselines.fusion import FusedWords, fit_fusion
from feathertune.baselines.word_model import WordModel
from feathertune.bundle import Description, load_bundle, save_bundle
from feathertune.data.sources.collector import SplitName
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import predict_logits
from feathertune.methods import FUSED, is_fused
from feathertune.records import RunRecord
from feathertune.records.row_names import row_name
from feathertune.runtime import stopwatch
from feathertune.study.run_spec import RunSpec, run_id
from feathertune.study.running.run_files import read_record
from feathertune.study.running.run_result import RunResult, score_rows
from feathertune.study.running.workbench import Prepared

# Training texts used to measure the spread of a model's logits if there are no validation rows.
_SPREAD_TEXTS = 256
# Training fields that a fused run copies from the training.
_OF_TRAINING = (
    *("epochs", "best_epoch", "steps", "train_losses", "validation_losses"),
    *("tokens_per_second", "examples_per_second"),
)


def fuse_words(
    prepared: Prepared, logits_of: Callable[[EncodedTexts], np.ndarray], validation: np.ndarray
) -> FusedWords:
    """Return the word model with the weights of the sum.

    Args:
        prepared: The run's prepared study, with its training rows.
        logits_of: Function that returns the trained model's logits ``(N, C)`` for texts.
        validation: The trained model's probabilities ``(N, C)`` for the validation rows; N may be 0.
    """
    task, splits = prepared.study.task, prepared.bench.splits
    words, _ = WordModel.fit(prepared.rows({name: splits[name].texts for name in ("train", "validation")}))
    texts, labels = splits["validation"].texts, splits["validation"].labels
    if len(labels):
        model = task.likelihood.logits(validation)
    else:
        texts = splits["train"].texts[:_SPREAD_TEXTS]
        model = logits_of(prepared.bench.encoded["train"].take(np.arange(len(texts))))
    return FusedWords(words, fit_fusion(task, labels, model, words.logits(texts)))


def fused_probabilities(
    prepared: Prepared, fused: FusedWords, name: SplitName, logits: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the fused probabilities for a split, given the trained model's logits ``(N, C)``; N may be 0."""
    return prepared.study.task.probabilities(fused.logits(logits, fused.added(prepared.bench.splits[name].texts)))


def trained_before(spec: RunSpec, folder: Path) -> RunRecord | None:
    """Return the record of the study's run that trained the same model without words, if it has a bundle."""
    if not is_fused(spec.method):
        return None
    row = row_name(spec.method.removesuffix(FUSED), spec.base)
    found = read_record(folder / "runs" / run_id(row, spec.train_rows, spec.seed) / "run.json", RunRecord)
    if found is None or found.bundle is None or not (folder / found.bundle).is_dir():
        return None
    return found if spec.options.items() <= found.hyperparameters.items() else None


def fuse_run(trained: RunRecord, prepared: Prepared, study: Path, out: Path) -> RunResult:
    """Fuse a finished run's model and write the bundle `out`; the costs of training and fusing are added."""
    bench, task, config = prepared.bench, prepared.study.task, prepared.study.config
    bundle = load_bundle(study / str(trained.bundle), attention=bench.runtime.attention)
    bundle.model.to(bench.runtime.device)

    def logits_of(texts: EncodedTexts) -> np.ndarray:
        if not len(texts):
            return np.zeros((0, len(bench.splits.labels)))
        return predict_logits(bundle.model, texts, token_budget=config.train.token_budget, runtime=bench.runtime)

    with fast_parts(bundle.base, config.engine, bench.runtime):
        held_out, tested = (logits_of(bench.encoded[name]) for name in ("validation", "test"))
        with stopwatch() as watch:
            fused = fuse_words(prepared, logits_of, task.probabilities(held_out))
            validation = fused_probabilities(prepared, fused, "validation", held_out)
            test = fused_probabilities(prepared, fused, "test", tested)
    scores = score_rows(task, bench, test, validation)
    hyperparameters = {**trained.hyperparameters, "fusion": asdict(fused.fusion)}
    with stopwatch() as ship:
        description = Description(**{field.name: getattr(bundle.info, field.name) for field in fields(Description)})
        description = replace(
            description,
            method=f"{bundle.info.method}{FUSED}",
            metrics=scores.metrics,
            threshold=None if scores.thresholds is None else scores.thresholds.tolist(),
            hyperparameters=hyperparameters,
        )
        save_bundle(out, bundle.model.to("cpu"), bundle.base, description, fused)
    own = trained.seconds
    costs = {"total": own.total + watch.seconds, "train": own.train + watch.seconds, "ship": ship.seconds}
    return RunResult(
        test=test,
        validation=validation,
        scores=scores,
        seconds=own.model_copy(update=costs),
        trainable_parameters=trained.trainable_parameters + fused.words.n_parameters,
        total_parameters=trained.total_parameters + fused.words.n_parameters,
        adapter_bytes=sum(path.stat().st_size for path in out.glob("*.safetensors")),
        peak_memory_bytes=trained.peak_memory_bytes or 0,
        hyperparameters=hyperparameters,
        notes=trained.notes,
        training={name: getattr(trained, name) for name in _OF_TRAINING},
    )

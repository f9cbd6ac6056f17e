"""Run the baselines: models fitted to texts or frozen features, or the pretrained encoder with an untrained head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from feathertune.baselines import BASELINES, Baseline
from feathertune.data.sources.collector import SPLITS, SplitName
from feathertune.encoders import LoadedEncoder
from feathertune.encoders.classifier_head import head_logits
from feathertune.engine.predict import predict_logits
from feathertune.records import Seconds
from feathertune.runtime import stopwatch
from feathertune.study.observe import Observer
from feathertune.study.run_spec import RunSpec
from feathertune.study.running.run_result import RunResult, score_rows
from feathertune.study.running.workbench import FrozenFeatures, Prepared, Workbench


def splits_read(baseline: Baseline, bench: Workbench) -> tuple[SplitName, ...]:
    """Return the nonempty splits that a baseline reads."""
    names = SPLITS[1:] if baseline.reads == "encoder" else SPLITS
    return tuple(name for name in names if len(bench.encoded[name]))


def run_baseline(spec: RunSpec, prepared: Prepared, observer: Observer) -> RunResult:
    """Fit a baseline and score it."""
    baseline, bench = BASELINES[spec.method], prepared.bench
    names = splits_read(baseline, bench)
    if baseline.reads == "texts":
        return _fit(baseline, {name: bench.splits[name].texts for name in names}, prepared)
    features = {name: bench.features(name, observer.advanced) for name in names}
    if baseline.reads == "encoder":
        return _score_untrained(spec.seed, features, prepared)
    # For a linear model, the output for the mean over windows equals the mean of the outputs.
    inputs = {
        name: {
            **{key: bench.encoded[name].pooled(values) for key, values in found.by_name.items()},
            "texts": bench.splits[name].texts,
        }
        for name, found in features.items()
    }
    return _fit(baseline, inputs, prepared, features)


def _fit(
    baseline: Baseline,
    inputs: Mapping[SplitName, Any],
    prepared: Prepared,
    features: Mapping[SplitName, FrozenFeatures] | None = None,
) -> RunResult:
    assert baseline.fit is not None, "a baseline that reads texts or features is fitted"
    bench, study, features = prepared.bench, prepared.study, features or {}
    n_classes = len(bench.splits.labels)
    with stopwatch() as train:
        fitted = baseline.fit(prepared.rows(inputs))
    with stopwatch() as evaluate:
        test = fitted.predict_proba(inputs["test"])
    validation = fitted.predict_proba(inputs["validation"]) if "validation" in inputs else np.zeros((0, n_classes))
    parts = {
        "tokenize": sum(bench.tokenize_seconds[name] for name in features),
        "cache": sum(found.seconds for name, found in features.items() if name != "test"),
        "train": train.seconds,
        "evaluate": evaluate.seconds + (features["test"].seconds if features else 0.0),
    }
    return RunResult(
        test=test,
        validation=validation,
        scores=score_rows(study.task, bench, test, validation),
        seconds=Seconds(total=sum(parts.values()), **parts),
        trainable_parameters=fitted.n_parameters,
        total_parameters=fitted.n_parameters + (bench.base.n_parameters if features else 0),
        adapter_bytes=4 * fitted.n_parameters,
        peak_memory_bytes=max((found.peak_memory_bytes for found in features.values()), default=0),
        hyperparameters=fitted.chosen,
    )


def _score_untrained(seed: int, features: Mapping[SplitName, FrozenFeatures], prepared: Prepared) -> RunResult:
    bench, task = prepared.bench, prepared.study.task
    # Loaded after the features are computed, which needs another encoder, so only one is in memory at a time.
    encoder = bench.pretrained.load(seed)
    with stopwatch() as evaluate, torch.inference_mode():
        encoder.model.eval()
        probabilities = {
            name: task.probabilities(_untrained_logits(encoder, found, bench, name)) for name, found in features.items()
        }
    test, n_classes = probabilities["test"], len(bench.splits.labels)
    validation = probabilities.get("validation", np.zeros((0, n_classes)))
    tokenize_s = bench.tokenize_seconds["test"]
    evaluate_s = evaluate.seconds + features["test"].seconds
    return RunResult(
        test=test,
        validation=validation,
        scores=score_rows(task, bench, test, validation),
        seconds=Seconds(total=tokenize_s + evaluate_s, tokenize=tokenize_s, evaluate=evaluate_s),
        total_parameters=encoder.n_parameters,
        peak_memory_bytes=features["test"].peak_memory_bytes,
        notes=bench.notes,
    )


def _untrained_logits(
    encoder: LoadedEncoder, features: FrozenFeatures, bench: Workbench, name: SplitName
) -> np.ndarray:
    """Return a split's logits ``(N, C)``, computed from the head's input vectors if the head reads vectors."""
    texts = bench.encoded[name]
    if encoder.facts.reads is None:
        return predict_logits(encoder.model, texts, token_budget=bench.pretrained.token_budget, runtime=bench.runtime)
    for module in encoder.head_modules:
        encoder.model.get_submodule(module).float()  # match the vectors' dtype
    return texts.pooled(head_logits(encoder, torch.from_numpy(features.read)).float().numpy())

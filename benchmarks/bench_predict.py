"""Compare texts per second of `load(bundle).predict` and transformers' pipeline on the same model, in one process.

Times are CPU time, which on one thread equals the elapsed time on an idle machine; elapsed time is recorded too.

Run: ``python benchmarks/bench_predict.py --out benchmarks/results/predict-minilm.json``, a few minutes on one core.

A LoRA adapter on sample:minilm predicts sentences of sample:rotten-tomatoes. The pipeline gets the merged model, its
faster form (no adapter next to each layer), once in fp32, its default, and once in bf16. It uses batches of 32 texts in
input order, as in its documentation. Both read the same strings and return a label with its probability, and their
predictions are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import pipeline
from transformers.utils import logging

from feathertune import Config, export_model, finetune, load, load_config
from feathertune.config import EngineConfig
from feathertune.data.sources.registry import load_source
from feathertune.predictor import Predictor
from feathertune.runtime import choose_runtime, hardware, versions

SOURCE = "sample:rotten-tomatoes"
PIPELINE_BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--dtype", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    texts = load_source(SOURCE).texts[-arguments.texts :]
    with tempfile.TemporaryDirectory() as name:
        bundle, merged = Path(name, "bundle"), Path(name, "merged")
        finetune(settings(arguments.max_length), bundle)
        export_model(bundle, merged, to="merged")
        engine = EngineConfig(dtype=arguments.dtype)
        predictor = load(bundle, engine=engine)
        dtypes = {"pipeline": torch.float32, "pipeline-bf16": torch.bfloat16}
        pipelines = {
            name: pipeline("text-classification", str(merged), device="cpu", dtype=dtypes[name]) for name in dtypes
        }
    contestants: dict[str, Callable[[], tuple[list[str], np.ndarray]]] = {
        "feathertune": lambda: ours(predictor, texts),
        **{name: partial(theirs, classify, texts, arguments.max_length) for name, classify in pipelines.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    by_clock: dict[str, list[float]] = {name: [] for name in contestants}
    answers: dict[str, tuple[list[str], np.ndarray]] = {}
    for contestant in contestants.values():
        contestant()  # warm-up: libraries prepare kernels for each shape
    for _ in range(arguments.rounds):
        for name, contestant in contestants.items():
            start, clock = time.process_time(), time.perf_counter()
            answers[name] = contestant()
            seconds[name].append(time.process_time() - start)
            by_clock[name].append(time.perf_counter() - clock)
            print(f"{name}: {len(texts) / seconds[name][-1]:.0f} texts/s", flush=True)
    labels, sure = answers["feathertune"]
    others = {name: answer for name, answer in answers.items() if name != "feathertune"}
    rates = {name: [len(texts) / s for s in of] for name, of in seconds.items()}
    result = {
        "arguments": {key: value for key, value in vars(arguments).items() if key != "out"},
        "tokens_mean": float(np.mean([len(ids) for ids in predictor.bundle.tokenizer(texts)["input_ids"]])),
        "texts_per_second": {name: [round(rate, 1) for rate in of] for name, of in rates.items()},
        "seconds_by_the_clock": {name: [round(s, 2) for s in of] for name, of in by_clock.items()},
        "ratio_median": {
            name: round(statistics.median(a / b for a, b in zip(rates["feathertune"], rates[name], strict=True)), 3)
            for name in others
        },
        "parts": parts(predictor, texts),
        "labels_that_differ": {
            name: sum(a != b for a, b in zip(labels, said, strict=True)) for name, (said, _) in others.items()
        },
        "largest_probability_difference": {name: float(np.abs(sure - p).max()) for name, (_, p) in others.items()},
        "hardware": hardware(choose_runtime(engine)),
        "versions": versions(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("texts_per_second", "ratio_median", "parts")}, indent=1))


def settings(max_length: int) -> Config:
    """Return settings for a minimal training: prediction speed does not depend on what was learned."""
    sizes = {"data.train_size": 200, "data.validation_size": 100, "data.test_size": 100}
    return load_config(options={"data.source": SOURCE, "data.max_length": max_length, "train.epochs": 1, **sizes})


def ours(predictor: Predictor, texts: list[str]) -> tuple[list[str], np.ndarray]:
    """Return labels and their probabilities from feathertune."""
    found = list(predictor.predict(texts))
    return [label for label, _ in found], np.array([p[label] for label, p in found])


def theirs(classify: Any, texts: list[str], max_length: int) -> tuple[list[str], np.ndarray]:
    """Return labels and their probabilities from transformers' pipeline."""
    found = classify(texts, batch_size=PIPELINE_BATCH, truncation=True, max_length=max_length)
    return [row["label"] for row in found], np.array([row["score"] for row in found])


def parts(predictor: Predictor, texts: list[str]) -> dict[str, float]:
    """Return the seconds of tokenising alone, and of the whole prediction."""
    from feathertune.data.tokens.encode import encode

    start = time.process_time()
    encode(predictor.bundle.tokenizer, texts, max_length=predictor.bundle.info.max_length)
    tokens_s = time.process_time() - start
    predictor.probabilities(texts)
    return {"tokenize_s": round(tokens_s, 3), "all_s": round(time.process_time() - start - tokens_s, 3)}


if __name__ == "__main__":
    main()

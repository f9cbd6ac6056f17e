"""Measure the effect of each part of the LoRA recipe: the encoder's dropout, a pretrained head, LoRA+ learning rates.

Each variant is trained with three seeds on the same rows and scored on validation rows after each epoch. Test rows are
never read. Prints mean and spread by epoch, and writes every curve to ``benchmarks/results/recipe-DATASET.json``.
Variants: ``plain`` (the defaults), ``dropout`` (the encoder's dropout on), ``head-first`` (LP-FT, Kumar et al. 2022,
arXiv:2202.10054: train the head on frozen features before the adapter), ``lora-plus-4`` and ``-16`` (B with 4 or 16
times A's learning rate; Hayou et al. 2024, arXiv:2402.12354).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from feathertune.config import Config, load_config
from feathertune.encoders import LoadedEncoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import run_passes
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.head import extract_features, fit_head
from feathertune.engine.training.loop import EpochInfo, Recipe, Training
from feathertune.methods import METHODS
from feathertune.runtime import hardware, seed_everything, versions
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.study.running.prepare import job_of, prepared_model
from feathertune.study.running.workbench import Workbench

RESULTS = Path(__file__).with_name("results")
VARIANTS = ("plain", "dropout", "head-first", "lora-plus-4", "lora-plus-16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="sample:rotten-tomatoes")
    parser.add_argument("--train-rows", type=int, default=2000)
    parser.add_argument("--validation-rows", type=int, default=1000)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    args = parser.parse_args()
    config = load_config(
        options={
            "data.source": args.data,
            "data.train_size": args.train_rows,
            "data.validation_size": args.validation_rows,
            "data.max_length": args.max_length,
            "train.epochs": args.epochs,
            "train.patience": args.epochs,
        }
    )
    bench = prepare(config, Silent()).bench
    curves: dict[str, list[list[float]]] = {}
    for variant in args.variants.split(","):
        curves[variant] = [curve(variant, seed, config, bench) for seed in range(args.seeds)]
        values = 100 * np.array(curves[variant])
        epochs = "  ".join(f"{m:.1f} ±{s:.1f}" for m, s in zip(values.mean(0), values.std(0, ddof=1), strict=True))
        print(f"{variant:14s} {epochs}   best {values.max(1).mean():.2f}", flush=True)
    name = args.data.rpartition(":")[2]
    record = {
        "settings": vars(args),
        "validation_accuracy": curves,
        "hardware": hardware(bench.runtime),
        "versions": versions(),
    }
    (RESULTS / f"recipe-{name}.json").write_text(json.dumps(record, indent=1) + "\n")


def curve(variant: str, seed: int, config: Config, bench: Workbench) -> list[float]:
    """Return the validation accuracy after each epoch."""
    train = config.train.model_copy(update={"dropout": "on" if variant == "dropout" else "auto"})
    method = METHODS["lora"]
    options = method.options()
    seed_everything(seed)
    encoder, model = prepared_model(method, options, job_of(bench, train, seed), bench, dropout=train.dropout)
    with fast_parts(encoder, config.engine, bench.runtime):
        if variant == "head-first":
            head_first(encoder, bench, seed)
        training = Training(
            model,
            Labelled(bench.encoded["train"], bench.splits["train"].labels),
            Labelled(bench.encoded["validation"], bench.splits["validation"].labels),
            Recipe(train, learning_rate=options.learning_rate, seed=seed),
            runtime=bench.runtime,
        )
        if variant.startswith("lora-plus-"):
            faster_b(training, float(variant.rpartition("-")[2]))
        return [event.validation.accuracy for event in training.events() if isinstance(event, EpochInfo)]


def head_first(encoder: LoadedEncoder, bench: Workbench, seed: int) -> None:
    """Train the head alone on the frozen encoder's output."""

    def read(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor]:
        return (extract_features(encoder, batch).read,)

    (features,) = run_passes(read, bench.encoded["train"], token_budget=8192, runtime=bench.runtime)
    fit_head(encoder, features, bench.splits["train"].labels, seed=seed)


def faster_b(training: Training, ratio: float) -> None:
    """Multiply the learning rate of LoRA's B by `ratio` at every step."""
    names = {id(p): n for n, p in training.model.named_parameters()}
    optimizer = training._optimizer
    groups = []
    for group in optimizer.param_groups:
        fast = [p for p in group["params"] if "lora_B" in names[id(p)]]
        slow = [p for p in group["params"] if "lora_B" not in names[id(p)]]
        groups += [{**group, "params": slow}, {**group, "params": fast, "ratio": ratio}]
    optimizer.param_groups[:] = [group for group in groups if group["params"]]
    step = optimizer.step

    def scaled_step() -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * group.get("ratio", 1.0)
        step()

    optimizer.step = scaled_step


if __name__ == "__main__":
    main()

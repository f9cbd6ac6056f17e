"""Measure accuracy loss and speedup of 8-bit integers: MiniLM with LoRA on IMDB reviews, against torch in fp32.

Run: ``taskset -c 1 env OMP_NUM_THREADS=1 python benchmarks/bench_int8.py``, half an hour on one core. A bundle is
trained (or passed with ``--bundle``, trained with `OPTIONS`) and exported to onnx and onnx-int8. All contestants
predict unseen test rows in turn, chunk by chunk, so every ratio compares passes over the same rows, a minute apart. The
rounding of the weights is chosen on rows used neither for training nor for testing. Writes ``results/int8-imdb.json``.

``--clock processor`` measures CPU time: with one thread, the elapsed time on an otherwise idle machine. ``--clock
wall`` measures elapsed time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import feathertune
from feathertune.bundle import load_bundle, merged_model
from feathertune.config import Config, EngineConfig, load_config
from feathertune.data.from_config import load_sources, split_sources
from feathertune.data.splitting.pool import Split
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.predict import predict_logits
from feathertune.export import Check, export_model
from feathertune.export.onnx_folder import GRAPH_FILE, OnnxFolder
from feathertune.export.onnx_int8 import quantise
from feathertune.export.parity import TOKEN_BUDGET
from feathertune.predictor import Predictor, load
from feathertune.runtime import FP32, choose_runtime, hardware, versions

RESULTS = Path(__file__).with_name("results")
OPTIONS = {
    "data.source": "sample:imdb",
    "data.train_size": 5000,
    "data.validation_size": 500,
    "data.test_size": 2500,
    "data.max_length": 256,
    "train.epochs": 2,
}
METHOD = "lora"
SEED = 0
N_CHOOSING = 1_000
# Ways to round weights: which products stay in fp32, a step per column or one step, seven or eight bits.
VARIANTS = (
    (1.0, False, False),
    (1.0, False, True),
    (1.0, True, False),
    (1.0, True, True),
    (0.06, True, True),
    (0.05, True, True),
    (0.04, True, True),
    (0.03, True, True),
)
REFERENCE = "torch fp32"
Pass = Callable[[EncodedTexts], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="bundle trained with this benchmark's settings")
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=8, help="number of chunks of the test rows")
    parser.add_argument("--contestants", help="comma-separated names; default: all; always includes " + REFERENCE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=("processor", "wall"), default="processor")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(options=OPTIONS)
    with tempfile.TemporaryDirectory(prefix="bench-int8-") as scratch:
        result = _measured(arguments, config, Path(scratch))
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / "int8-imdb.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("variants", "summary")}, indent=1))


def _measured(arguments: argparse.Namespace, config: Config, scratch: Path) -> dict[str, Any]:
    bundle = arguments.bundle or scratch / "bundle"
    if arguments.bundle is None:
        feathertune.finetune(config, bundle, method=METHOD, seed=SEED)
    test, choosing = rows_of(config, arguments.rows)
    data = scratch / "choosing.jsonl"
    labels = load_bundle(bundle).info.labels
    with data.open("w", encoding="utf-8") as file:
        for text, label in zip(choosing.texts, choosing.labels, strict=True):
            file.write(json.dumps({"text": text, "label": labels[label]}) + "\n")
    parities = {"onnx": export_model(bundle, scratch / "onnx", to="onnx")}
    clock = time.process_time if arguments.clock == "processor" else time.perf_counter
    found = variants(scratch / "onnx", scratch, choosing, clock)
    # Allow any loss: the loss is the result here, not a reason to stop.
    check = Check(str(data), max_flips=1, max_accuracy_loss=1)
    parities["onnx-int8"] = export_model(bundle, scratch / "onnx-int8", to="onnx-int8", check=check)
    print(parities["onnx-int8"], flush=True)
    contestants = _contestants(bundle, scratch)
    if arguments.contestants:
        wanted = {REFERENCE, *arguments.contestants.split(",")}
        contestants = {name: run for name, run in contestants.items() if name in wanted}
    tokens = OnnxFolder(scratch / "onnx").encode(test.texts)
    rounds, logits = in_turn(contestants, tokens, arguments.rounds, clock)
    engine = choose_runtime(EngineConfig())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python benchmarks/bench_int8.py --rows {arguments.rows} --rounds {arguments.rounds} "
        f"--threads {arguments.threads} --clock {arguments.clock}",
        "settings": OPTIONS | {"method": METHOD, "seed": SEED, "token_budget": TOKEN_BUDGET},
        "clock": arguments.clock,
        "load_average": os.getloadavg(),
        "hardware": hardware(engine),
        "versions": versions() | {name: metadata.version(name) for name in ("onnx", "onnxscript", "onnxruntime")},
        "tokens": int(tokens.lengths.sum()),
        "graph_bytes": {to: (scratch / to / GRAPH_FILE).stat().st_size for to in parities},
        "exports": {to: parity.model_dump() for to, parity in parities.items()},
        "variants": found,
        "summary": summary(rounds, logits, test.labels),
        "rounds": rounds,
    }


def rows_of(config: Config, n: int) -> tuple[Split, Split]:
    """Return the split's test rows, and rows used for neither training, validation nor testing."""
    dataset, _ = load_sources(config.data)
    splits = split_sources(config.data, dataset, None)
    rng = np.random.default_rng(SEED)
    rows = rng.choice(len(splits.test.texts), n, replace=False)
    used = {text for name in ("train", "validation", "test") for text in splits[name].texts}
    others = [row for row, text in enumerate(dataset.texts) if text not in used]
    chosen = rng.choice(others, N_CHOOSING, replace=False)
    index = {label: number for number, label in enumerate(splits.labels)}
    return (
        Split([splits.test.texts[row] for row in rows], splits.test.labels[rows]),
        Split([dataset.texts[row] for row in chosen], np.array([index[dataset.labels[row]] for row in chosen])),
    )


def variants(exported: Path, scratch: Path, rows: Split, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Compare each way to round the weights with the fp32 graph on the same rows."""
    plain = OnnxFolder(exported)
    texts, labels = rows.texts, rows.labels
    tokens = plain.encode(texts)
    expected = plain.logits_alone(tokens)
    found = []
    for max_noise, per_channel, reduce_range in VARIANTS:
        folder = scratch / f"variant-{max_noise}-{per_channel}-{reduce_range}"
        shutil.copytree(exported, folder)
        how = {"max_noise": max_noise, "per_channel": per_channel, "reduce_range": reduce_range}
        kept, rounded = quantise(exported / GRAPH_FILE, folder / GRAPH_FILE, plain.facts, tokens, **how)
        variant = OnnxFolder(folder)
        start = clock()
        logits = variant.logits_alone(tokens)
        found.append(
            {
                **how,
                "kept_in_fp32": kept,
                "rounded": rounded,
                "rows": len(texts),
                "seconds": clock() - start,
                "accuracy": float((logits.argmax(1) == labels).mean()),
                "accuracy_fp32": float((expected.argmax(1) == labels).mean()),
                "label_flips": int((logits.argmax(1) != expected.argmax(1)).sum()),
                "mean_abs_difference": float(np.abs(logits - expected).mean()),
                "max_abs_difference": float(np.abs(logits - expected).max()),
            }
        )
        print(found[-1], flush=True)
    return found


def _contestants(bundle: Path, scratch: Path) -> dict[str, Pass]:
    """Return the contestants; all get the same tokens in the same batches by length, or one text at a time (alone)."""
    merged = merged_model(load_bundle(bundle))
    graph, rounded = OnnxFolder(scratch / "onnx"), OnnxFolder(scratch / "onnx-int8")
    own = load(bundle)
    runtime = choose_runtime(EngineConfig())
    return {
        REFERENCE: lambda tokens: predict_logits(merged, tokens, token_budget=TOKEN_BUDGET, runtime=FP32),
        "torch fp32 alone": lambda tokens: _alone(merged, tokens),
        "feathertune": lambda tokens: _own(own, runtime, tokens),
        "onnx": graph.logits,
        "onnx-int8": rounded.logits,
        "onnx-int8 alone": rounded.logits_alone,
    }


def _alone(model: torch.nn.Module, tokens: EncodedTexts) -> np.ndarray:
    pieces = np.split(tokens.ids.astype(np.int64), tokens.offsets[1:-1])
    with torch.inference_mode():
        return np.concatenate([model(input_ids=torch.from_numpy(piece[None])).logits.numpy() for piece in pieces])


def _own(predictor: Predictor, runtime: Any, tokens: EncodedTexts) -> np.ndarray:
    return predict_logits(predictor.bundle.model, tokens, token_budget=TOKEN_BUDGET, runtime=runtime)


def in_turn(
    contestants: dict[str, Pass], tokens: EncodedTexts, n_rounds: int, clock: Callable[[], float]
) -> tuple[list[dict[str, float]], dict[str, np.ndarray]]:
    """Let all contestants predict each chunk of rows in turn, rotating their order by one each time.

    Returns:
        Each contestant's seconds per chunk, and its logits ``(N, C)``.
    """
    names = list(contestants)
    warm = tokens.take(np.arange(8))
    for contestant in contestants.values():
        contestant(warm)
    rounds: list[dict[str, float]] = []
    parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for number, rows in enumerate(np.array_split(np.arange(len(tokens)), n_rounds)):
        chunk, seconds = tokens.take(rows), {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            start = clock()
            parts[name].append(contestants[name](chunk))
            seconds[name] = clock() - start
        rounds.append({name: seconds[name] for name in names})
        print(f"round {number + 1}:", {name: round(s, 1) for name, s in rounds[-1].items()}, flush=True)
    return rounds, {name: np.concatenate(found) for name, found in parts.items()}


def summary(
    rounds: Sequence[dict[str, float]], logits: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, dict[str, Any]]:
    """Compare each contestant with torch in fp32: changed labels, accuracy, and the speed in each round."""
    right = {name: found.argmax(1) == labels for name, found in logits.items()}
    table = {}
    for name, found in logits.items():
        ratios = sorted(seconds[REFERENCE] / seconds[name] for seconds in rounds)
        gained, lost = (right[name] & ~right[REFERENCE]).sum(), (~right[name] & right[REFERENCE]).sum()
        table[name] = {
            "accuracy": float(right[name].mean()),
            "accuracy_loss_points": 100 * float((int(lost) - int(gained)) / len(labels)),
            "rows_lost": int(lost),
            "rows_gained": int(gained),
            # Standard error of a paired difference, which decides whether half a point is detectable.
            "loss_standard_error_points": 100 * float(np.sqrt(int(lost) + int(gained)) / len(labels)),
            "label_flips": int((found.argmax(1) != logits[REFERENCE].argmax(1)).sum()),
            "max_abs_difference": float(np.abs(found - logits[REFERENCE]).max()),
            "seconds": sum(seconds[name] for seconds in rounds),
            "times_as_fast": {
                "median": statistics.median(ratios),
                "lowest": ratios[0],
                "highest": ratios[-1],
            },
        }
    return table


if __name__ == "__main__":
    main()

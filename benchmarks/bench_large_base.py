"""Measure LoRA's peak memory on a bf16 Llama of 1.2 billion parameters, for loading and a step of 16 x 128 tokens.

Run: ``python benchmarks/bench_large_base.py --out benchmarks/results/memory-llama-1b.json``, minutes on two cores.

The weights are random, because memory depends only on shapes. Saving, which loads the base model again, is not
measured.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer, LlamaConfig

from feathertune.config import EngineConfig, TrainConfig
from feathertune.data.sources.samples import sample_encoder_path
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.training.gradient import Labelled
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, hardware, prepare_process, versions
from feathertune.study.running.prepare import ReadyModel, training_of
from feathertune.tasks.losses import CROSS_ENTROPY

N_TEXTS, LENGTH = 16, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        saving = get_context("spawn").Process(target=save_base, args=(Path(name), arguments.layers))
        saving.start()
        saving.join()  # a separate process, so that its memory is not counted here
        record = measure(Path(name))
    arguments.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["peaks_bytes"]))


def save_base(folder: Path, n_layers: int) -> None:
    """Save a random model of Llama 3.2 1B's shape in bf16, with the tokenizer of sample:minilm."""
    config = LlamaConfig(
        vocab_size=128_256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=n_layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=8192,
        pad_token_id=0,
    )
    AutoModel.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(sample_encoder_path("minilm")).save_pretrained(folder)


def measure(folder: Path) -> dict[str, object]:
    """Load the base model and train one step; return peak resident memory and seconds."""
    prepare_process(EngineConfig())
    runtime = Runtime(torch.device("cpu"), "bf16", "eager", "as asked", {})
    peaks, seconds = {"before": peak_bytes()}, {}
    start = time.perf_counter()
    encoder = load_encoder(str(folder), labels=("a", "b"), seed=0, attention="eager", dtype=None)
    seconds["load"], peaks["load"] = time.perf_counter() - start, peak_bytes()
    method, job = METHODS["lora"], Job(0)
    model = method.prepare(encoder, method.options(), job)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    ready = ReadyModel(method, method.options(), job, encoder, model, CROSS_ENTROPY)
    texts = encode(encoder.tokenizer, ["word " * LENGTH] * N_TEXTS, max_length=LENGTH)
    none = encode(encoder.tokenizer, [], max_length=LENGTH)
    labels = torch.arange(N_TEXTS).numpy() % 2
    settings = TrainConfig(batch_size=N_TEXTS, epochs=1)
    with fast_parts(encoder, EngineConfig(), runtime) as fast:
        rows, no_rows = Labelled(texts, labels), Labelled(none, labels[:0])
        training = training_of(ready, rows, no_rows, settings=settings, runtime=runtime)
        start = time.perf_counter()
        for _ in training.events():
            pass
    seconds["step"], peaks["step"] = time.perf_counter() - start, peak_bytes()
    return {
        "n_parameters": encoder.n_parameters,
        "dtype": str(next(encoder.backbone.parameters()).dtype),
        "texts": [N_TEXTS, LENGTH],
        "parts": fast.parts,
        "peaks_bytes": peaks,
        "seconds": seconds,
        "hardware": hardware(runtime),
        "versions": versions(),
    }


def peak_bytes() -> int:
    """Return this process's peak resident memory since the last call (Linux only)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return 1024 * int(found.split()[1])


if __name__ == "__main__":
    main()

"""Run one measurement in a separate process: its specification, its start, and its peak memory.

A fresh process has its own allocator, prepared oneDNN products and memory peak. Nothing here calls
`feathertune.runtime.choose_runtime`, which sets an environment variable for oneDNN: it must not speed up a Trainer.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Variable that feathertune sets when it chooses a runtime, which also happens in the parent of all children.
FEATHERTUNES_OWN = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_WARM_UP_STEPS = 3


@dataclass(frozen=True)
class Spec:
    """Specification of a child's measurement.

    Attributes:
        contestant: Name of the contestant.
        ablation: True if the name is part of the ablation.
        data: File written by `save_problem`.
        base: ``sample:minilm`` or a folder.
        max_length: Maximum tokens per text.
        bf16: True if this machine multiplies bf16 faster, as measured by feathertune; used by the tuned Trainer.
        tutorial_optim: Trainer's name of an optimizer; ``None`` for its default.
        scratch: Writable folder.
        seed: Seed of head, adapter, order and dropout.
        epochs: Epochs of a run to an accuracy.
        rate_scale: Factor for the learning rates; small for random weights.
        device: ``cpu`` or ``cuda``.
    """

    contestant: str
    ablation: bool
    data: str
    base: str
    max_length: int
    bf16: bool
    tutorial_optim: str | None
    scratch: str
    seed: int = 0
    epochs: int = 1
    rate_scale: float = 1.0
    device: str = "cpu"


@dataclass(frozen=True)
class Rows:
    """Encoded texts, as in `feathertune.data.tokens.encode.EncodedTexts`, with labels ``(N,)``."""

    ids: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> Rows:
        """Return the first `n` rows."""
        end = self.offsets[: n + 1]
        return Rows(self.ids[: end[-1]], end, self.labels[:n])

    @property
    def n_tokens(self) -> int:
        """Number of tokens without padding."""
        return int(self.offsets[-1])


@dataclass(frozen=True)
class Problem:
    """Training data of a measurement."""

    train: Rows
    validation: Rows
    pad_id: int
    labels: tuple[str, ...]

    def warm_up(self, batch_size: int) -> Rows:
        """Return enough rows for three warm-up steps."""
        return self.train.first(min(len(self.train), _WARM_UP_STEPS * batch_size))


def save_problem(path: Path, problem: Problem) -> None:
    """Write tokens and labels to a file, so that a child does not have to read and tokenise texts."""
    arrays = {
        f"{name}_{field}": array
        for name in ("train", "validation")
        for field, array in vars(getattr(problem, name)).items()
    }
    np.savez(path, pad_id=problem.pad_id, labels=np.array(problem.labels), **arrays)


def load_problem(path: str) -> Problem:
    """Return the problem that `save_problem` wrote."""
    with np.load(path) as found:

        def rows(name: str) -> Rows:
            return Rows(*(found[f"{name}_{field}"] for field in ("ids", "offsets", "labels")))

        labels = tuple(str(label) for label in found["labels"])
        return Problem(rows("train"), rows("validation"), int(found["pad_id"]), labels)


def run_child(script: str, spec: Spec) -> dict[str, Any]:
    """Measure one contestant in a fresh process.

    Returns:
        The child's result, or ``{"error": ...}`` if it failed, because failed runs belong in the record too.
    """
    return _run(script, "--child", json.dumps(asdict(spec)))


def run_peak(script: str, device: str = "cpu") -> dict[str, float]:
    """Measure the machine's peak speed in a fresh process."""
    return _run(script, "--peak", "--device", device)


def _run(script: str, *arguments: str) -> dict[str, Any]:
    environment = {key: value for key, value in os.environ.items() if key != FEATHERTUNES_OWN}
    environment.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    done = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def answer(found: Mapping[str, Any]) -> None:
    """Print a child's result as its last line of output."""
    print(json.dumps(found), flush=True)


def reset_peak_memory() -> None:
    """Reset the memory peak after loading, so that only training counts (Linux only)."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_bytes() -> int:
    """Return the peak resident memory since `reset_peak_memory`, or since the start, including all libraries."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measure_peak(device: str) -> dict[str, float]:
    """Return the fastest measured matrix product in FLOP/s, by number format: the machine's peak."""
    import torch

    shapes = [(size, size, size) for size in (1024, 2048, 4096)] + [(4096, 768, 3072)]

    def fastest(dtype: torch.dtype) -> float:
        pairs = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in shapes]
        return max(_product_speed(*(one.to(device, dtype) for one in pair)) for pair in pairs)

    return {"bf16": fastest(torch.bfloat16), "fp32": fastest(torch.float32)}


def _product_speed(a: Any, b: Any, repeats: int = 5) -> float:
    best = min(_seconds(lambda: (a @ b)[0, 0].item()) for _ in range(repeats + 1))
    return 2 * a.shape[0] * a.shape[1] * b.shape[1] / best


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start

"""The machine: device, number format, seeds, versions, and measured memory and time."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar, Literal

import numpy as np
import psutil
import torch

from feathertune.config import EngineConfig
from feathertune.errors import ConfigError, first_line

# oneDNN compiles code for each product shape and keeps 1,024 by default, too few for an epoch over texts of many
# lengths.
_ONEDNN_CACHE = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
# bf16 must be clearly faster, since it loses digits. Native bf16 is 2x to 8x faster; elsewhere it is 3x or more slower.
_BF16_MUST_WIN_BY = 1.3
_PROBE_SIZE = 768
_SAMPLE_EVERY_S = 0.01
_NOTHING_BYTES = 16 << 20
# glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 << 20
# Held while process-wide state is in use: the random generators of torch and numpy, and the warning filters. One
# reentrant lock for all of it rules out deadlocks.
GLOBAL_STATE = threading.RLock()


@dataclass(frozen=True)
class Runtime:
    """Device and number format of matrix products (``"fp32"`` or ``"bf16"``), the reason, and speeds in GFLOP/s."""

    device: torch.device
    dtype: str
    attention: Literal["eager", "sdpa"]
    reason: str
    measured: dict[str, float]

    @property
    def product_dtype(self) -> torch.dtype:
        """Torch `dtype` of matrix products."""
        return torch.bfloat16 if self.dtype == "bf16" else torch.float32

    @property
    def weights_dtype(self) -> torch.dtype | None:
        """Torch `dtype` of frozen weights; None for that of the base model's file."""
        return torch.float32 if self.dtype == "fp32" else None

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which matrix products have this format."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == "bf16")


# For comparing two models, without rounding and without a GPU.
FP32 = Runtime(torch.device("cpu"), "fp32", "sdpa", "two models are compared in fp32", {})


def choose_runtime(config: EngineConfig) -> Runtime:
    """Choose device and number format, measuring for ``auto``, and prepare the process.

    Raises:
        ConfigError: If the device cannot be used.
    """
    prepare_process(config)
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"engine.device is '{name}', which cannot be used here: {first_line(error)}.") from error
    # On a CPU, the backward pass of torch's fused attention takes a third of a step at 27 tokens, and longer than plain
    # products at 256. On a GPU, the fused kernels are faster.
    fitting: Literal["eager", "sdpa"] = "eager" if device.type == "cpu" else "sdpa"
    attention = fitting if config.attention == "auto" else config.attention
    if config.dtype != "auto":
        return Runtime(device, config.dtype, attention, "as asked", {})
    fp32 = measure_matmul(device, torch.float32)
    bf16 = measure_matmul(device, torch.bfloat16)
    dtype = "bf16" if bf16 > _BF16_MUST_WIN_BY * fp32 else "fp32"
    measured = {"fp32_gflop_per_s": round(fp32 / 1e9, 1), "bf16_gflop_per_s": round(bf16 / 1e9, 1)}
    reason = f"measured: bf16 products are {bf16 / fp32:.1f} times as fast as fp32"
    return Runtime(device, dtype, attention, reason, measured)


def measure_matmul(device: torch.device, dtype: torch.dtype, *, size: int = _PROBE_SIZE, repeats: int = 5) -> float:
    """Return the speed of a square matrix product in FLOP/s, the best of `repeats` after a warm-up."""
    a = torch.ones(size, size, device=device, dtype=dtype)
    best_s = float("inf")
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        product = a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if repeat:
            best_s = min(best_s, time.perf_counter() - start)
    del product
    return 2 * size**3 / best_s


def prepare_process(config: EngineConfig) -> None:
    """Configure this process's caches of compiled products and freed memory; call before torch's first product."""
    os.environ.setdefault(*_ONEDNN_CACHE)
    if config.memory == "keep":
        _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next tensor; page faults take a fifth of a step at 256 tokens."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(_M_TOP_PAD, _TOP_PAD_BYTES)


def seed_everything(seed: int) -> None:
    """Seed the global generators of torch and numpy, which libraries use."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - sklearn and peft draw from the global state


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the global generators of torch and numpy after the block; one thread at a time enters it."""
    with GLOBAL_STATE:
        before = np.random.get_state()  # noqa: NPY002
        with torch.random.fork_rng():
            try:
                yield
            finally:
                np.random.set_state(before)  # noqa: NPY002


class PeakMemory:
    """Peak memory of a block, resident or on the GPU, without lasting growth that `held` does not count."""

    _least: ClassVar[int | None] = None

    def __init__(self, device: torch.device, *, held: Callable[[], int] = lambda: 0) -> None:
        self._device, self._held = device, held
        self._lock = threading.Lock()
        self.peak_bytes = 0

    def __enter__(self) -> PeakMemory:
        give_memory_back()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            return self
        self._stop = threading.Event()
        self._process = psutil.Process()
        self._start = int(self._process.memory_info().rss)
        stays = self._stays()
        PeakMemory._least = min(stays, PeakMemory._least or stays)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def begin_again(self) -> None:
        """Reset the peak, after memory that this block holds was dropped unused."""
        with self._lock:
            give_memory_back()
            self.peak_bytes = 0
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def _watch(self) -> None:
        stopped = False
        while not stopped:  # read once more at the end: on a busy machine, the last reading can be old
            stopped = self._stop.wait(_SAMPLE_EVERY_S)
            with self._lock:
                self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.peak_bytes = torch.cuda.max_memory_allocated(self._device)
            return
        self._stop.set()
        self._thread.join()
        give_memory_back(collect=False)
        if self._process.memory_info().rss > self._start + _NOTHING_BYTES:  # a collection takes a fifth of a second
            give_memory_back()
        self.peak_bytes -= max(0, self._stays() - (PeakMemory._least or 0))

    def _stays(self) -> int:
        return int(self._process.memory_info().rss) - self._held()


def give_memory_back(*, collect: bool = True) -> None:
    """Collect garbage and return freed memory to the system, to exclude it from the next method's peak."""
    if collect:
        _clear_peft_cache()
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _clear_peft_cache() -> None:
    """Clear PEFT's `lru_cache` of warnings, whose keys keep SHiRA layers alive."""
    peft_module = sys.modules.get("peft.tuners.shira.layer")
    if clear := getattr(getattr(peft_module, "_warn_once_about_module_hooks", None), "cache_clear", None):
        clear()


@contextlib.contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time a block; read `Stopwatch.seconds` afterwards."""
    watch = Stopwatch()
    start = time.perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = time.perf_counter() - start


class Stopwatch:
    """Wall-clock seconds of a block."""

    seconds: float = 0.0


def hardware(runtime: Runtime) -> dict[str, Any]:
    """Return a description of this machine for the record."""
    return {
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else "cpu",
        "dtype": runtime.dtype,
        "system": f"{platform.system()} {platform.machine()}",
        "measured": {**runtime.measured, "dtype_reason": runtime.reason},
    }


def _processor_name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    names = ("feathertune", "torch", "transformers", "peft", "tokenizers", "scikit-learn", "numpy", "pyarrow")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from feathertune import runtime
from feathertune.config import EngineConfig
from feathertune.errors import ConfigError
from feathertune.runtime import (
    PeakMemory,
    choose_runtime,
    hardware,
    seed_everything,
    stopwatch,
    versions,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize(("ratio", "expected"), [(4.0, "bf16"), (1.31, "bf16"), (1.29, "fp32"), (0.17, "fp32")])
def test_bf16_has_to_win_clearly(monkeypatch, ratio, expected):
    monkeypatch.setattr(runtime, "measure_matmul", lambda _, dtype: 1e9 * (ratio if dtype == torch.bfloat16 else 1))
    chosen = choose_runtime(EngineConfig(device="cpu"))
    assert chosen.dtype == expected
    assert f"{ratio:.1f} times" in chosen.reason
    assert chosen.measured["fp32_gflop_per_s"] == 1.0
    with chosen.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if expected == "bf16" else torch.float32)


def test_what_is_asked_is_not_measured(monkeypatch):
    monkeypatch.setattr(runtime, "measure_matmul", lambda *_: pytest.fail("measured"))
    chosen = choose_runtime(EngineConfig(dtype="fp32", device="cpu", attention="sdpa"))
    assert (chosen.dtype, chosen.attention, chosen.measured) == ("fp32", "sdpa", {})
    assert choose_runtime(EngineConfig(dtype="bf16", device="cpu")).attention == "eager"


CAPACITY = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


@pytest.mark.parametrize(("given", "expected"), [(None, "8192"), ("77", "77")])
def test_onednn_keeps_more_products_from_the_first_one_on(monkeypatch, given, expected):
    """oneDNN reads the variable at its first product; what the user has set stays."""
    monkeypatch.setenv(CAPACITY, given or "")
    if given is None:
        monkeypatch.delenv(CAPACITY)
    found = []
    monkeypatch.setattr(runtime, "measure_matmul", lambda *_: found.append(os.environ[CAPACITY]) or 1e9)
    choose_runtime(EngineConfig(device="cpu"))
    assert found == [expected, expected]


def test_an_import_sets_no_environment_variable():
    code = "import os; before = dict(os.environ); import feathertune.runtime; assert dict(os.environ) == before"
    environment = {key: value for key, value in os.environ.items() if key != CAPACITY}
    # Libraries may set variables of their own; they are loaded first.
    subprocess.run([sys.executable, "-c", f"import torch, psutil, numpy; {code}"], check=True, env=environment)


def test_matmul_is_really_timed():
    assert 1e8 < runtime.measure_matmul(CPU, torch.float32, size=256) < 1e15


@pytest.mark.parametrize("device", ["cuda:7", "nonsense"])
def test_a_device_that_is_not_here(device):
    with pytest.raises(ConfigError, match=f"engine.device is '{device}'"):
        choose_runtime(EngineConfig(device=device, dtype="fp32"))


def test_peak_memory_sees_what_was_freed_again():
    with PeakMemory(CPU) as small:
        pass
    with PeakMemory(CPU) as large:
        block = np.ones(40_000_000)
        block.sum()
        with stopwatch() as watch:
            torch.ones(1000, 1000) @ torch.ones(1000, 1000)
            while watch.seconds == 0 and large.peak_bytes < small.peak_bytes + 300_000_000:
                block += 1
        del block
    assert large.peak_bytes > small.peak_bytes + 300_000_000
    assert watch.seconds > 0


def of_nothing():
    """What the process takes, whatever ran in it before: some of that is freed by a second collection only."""
    for _ in range(2):
        runtime.give_memory_back()
    with PeakMemory(CPU) as found:
        pass
    return found.peak_bytes


def test_peak_memory_leaves_out_what_stays_unless_it_is_held():
    before_bytes = of_nothing()
    with PeakMemory(CPU) as keeper:
        kept = np.ones(40_000_000)
    with PeakMemory(CPU) as unrelated:
        pass
    with PeakMemory(CPU, held=lambda: kept.nbytes) as reader:
        kept.sum()
    held = []
    with PeakMemory(CPU, held=lambda: sum(block.nbytes for block in held)) as maker:
        held.append(np.ones(20_000_000))
    for other in (keeper, unrelated):
        assert abs(other.peak_bytes - before_bytes) < 50_000_000
    assert abs(reader.peak_bytes - before_bytes - kept.nbytes) < 50_000_000
    assert abs(maker.peak_bytes - before_bytes - held[0].nbytes) < 50_000_000


def test_peak_memory_leaves_out_what_was_held_for_a_block_that_dropped_it():
    before_bytes = of_nothing()
    held = [np.ones(40_000_000)]
    with PeakMemory(CPU, held=lambda: sum(block.nbytes for block in held)) as dropping:
        held.clear()
        dropping.begin_again()
        own = np.ones(20_000_000)
        peak = before_bytes + own.nbytes
        for _ in range(20):  # long enough to be seen, a hundred times a second
            own += 1
        del own
    assert abs(dropping.peak_bytes - peak) < 50_000_000


def test_seeds_reach_torch_and_numpy():
    draws = []
    for seed in (0, 0, 1):
        seed_everything(seed)
        draws.append((torch.rand(1).item(), np.random.rand()))  # noqa: NPY002
    assert draws[0] == draws[1]
    assert draws[0][0] != draws[2][0]
    assert draws[0][1] != draws[2][1]


def test_the_record_of_the_machine():
    found = hardware(choose_runtime(EngineConfig(dtype="fp32", device="cpu")))
    assert found["device"] == "cpu"
    assert found["cores"] >= 1
    assert found["memory_bytes"] > 1e9
    assert found["measured"] == {"dtype_reason": "as asked"}
    assert {"python", "torch", "transformers", "peft"} <= versions().keys()

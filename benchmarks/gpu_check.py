"""Check feathertune on a GPU: the tests that need one, and speed against Trainer and PEFT. Writes ``results/gpu.json``.

Run: ``make gpu-check``. Without a GPU it prints a message and exits with code 0. The tests are in ``tests/gpu``. The
`contestants` use torch's fused attention and, if compiled, ``torch.compile``. Exits with code 1 if a test fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

HERE = Path(__file__).parent
CASES = "minilm-27,minilm-256,bert-base-256,modernbert-base-256"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=CASES, help="comma-separated cases of bench_engine.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "gpu.json")
    given = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("torch found no GPU, so nothing was checked.")
        return 0
    print(f"GPU: {torch.cuda.get_device_name()}", flush=True)
    tested = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/gpu"], cwd=HERE.parent)
    with tempfile.TemporaryDirectory() as folder:
        bench = [sys.executable, str(HERE / "bench_engine.py"), "--device", "cuda", "--results", folder]
        subprocess.run([*bench, "--cases", given.cases, "--rounds", str(given.rounds)], check=True)
        cases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*.json"))]
    record = {"gpu": torch.cuda.get_device_name(), "tests_passed": tested.returncode == 0, "cases": cases}
    given.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return tested.returncode


if __name__ == "__main__":
    raise SystemExit(main())

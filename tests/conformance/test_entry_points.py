"""A method of another package: one file and one line of its metadata, and every test of this folder runs on it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from packages import make_distribution

HERE = Path(__file__).parent
SUITE = ["test_methods.py", "test_bundles_of_methods.py", "test_engine_of_methods.py"]
TOY = """
from pydantic import Field

from feathertune.methods.adapters import adapter
from feathertune.methods.targets import TargetedOptions


class ToyOptions(TargetedOptions):
    learning_rate: float = Field(default=1e-3, gt=0)
    r: int = Field(default=3, ge=1)


TOY = adapter(
    name="toy",
    config="LoraConfig",
    summary="LoRA by another name.",
    when="In tests.",
    source="-",
    options=ToyOptions,
)
"""


def test_a_method_of_another_package_passes_the_same_tests(tmp_path):
    make_distribution(tmp_path, "toy", {"feathertune.methods": {"toy": "toy:TOY"}}, {"toy.py": TOY})
    paths = [str(tmp_path), str(HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "toy", *(HERE / f for f in SUITE)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    outcome = done.stdout.strip().splitlines()[-1]
    assert "skipped" not in outcome, "it serves every family"
    assert int(re.search(r"(\d+) passed", outcome)[1]) >= 15, "the conformance suite ran on it"

"""schemathesis, which makes requests out of the OpenAPI document, finds nothing."""

import importlib.util
import subprocess
import sys
from dataclasses import replace

import pytest

from e2e.cli import ENVIRONMENT
from serving import SMALL, fakes, listening

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")

from feathertune.serve.service import Service

TOKEN = "a-long-secret"
pytestmark = pytest.mark.slow


@pytest.mark.timeout(1600)
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.parametrize("token", [None, TOKEN])
def test_finds_nothing(token, tmp_path):
    limits = replace(SMALL, body_bytes=1 << 20)  # of bodies that break two rules it expects the other answer
    with listening(Service(fakes("a", "b"), limits, token)) as address:
        options = ["--max-examples", "50", "--seed", "1", "--no-color"]
        if token:
            options += ["--header", f"Authorization: Bearer {token}"]
        done = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", *options],
            cwd=tmp_path,  # where it keeps what it found
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-12_000:] + done.stderr[-2000:]

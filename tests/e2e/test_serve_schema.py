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
# Whether text_pairs belong into a request depends on the bundle, which no document can say: 422 is right there.
SETTINGS = """
[[operations]]
include-name = "POST /v1/models/{name}:predict"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429", "5xx"]
"""
pytestmark = pytest.mark.slow


@pytest.mark.timeout(1600)
@pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed")
@pytest.mark.parametrize("token", [None, TOKEN])
def test_finds_nothing(token, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(SETTINGS, encoding="utf-8")
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

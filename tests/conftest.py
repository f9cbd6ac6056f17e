"""What every test shares: no hub, no colours, and a fixed state of the random generators."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Two threads gain nothing on tiny encoders, wait for each other, and round otherwise than the commands of tests/e2e.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_finish() -> None:
    """A collection need not look at torch and all tests again: it takes a fifth of a second, a few thousand times."""
    gc.collect()
    gc.freeze()

"""Bundles whose JSON holds anything, with hashes that fit: loaded, or refused in one sentence, and in time."""

from __future__ import annotations

import dataclasses
import json
import random
import time
from pathlib import Path

import peft
import pytest
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from feathertune.bundle import load_bundle, save_bundle
from feathertune.errors import BundleError
from feathertune.methods import METHODS
from tiny import save_tiny_encoder
from unit.bundle.test_bundle import SETTINGS, seal, trained

FILES = ("adapter_config.json", "feathertune.json")
CLASSES = [getattr(peft, method.peft_config) for method in METHODS if method.peft_config]
KEYS = sorted({field.name for cls in CLASSES for field in dataclasses.fields(cls)})
TYPES = [str(kind.value) for kind in PEFT_TYPE_TO_CONFIG_MAPPING]
# Numbers of every size, words, patterns, paths, and each kind of container.
VALUES = [None, True, False, 0, 1, -1, 2, 10**6, 10**18, -(10**9), 10**40, 0.5, -0.5, 1e30, float("nan"), float("inf")]
VALUES += ["", "x", "a.b", "(a+)+$", ".*", "(.*.*)*(.*.*)*[^ -~]", "[", "/etc/passwd", "all", "pissa", "eva", "\x1b[2J"]
VALUES += [[], {}, [1], ["x"], [[1]], [None], ["query"] * 500, {"a": 1}, {"query": 4}, {"query": [1, 2]}, {"query": {}}]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzzed")
    save_tiny_encoder(folder / "base", "bert")
    encoder, model = trained(str(folder / "base"))
    save_bundle(folder / "bundle", model, encoder, SETTINGS)
    return folder / "bundle"


def mutated(content: dict, file: str, rng: random.Random) -> dict:
    for _ in range(rng.choice([1, 1, 2])):
        key = rng.choice(KEYS if file == FILES[0] else list(content))
        inner = content.get(key)
        if isinstance(inner, dict | list) and inner and rng.random() < 0.5:
            inner[rng.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))] = rng.choice(VALUES)
        else:
            content[key] = rng.choice(VALUES)
        if file == FILES[0] and rng.random() < 0.25:
            content["peft_type"] = rng.choice(TYPES)
    return content


@pytest.mark.parametrize(
    ("seed", "n"), [(0, 40), *(pytest.param(seed, 2_000, marks=pytest.mark.slow) for seed in range(1, 6))]
)
@pytest.mark.timeout(1200)
def test_settings_that_may_be_anything(seed, n, bundle):
    rng = random.Random(seed)
    original = {file: (bundle / file).read_bytes() for file in FILES}
    refused = 0
    for _ in range(n):
        file = rng.choice(FILES)
        content = mutated(json.loads(original[file]), file, rng)
        (bundle / file).write_text(json.dumps(content))
        seal(bundle)
        start = time.monotonic()
        try:
            load_bundle(bundle)
        except BundleError as error:
            refused += 1
            message = str(error)
            assert "\n" not in message, content
            assert len(message) < 1_500, content
        assert time.monotonic() - start < 10, content
        (bundle / file).write_bytes(original[file])
    seal(bundle)
    load_bundle(bundle)
    assert refused > n / 4

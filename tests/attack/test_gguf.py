"""GGUF files with anything in them: read, or refused in one sentence and in time, and no code of theirs is run."""

from __future__ import annotations

import random
import struct
import time
from pathlib import Path

import pytest
from huggingface_hub import constants

from feathertune.encoders.files import find_encoder
from feathertune.errors import EncoderError
from ggufs import save_tiny_gguf

NUMBERS = [0, 1, 2, 7, 8, 9, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> bytes:
    return save_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf").read_bytes()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))


def refused(path: Path) -> bool:
    start = time.process_time()
    try:
        find_encoder(str(path))
        found = False
    except EncoderError as error:
        message = str(error)
        assert "\n" not in message
        assert len(message) < 1_500
        found = True
    assert time.process_time() - start < 10
    return found


def test_a_file_that_ends_early(original, tmp_path):
    for share in (0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999):
        path = tmp_path / f"{share}.gguf"
        path.write_bytes(original[: int(share * len(original))])
        assert refused(path), share


def mutated(content: bytes, rng: random.Random) -> bytes:
    """The file with numbers of every size in the place of others, most of them in the header."""
    found = bytearray(content)
    end = content.index(b"blk.1.ffn_down.weight") + 60
    for _ in range(rng.choice([1, 1, 2, 5])):
        at = rng.randrange(end if rng.random() < 0.9 else len(found) - 8)
        form = rng.choice("BIQ")
        struct.pack_into(f"<{form}", found, at, rng.choice(NUMBERS) % (1 << 8 * struct.calcsize(form)))
    return bytes(found)


def keys(content: bytes) -> list[tuple[int, int]]:
    """Places of the numbers that decide how much is read: counts, lengths of arrays, values of the configuration."""
    places = [(8, 8), (16, 8)]
    for key in (b"context_length", b"embedding_length", b"block_count", b"feed_forward_length", b"head_count"):
        places.append((content.index(key) + len(key) + 4, 4))
    for key in (b"ggml.tokens", b"ggml.merges", b"ggml.token_type"):
        places += [(content.index(key) + len(key), 4), (content.index(key) + len(key) + 4, 4)]
        places.append((content.index(key) + len(key) + 8, 8))
    for key in (b"token_embd.weight", b"blk.0.attn_q.weight"):
        start = content.index(key) + len(key)
        places += [(start, 4), (start + 4, 8), (start + 12, 8), (start + 20, 4), (start + 24, 8)]
    return places


@pytest.mark.parametrize("numbers", [[0, 2**31 - 1, 2**64 - 1], pytest.param(NUMBERS, marks=pytest.mark.slow)])
def test_each_number_that_decides_how_much_is_read(numbers, original, tmp_path):
    path, tried, count = tmp_path / "a.gguf", 0, 0
    for at, width in keys(original):
        for number in numbers:
            if number < 1 << 8 * width:
                found = bytearray(original)
                found[at : at + width] = number.to_bytes(width, "little")
                path.write_bytes(found)
                tried, count = tried + 1, count + refused(path)
    assert count > tried * 0.8


@pytest.mark.parametrize(
    ("seed", "n"), [(0, 40), *(pytest.param(seed, 1_000, marks=pytest.mark.slow) for seed in range(1, 4))]
)
@pytest.mark.timeout(1200)
def test_files_that_may_hold_anything(seed, n, original, tmp_path):
    rng, path = random.Random(seed), tmp_path / "a.gguf"
    count = 0
    for _ in range(n):
        path.write_bytes(mutated(original, rng))
        count += refused(path)
    assert count > n / 4

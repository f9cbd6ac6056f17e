"""Hidden states in memory and in files: right ones, damaged ones, no room, two writers."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from feathertune.data.tokens.encode import EncodedTexts, Padding
from feathertune.engine.prefix_cache import activations
from feathertune.engine.prefix_cache.activations import CachedTexts, CacheFolder, compute, content_key
from feathertune.engine.prefix_cache.split_point import STATES

CPU = torch.device("cpu")
WIDTH = 4
LENGTHS = np.array([3, 1, 5, 2, 5])


def texts():
    offsets = np.concatenate([[0], np.cumsum(LENGTHS)])
    ids = np.arange(offsets[-1], dtype=np.int32) + 1
    return EncodedTexts(ids=ids, offsets=offsets, n_truncated=0, padding=Padding())


def boundary(batch):
    """A hidden state that tells which token it belongs to."""
    return batch["input_ids"].unsqueeze(-1).expand(-1, -1, WIDTH).to(torch.float32)


def filled(into):
    compute(texts(), boundary, into, token_budget=8, device=CPU)


def shape():
    return (int(LENGTHS.sum()), WIDTH)


def test_each_text_gets_its_own_states_back():
    hidden = torch.empty(shape())
    filled(hidden)
    assert torch.equal(hidden[:, 0], torch.arange(1.0, len(hidden) + 1))
    cached = CachedTexts(texts(), hidden)
    rows = np.array([4, 1, 0])
    batch, plain = cached.collate(rows, CPU), texts().collate(rows, CPU)
    assert torch.equal(batch["attention_mask"], plain["attention_mask"])
    assert torch.equal(batch[STATES][:, :, 0], plain["input_ids"].float())
    assert np.array_equal(cached.lengths, LENGTHS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_is_made_once_and_found_again(tmp_path, dtype):
    folder, calls = CacheFolder(tmp_path / "deep" / "cache"), []

    def fill(into):
        calls.append(1)
        filled(into)

    assert folder.find("k", shape(), dtype) is None
    made = folder.make("k", shape(), dtype, fill)
    found = folder.find("k", shape(), dtype)
    assert found is not None
    assert torch.equal(found, made)
    assert found.dtype == dtype
    assert len(calls) == 1
    assert folder.find("other", shape(), dtype) is None
    assert folder.find("k", (shape()[0] + 1, WIDTH), dtype) is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "entry"])
def test_a_damaged_file_is_never_used(tmp_path, damage):
    folder = CacheFolder(tmp_path)
    folder.make("k", shape(), torch.float32, filled)
    (path,) = tmp_path.glob("*.states")
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "truncate":
        path.write_bytes(content[:-1])
    elif damage == "remove":
        path.unlink()
    else:
        (tmp_path / "k.json").write_text("{")
    assert folder.find("k", shape(), torch.float32) is None
    folder.make("k", shape(), torch.float32, filled)
    again = folder.find("k", shape(), torch.float32)
    assert again is not None
    assert torch.equal(again[:, 0], torch.arange(1.0, len(again) + 1))


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(activations, "_claim", full)
    with pytest.raises(OSError, match="No space"):
        CacheFolder(tmp_path).make("k", shape(), torch.float32, filled)
    assert list(tmp_path.iterdir()) == []


WRITER = """
import sys, torch
from pathlib import Path
from feathertune.engine.prefix_cache.activations import CacheFolder
value = float(sys.argv[2])
CacheFolder(Path(sys.argv[1])).make("k", (16, 4), torch.float32, lambda into: into.fill_(value))
"""


def test_two_writers_leave_one_whole_result(tmp_path):
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(i)]) for i in range(2)]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    found = CacheFolder(tmp_path).find("k", (16, 4), torch.float32)
    assert found is not None
    assert (found == found[0, 0]).all()
    assert not list(tmp_path.glob("*.tmp"))


def test_the_key_depends_on_tokens_and_facts():
    one, other = texts(), texts()
    key = content_key(one, split_point=3)
    assert content_key(other, split_point=3) == key
    assert content_key(one, split_point=2) != key
    other.ids[0] += 1
    assert content_key(other, split_point=3) != key


def test_the_entry_says_what_is_in_the_file(tmp_path):
    CacheFolder(tmp_path).make("k", shape(), torch.bfloat16, filled)
    entry = json.loads((tmp_path / "k.json").read_text())
    assert entry["shape"] == list(shape())
    assert (tmp_path / entry["file"]).stat().st_size == shape()[0] * WIDTH * 2

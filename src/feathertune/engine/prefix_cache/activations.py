"""Hidden states of a frozen prefix for every text, unpadded, in one array or in a hashed memory-mapped file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from feathertune.data.tokens.batching import cut_passes
from feathertune.data.tokens.encode import EncodedTexts, sent
from feathertune.engine.prefix_cache.split_point import STATES
from feathertune.storage import open_new, sha256_of, write_atomic

_CLAIM_BYTES = 1 << 24
_STORED: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype(np.float32),
    torch.bfloat16: np.dtype(np.int16),
}


class CachedTexts(EncodedTexts):
    """N texts with their hidden states ``(sum of lengths, D)`` at the split point."""

    def __init__(self, texts: EncodedTexts, hidden: Tensor) -> None:
        super().__init__(**{field.name: getattr(texts, field.name) for field in fields(texts)})
        self.hidden = hidden

    def collate(self, rows: np.ndarray, device: torch.device) -> dict[str, Tensor]:
        """Return one padded batch with its hidden states ``(B, T, D)``, zero for padding."""
        batch = super().collate(rows, device)
        shape = batch["input_ids"].shape
        hidden = self.hidden.new_zeros(*shape, self.hidden.shape[1])
        for place, i in zip(hidden, self.sequences(rows), strict=True):
            start, end = self.offsets[i], self.offsets[i + 1]
            place[self.padding.place(end - start, shape[1])] = self.hidden[start:end]
        return {**batch, STATES: sent(hidden, device)}


def n_bytes(texts: EncodedTexts, width: int, dtype: torch.dtype) -> int:
    """Return the size of these texts' hidden states."""
    return int(texts.offsets[-1]) * width * dtype.itemsize


def compute(
    texts: EncodedTexts,
    boundary: Callable[[dict[str, Tensor]], Tensor],
    into: Tensor,
    *,
    token_budget: int,
    device: torch.device,
    on_texts: Callable[[int], None] | None = None,
) -> None:
    """Fill ``(sum of lengths, D)`` with every text's hidden states; `boundary` returns a batch's ``(B, T, D)``."""
    order = np.argsort(texts.lengths, kind="stable")
    for rows in cut_passes(order, texts.lengths, token_budget=token_budget):
        hidden = boundary(texts.collate(rows, device))
        for i, states in zip(texts.sequences(rows), hidden, strict=True):
            start, end = texts.offsets[i], texts.offsets[i + 1]
            into[start:end] = states[texts.padding.place(end - start, len(states))]
        if on_texts is not None:
            on_texts(len(rows))


def content_key(texts: EncodedTexts, **facts: object) -> str:
    """Return a file name for hidden states: a hash of the tokens and everything else they depend on."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    digest.update(np.ascontiguousarray(texts.offsets).data)
    digest.update(np.ascontiguousarray(texts.ids).data)
    if texts.types is not None:
        digest.update(np.ascontiguousarray(texts.types).data)
    return digest.hexdigest()[:32]


class CacheFolder:
    """Hidden states stored as files in a folder, which is created if it is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: str, shape: tuple[int, int], dtype: torch.dtype) -> Tensor | None:
        """Map an intact file, or return ``None``; damaged files are removed."""
        entry = self.folder / f"{key}.json"
        try:
            found = json.loads(entry.read_text(encoding="utf-8"))
            path = self.folder / str(found["file"])
            fits = found["shape"] == list(shape) and found["dtype"] == str(dtype)
            whole = fits and path.stat().st_size == shape[0] * shape[1] * dtype.itemsize
            if whole and sha256_of(path) == found["sha256"]:
                return _mapped(path, shape, dtype)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        entry.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        return None

    def make(self, key: str, shape: tuple[int, int], dtype: torch.dtype, fill: Callable[[Tensor], None]) -> Tensor:
        """Let `fill` write states ``(sum of lengths, D)`` to a file and map it; an OSError leaves no files behind."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = open_new(self.folder / key)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _claim(file, shape[0] * shape[1] * dtype.itemsize)
                fill(_mapped(temporary, shape, dtype))
                os.fsync(file.fileno())
            sha256 = sha256_of(temporary)
            # The name includes the content's hash, so two processes never write the same file.
            path = self.folder / f"{key}-{sha256[:16]}.states"
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        entry = {"file": path.name, "shape": list(shape), "dtype": str(dtype), "sha256": sha256}
        write_atomic(self.folder / f"{key}.json", json.dumps(entry) + "\n")
        return _mapped(path, shape, dtype)


def _claim(file: BinaryIO, n: int) -> None:
    """Reserve the disk space first: a full disk under a mapped file kills the process with a signal."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, max(1, n))
        return
    for start in range(0, n, _CLAIM_BYTES):
        file.write(bytes(min(_CLAIM_BYTES, n - start)))


def _mapped(path: Path, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    return torch.from_numpy(np.memmap(path, dtype=_STORED[dtype], mode="r+", shape=shape)).view(dtype)

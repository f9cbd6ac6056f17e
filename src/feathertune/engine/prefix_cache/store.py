"""Cache the frozen prefix's hidden states for each split: in memory within a budget, else in a mapped file."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from torch import nn

from feathertune.config import EngineConfig
from feathertune.data.sources.collector import SplitName
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.engine.prefix_cache.activations import CachedTexts, CacheFolder, compute, content_key, n_bytes
from feathertune.engine.prefix_cache.split_point import Prefix, find_split_point
from feathertune.runtime import Runtime, stopwatch, versions

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder

# Share of free memory (or disk) that hidden states may use if no budget is given.
_SHARE = 0.5
_CHECKED_TEXTS = 2


@dataclass
class Kept:
    """One split's hidden states, and the seconds it took to compute them."""

    texts: CachedTexts
    place: str
    seconds: float


@dataclass
class Inputs:
    """Training inputs by split; `seconds` is the cost of the hidden states, even if an earlier run computed them."""

    texts: dict[SplitName, EncodedTexts]
    split_point: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


class ActivationCache:
    """Hidden states of a study's splits at the latest split point; `on_drop` is called when they are dropped."""

    def __init__(self, config: EngineConfig, runtime: Runtime, *, token_budget: int, base_fingerprint: str) -> None:
        self._config, self._runtime, self._token_budget = config, runtime, token_budget
        self._fingerprint = base_fingerprint
        self._split_point = 0
        self._kept: dict[str, Kept] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.on_drop: Callable[[], None] = lambda: None

    def empty(self, runtime: Runtime | None = None, **settings: object) -> ActivationCache:
        """Return an empty cache for other texts, another machine, or different engine settings."""
        config = self._config.model_copy(update=settings)
        return ActivationCache(
            config, runtime or self._runtime, token_budget=self._token_budget, base_fingerprint=self._fingerprint
        )

    @property
    def held_bytes(self) -> int:
        """Memory used by the hidden states kept for the next run, in bytes."""
        return sum(kept.texts.hidden.nbytes for kept in self._kept.values() if kept.place == "memory")

    @contextlib.contextmanager
    def inputs(
        self,
        encoder: LoadedEncoder,
        model: nn.Module,
        splits: Mapping[SplitName, EncodedTexts],
        on_texts: Callable[[int], None] | None = None,
    ) -> Iterator[Inputs]:
        """Compute each split's hidden states, most important first, and let the prepared model start from them."""
        plain = Inputs(dict(splits))
        split_point, why = find_split_point(encoder, model)
        if self._config.cache == "off" or split_point == 0:
            self._drop()
            if self._config.cache != "off":
                plain.notes.append(f"Hidden states are not cached: {why}.")
            yield plain
            return
        split_point = min(split_point, len(encoder.blocks) - 1)
        prefix = Prefix(encoder, split_point, self._runtime)
        with prefix.skippable():
            first = next(iter(splits.values()))
            order = np.argsort(first.lengths, kind="stable")
            rows = order[[0, *range(max(1, len(order) - _CHECKED_TEXTS), len(order))]]  # mixed lengths, so padded
            if differs := prefix.check(model, first.collate(rows, self._runtime.device)):
                plain.notes.append(f"Hidden states are not cached: {differs}.")
                yield plain
                return
            if split_point != self._split_point:
                self._drop()
                self._split_point = split_point
            inputs = Inputs({})
            for name, texts in splits.items():
                if name not in self._kept:
                    self._keep(name, texts, prefix, inputs.notes, on_texts)
                kept = self._kept.get(name)
                inputs.texts[name] = texts if kept is None else kept.texts
                inputs.seconds += 0.0 if kept is None else kept.seconds
                inputs.split_point = inputs.split_point if kept is None else split_point
            yield inputs

    def _drop(self) -> None:
        if self._kept:
            self._kept.clear()
            self.on_drop()

    def _keep(
        self,
        name: str,
        texts: EncodedTexts,
        prefix: Prefix,
        notes: list[str],
        on_texts: Callable[[int], None] | None,
    ) -> None:
        dtype, width = self._runtime.product_dtype, prefix.width
        shape = (int(texts.offsets[-1]), width)

        fill = partial(
            compute,
            texts,
            prefix.boundary,
            token_budget=self._token_budget,
            device=self._runtime.device,
            on_texts=on_texts,
        )
        need = n_bytes(texts, width, dtype)
        with stopwatch() as watch:
            place = self.place(need)
            if place == "memory":
                hidden = torch.empty(shape, dtype=dtype, device=self._home(need))
                fill(hidden)
            elif place == "disk":
                try:
                    hidden = self._from_disk(texts, shape, fill)
                except OSError as error:
                    notes.append(f"The {name} hidden states are not cached: writing them failed ({error.strerror}).")
                    return
            else:
                notes.append(f"The {name} hidden states ({need / 1e9:.2f} GB) fit neither in memory nor on disk.")
                return
        self._kept[name] = Kept(CachedTexts(texts, hidden), place, watch.seconds)

    def place(self, need: int) -> str:
        """Return where to keep this many bytes of hidden states: ``memory``, ``disk`` or ``nowhere``."""
        mode = self._config.cache
        budget = self._config.cache_bytes
        room = int(psutil.virtual_memory().available * _SHARE) if budget is None else budget - self.held_bytes
        wants_files = mode == "disk" or (mode == "auto" and self._config.cache_folder is not None)
        if not wants_files and need <= room:
            return "memory"
        if mode == "ram":
            return "nowhere"
        folder = self._folder()
        while not folder.exists():  # up to the nearest existing folder
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        return "disk" if need <= free * _SHARE else "nowhere"

    def _home(self, need: int) -> torch.device:
        """Return the GPU if it has room, else the CPU; copying from the CPU takes longer than recomputing."""
        if self._runtime.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._runtime.device)
            if need <= free * _SHARE:
                return self._runtime.device
        return torch.device("cpu")

    def _folder(self) -> Path:
        if self._config.cache_folder is not None:
            return Path(self._config.cache_folder)
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix="feathertune-", ignore_cleanup_errors=True)
        return Path(self._scratch.name)

    def _from_disk(
        self, texts: EncodedTexts, shape: tuple[int, int], fill: Callable[[torch.Tensor], None]
    ) -> torch.Tensor:
        folder, dtype = CacheFolder(self._folder()), self._runtime.product_dtype
        key = content_key(
            texts,
            base=self._fingerprint,
            split_point=self._split_point,
            dtype=str(dtype),
            device=self._runtime.device.type,
            attention=self._config.attention,
            blocks=self._config.blocks,
            versions=versions(),
        )
        found = folder.find(key, shape, dtype)
        return folder.make(key, shape, dtype, fill) if found is None else found

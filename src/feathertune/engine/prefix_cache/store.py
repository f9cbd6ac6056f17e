"""Which texts go into training as hidden states of the frozen prefix: where they are kept, and what is said if not.

Memory first, within a budget; then a file that is mapped; else the prefix runs in every epoch, as it would without.
Nothing here changes a result beyond rounding. Not for deciding how many blocks are trained: that is the method's.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
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

# Of the memory (or the room on a disk) that is free, how much hidden states may take where no budget is given.
_SHARE = 0.5
_CHECKED_TEXTS = 2


@dataclass
class Kept:
    """One split's hidden states, and what they cost to make."""

    texts: CachedTexts
    place: str
    seconds: float


@dataclass
class Inputs:
    """What a training reads.

    Attributes:
        texts: By split: hidden states, or tokens where those could not be kept.
        frontier: The block at which the model starts; 0 where nothing is kept.
        seconds: What making the hidden states cost, also where an earlier run paid it.
        notes: In words, why something is not kept.
    """

    texts: dict[SplitName, EncodedTexts | CachedTexts]
    frontier: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)


class ActivationCache:
    """Hidden states of one study's splits; those of the latest boundary are kept for the next run.

    Args:
        config: Mode, budget and folder.
        runtime: Device and number format.
        token_budget: Padded tokens of one pass.
        base_fingerprint: Of the encoder.

    Attributes:
        on_drop: Called when what an earlier run kept was dropped: its memory is not that of the run that is measured.
    """

    def __init__(self, config: EngineConfig, runtime: Runtime, *, token_budget: int, base_fingerprint: str) -> None:
        self._config, self._runtime, self._token_budget = config, runtime, token_budget
        self._fingerprint = base_fingerprint
        self._frontier = 0
        self._kept: dict[str, Kept] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self.on_drop: Callable[[], None] = lambda: None

    def empty(self, runtime: Runtime | None = None) -> ActivationCache:
        """One for other texts, or another machine, with nothing in it yet."""
        return ActivationCache(
            self._config, runtime or self._runtime, token_budget=self._token_budget, base_fingerprint=self._fingerprint
        )

    @property
    def held_bytes(self) -> int:
        """Memory of the hidden states that are kept for the next run."""
        return sum(kept.texts.hidden.nbytes for kept in self._kept.values() if kept.place == "memory")

    @contextlib.contextmanager
    def inputs(
        self,
        encoder: LoadedEncoder,
        model: nn.Module,
        splits: Mapping[SplitName, EncodedTexts],
        on_texts: Callable[[int], None] | None = None,
    ) -> Iterator[Inputs]:
        """Keep what a prepared model's frozen prefix makes of each split, and let the model start there.

        Args:
            encoder: The encoder that a method has prepared; on its device, with its fast parts in place.
            model: What the method returned.
            splits: Tokens by name, the most important first.
            on_texts: Called with the number of texts done.
        """
        plain = Inputs(dict(splits))
        frontier, why = find_split_point(encoder, model)
        if self._config.cache == "off" or frontier == 0:
            self._drop()
            if self._config.cache != "off":
                plain.notes.append(f"No hidden states are kept: {why}.")
            yield plain
            return
        frontier = min(frontier, len(encoder.blocks) - 1)
        prefix = Prefix(encoder, frontier, self._runtime)
        with prefix.skippable():
            first = next(iter(splits.values()))
            rows = np.argsort(first.lengths, kind="stable")[-_CHECKED_TEXTS:]
            if differs := prefix.check(model, first.collate(rows, self._runtime.device)):
                plain.notes.append(f"No hidden states are kept: {differs}.")
                yield plain
                return
            if frontier != self._frontier:
                self._drop()
                self._frontier = frontier
            inputs = Inputs({})
            for name, texts in splits.items():
                if name not in self._kept:
                    self._keep(name, texts, encoder, prefix, inputs.notes, on_texts)
                kept = self._kept.get(name)
                inputs.texts[name] = texts if kept is None else kept.texts
                inputs.seconds += 0.0 if kept is None else kept.seconds
                inputs.frontier = inputs.frontier if kept is None else frontier
            yield inputs

    def _drop(self) -> None:
        if self._kept:
            self._kept.clear()
            self.on_drop()

    def _keep(
        self,
        name: str,
        texts: EncodedTexts,
        encoder: LoadedEncoder,
        prefix: Prefix,
        notes: list[str],
        on_texts: Callable[[int], None] | None,
    ) -> None:
        dtype = self._runtime.product_dtype
        shape = (int(texts.offsets[-1]), encoder.hidden_size)

        def fill(into: torch.Tensor) -> None:
            compute(
                texts,
                into,
                prefix.boundary,
                token_budget=self._token_budget,
                device=self._runtime.device,
                on_texts=on_texts,
            )

        need = n_bytes(texts, encoder.hidden_size, dtype)
        with stopwatch() as watch:
            place = self.place(need)
            if place == "memory":
                hidden = torch.empty(shape, dtype=dtype, device=self._home(need))
                fill(hidden)
            elif place == "disk":
                try:
                    hidden = self._from_disk(texts, shape, dtype, encoder, fill)
                except OSError as error:
                    notes.append(f"The hidden states of {name} are not kept, the disk refused: {error.strerror}.")
                    return
            else:
                notes.append(f"The hidden states of {name} ({need / 1e9:.2f} GB) fit neither in memory nor on disk.")
                return
        self._kept[name] = Kept(CachedTexts(texts, hidden), place, watch.seconds)

    def place(self, need: int) -> str:
        """Where so many bytes of hidden states would be kept: in ``memory``, on ``disk`` or ``nowhere``."""
        mode = self._config.cache
        budget = self._config.cache_bytes
        room = int(psutil.virtual_memory().available * _SHARE) if budget is None else budget - self.held_bytes
        wants_files = mode == "disk" or (mode == "auto" and self._config.cache_folder is not None)
        if not wants_files and need <= room:
            return "memory"
        if mode == "ram":
            return "nowhere"
        free = shutil.disk_usage(_existing(self._folder())).free
        return "disk" if need <= free * _SHARE else "nowhere"

    def _home(self, need: int) -> torch.device:
        """The GPU's own memory where it has room: reading from the machine's would take longer than computing."""
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
        self,
        texts: EncodedTexts,
        shape: tuple[int, int],
        dtype: torch.dtype,
        encoder: LoadedEncoder,
        fill: Callable[[torch.Tensor], None],
    ) -> torch.Tensor:
        folder = CacheFolder(self._folder())
        key = content_key(
            texts,
            base=self._fingerprint,
            frontier=self._frontier,
            dtype=str(dtype),
            device=self._runtime.device.type,
            attention=self._config.attention,
            blocks=self._config.blocks,
            versions=versions(),
        )
        found = folder.find(key, shape, dtype)
        return folder.make(key, shape, dtype, fill) if found is None else found


def _existing(path: Path) -> Path:
    """The nearest folder that is there."""
    while not path.exists():
        path = path.parent
    return path

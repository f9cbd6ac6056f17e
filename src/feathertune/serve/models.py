"""Loaded bundles by name, with one copy of a shared encoder and shared forward passes.

Bundles that the engine can run together share passes (`feathertune.engine.multi_adapter.mixed_batches`); others, such
as prompts and whole models, have separate passes. Loading checks that a shared pass gives the same answers.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from feathertune.bundle import load_bundle
from feathertune.config import EngineConfig
from feathertune.data.reading.texts import Text, paired
from feathertune.data.tokens.batching import coarsely
from feathertune.data.tokens.encode import WIDTH_MULTIPLE, Padding, batch_width, encode, pad_batch
from feathertune.engine.kernels.matrix import Matrices
from feathertune.engine.multi_adapter.mixed_batches import MixableModel, as_mixable, check_mixed, mixed_logits
from feathertune.engine.multi_adapter.shared_tensors import SharedTensors, copy_on_shared_tensors
from feathertune.errors import UnknownNameError
from feathertune.predictor import Answer, Predictor
from feathertune.runtime import Runtime, give_memory_back
from feathertune.serve.batcher import NotFinite
from feathertune.serve.schemas import Base, ModelInfo

# Of different lengths, so their pass has padding.
_PROBES = ("It was not what I had expected, but the second half is good.", "No.")
# If blocks skip padding, it only costs time in the attention. Measured on MiniLM: benchmarks/LOG.md.
_PADDING_SHARE = 0.15
# More threads would wait for Python's lock. Measured with two only: benchmarks/LOG.md.
MOST_WORKERS = 4


@dataclass(frozen=True)
class TextRow:
    """A text as tokens.

    Attributes:
        sequences: Token ids with special tokens; several for windows.
        longest: Padded length of the longest sequence alone.
        types: Token types of a pair; None if the encoder has none.
        added: Logits added by the word model, ``(C,)``; None without one.
    """

    sequences: tuple[np.ndarray, ...]
    longest: int
    types: np.ndarray | None = None
    added: np.ndarray | None = None

    @property
    def width(self) -> int:
        """Padded tokens that the text takes in a pass."""
        return self.longest * len(self.sequences)


@dataclass(frozen=True, eq=False)
class Served:
    """A loaded bundle.

    Attributes:
        predictors: One per worker thread, on shared tensors.
        members: One per predictor, in the same order; empty if the bundle has separate passes.
        lane: Equal for bundles whose texts can share a pass.
        note: Reason for separate passes; empty if it shares passes.
        own_bytes: Size of the tensors that no earlier bundle holds.
        probes: Texts for checking a pass.
    """

    name: str
    predictors: tuple[Predictor, ...]
    members: tuple[MixableModel, ...]
    lane: Hashable
    note: str
    own_bytes: int
    probes: list[TextRow]

    @property
    def predictor(self) -> Predictor:
        """Predictor of the first thread."""
        return self.predictors[0]

    @property
    def padding_share(self) -> float:
        """Cost of a padding token, in tokens."""
        return _PADDING_SHARE if self.predictor.installed.blocks else 1.0

    @property
    def padding(self) -> Padding:
        """Padding of the bundle's batches."""
        return Padding.of(self.predictor.bundle.tokenizer)

    @property
    def reads_pairs(self) -> bool:
        """True if each text is a pair."""
        return self.predictor.reads_pairs

    def describe(self) -> ModelInfo:
        """Return the description for clients."""
        info = self.predictor.bundle.info
        return ModelInfo(
            name=self.name,
            method=info.method,
            kind=info.kind,
            task=info.task,
            labels=info.labels,
            max_length=info.max_length,
            text_columns=info.text_columns,
            reading=info.reading,
            base=Base(id=_shown(info.base.id), revision=info.base.revision, fingerprint=info.base.fingerprint),
            shares_passes=bool(self.members),
            note=self.note,
            own_bytes=self.own_bytes,
        )


class Models:
    """Loaded bundles by name.

    One thread at a time may call `read`, also while passes run. `n_workers` threads, each with its own number, call
    `run`. Only thread 0 calls `add`. Any thread may call the other methods.
    """

    def __init__(self, engine: EngineConfig, runtime: Runtime, *, n_workers: int | None = None) -> None:
        self._engine, self._runtime = engine, runtime
        self._n_threads = torch.get_num_threads()
        on_cpu = runtime.device.type == "cpu"
        self.n_workers = n_workers or (min(self._n_threads, MOST_WORKERS) if on_cpu else 1)
        # Locked because each call sets the tokenizer's truncation.
        self._tokenizing: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, threading.Lock]
        self._tokenizing = weakref.WeakKeyDictionary()
        self._tensors, self._matrices = SharedTensors(), Matrices()
        self._tokenizers: weakref.WeakValueDictionary[str, PreTrainedTokenizerBase] = weakref.WeakValueDictionary()
        self._by_name: dict[str, Served] = {}
        # oneDNN keeps about ten megabytes per distinct number of tokens in a bf16 product (benchmarks/LOG.md), so
        # passes use only 2^i 3^j.
        self._few_shapes = runtime.device.type == "cpu" and runtime.dtype == "bf16"

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def __getitem__(self, name: str) -> Served:
        if (found := self._by_name.get(name)) is None:
            raise UnknownNameError("model", name, self._by_name)
        return found

    def all(self) -> list[Served]:
        """Return all bundles in the order of loading."""
        return list(self._by_name.values())

    def read(self, path: Path, base: str | None = None) -> Served:
        """Load a bundle on shared tensors, still without a name; all slow work happens here."""
        bundle = load_bundle(path, base=base, attention=self._runtime.attention)
        own_bytes = self._tensors.share(bundle.model)
        tokenizer = self._same_tokenizer(bundle.tokenizer)
        bundle = replace(bundle, tokenizer=tokenizer, base=replace(bundle.base, tokenizer=tokenizer))
        bundle.model.eval()
        keep = (bundle.tokenizer, bundle.info, bundle.fused)
        others = [copy_on_shared_tensors(bundle, bundle.model, keep=keep) for _ in range(1, self.n_workers)]
        predictors = [Predictor(one, self._runtime, self._engine, matrices=self._matrices) for one in (bundle, *others)]
        probes = self._rows(predictors[0], paired(_PROBES) if predictors[0].reads_pairs else _PROBES)
        give_memory_back()  # of the second copy of the encoder
        found = [as_mixable(one.bundle.base, one.bundle.model, one.installed) for one in predictors]
        members = tuple(one for one in found if isinstance(one, MixableModel))
        alone = Served("", tuple(predictors), (), object(), "" if members else str(found[0]), own_bytes, probes)
        return replace(alone, members=members, lane=(members[0].group_key, alone.padding)) if members else alone

    def add(self, name: str, read: Served) -> Served:
        """Serve a bundle under a name; an older bundle of that name finishes its texts."""
        served = replace(read, name=name)
        if why := self._check(served):
            served = replace(served, members=(), lane=object(), note=why)
        self._by_name[name] = served
        return served

    def remove(self, name: str) -> Served:
        """Stop serving a bundle; it finishes its texts."""
        served = self[name]
        del self._by_name[name]
        return served

    def encode(self, model: Served, texts: Sequence[Text]) -> list[TextRow]:
        """Tokenize texts for a bundle."""
        return self._rows(model.predictor, texts)

    def _rows(self, predictor: Predictor, texts: Sequence[Text]) -> list[TextRow]:
        bundle, info = predictor.bundle, predictor.bundle.info
        with self._tokenizing.setdefault(bundle.tokenizer, threading.Lock()):
            encoded = encode(bundle.tokenizer, list(texts), max_length=info.max_length, reading=info.reading)
        rows, added = [], bundle.added(list(texts))
        for i in range(len(encoded)):
            row = np.array([i])
            sequences, types = tuple(encoded.pieces(row)), encoded.type_pieces(row)
            longest = self._width(max(map(len, sequences)), info.max_length)
            of_words = None if added is None else added[i]
            rows.append(TextRow(sequences, longest, None if types is None else types[0], of_words))
        return rows

    def run(
        self, rows: Sequence[tuple[Served, TextRow]], *, worker: int = 0, alone: bool = True
    ) -> list[Answer | NotFinite]:
        """Run one pass over texts of one lane in the thread `worker`; with `alone`, it uses all cores."""
        if self.n_workers > 1:  # a per-thread setting
            torch.set_num_threads(self._n_threads if alone else max(1, self._n_threads // self.n_workers))
        places: dict[Served, list[int]] = {}
        for place, (model, _) in enumerate(rows):
            places.setdefault(model, []).append(place)
        order = [place for of_model in places.values() for place in of_model]
        texts = [rows[place][1] for place in order]
        counts = {model: [len(rows[place][1].sequences) for place in of_model] for model, of_model in places.items()}
        sizes = list(map(sum, counts.values()))
        if self._few_shapes:  # extra rows, counted for the last bundle
            n_more = coarsely(sum(sizes)) - sum(sizes)
            texts += [TextRow((texts[-1].sequences[0][:1],), texts[-1].longest)] * n_more
            sizes[-1] += n_more
        batch = self._batch(texts, next(iter(places)).padding)
        with torch.inference_mode(), next(iter(places)).predictor.runtime.autocast():
            if all(model.members for model in places):
                logits = mixed_logits([model.members[worker] for model in places], batch, sizes)
            else:
                (model,) = places
                logits = [model.predictors[worker].bundle.model(**batch).logits]
        answers: dict[int, Answer | NotFinite] = {}
        for (model, of_model), found in zip(places.items(), logits, strict=True):
            n_windows = torch.tensor(counts[model])
            of_texts = torch.segment_reduce(found[: sum(counts[model])].float().cpu(), "mean", lengths=n_windows)
            finite = torch.isfinite(of_texts).all(dim=1)
            of_model_alone = torch.where(finite[:, None], of_texts, 0.0).numpy()
            added = [row.added for place in of_model if (row := rows[place][1]).added is not None]
            fused = model.predictor.bundle.logits(of_model_alone, np.array(added) if added else None)
            shown = model.predictor.task.probabilities(fused)
            for place, row, is_good in zip(of_model, shown, finite.tolist(), strict=True):
                answers[place] = model.predictor.named(row) if is_good else NotFinite(model.name)
        return [answers[place] for place in range(len(rows))]

    def _width(self, length: int, max_length: int) -> int:
        if not self._few_shapes:
            return batch_width(length, max_length)
        return min(WIDTH_MULTIPLE * coarsely(-(-length // WIDTH_MULTIPLE)), max_length)

    def _batch(self, rows: Sequence[TextRow], padding: Padding) -> dict[str, torch.Tensor]:
        width = max(row.longest for row in rows)
        pieces = [ids for row in rows for ids in row.sequences]
        types = [row.types for row in rows for _ in row.sequences]  # pairs have one sequence
        return pad_batch(pieces, width=width, padding=padding, device=self._runtime.device, types=types)

    def _same_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Return an equal tokenizer that is already loaded: each takes as much memory as an adapter."""
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            return tokenizer
        facts = (tokenizer.special_tokens_map, tokenizer.model_input_names, tokenizer.truncation_side)
        digest = hashlib.sha256(f"{type(tokenizer)} {facts} {backend.to_str()}".encode()).hexdigest()
        return self._tokenizers.setdefault(digest, tokenizer)

    def _check(self, new: Served) -> str:
        """Run a new bundle with itself and with another of its lane in one pass; return a problem, or ``""``."""
        others = [one for one in self._by_name.values() if one.lane == new.lane]
        for other in (new, *others[:1]) if new.members else ():
            members = [other.members[0], new.members[0]]
            if why := check_mixed(members, self._batch(other.probes + new.probes, new.padding), self._runtime):
                return why
        return ""


def _shown(base: str) -> str:
    """Return the id of a base model without local folders."""
    is_path = Path(base).is_absolute() or base.startswith(("~", "."))
    return Path(base).name if is_path else base

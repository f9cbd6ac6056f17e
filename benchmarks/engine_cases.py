"""Benchmark cases of the engine: several encoders with short and long texts. Each case is written to files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from children import Problem, Rows, save_problem
from transformers import (
    AutoModel,
    BertConfig,
    DebertaV2Config,
    ModernBertConfig,
    PreTrainedTokenizerBase,
)

from feathertune.config import load_config
from feathertune.data.from_config import load_sources, split_sources
from feathertune.data.sources.samples import sample_encoder_path
from feathertune.data.splitting.pool import Split
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder, quiet_transformers

_ENCODER_SEED = 0
_REAL = ("minilm", "smollm2")


def _deberta_v3() -> DebertaV2Config:
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 256}
    norms = {"share_att_key": True, "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0}
    sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    return DebertaV2Config(vocab_size=128100, **sizes, **relative, **norms)


_CONFIGS = {"bert-base": BertConfig, "modernbert-base": ModernBertConfig, "deberta-v3-base": _deberta_v3}


@dataclass(frozen=True)
class Case:
    """One benchmark case.

    Attributes:
        name: Name in tables, on the command line and in the result's file name.
        encoder: Encoder; ``minilm`` and ``smollm2`` are real, others have random weights, which do not affect speed.
        source: Source of the texts.
        max_length: Maximum tokens per text.
        rows: Training rows per epoch.
        validation_rows: Validation rows of a run to an accuracy; ``None`` for feathertune's default.
        title: Title of the table.
    """

    name: str
    encoder: str
    source: str
    max_length: int
    rows: int | None
    title: str
    validation_rows: int | None = 200

    @property
    def rate_scale(self) -> float:
        """Factor for the learning rates: with random weights, full rates diverge on both sides."""
        return 1.0 if self.encoder in _REAL else 0.01


_SENTENCES, _REVIEWS = ("sample:rotten-tomatoes", 128), ("sample:imdb", 256)
_TITLES = {
    "minilm": "all-MiniLM-L6-v2 (6 x 384)",
    "bert-base": "BERT-base (12 x 768)",
    "modernbert-base": "ModernBERT-base (22 x 768)",
    "deberta-v3-base": "DeBERTa-v3-base (12 x 768)",
    "smollm2": "SmolLM2-135M (30 x 576)",
}
# Rows per epoch: sentences of 27 tokens on average, reviews of up to 256.
_ROWS = {
    "minilm": (640, 160),
    "bert-base": (160, 64),
    "modernbert-base": (160, 64),
    "deberta-v3-base": (160, 64),
    "smollm2": (160, 48),
}
CASES = {
    f"{encoder}-{length}": Case(f"{encoder}-{length}", encoder, *source, rows, f"{_TITLES[encoder]}, {what}")
    for encoder, both in _ROWS.items()
    for length, source, rows, what in (
        (27, _SENTENCES, both[0], "sentences of 27 tokens"),
        (256, _REVIEWS, both[1], "reviews of up to 256 tokens"),
    )
}
_MINILM = _TITLES["minilm"]
TO_ACCURACY_CASES = {
    case.name: case
    for case in (
        Case("imdb", "minilm", *_REVIEWS, 2000, f"{_MINILM}, reviews of up to 256 tokens", 1000),
        Case("rotten-tomatoes", "minilm", *_SENTENCES, None, f"{_MINILM}, sentences of 27 tokens", None),
    )
}


def write_problem(case: Case, folder: Path, base: str, *, rows: int | None) -> Problem:
    """Read, split and tokenise a case's texts, and write ``<case>.npz``.

    Args:
        case: Benchmark case.
        folder: Output folder.
        base: Encoder whose tokenizer is used.
        rows: Training rows; None for the case's number.
    """
    config = load_config(
        options={
            "data.source": case.source,
            "data.train_size": case.rows if rows is None else rows,
            "data.validation_size": case.validation_rows,
        }
    )
    splits = split_sources(config.data, *load_sources(config.data))
    tokenizer = load_encoder(base, labels=splits.labels, seed=0).tokenizer
    problem = Problem(
        _rows(splits.train, tokenizer, case.max_length),
        _rows(splits.validation, tokenizer, case.max_length),
        pad_id=int(tokenizer.pad_token_id),
        labels=splits.labels,
    )
    save_problem(folder / f"{case.name}.npz", problem)
    return problem


def _rows(split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Rows:
    """Return rows in random order: a source may be sorted by class, and the warm-up uses the first rows."""
    order = np.random.default_rng(0).permutation(len(split.labels))
    encoded = encode(tokenizer, [split.texts[i] for i in order], max_length=max_length)
    return Rows(encoded.ids, encoded.offsets, split.labels[order])


def encoder_for(case: Case, folder: Path) -> str:
    """Return the id of the case's encoder; a random encoder is first written to the folder."""
    if case.encoder in _REAL:
        return f"sample:{case.encoder}"
    target = folder / case.encoder
    if not target.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_ENCODER_SEED)
            model = AutoModel.from_config(_CONFIGS[case.encoder]())
        with quiet_transformers():
            model.save_pretrained(target)
        source = sample_encoder_path("minilm")
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            if (source / name).exists():
                shutil.copy(source / name, target / name)
    return str(target)

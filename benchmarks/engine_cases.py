"""What the engine is measured on: two encoders, short and long texts. Each case is written to files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from children import Problem, Rows, save_problem
from transformers import AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerBase

from feathertune.config import load_config
from feathertune.data.from_config import load_sources, split_sources
from feathertune.data.sources.samples import sample_encoder_path
from feathertune.data.splitting.pool import Split
from feathertune.data.tokens.encode import encode
from feathertune.encoders import quiet_transformers

_ENCODER_SEED = 0


@dataclass(frozen=True)
class Case:
    """One table.

    Attributes:
        name: In tables, on the command line and in the name of the result.
        encoder: ``minilm`` (real) or ``bert-base`` (random weights: speed does not depend on them).
        source: Of the texts.
        max_length: In tokens.
        rows: How many are trained on in an epoch.
        validation_rows: For a run to an accuracy; ``None`` is feathertune's own choice.
        title: In words.
    """

    name: str
    encoder: str
    source: str
    max_length: int
    rows: int | None
    title: str
    validation_rows: int | None = 200


_SENTENCES, _REVIEWS = ("sample:rotten-tomatoes", 128), ("sample:imdb", 256)
_MINILM, _BERT = "all-MiniLM-L6-v2 (6 x 384)", "BERT-base (12 x 768)"
CASES = {
    case.name: case
    for case in (
        Case("minilm-27", "minilm", *_SENTENCES, 640, f"{_MINILM}, sentences of 27 tokens"),
        Case("minilm-256", "minilm", *_REVIEWS, 160, f"{_MINILM}, reviews of up to 256 tokens"),
        Case("bert-base-27", "bert-base", *_SENTENCES, 160, f"{_BERT}, sentences of 27 tokens"),
        Case("bert-base-256", "bert-base", *_REVIEWS, 64, f"{_BERT}, reviews of up to 256 tokens"),
    )
}
TO_ACCURACY_CASES = {
    case.name: case
    for case in (
        Case("imdb", "minilm", *_REVIEWS, 2000, f"{_MINILM}, reviews of up to 256 tokens", 1000),
        Case("rotten-tomatoes", "minilm", *_SENTENCES, None, f"{_MINILM}, sentences of 27 tokens", None),
    )
}


def write_problem(case: Case, folder: Path, *, rows: int | None) -> Problem:
    """Read, split and tokenise, and write ``<case>.npz``.

    Args:
        case: What.
        folder: Where.
        rows: To train on, instead of the case's.
    """
    config = load_config(
        options={
            "data.source": case.source,
            "data.train_size": case.rows if rows is None else rows,
            "data.validation_size": case.validation_rows,
        }
    )
    splits = split_sources(config.data, *load_sources(config.data))
    tokenizer = AutoTokenizer.from_pretrained(sample_encoder_path("minilm"))
    problem = Problem(
        _rows(splits.train, tokenizer, case.max_length),
        _rows(splits.validation, tokenizer, case.max_length),
        pad_id=int(tokenizer.pad_token_id),
        labels=splits.labels,
    )
    save_problem(folder / f"{case.name}.npz", problem)
    return problem


def _rows(split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Rows:
    """In a random order: a source may hold one class after the other, and a warm-up takes the first rows."""
    order = np.random.default_rng(0).permutation(len(split.labels))
    encoded = encode(tokenizer, [split.texts[i] for i in order], max_length=max_length)
    return Rows(encoded.ids, encoded.offsets, split.labels[order])


def encoder_for(case: Case, folder: Path) -> str:
    """The id of the case's encoder; a random one is written into the folder first."""
    if case.encoder == "minilm":
        return "sample:minilm"
    target = folder / case.encoder
    if not target.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_ENCODER_SEED)
            model = BertModel(BertConfig())
        with quiet_transformers():
            model.save_pretrained(target)
        source = sample_encoder_path("minilm")
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json"):
            if (source / name).exists():
                shutil.copy(source / name, target / name)
    return str(target)

"""Tiny multilingual encoders in the layout of XLM-R and mDeBERTa, with SentencePiece models trained on `languages`."""

from __future__ import annotations

import functools
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from feathertune.encoders import quiet_transformers
from languages import all_rows
from tiny import save_tiny_encoder

# The hub has XLM-R in both, mDeBERTa with the model of SentencePiece alone.
FORMS = ("tokenizer.json", "model")
_N_PIECES = 300


@dataclass(frozen=True)
class Kind:
    """What differs between the two.

    Attributes:
        file: The name of the SentencePiece model.
        pieces: Where that has its special pieces, and their names.
        tokenizer: What ``tokenizer_config.json`` says.
        settings: Of the configuration, as in the published ones.
        around: What a text stands between, and what stands between two.
    """

    family: str
    file: str
    pieces: dict[str, Any]
    tokenizer: dict[str, Any]
    settings: dict[str, Any]
    around: tuple[list[str], list[str], list[str]]


KINDS = {
    "xlm-r": Kind(
        "xlm-roberta",
        "sentencepiece.bpe.model",
        {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1},
        {"model_max_length": 512},
        {"type_vocab_size": 1},
        (["<s>"], ["</s>", "</s>"], ["</s>"]),
    ),
    "mdeberta": Kind(
        "deberta-v2",
        "spm.model",
        {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
        | {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
        {"do_lower_case": False, "vocab_type": "spm"},
        {"type_vocab_size": 0, "position_biased_input": False, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
        | {"max_relative_positions": -1},
        (["[CLS]"], ["[SEP]"], ["[SEP]"]),
    ),
}


@functools.cache
def model_of(kind: str) -> bytes:
    """A SentencePiece model as its trainer writes it."""
    sentencepiece = pytest.importorskip("sentencepiece", reason="the extra 'sentencepiece' is not installed")
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(text for text, _ in all_rows()),
        model_writer=written,
        vocab_size=_N_PIECES,
        character_coverage=1.0,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **KINDS[kind].pieces,
    )
    return written.getvalue()


@functools.cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerBase:
    """The tokenizer that transformers makes of it, with SentencePiece's normal forms as transformers 4 wrote them."""
    from sentencepiece import sentencepiece_model_pb2

    with tempfile.TemporaryDirectory() as place, quiet_transformers():
        _write_model(Path(place), kind)
        (Path(place) / "config.json").write_text(json.dumps({"model_type": KINDS[kind].family}))
        tokenizer = AutoTokenizer.from_pretrained(place)
    proto = sentencepiece_model_pb2.ModelProto.FromString(model_of(kind))
    table = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)
    spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence([normalizers.Strip(), table, spaces])
    return tokenizer


def save_encoder(folder: Path, kind: str, form: str = FORMS[0]) -> Path:
    """Save a random encoder with the tokenizer in one of `FORMS`."""
    save_tiny_encoder(folder, KINDS[kind].family, tokenizer=tokenizer_of(kind), **KINDS[kind].settings)
    if form == "model":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink()
        _write_model(folder, kind)
    return folder


def _write_model(folder: Path, kind: str) -> None:
    (folder / KINDS[kind].file).write_bytes(model_of(kind))
    (folder / "tokenizer_config.json").write_text(json.dumps(KINDS[kind].tokenizer))

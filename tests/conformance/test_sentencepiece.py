"""Encoders with SentencePiece tokenizers, as XLM-R and mDeBERTa have them: in both forms, offline, in many scripts."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from feathertune.config import EngineConfig
from feathertune.data.reading.texts import Pair
from feathertune.data.tokens.encode import encode
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.errors import EncoderError, MissingExtraError
from feathertune.records import HEAD, Reading
from languages import NEGATIVE, POSITIVE, all_rows
from sentencepieces import FORMS, KINDS, model_of, save_encoder
from tiny import TEXTS, save_tiny_encoder
from whole import CPU

sentencepiece = pytest.importorskip("sentencepiece", reason="the extra 'sentencepiece' is not installed")
ALL_TEXTS = [text for text, _ in all_rows()]
LONG = ["".join(ALL_TEXTS[:12]), " ".join(ALL_TEXTS[5:20]), ALL_TEXTS[0], "好看" * 40]
LENGTH = 16
UNKNOWN = "?"
READINGS = (HEAD, Reading(long="head-tail"), Reading(long="windows", stride=3, max_windows=50))


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[tuple[str, str], LoadedEncoder]:
    home = tmp_path_factory.mktemp("encoders")
    return {
        (kind, form): load_encoder(
            str(save_encoder(home / f"{kind}-{form}", kind, form)), labels=(POSITIVE, NEGATIVE), seed=0
        )
        for kind in KINDS
        for form in FORMS
    }


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    return request.param


@pytest.fixture
def encoder(encoders, kind) -> LoadedEncoder:
    return encoders[kind, FORMS[0]]


def pieces(encoder, ids):
    return encoder.tokenizer.convert_ids_to_tokens(list(ids))


def test_both_forms_are_one_encoder(encoders, kind):
    one, other = (encoders[kind, form] for form in FORMS)
    texts = [*ALL_TEXTS, *TEXTS, " two  spaces\n", "ᚠ unseen ﬁ ＡＢＣ"]
    found, again = (encode(encoder.tokenizer, texts, max_length=64) for encoder in (one, other))
    np.testing.assert_array_equal(found.ids, again.ids)
    batch = found.collate(np.arange(8), CPU.device)
    with torch.no_grad():
        assert torch.equal(one.model(**batch).logits, other.model(**batch).logits)
    assert one.model.config.id2label == {0: POSITIVE, 1: NEGATIVE}
    assert one.fingerprint == other.fingerprint


def test_the_pieces_are_those_of_sentencepiece(encoder, kind):
    reference = sentencepiece.SentencePieceProcessor(model_proto=model_of(kind))
    # The last are in the normal forms of the others, as SentencePiece has it: mDeBERTa's are lost by transformers.
    texts = [*ALL_TEXTS, "ﬁ ＡＢＣ，ｶﾞ！", unicodedata.normalize("NFD", ALL_TEXTS[0])]
    found = encode(encoder.tokenizer, texts, max_length=64)
    first, _, last = KINDS[kind].around
    for text, ids in zip(texts, found.pieces(np.arange(len(found))), strict=True):
        known = [
            p if reference.piece_to_id(p) != reference.unk_id() else UNKNOWN
            for p in reference.encode(text, out_type=str)
        ]
        assert [p if p not in ("<unk>", "[UNK]") else UNKNOWN for p in pieces(encoder, ids)] == [*first, *known, *last]


def test_normal_forms_that_transformers_leaves_out_are_put_back_and_said(encoders):
    """Where a release of transformers keeps them, there is nothing to do, and nothing is said."""
    for (kind, form), encoder in encoders.items():
        plain = AutoTokenizer.from_pretrained(encoder.id)
        lost = plain("ＡＢＣ，").input_ids != plain("ABC,").input_ids
        assert lost == any("it was restored" in note for note in encoder.notes), (kind, form)
        assert encoder.tokenizer("ＡＢＣ，").input_ids == encoder.tokenizer("ABC,").input_ids


def test_pairs(encoder, kind):
    first, between, last = KINDS[kind].around
    pair = Pair("这部电影很好看", "الفيلم رائع")
    alone = [pieces(encoder, encode(encoder.tokenizer, [text], max_length=64).ids)[1:-1] for text in pair]
    found = encode(encoder.tokenizer, [pair], max_length=64)
    assert pieces(encoder, found.ids) == [*first, *alone[0], *between, *alone[1], *last]
    assert found.types is None, "these encoders tell no types of tokens apart"
    short = encode(encoder.tokenizer, [Pair(*LONG[:2])], max_length=LENGTH)
    n = [len(encode(encoder.tokenizer, [text], max_length=9999).ids) - 2 for text in LONG[:2]]
    n_special = len([*first, *between, *last])
    assert short.n_unread.tolist() == [sum(n) - (LENGTH - n_special)]
    assert short.n_tokens.tolist() == [sum(n) + n_special]
    with torch.no_grad():
        assert encoder.model(**short.collate(np.arange(1), CPU.device)).logits.isfinite().all()


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.long)
def test_long_texts(encoder, kind, reading):
    first, _, last = KINDS[kind].around
    whole = encode(encoder.tokenizer, LONG, max_length=9999)
    found = encode(encoder.tokenizer, LONG, max_length=LENGTH, reading=reading)
    np.testing.assert_array_equal(found.n_tokens, whole.lengths)
    for row, (ids,) in enumerate(whole.pieces(np.array([row])) for row in range(len(LONG))):
        read = found.pieces(np.array([row]))
        for sequence in read:
            assert len(sequence) <= LENGTH
            words = pieces(encoder, sequence)
            assert (words[:1], words[-1:]) == (first, last)
            assert set(words[1:-1]).isdisjoint({*first, *last})
        text, parts = ids[1:-1].tolist(), [one[1:-1].tolist() for one in read]
        kept = max(0, len(text) - found.n_unread[row])
        if reading.long == "windows":
            assert kept == len(text)
            assert parts[0] == text[: len(parts[0])]
            assert parts[-1] == text[len(text) - len(parts[-1]) :]
        else:
            assert len(read) == 1
            assert kept == len(parts[0])
        if reading == HEAD:
            assert parts[0] == text[:kept]
    assert found.n_unread[2] == 0, "a text that fits"


def test_the_engines_parts_give_the_logits_of_transformers(encoders, kind):
    """XLM-R counts positions from the padding's id on; mDeBERTa has its own attention."""
    encoder = encoders[kind, FORMS[1]]
    texts = encode(encoder.tokenizer, [*LONG, *ALL_TEXTS[:9]], max_length=48)
    batch = texts.collate(np.arange(len(texts)), CPU.device)
    assert "attention_mask" in batch
    with torch.no_grad():
        expected = encoder.model(**batch).logits
        with fast_parts(encoder, EngineConfig(), CPU) as installed:
            found = encoder.model(**batch).logits
    assert "blocks" in installed.parts
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    assert not torch.equal(expected[0], expected[1])


@pytest.mark.parametrize("package", ["sentencepiece", "protobuf"])
def test_without_the_package_it_is_said_what_to_install(package, tmp_path, kind, monkeypatch):
    folder = save_encoder(tmp_path / "encoder", kind, "model")
    monkeypatch.setattr(f"feathertune.encoders.tokenizer.is_{package}_available", lambda: False)
    with pytest.raises(
        MissingExtraError, match=r"only as a SentencePiece model, .* pip install 'feathertune\[sentencepiece\]'"
    ):
        load_encoder(str(folder), labels=("a", "b"), seed=0)
    load_encoder(str(save_encoder(tmp_path / "other", kind)), labels=("a", "b"), seed=0)


def test_a_damaged_model_is_said_in_a_sentence(tmp_path, kind):
    folder = save_encoder(tmp_path / "encoder", kind, "model")
    (folder / KINDS[kind].file).write_bytes(b"no model of SentencePiece")
    with pytest.raises(EncoderError, match=rf"{KINDS[kind].file} cannot be read as a SentencePiece model\."):
        load_encoder(str(folder), labels=("a", "b"), seed=0)


def test_a_tokenizer_without_special_tokens_is_noted(tmp_path):
    """As transformers 5.0 reads mDeBERTa's."""
    folder = save_tiny_encoder(tmp_path / "encoder", "bert")
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps({**content, "post_processor": None}), encoding="utf-8")
    (note,) = load_encoder(str(folder), labels=("a", "b"), seed=0).notes
    assert "the tokenizer adds no special tokens to texts." in note


def test_a_tokenizer_in_python_is_refused(tmp_path):
    folder = save_tiny_encoder(tmp_path / "encoder", "bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "映", "画"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    settings = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "subword_tokenizer_type": "character"}))
    with pytest.raises(EncoderError, match=r"written in Python \(BertJapaneseTokenizer\)\. Expected one that"):
        load_encoder(str(folder), labels=("a", "b"), seed=0)

"""Facts that a few forward passes show, on models that differ in what they read and where they may be padded."""

from __future__ import annotations

import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.data.tokens.encode import Padding, encode, pad_batch
from feathertune.encoders import load_encoder
from feathertune.encoders.trial import close, trial_batches
from feathertune.engine.fast_path import fast_parts, fitting_runtime
from feathertune.errors import EncoderError
from feathertune.runtime import FP32, Runtime
from tiny import save_tiny_encoder, tiny_tokenizer

LABELS = ("a", "b", "c")
GROUPED = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
BF16 = Runtime(torch.device("cpu"), "bf16", "eager", "", {})


def loaded(tmp_path, family, *, tokenizer=None, **settings):
    save_tiny_encoder(tmp_path / family, family, tokenizer=tokenizer, **settings)
    return load_encoder(str(tmp_path / family), labels=LABELS, seed=0, attention="eager")


@pytest.mark.parametrize(
    ("family", "settings", "reads", "padding"),
    [
        ("bert", {}, "pooled", "right"),
        ("roberta", {}, "first", "right"),
        ("llama", GROUPED, "last", "right"),
        ("eurobert", {**GROUPED, "classifier_pooling": "late"}, None, "right"),
        ("convbert", {"embedding_size": 32}, "first", None),
    ],
)
def test_what_the_head_reads_and_where_padding_changes_nothing(family, settings, reads, padding, tmp_path):
    encoder = loaded(tmp_path, family, **settings)
    assert (encoder.facts.reads, encoder.facts.padding) == (reads, padding)
    assert encoder.tokenizer.padding_side == (padding or "right")
    assert any("padded" in note for note in encoder.notes) == (padding is None)


def test_a_tokenizer_that_pads_on_the_other_side_is_turned_and_saved_so(tmp_path):
    tokenizer = tiny_tokenizer("llama")
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
    encoder = loaded(tmp_path, "llama", tokenizer=tokenizer, **GROUPED)
    encoder.tokenizer.save_pretrained(tmp_path / "saved")
    assert '"padding_side": "right"' in (tmp_path / "saved" / "tokenizer_config.json").read_text(encoding="utf-8")


def test_a_model_without_a_padding_token_gets_one_and_reads_batches(tmp_path):
    tokenizer = tiny_tokenizer("llama")
    save_tiny_encoder(tmp_path / "base", "llama", tokenizer=tokenizer, **GROUPED)
    (tmp_path / "base" / "tokenizer_config.json").write_text(
        (tmp_path / "base" / "tokenizer_config.json").read_text().replace('"pad_token": "[PAD]",', "")
    )
    (tmp_path / "base" / "config.json").write_text(
        (tmp_path / "base" / "config.json").read_text().replace('"pad_token_id": 0', '"pad_token_id": null')
    )
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    assert encoder.added_settings == {"pad_token_id": encoder.tokenizer.pad_token_id}
    with torch.no_grad():
        alone, together = (encoder.model(**batch).logits for batch in trial_batches(encoder))
    assert close(together[-1:], alone)


def test_a_model_that_cannot_read_texts_is_refused_before_training(tmp_path):
    with pytest.raises(EncoderError, match="cannot classify texts"):
        loaded(tmp_path, "xmod")  # it asks for a language with each text


def test_the_engines_attention_is_left_out_where_it_would_change_the_result(tmp_path):
    for family, settings, fits in (("llama", GROUPED, True), ("gemma2", GROUPED, False)):  # Gemma 2 caps its scores
        encoder = loaded(tmp_path, family, **settings)
        with fast_parts(encoder, EngineConfig(), FP32) as fast:
            assert ("attention" in fast.parts) == fits


def test_a_model_that_fails_in_bf16_runs_in_fp32_and_says_so(tmp_path):
    for family, dtype in (("deberta", "fp32"), ("deberta-v2", "bf16")):
        encoder = loaded(tmp_path, family)
        flags = [parameter.requires_grad for parameter in encoder.model.parameters()]
        runtime, notes = fitting_runtime(encoder, EngineConfig(), BF16)
        assert (runtime.dtype, len(notes)) == (dtype, int(dtype == "fp32"))
        assert [parameter.requires_grad for parameter in encoder.model.parameters()] == flags
        assert all(parameter.grad is None for parameter in encoder.model.parameters())


def test_a_checkpoint_in_bf16_stays_so_and_has_the_fingerprint_of_its_numbers(tmp_path):
    encoder = loaded(tmp_path, "llama", **GROUPED)
    for parameter in encoder.backbone.parameters():
        parameter.data = parameter.data.bfloat16()
    encoder.backbone.config.dtype = torch.bfloat16
    encoder.backbone.save_pretrained(tmp_path / "small")
    encoder.tokenizer.save_pretrained(tmp_path / "small")
    kept, wide = (load_encoder(str(tmp_path / "small"), labels=LABELS, seed=0, dtype=d) for d in (None, torch.float32))
    assert next(kept.backbone.parameters()).dtype == torch.bfloat16
    assert next(wide.backbone.parameters()).dtype == torch.float32
    assert kept.fingerprint == wide.fingerprint


def test_padding_on_the_left_puts_the_text_at_the_end():
    pieces = [torch.tensor([5, 6]).numpy(), torch.tensor([7]).numpy()]
    batch = pad_batch(pieces, width=3, padding=Padding(9, "left"), device=torch.device("cpu"))
    assert batch["input_ids"].tolist() == [[9, 5, 6], [9, 9, 7]]
    assert batch["attention_mask"].tolist() == [[0, 1, 1], [0, 0, 1]]


def test_an_empty_text_is_one_token_where_a_tokenizer_adds_none():
    tokenizer = tiny_tokenizer("llama")
    tokenizer.backend_tokenizer.post_processor = None
    assert encode(tokenizer, ["", "a film"], max_length=8).lengths.tolist() == [1, 2]


def test_an_end_token_inside_a_text_does_not_break_a_batch_of_an_encoder_decoder(tmp_path):
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    encoder = loaded(tmp_path, "t5", **sizes)
    texts = encode(encoder.tokenizer, ["a [SEP] film", "a film"], max_length=32)
    ends = [(piece == encoder.tokenizer.sep_token_id).sum() for piece in texts.pieces(torch.arange(2).numpy())]
    assert ends == [1, 1]

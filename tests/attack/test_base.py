"""A base model is its weights, its configuration and its tokenizer: a change of any is seen where work goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, processors
from transformers import AutoConfig, AutoTokenizer

from e2e.cli import in_process, reviews, write_csv
from feathertune.bundle import save_bundle
from feathertune.config import load_config
from feathertune.encoders import load_encoder, quiet_transformers
from feathertune.errors import ConfigError
from feathertune.records import first_differences
from feathertune.runtime import choose_runtime
from feathertune.study.compare import _enter_folder
from feathertune.study.finetune import identity
from feathertune.study.observe import Silent
from feathertune.study.planning.resolve import settle
from feathertune.study.prepared import prepare_study
from tiny import FAMILIES, TEXTS, UNKNOWN_FAMILIES, save_tiny_encoder
from unit.bundle.test_bundle import SETTINGS, edit, refused, trained

LABELS = ("no", "yes")


@pytest.fixture
def base(tmp_path) -> Path:
    return save_tiny_encoder(tmp_path / "base", "bert")


def prints(folder: Path, **options) -> tuple[str, str]:
    found = load_encoder(str(folder), **{"labels": LABELS, "seed": 0, **options})
    return found.fingerprint, found.tokenizer_fingerprint


@pytest.mark.parametrize("family", [*FAMILIES, *UNKNOWN_FAMILIES])
def test_what_does_not_change_a_base(family, tmp_path):
    """Labels, seed, number format, attention, a copy by transformers, and defaults that a file spells out."""
    base = save_tiny_encoder(tmp_path / "base", family)
    first = prints(base)
    assert prints(base, labels=("a", "b", "c"), seed=5, dtype=torch.bfloat16, attention="eager") == first
    loaded = load_encoder(str(base), labels=("x", "y", "z"), seed=1, task="multi_label")
    loaded.tokenizer(list(TEXTS), padding=True, truncation=True, max_length=5)
    assert loaded.tokenizer_fingerprint == first[1]
    with quiet_transformers():
        loaded.model.save_pretrained(tmp_path / "again")
        AutoTokenizer.from_pretrained(base).save_pretrained(tmp_path / "again")
    assert prints(tmp_path / "again", labels=("x", "y", "z")) == first
    spelled_out = AutoConfig.from_pretrained(base).to_dict()
    (base / "config.json").write_text(json.dumps(spelled_out, default=str))
    assert prints(base) == first


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 4),
        ("hidden_act", "relu"),
        ("layer_norm_eps", 1e-3),
        ("position_embedding_type", "relative_key"),
        ("hidden_dropout_prob", 0.5),
        ("pad_token_id", 3),
        ("initializer_range", 0.5),
    ],
)
def test_a_setting_that_decides_what_is_computed(key, value, base):
    weights, tokenizer = prints(base)
    edit(base / "config.json", **{key: value})
    changed = prints(base)
    assert changed[0] != weights
    assert changed[1] == tokenizer


def change_tokenizer(folder: Path, how: str) -> None:
    path = folder / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path))
    if how == "special tokens":
        tokenizer.post_processor = processors.TemplateProcessing(single="[SEP] $A", special_tokens=[("[SEP]", 2)])
        tokenizer.save(str(path))
        return
    content = json.loads(tokenizer.to_str())
    if how == "case":
        content["normalizer"]["lowercase"] = False
    else:
        vocabulary = content["model"]["vocab"]
        vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("how", ["special tokens", "case", "vocabulary"])
def test_a_change_of_the_tokenizer(how, base):
    weights, tokenizer = prints(base)
    change_tokenizer(base, how)
    changed = prints(base)
    assert changed[0] == weights
    assert changed[1] != tokenizer


@pytest.mark.parametrize(
    ("key", "value"), [("num_attention_heads", 4), ("hidden_act", "relu"), ("layer_norm_eps", 1e-3)]
)
def test_predict_refuses_a_base_whose_configuration_changed(key, value, tmp_path, monkeypatch, capsys):
    base = save_tiny_encoder(tmp_path / "base", "bert")
    encoder, model = trained(str(base))
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    shutil.copytree(base, tmp_path / "other")
    edit(tmp_path / "other" / "config.json", **{key: value})
    done = in_process(monkeypatch, capsys, "predict", tmp_path / "bundle", "--text", "x", "--base", tmp_path / "other")
    assert (done.code, done.stdout) == (2, "")
    assert "its weights or configuration differ" in done.stderr
    edit(base / "config.json", **{key: value})
    assert "configuration" in refused(tmp_path / "bundle")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    return str(write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", reviews(60)))


def prepared(data: str, base: Path):
    options = {"data.source": data, "base.id": str(base), "data.max_length": 16, "engine.dtype": "fp32"}
    settled = settle(load_config(options=options | {"study.methods": ["lora"]}))
    return prepare_study(settled, choose_runtime(settled.config.engine), Silent(), seed=0)


CHANGES = {
    "configuration": lambda base: edit(base / "config.json", hidden_act="relu"),
    "tokenizer": lambda base: change_tokenizer(base, "case"),
}


@pytest.mark.parametrize("part", CHANGES)
def test_neither_a_study_nor_a_training_goes_on_with_another_base(part, data, base, tmp_path):
    before = prepared(data, base)
    _enter_folder(tmp_path / "study", before, overwrite=False)
    _enter_folder(tmp_path / "study", prepared(data, base), overwrite=False)
    CHANGES[part](base)
    after = prepared(data, base)
    with pytest.raises(ConfigError, match=rf"the settings are the same, but the base model's [a-z ]*{part} changed"):
        _enter_folder(tmp_path / "study", after, overwrite=False)
    then, now = (identity(one.plan.runs[0], one) for one in (before, after))
    assert part in first_differences(then, now), "which is what the message of a refused --resume says"

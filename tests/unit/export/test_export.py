"""What an export compares, and that nothing is left where it does not fit; all methods are in test_merge."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file
from transformers import pipeline

import feathertune
from feathertune.bundle import load_bundle, merged_model, save_bundle
from feathertune.encoders import load_encoder, quiet_transformers
from feathertune.errors import BundleError, ConfigError, UnknownNameError
from feathertune.export import TARGETS, export_model
from feathertune.export.parity import N_PSEUDO_TEXTS, parity_texts
from tiny import TEXTS, save_tiny_encoder, tiny_tokenizer
from unit.bundle.test_bundle import LABELS, SETTINGS, leftovers, saved, trained

FILES = {"README.md", "config.json", "model.safetensors", "parity.json", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder with `base` and `bundle`, of a family with a head of two layers; tests work on copies."""
    return saved(tmp_path_factory.mktemp("original"), "roberta")


@pytest.fixture
def bundle(original, tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 12)
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "bundle"


@pytest.fixture
def wrong(monkeypatch):
    """A merge that loses a part."""

    def lossy(bundle):
        model = merged_model(bundle)
        model.roberta.encoder.layer[0].output.dense.weight.data *= 1.05
        return model

    monkeypatch.setattr("feathertune.export.merged.merged_model", lossy)


# The texts


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_texts_are_the_same_each_time_and_of_all_lengths(family):
    tokenizer = tiny_tokenizer(family)
    texts = parity_texts(tokenizer, 40)
    assert texts == parity_texts(tiny_tokenizer(family), 40)
    assert len(texts) == N_PSEUDO_TEXTS + 4
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=40)["input_ids"]]
    assert max(lengths) == 40
    assert len(set(lengths)) > 25
    used = {token for ids in tokenizer(texts)["input_ids"] for token in ids}
    assert len(used) > 0.9 * len(tokenizer)


# What is written


def test_the_folder_and_what_it_says(bundle, original, tmp_path):
    parity = export_model(bundle, tmp_path / "merged")
    assert {path.name for path in (tmp_path / "merged").iterdir()} == FILES
    assert json.loads((tmp_path / "merged" / "parity.json").read_text()) == parity.model_dump()
    assert (parity.to, parity.method, parity.n_texts, parity.longest) == ("merged", "lora", 16, 32)
    assert parity.max_abs_difference < 1e-5 < parity.tolerance
    assert parity.tolerance == pytest.approx(1e-4 * max(1, parity.largest_logit))
    assert parity.label_flips == 0
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["id2label"] == {str(i): label for i, label in enumerate(LABELS)}
    assert config["label2id"] == {label: i for i, label in enumerate(LABELS)}
    assert config["architectures"] == ["RobertaForSequenceClassification"]
    for path in (tmp_path / "merged").iterdir():
        for folder in (original, tmp_path):
            assert str(folder).encode() not in path.read_bytes(), path.name
    export_model(bundle, tmp_path / "again")
    for path in (tmp_path / "merged").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name
    load_bundle(bundle)


def test_the_cards_code_runs(bundle, tmp_path, monkeypatch, capsys):
    export_model(bundle, tmp_path / "merged")
    expected = load_bundle(bundle)
    shutil.rmtree(bundle)
    shutil.rmtree(tmp_path / "base")
    monkeypatch.chdir(tmp_path / "merged")
    card = Path("README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "transformers"
    names: dict = {}
    with quiet_transformers():
        exec(card.split("```python\n")[1].split("```")[0], names)
        label = pipeline("text-classification", model=".", device="cpu")("A text.")[0]["label"]
    assert capsys.readouterr().out.strip() == label in LABELS
    batch = names["tokenizer"](list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(names["model"](**batch).logits, expected.model(**batch).logits, atol=1e-5, rtol=0)


def test_bf16_is_merged_and_written_in_fp32(tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 12)
    save_tiny_encoder(tmp_path / "base", "modernbert")
    encoder, model = trained(str(tmp_path / "base"), dtype=torch.bfloat16)
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    assert export_model(tmp_path / "bundle", tmp_path / "merged").max_abs_difference < 1e-4
    assert {t.dtype for t in load_file(tmp_path / "merged" / "model.safetensors").values()} == {torch.float32}
    assert 'dtype="float32"' in (tmp_path / "merged" / "README.md").read_text()


def test_several_labels_a_text_are_kept_in_the_configuration(bundle, tmp_path):
    encoder, model = trained(str(tmp_path / "base"))
    save_bundle(tmp_path / "several", model, encoder, replace(SETTINGS, task="multi_label"))
    export_model(tmp_path / "several", tmp_path / "merged")
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert config["problem_type"] == "multi_label_classification"


def test_it_is_in_the_python_interface(bundle, tmp_path):
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    parity = feathertune.export_model(str(bundle), str(tmp_path / "merged"), base=str(tmp_path / "elsewhere"))
    assert np.isfinite(parity.max_abs_difference)
    assert TARGETS.names() == ("merged", "onnx", "onnx-int8")


# What is not


def test_other_answers_are_not_kept_and_the_older_export_stays(bundle, tmp_path, wrong):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "parity.json").write_text(older := '{"to": "", "label_flips": 0, "files": []}')
    with pytest.raises(
        BundleError, match=r"The merged model .* differ from the bundle's by .* on 16 texts, at most"
    ) as caught:
        export_model(bundle, tmp_path / "merged", overwrite=True)
    assert str(bundle) in str(caught.value)
    assert (tmp_path / "merged" / "parity.json").read_text() == older
    with pytest.raises(BundleError, match="nothing was written"):
        export_model(bundle, tmp_path / "new")
    assert leftovers(tmp_path) == ["base", "bundle", "merged"]


def test_what_is_lost_in_writing_is_noticed(bundle, tmp_path, monkeypatch):
    from transformers import RobertaForSequenceClassification as Roberta

    whole = Roberta.save_pretrained

    def lossy(self, *args, **kwargs):
        self.classifier.dense.bias.data += 0.1
        whole(self, *args, **kwargs)

    monkeypatch.setattr(Roberta, "save_pretrained", lossy)
    with pytest.raises(BundleError, match="The reloaded merged model"):
        export_model(bundle, tmp_path / "merged")
    assert leftovers(tmp_path) == ["base", "bundle"]


def test_nan_is_not_merged(bundle):
    loaded = load_bundle(bundle)
    next(p for n, p in loaded.model.named_parameters() if "lora_B" in n).data[0, 0] = float("nan")
    with pytest.raises(BundleError, match="PEFT cannot merge the method 'lora' into the weights"):
        merged_model(loaded)


def test_a_method_that_nobody_knows_is_judged_by_its_model(tmp_path):
    save_tiny_encoder(tmp_path / "base", "bert")
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    heads = [f"base_model.{name}" for name in encoder.head_modules]
    config = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=2, modules_to_save=heads)
    with quiet_transformers():
        model = get_peft_model(encoder.model, config)
    save_bundle(tmp_path / "prompt", model, encoder, replace(SETTINGS, method="theirs"))
    with pytest.raises(BundleError, match=r"Cannot merge .*: the method 'theirs' trains virtual tokens"):
        export_model(tmp_path / "prompt", tmp_path / "merged")
    encoder, model = trained(str(tmp_path / "base"))
    save_bundle(tmp_path / "bundle", model, encoder, replace(SETTINGS, method="theirs"))
    assert not isinstance(merged_model(load_bundle(tmp_path / "bundle")), PeftModel)
    assert leftovers(tmp_path) == ["base", "bundle", "prompt"]


def test_an_unknown_form_is_told_with_those_there_are(bundle, tmp_path):
    with pytest.raises(UnknownNameError, match=r"Unknown export form 'mergd'. Did you mean 'merged'\?"):
        export_model(bundle, tmp_path / "merged", to="mergd")


def test_a_bundle_is_neither_written_into_nor_over(bundle, tmp_path):
    for out in (bundle, bundle / "merged", tmp_path):
        with pytest.raises(ConfigError, match="overlap"):
            export_model(bundle, out, overwrite=True)
    load_bundle(bundle)


def test_a_full_disk_leaves_nothing(bundle, tmp_path, monkeypatch):
    from transformers import RobertaForSequenceClassification as Roberta

    def fills_up(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Roberta, "save_pretrained", fills_up)
    with pytest.raises(OSError, match="No space left"):
        export_model(bundle, tmp_path / "merged")
    assert leftovers(tmp_path) == ["base", "bundle"]

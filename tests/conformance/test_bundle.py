"""Every family's adapter comes back whole, in feathertune and in plain PEFT."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from feathertune.bundle import Description, load_bundle, save_bundle
from feathertune.encoders import LoadedEncoder, load_encoder, quiet_transformers
from feathertune.errors import BundleError
from tiny import FAMILIES, TEXTS, UNKNOWN_FAMILIES, drop_tensors, save_tiny_encoder

CASES = [*FAMILIES, *UNKNOWN_FAMILIES, "bert without pooler", "albert without pooler"]
LABELS = ("negative", "neutral", "positive")


def disturb(model: nn.Module) -> None:
    """Stand in for training: move everything that is trained, so that nothing lost can go unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def with_lora(encoder: LoadedEncoder) -> PeftModel:
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=2,
        target_modules=list(encoder.linear_names()),
        modules_to_save=list(encoder.head_modules),
    )
    with quiet_transformers():
        return get_peft_model(encoder.model, config)


def with_biases(encoder: LoadedEncoder) -> nn.Module:
    """Nothing but biases and the head is trained."""
    heads = tuple(f"{name}." for name in encoder.head_modules)
    for name, parameter in encoder.model.named_parameters():
        parameter.requires_grad_(name.startswith(heads) or name.endswith("bias"))
    return encoder.model


def logits(model: nn.Module, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tokenizer(list(TEXTS), padding=True, return_tensors="pt")).logits


def save(folder: Path, model: nn.Module, encoder: LoadedEncoder, method: str) -> None:
    description = Description(method=method, max_length=32, text_columns=["text"], hyperparameters={"r": 2})
    save_bundle(folder, model, encoder, description)


def run_card(folder: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Run the card's Python block in the bundle's folder, as a stranger would, the base's place filled in."""
    code = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    imported = {node.module for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"peft", "safetensors.torch", "transformers"}
    monkeypatch.chdir(folder)
    names: dict = {}
    torch.manual_seed(1234)
    with quiet_transformers():
        exec(code.replace(f'"{base.name}"', repr(str(base))), names)
    return names


@pytest.fixture(params=CASES)
def encoder(request, tmp_path):
    family, _, variant = request.param.partition(" ")
    folder = save_tiny_encoder(tmp_path / "base", family)
    if variant:
        drop_tensors(folder, "pooler")
    return load_encoder(str(folder), labels=LABELS, seed=0)


def test_an_adapter_comes_back(encoder, tmp_path, capfd, monkeypatch):
    untrained = logits(encoder.model, encoder.tokenizer)
    model = with_lora(encoder)
    fresh = logits(model, encoder.tokenizer)
    torch.testing.assert_close(fresh, untrained)
    disturb(model)
    expected = logits(model, encoder.tokenizer)
    assert (expected - untrained).abs().max() > 0.1
    with model.disable_adapter():
        torch.testing.assert_close(logits(model, encoder.tokenizer), untrained)
    model.train()
    save(tmp_path / "bundle", model, encoder, "lora")
    assert all(module.training for module in model.modules())

    bundle = load_bundle(tmp_path / "bundle")
    torch.testing.assert_close(logits(bundle.model, bundle.tokenizer), expected, atol=1e-6, rtol=0)
    assert (bundle.info.labels, bundle.info.max_length) == (list(LABELS), 32)
    assert not bundle.model.training
    assert bundle.info.base.fingerprint == encoder.fingerprint == bundle.base.fingerprint
    assert capfd.readouterr() == ("", "")

    names = run_card(tmp_path / "bundle", tmp_path / "base", monkeypatch)
    assert isinstance(names["model"], PeftModel)
    assert tuple(names["labels"]) == LABELS
    torch.testing.assert_close(logits(names["model"], names["tokenizer"]), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("encoder", "forgotten"),
    [
        ("deberta", "pooler"),
        ("deberta-v2", "pooler"),
        ("modernbert", "head"),
        ("bert without pooler", "bert.pooler"),
        ("albert without pooler", "albert.pooler"),
    ],
    indirect=["encoder"],
)
def test_a_head_that_peft_forgets_is_noticed(encoder, forgotten, tmp_path):
    """Left to itself, PEFT saves `classifier` and loses the rest without a word."""
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=list(encoder.linear_names()))
    with quiet_transformers():
        model = get_peft_model(encoder.model, config)
    disturb(model)
    with pytest.raises(BundleError, match=rf"lacks .* {forgotten}\."):
        save(tmp_path / "bundle", model, encoder, "lora")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_trained_parameters_come_back_in_plain_transformers_too(encoder, tmp_path, monkeypatch):
    model = with_biases(encoder)
    untrained = logits(model, encoder.tokenizer)
    disturb(model)
    expected = logits(model, encoder.tokenizer)
    assert (expected - untrained).abs().max() > 0.1
    save(tmp_path / "bundle", model, encoder, "biases")

    tensors = load_file(tmp_path / "bundle" / "trained.safetensors")
    assert set(tensors) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.info.kind == "part"
    assert not bundle.model.training
    torch.testing.assert_close(logits(bundle.model, bundle.tokenizer), expected, atol=1e-6, rtol=0)

    torch.manual_seed(1234)
    with quiet_transformers():
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
    plain.load_state_dict(load_file(tmp_path / "bundle" / "trained.safetensors"), strict=False)
    torch.testing.assert_close(logits(plain, bundle.tokenizer), expected, atol=1e-6, rtol=0)
    names = run_card(tmp_path / "bundle", tmp_path / "base", monkeypatch)
    assert tuple(names["labels"]) == LABELS
    torch.testing.assert_close(logits(names["model"], names["tokenizer"]), expected, atol=1e-6, rtol=0)


def test_a_whole_model_comes_back(encoder, tmp_path, monkeypatch):
    model = encoder.model
    untrained = logits(model, encoder.tokenizer)
    disturb(model)
    expected = logits(model, encoder.tokenizer)
    assert (expected - untrained).abs().max() > 0.1
    save(tmp_path / "bundle", model, encoder, "full")
    (tmp_path / "base").rename(tmp_path / "moved")  # it needs its base no more

    bundle = load_bundle(tmp_path / "bundle")
    torch.testing.assert_close(logits(bundle.model, bundle.tokenizer), expected, atol=1e-6, rtol=0)
    with quiet_transformers():
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "bundle")
    assert tuple(plain.config.id2label[i] for i in range(3)) == LABELS
    torch.testing.assert_close(logits(plain, bundle.tokenizer), expected, atol=1e-6, rtol=0)
    assert run_card(tmp_path / "bundle", tmp_path / "base", monkeypatch)["labels"] == list(LABELS)


@pytest.mark.parametrize("make", [with_lora, with_biases])
def test_the_card_works_where_the_base_has_a_head_for_other_labels(make, tmp_path, monkeypatch):
    save_tiny_encoder(tmp_path / "base", "distilbert", with_head=True)
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    model = make(encoder)
    disturb(model)
    save(tmp_path / "bundle", model, encoder, "any")
    names = run_card(tmp_path / "bundle", tmp_path / "base", monkeypatch)
    expected = logits(model, encoder.tokenizer)
    torch.testing.assert_close(logits(names["model"], names["tokenizer"]), expected, atol=1e-6, rtol=0)

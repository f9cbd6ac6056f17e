"""Bundles that hold the trained parameters alone: what is in them, and all that may have happened to the file."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from feathertune.bundle import load_bundle, save_bundle
from feathertune.encoders import load_encoder
from feathertune.errors import BundleError
from tiny import save_tiny_encoder
from unit.bundle.test_bundle import LABELS, SETTINGS, edit, leftovers, refused, seal

HEAD = {"pre_classifier.weight", "pre_classifier.bias", "classifier.weight", "classifier.bias"}
LAST = "distilbert.transformer.layer.1."
ONE = f"{LAST}ffn.lin1.weight"


def trained(base: str, **options):
    """An encoder of which the last block and the head were trained."""
    encoder = load_encoder(base, labels=LABELS, seed=0, **options)
    torch.manual_seed(0)
    for name, parameter in encoder.model.named_parameters():
        parameter.requires_grad_(name in HEAD or name.startswith(LAST))
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return encoder


def save(folder: Path, encoder) -> None:
    save_bundle(folder, encoder.model, encoder, replace(SETTINGS, method="top-layers"))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    save_tiny_encoder(folder / "base", "distilbert")
    save(folder / "bundle", trained(str(folder / "base")))
    return folder


@pytest.fixture
def bundle(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "bundle"


def test_it_holds_what_was_trained_and_nothing_else(bundle, original, tmp_path):
    assert {path.name for path in bundle.iterdir()} == {
        "README.md",
        "feathertune.json",
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "trained.safetensors",
    }
    names = set(load_file(bundle / "trained.safetensors"))
    assert names >= HEAD
    assert names - HEAD
    assert all(name.startswith(LAST) for name in names - HEAD)
    info = json.loads((bundle / "feathertune.json").read_text())
    assert (info["kind"], info["base"]["local"]) == ("part", "../base")
    for path in bundle.iterdir():
        assert str(original).encode() not in path.read_bytes(), path.name
    save(tmp_path / "again", trained(str(tmp_path / "base")))
    for path in bundle.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_card_says_how_to_load_it_and_what_it_needs(bundle):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "transformers"
    assert "trained.safetensors" in card
    assert "Replace `base` with its path" in card


def test_all_parameters_make_a_whole_model(bundle, tmp_path):
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    encoder.model.requires_grad_(True)
    save(tmp_path / "whole", encoder)
    assert load_bundle(tmp_path / "whole").info.kind == "full"
    next(encoder.model.parameters()).requires_grad_(False)
    save(tmp_path / "all but one", encoder)
    assert load_bundle(tmp_path / "all but one").info.kind == "part"


def test_bf16(bundle, tmp_path):
    save(tmp_path / "bf16", trained(str(tmp_path / "base"), dtype=torch.bfloat16))
    loaded = load_bundle(tmp_path / "bf16")
    assert loaded.info.dtype == "bfloat16"
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}


def test_a_changed_buffer_is_saved_too(tmp_path):
    """IBERT has persistent buffers: ranges that a forward pass may move."""
    save_tiny_encoder(tmp_path / "base", "ibert")
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    heads = tuple(f"{name}." for name in encoder.head_modules)
    for name, parameter in encoder.model.named_parameters():
        parameter.requires_grad_(name.startswith(heads))
    moved, *others = (name for name, _ in encoder.model.named_buffers() if name in encoder.model.state_dict())
    assert others
    encoder.model.get_buffer(moved).add_(1)
    save(tmp_path / "bundle", encoder)
    assert {n for n in load_file(tmp_path / "bundle" / "trained.safetensors") if not n.startswith(heads)} == {moved}
    found = load_bundle(tmp_path / "bundle").model.get_buffer(moved)
    assert torch.equal(found, encoder.model.get_buffer(moved))


# What is not kept


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_not_saved(bundle, tmp_path, value):
    encoder = trained(str(tmp_path / "base"))
    encoder.model.get_parameter(ONE).data[0, 0] = value
    with pytest.raises(BundleError, match=f"{ONE} is NaN"):
        save(tmp_path / "new", encoder)
    assert leftovers(tmp_path) == ["base", "bundle"]


def test_a_change_of_what_is_not_trained_is_noticed(bundle, tmp_path):
    encoder = trained(str(tmp_path / "base"))
    encoder.model.distilbert.embeddings.LayerNorm.weight.data *= 1.01
    with pytest.raises(BundleError, match="logits differ"):
        save(tmp_path / "new", encoder)
    assert leftovers(tmp_path) == ["base", "bundle"]


def test_a_head_that_is_not_trained_is_noticed(bundle, tmp_path):
    encoder = trained(str(tmp_path / "base"))
    encoder.model.pre_classifier.requires_grad_(False)
    with pytest.raises(BundleError, match=r"lacks 2 tensors .* pre_classifier"):
        save(tmp_path / "new", encoder)
    assert leftovers(tmp_path) == ["base", "bundle"]


def test_a_full_disk_is_the_systems_error(bundle, tmp_path, monkeypatch):
    def fills_up(*_args, **_kwargs):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("feathertune.bundle.save.save_file", fills_up)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save(tmp_path / "new", trained(str(tmp_path / "base")))
    assert caught.value.errno == errno.ENOSPC
    assert leftovers(tmp_path) == ["base", "bundle"]


# What is refused


def change(bundle: Path, edit_tensors) -> None:
    """Change the tensors as a forger would, with a manifest that fits."""
    path = bundle / "trained.safetensors"
    tensors = load_file(path)
    edit_tensors(tensors)
    save_file(tensors, path)
    seal(bundle)


def test_damage_of_the_file_is_seen_by_the_manifest(bundle):
    path = bundle / "trained.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-2], content + b"\0", content[:900] + bytes([content[900] ^ 1]) + content[901:]):
        path.write_bytes(damaged)
        assert "trained.safetensors" in refused(bundle)
    path.unlink()
    assert "trained.safetensors is missing" in refused(bundle)


@pytest.mark.parametrize("content", [b"", b"\0" * 64])
def test_weights_that_are_none(bundle, content):
    (bundle / "trained.safetensors").write_bytes(content)
    seal(bundle)
    assert "Cannot load" in refused(bundle)


def test_pickle_is_never_loaded(bundle):
    weights = bundle / "trained.safetensors"
    torch.save(load_file(weights), bundle / "trained.bin")
    weights.unlink()
    seal(bundle)
    assert "Only safetensors" in refused(bundle)


def test_a_part_of_the_head_is_missing(bundle):
    change(bundle, lambda tensors: tensors.pop("pre_classifier.bias"))
    assert "lacks 1 tensors of its classification head; the first is pre_classifier.bias" in refused(bundle)


def test_a_tensor_beside_the_head_is_missing_or_there_are_more_than_were_trained(bundle):
    """The base would fill the gap, without a word."""
    listed = json.loads((bundle / "feathertune.json").read_text())["trained"]
    assert listed == sorted(load_file(bundle / "trained.safetensors"))
    change(bundle, lambda tensors: tensors.pop(ONE))
    assert f"lacks 1 of its {len(listed)} trained tensors; the first is {ONE}" in refused(bundle)
    edit(bundle / "feathertune.json", trained=sorted(set(listed) - {ONE, f"{LAST}ffn.lin2.bias"}))
    seal(bundle)
    assert f"contains {LAST}ffn.lin2.bias, which is not among its {len(listed) - 2} listed tensors" in refused(bundle)
    edit(bundle / "feathertune.json", trained=None)
    seal(bundle)
    assert "'trained' is for the kind 'part'" in refused(bundle)


def test_a_tensor_that_the_encoder_does_not_have(bundle):
    change(bundle, lambda tensors: tensors.update({f"{LAST}unheard.weight": torch.zeros(2)}))
    assert f"no parameter {LAST}unheard.weight" in refused(bundle)


@pytest.mark.parametrize("name", [ONE, "classifier.weight"])
def test_a_wrong_shape(bundle, name):
    change(bundle, lambda tensors: tensors.update({name: tensors[name][:-1].clone()}))
    message = refused(bundle)
    assert f"{name} has the shape (" in message
    assert "expected (" in message


def test_other_labels_do_not_fit_the_head(bundle):
    edit(bundle / "feathertune.json", labels=["one", "two"])
    seal(bundle)
    assert "classifier.bias has the shape (3,), expected (2,)" in refused(bundle)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_number_that_is_none(bundle, value):
    def spoil(tensors):
        tensors[ONE][0, 0] = value

    change(bundle, spoil)
    assert f"NaN or infinity in {ONE}" in refused(bundle)


def test_a_number_that_is_none_in_the_other_kinds(tmp_path):
    from unit.bundle.test_bundle import trained as with_adapter

    save_tiny_encoder(tmp_path / "base", "distilbert")
    encoder, model = with_adapter(str(tmp_path / "base"))
    save_bundle(tmp_path / "peft", model, encoder, SETTINGS)
    whole = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    save(tmp_path / "full", whole)
    for kind, file in (("peft", "adapter_model.safetensors"), ("full", "model.safetensors")):
        tensors = load_file(tmp_path / kind / file)
        first = min(tensors)
        tensors[first].flatten()[0] = float("nan")
        save_file(tensors, tmp_path / kind / file, metadata={"format": "pt"})
        seal(tmp_path / kind)
        assert f"NaN or infinity in {first}" in refused(tmp_path / kind)


def test_another_base_is_refused_by_its_fingerprint(bundle, tmp_path):
    other = save_tiny_encoder(tmp_path / "other", "distilbert", seed=1)
    assert "fingerprint" in refused(bundle, base=str(other))
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    assert "as --base" in refused(bundle)
    assert load_bundle(bundle, base=str(tmp_path / "elsewhere")).base.id == str(tmp_path / "elsewhere")

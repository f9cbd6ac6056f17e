"""What a bundle holds, and everything that may have happened to it."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from peft import IA3Config, LoraConfig, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from feathertune.bundle import Description, load_bundle, save_bundle
from feathertune.encoders import load_encoder, quiet_transformers
from feathertune.errors import BundleError
from tiny import COMMIT, TEXTS, hub_cache, needs_sample_encoder, save_tiny_encoder

LABELS = ("negative", "neutral", "positive")
SETTINGS = Description(
    method="lora",
    max_length=32,
    text_columns=["title"],
    metrics={"validation": {"accuracy": 0.8125, "n": 16}},
    hyperparameters={"r": 2, "learning_rate": 1e-3},
)


def trained(base: str, family_config=None, **options):
    """An encoder and an adapter on it, every trained parameter moved."""
    encoder = load_encoder(base, labels=LABELS, seed=0, **options)
    common = {"task_type": "SEQ_CLS", "modules_to_save": list(encoder.head_modules)}
    config = (family_config or LoraConfig)(target_modules=list(encoder.linear_names()), **common)
    torch.manual_seed(0)
    with quiet_transformers():
        model = get_peft_model(encoder.model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return encoder, model


def saved(folder: Path, family: str) -> Path:
    """Fill a folder with `base` and `bundle`, and return it."""
    save_tiny_encoder(folder / "base", family)
    encoder, model = trained(str(folder / "base"))
    save_bundle(folder / "bundle", model, encoder, SETTINGS)
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A folder with `base` and `bundle`; tests work on copies."""
    return saved(tmp_path_factory.mktemp("original"), "distilbert")


@pytest.fixture
def bundle(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "bundle"


def refused(folder: Path, **options) -> str:
    with pytest.raises(BundleError) as caught:
        load_bundle(folder, **options)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def seal(bundle: Path) -> None:
    """Write a manifest that fits what is there now, as a forger would."""
    files = {}
    for path in bundle.iterdir():
        if path.name != "manifest.json":
            content = path.read_bytes()
            files[path.name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    (bundle / "manifest.json").write_text(json.dumps({"schema_version": 1, "files": files}))


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# What it holds


def test_the_files_are_those_of_the_contract(bundle):
    names = {path.name for path in bundle.iterdir()}
    assert names == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "feathertune.json",
        "manifest.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert set(manifest["files"]) == names - {"manifest.json"}
    info = json.loads((bundle / "feathertune.json").read_text())
    assert info["labels"] == list(LABELS)
    assert info["task"] == "single_label"
    assert info["text_columns"] == ["title"]
    assert info["threshold"] is None
    assert info["base"]["id"] == "base"
    assert info["base"]["local"] == "../base"
    assert info["dtype"] == "float32"
    assert {"feathertune", "torch", "transformers", "peft"} <= set(info["versions"])
    for key in ("method", "max_length", "metrics", "hyperparameters"):
        assert info[key] == getattr(SETTINGS, key)


def test_no_path_of_this_machine_is_in_it(original):
    for path in (original / "bundle").iterdir():
        assert str(original).encode() not in path.read_bytes(), path.name


def test_the_adapter_is_pefts_standard_form(bundle):
    config = json.loads((bundle / "adapter_config.json").read_text())
    assert config["task_type"] == "SEQ_CLS"
    assert config["base_model_name_or_path"] == "base"
    assert config["modules_to_save"] == ["classifier", "pre_classifier", "score"]
    assert config["target_modules"] == sorted(config["target_modules"])


def test_saving_twice_gives_the_same_bytes(bundle, tmp_path):
    encoder, model = trained(str(tmp_path / "base"))
    encoder.tokenizer(list(TEXTS), padding="max_length", truncation=True, max_length=5)
    save_bundle(tmp_path / "again", model, encoder, SETTINGS)
    for path in bundle.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_card_has_front_matter_for_a_hub(bundle):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front == {
        "pipeline_tag": "text-classification",
        "library_name": "peft",
        "tags": ["feathertune", "lora"],
    }
    assert "| accuracy | 0.8125 |" in card
    assert 'feathertune predict . --text "' in card
    assert "num_labels=len(labels)" in card


@needs_sample_encoder
def test_the_sample_is_named_by_its_hub_id_and_found_again(tmp_path):
    encoder, model = trained("sample:minilm")
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    loaded = load_bundle(tmp_path / "bundle")
    assert loaded.info.base.id == "sentence-transformers/all-MiniLM-L6-v2"
    assert loaded.info.base.local is None
    assert loaded.base.id == "sample:minilm"
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == loaded.info.base.id


def test_a_base_of_the_hub_is_named_with_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_cache(tmp_path / "hub", save_tiny_encoder(tmp_path / "base", "mpnet"), "someone/tiny")
    encoder, model = trained("someone/tiny", revision="main")
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    loaded = load_bundle(tmp_path / "bundle")
    assert (loaded.base.id, loaded.base.revision) == ("someone/tiny", COMMIT)
    config = json.loads((tmp_path / "bundle" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("someone/tiny", COMMIT)
    assert f'"someone/tiny", revision="{COMMIT}"' in (tmp_path / "bundle" / "README.md").read_text()


def test_other_methods_and_bf16(tmp_path):
    save_tiny_encoder(tmp_path / "base", "modernbert")

    def ia3(**options):
        return IA3Config(feedforward_modules=[n for n in options["target_modules"] if "mlp" in n], **options)

    encoder, model = trained(str(tmp_path / "base"), ia3)
    save_bundle(tmp_path / "ia3", model, encoder, replace(SETTINGS, method="ia3"))
    encoder, model = trained(str(tmp_path / "base"), dtype=torch.bfloat16)
    save_bundle(tmp_path / "bf16", model, encoder, SETTINGS)
    loaded = load_bundle(tmp_path / "bf16")
    assert loaded.info.dtype == "bfloat16"
    assert next(loaded.base.backbone.parameters()).dtype == torch.bfloat16


# What is not kept


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_not_saved(tmp_path, value):
    save_tiny_encoder(tmp_path / "base", "bert")
    encoder, model = trained(str(tmp_path / "base"))
    next(p for n, p in model.named_parameters() if "lora_B" in n).data[0, 0] = value
    with pytest.raises(BundleError, match="NaN"):
        save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    assert leftovers(tmp_path) == ["base"]


def test_a_change_outside_the_adapter_is_noticed_and_the_older_bundle_stays(bundle, tmp_path):
    encoder, model = trained(str(tmp_path / "base"))
    before = (bundle / "manifest.json").read_bytes()
    model.get_parameter("base_model.model.distilbert.embeddings.LayerNorm.weight").data *= 1.01
    with pytest.raises(BundleError, match="logits differ"):
        save_bundle(bundle, model, encoder, SETTINGS)
    assert leftovers(tmp_path) == ["base", "bundle"]
    assert (bundle / "manifest.json").read_bytes() == before
    load_bundle(bundle)


def test_a_full_disk_is_the_systems_error_not_the_methods(bundle, tmp_path, monkeypatch):
    encoder, model = trained(str(tmp_path / "base"))

    def fills_up(*_args, **_kwargs):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(model, "save_pretrained", fills_up)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_bundle(bundle, model, encoder, SETTINGS)
    assert caught.value.errno == errno.ENOSPC
    assert leftovers(tmp_path) == ["base", "bundle"]
    load_bundle(bundle)


def test_a_new_bundle_takes_the_older_ones_place(bundle, tmp_path):
    encoder, model = trained(str(tmp_path / "base"))
    save_bundle(bundle, model, encoder, replace(SETTINGS, method="other"))
    assert load_bundle(bundle).info.method == "other"
    assert leftovers(tmp_path) == ["base", "bundle"]


# What is refused


def test_what_is_no_bundle(tmp_path, bundle):
    assert "not a folder" in refused(tmp_path / "nowhere")
    assert "not a folder" in refused(bundle / "README.md")
    assert "not a bundle" in refused(tmp_path / "base")


def test_a_flipped_bit_in_any_file(bundle):
    load_bundle(bundle)
    for path in sorted(bundle.iterdir()):
        content = path.read_bytes()
        for position in (0, len(content) // 3, len(content) // 2, len(content) - 1):
            for bit in (1, 32):
                damaged = bytearray(content)
                damaged[position] ^= bit
                path.write_bytes(damaged)
                refused(bundle)
        path.write_bytes(content)
    load_bundle(bundle)


def test_a_truncated_missing_or_foreign_file(bundle):
    for path in sorted(bundle.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:-2])
        refused(bundle)
        path.unlink()
        refused(bundle)
        path.write_bytes(content)
    foreign = bundle / "pytorch_model.bin"
    foreign.write_bytes(b"pickle")
    assert "pytorch_model.bin" in refused(bundle)
    foreign.rename(bundle / ".gitattributes")  # a hub adds its own hidden files
    load_bundle(bundle)


def test_pickle_is_never_loaded(bundle):
    weights = bundle / "adapter_model.safetensors"
    torch.save(load_file(weights), bundle / "adapter_model.bin")
    weights.unlink()
    seal(bundle)
    assert "Only safetensors" in refused(bundle)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"labels": []}, "labels"),
        ({"labels": None}, "labels"),
        ({"labels": ["one", "two"]}, "with 2 labels: classifier.bias has the shape (3,), expected (2,)"),
        ({"trained": []}, "'trained' is for the kind 'part' only"),
        ({"surprise": 1}, "surprise"),
        ({"base": {}}, "base"),
    ],
)
def test_another_schema_or_other_labels(bundle, changes, expected):
    edit(bundle / "feathertune.json", **changes)
    seal(bundle)
    assert expected in refused(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null"])
def test_an_info_or_a_manifest_that_is_none(bundle, content):
    (bundle / "feathertune.json").write_bytes(content)
    seal(bundle)
    refused(bundle)
    (bundle / "manifest.json").write_bytes(content)
    refused(bundle)


def test_a_manifest_without_the_info(bundle):
    (bundle / "feathertune.json").unlink()
    seal(bundle)
    assert "feathertune.json" in refused(bundle)


@pytest.mark.parametrize("lost", ["pre_classifier", "lora_A"])
def test_tensors_missing_from_the_adapter(bundle, lost):
    weights = bundle / "adapter_model.safetensors"
    tensors = load_file(weights)
    kept = {name: tensor for name, tensor in tensors.items() if lost not in name}
    assert len(kept) < len(tensors)
    save_file(kept, weights)
    seal(bundle)
    assert lost in refused(bundle)


def test_weights_that_are_none(bundle):
    (bundle / "adapter_model.safetensors").write_bytes(b"\x00" * 64)
    seal(bundle)
    assert "Cannot load" in refused(bundle)


def test_a_config_that_forgets_a_part_of_the_head(tmp_path):
    save_tiny_encoder(tmp_path / "base", "deberta-v2")
    encoder, model = trained(str(tmp_path / "base"))
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    edit(tmp_path / "bundle" / "adapter_config.json", modules_to_save=["classifier"])
    seal(tmp_path / "bundle")
    assert "pooler" in refused(tmp_path / "bundle")


# The base


def test_another_base_is_refused_by_its_fingerprint(bundle, tmp_path):
    mine = load_bundle(bundle).info.base.fingerprint
    other = save_tiny_encoder(tmp_path / "other", "distilbert", seed=1)
    message = refused(bundle, base=str(other))
    assert mine in message
    assert load_encoder(str(other), labels=LABELS, seed=0).fingerprint in message


def test_the_base_is_found_beside_the_bundle_or_named(bundle, tmp_path):
    shutil.copytree(tmp_path, tmp_path / "moved together")
    load_bundle(tmp_path / "moved together" / "bundle")
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    message = refused(bundle)
    assert str(tmp_path / "base") in message
    assert load_bundle(bundle, base=str(tmp_path / "elsewhere")).base.id == str(tmp_path / "elsewhere")


def test_a_base_with_fewer_layers_is_refused(bundle, tmp_path):
    """Fewer layers in the file, or fewer of them read: either is another encoder."""
    fewer = save_tiny_encoder(tmp_path / "fewer", "distilbert", n_layers=1, num_hidden_layers=1)
    assert "has the fingerprint" in refused(bundle, base=str(fewer))
    edit(tmp_path / "base" / "config.json", n_layers=1)
    assert "has the fingerprint" in refused(bundle)


def test_another_revision_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub_cache(tmp_path / "hub", save_tiny_encoder(tmp_path / "base", "mpnet"), "someone/tiny")
    encoder, model = trained("someone/tiny", revision="main")
    folder = tmp_path / "bundle"
    save_bundle(folder, model, encoder, SETTINGS)
    load_bundle(folder)
    # The commit is gone, and the branch is elsewhere by now.
    snapshots = tmp_path / "hub" / "models--someone--tiny" / "snapshots"
    (snapshots / COMMIT).rename(snapshots / COMMIT[::-1])
    (snapshots.parent / "refs" / "main").write_text(COMMIT[::-1])
    assert f"'someone/tiny' at revision '{COMMIT}'" in refused(folder)
    load_bundle(folder, base="someone/tiny")  # whoever names it gets it, if it is the same
    shutil.rmtree(tmp_path / "hub")
    hub_cache(tmp_path / "hub", save_tiny_encoder(tmp_path / "moved on", "mpnet", seed=1), "someone/tiny")
    assert "has the fingerprint" in refused(folder)


def test_a_base_that_cannot_be_loaded(bundle, tmp_path):
    (tmp_path / "base" / "model.safetensors").unlink()
    assert "Cannot load the base model" in refused(bundle)
    assert "Cannot load the base model" in refused(bundle, base="someone/not-here")


def test_a_whole_model_without_its_head(tmp_path):
    save_tiny_encoder(tmp_path / "base", "electra")
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    folder = tmp_path / "bundle"
    save_bundle(folder, encoder.model, encoder, replace(SETTINGS, method="full"))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "out_proj" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    seal(folder)
    assert "classifier.out_proj" in refused(folder)


def test_a_whole_model_of_which_layers_or_labels_were_taken(tmp_path):
    save_tiny_encoder(tmp_path / "base", "electra")
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    folder = tmp_path / "bundle"
    save_bundle(folder, encoder.model, encoder, replace(SETTINGS, method="full"))
    edit(folder / "config.json", num_hidden_layers=1)
    seal(folder)
    message = refused(folder)
    assert "tensors; the first is electra.encoder.layer.1." in message
    edit(folder / "config.json", num_hidden_layers=2)
    edit(folder / "feathertune.json", labels=["one", "two"])
    seal(folder)
    assert "for a different number of labels than its 2" in refused(folder)

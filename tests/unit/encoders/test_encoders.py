"""Finding and loading an encoder: the hub's cache, the sample, and everything that may be wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from feathertune.encoders import load_encoder, quiet_transformers
from feathertune.errors import EncoderError, FeathertuneError, UnknownNameError
from tiny import COMMIT, drop_tensors, hub_cache, needs_sample_encoder, save_tiny_encoder


def load(model_id, **options):
    return load_encoder(str(model_id), **{"labels": ("a", "b"), "seed": 0, **options})


@pytest.fixture
def folder(tmp_path):
    return save_tiny_encoder(tmp_path / "encoder", "bert")


def edit_config(folder: Path, name: str = "config.json", **changes):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def fails(model_id, **options) -> str:
    with pytest.raises(EncoderError) as caught:
        load(model_id, **options)
    message = str(caught.value)
    assert str(model_id) in message
    assert "\n" not in message
    return message


# A local folder


def test_a_folder_needs_config_weights_and_tokenizer(folder):
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (folder / name).unlink()
        expected = {"tokenizer.json": "no tokenizer", "model.safetensors": "no weights"}.get(name, "no config.json")
        assert expected in fails(folder)


def test_an_adapter_is_no_encoder(tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "pass the base model it was trained on" in fails(tmp_path)


def test_pickle_is_refused(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    load(folder)  # safetensors beside it are taken
    (folder / "model.safetensors").unlink()
    assert "can run code" in fails(folder)


CODE = "code.Class"
MAPS = {
    "config": ({"AutoConfig": CODE, "AutoModel": CODE, "AutoModelForSequenceClassification": CODE}, None),
    "config of the hub": ({"AutoConfig": f"someone/code--{CODE}"}, None),
    "a list": ([CODE, None], None),
    "tokenizer": (None, {"AutoTokenizer": [CODE, CODE]}),
    "tokenizer, a list": (None, [CODE, None]),
    "both": ({"AutoConfig": CODE}, {"AutoTokenizer": [None, CODE]}),
}


def with_code(folder: Path, in_config, in_tokenizer) -> Path:
    """Let a folder name code of its own; return the file that the code would write."""
    marker = folder.parent / "ran"
    (folder / "code.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Class: pass\n")
    for name, code in (("config.json", in_config), ("tokenizer_config.json", in_tokenizer)):
        if code is not None:
            edit_config(folder, name, auto_map=code)
    return marker


@pytest.mark.parametrize("kind", MAPS)
@pytest.mark.parametrize("has_file", [True, False])
def test_code_of_the_model_is_not_run_where_transformers_has_the_class(kind, has_file, folder, tmp_path):
    plain = load(folder)
    marker = with_code(folder, *MAPS[kind])
    if not has_file:
        (folder / "code.py").unlink()
    found = load(folder)
    assert type(found.model).__module__.startswith("transformers.")
    assert type(found.tokenizer).__module__.startswith("transformers.")
    assert (found.fingerprint, found.tokenizer_fingerprint) == (plain.fingerprint, plain.tokenizer_fingerprint)
    with quiet_transformers():
        found.model.save_pretrained(tmp_path / "saved")
        found.tokenizer.save_pretrained(tmp_path / "saved")
    assert not any("auto_map" in file.read_text() for file in (tmp_path / "saved").glob("*.json"))
    assert not (tmp_path / "saved" / "code.py").exists()
    assert not marker.exists()


@pytest.mark.parametrize("kind", ["config", "config of the hub", "a list", "both"])
def test_code_of_the_model_is_refused_where_transformers_has_no_class(kind, folder):
    marker = with_code(folder, *MAPS[kind])
    edit_config(folder, model_type="no-such-type")
    message = fails(folder)
    assert "never runs code" in message
    assert "'no-such-type'" in message
    assert not marker.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "other.safetensors", "../other/model.safetensors"])
def test_a_config_that_names_other_weights_is_refused(name, folder):
    edit_config(folder, transformers_weights=name)
    assert "transformers_weights" in fails(folder)


@pytest.mark.parametrize("content", ["", "[]", "{}", "{", '{"model_type": 7}', "\x00"])
def test_a_config_that_is_none(folder, content):
    (folder / "config.json").write_text(content)
    assert "config.json" in fails(folder)


@pytest.mark.parametrize("model_type", ["vit", "clip", "no-such-type"])
def test_what_is_no_encoder_is_refused(folder, model_type):
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    message = fails(folder)
    assert f"'{model_type}'" in message
    assert "modernbert" in message


def test_a_file_is_no_folder(folder):
    assert "is a file" in fails(folder / "config.json")


@pytest.mark.parametrize("name", ["./no/such/folder", "/nowhere", "a/b/c", "", "hub:x y"])
def test_a_path_that_is_not_there(name):
    message = fails(name)
    assert repr(name) in message
    assert "neither a folder" in message


def test_a_revision_is_for_the_hub(folder):
    assert "Leave it out" in fails(folder, revision="main")


# Weights


def test_damaged_weights(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"\xff" * 100):
        weights.write_bytes(damaged)
        assert "cannot be loaded" in fails(folder)


@pytest.mark.parametrize("lost", ["encoder.layer.1.output", "word_embeddings"])
def test_a_checkpoint_without_the_encoders_own_parameters(folder, lost):
    drop_tensors(folder, lost)
    message = fails(folder)
    assert "lacks" in message
    assert lost in message


def test_a_checkpoint_of_another_width(folder):
    edit_config(folder, intermediate_size=64)
    assert "another shape" in fails(folder)


def test_a_checkpoint_of_another_family(folder):
    path = folder / "model.safetensors"
    save_file({f"x.{n}": t for n, t in load_file(path).items()}, path, metadata={"format": "pt"})
    assert "lacks" in fails(folder)


def test_a_tokenizer_with_more_tokens_than_the_encoder(folder):
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary |= {f"word{i}": len(vocabulary) + i for i in range(5)}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "do not belong together" in fails(folder)


def test_a_tokenizer_that_is_none(folder):
    (folder / "tokenizer.json").write_text("{}")
    assert "tokenizer" in fails(folder)


# Quiet and harmless


def test_loading_says_nothing_and_leaves_no_trace(folder, capfd):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    load(folder, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert (transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()) == (
        verbosity,
        bars,
    )
    assert capfd.readouterr() == ("", "")


def test_quiet_restores_after_an_error():
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    try:
        with pytest.raises(ZeroDivisionError), quiet_transformers():
            raise ZeroDivisionError
        assert not transformers_logging.is_progress_bar_enabled()
    finally:
        transformers_logging.enable_progress_bar()
    assert transformers_logging.get_verbosity() == verbosity


# The hub


def test_an_encoder_in_the_hubs_cache_loads_offline(tmp_path, folder):
    hub_cache(tmp_path / "hub", folder, "someone/tiny-bert")
    script = (
        "from feathertune.encoders import load_encoder\n"
        "for revision in (None, 'main', '" + COMMIT + "'):\n"
        "    e = load_encoder('someone/tiny-bert', labels=('a', 'b'), seed=0, revision=revision)\n"
        "    print(e.id, e.revision, e.fingerprint)\n"
    )
    environment = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    fingerprint = load(folder).fingerprint
    assert done.stdout.splitlines() == [f"someone/tiny-bert {COMMIT} {fingerprint}"] * 3
    assert done.stderr == ""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, offline, in this process."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.mark.parametrize("model_id", ["someone/tiny-bert", "bert-base-cased"])
def test_a_hub_id_that_is_not_in_the_cache_while_offline(cache, model_id):
    message = fails(model_id)
    assert "HF_HUB_OFFLINE" in message
    assert f"hf download {model_id}" in message
    assert "sample:minilm" in message


def test_a_revision_that_is_not_in_the_cache(cache, folder):
    hub_cache(cache, folder, "someone/tiny-bert")
    assert load("someone/tiny-bert").revision == COMMIT
    assert "'v2'" in fails("someone/tiny-bert", revision="v2")


def test_a_hub_encoder_with_pickle_only(cache, folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub_cache(cache, folder, "someone/tiny-bert")
    assert "can run code" in fails("someone/tiny-bert")


def test_a_hub_that_cannot_be_reached(cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def unreachable(*_args, **_kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    assert "cannot be reached" in fails("someone/tiny-bert")


# The sample


def test_a_misspelt_sample_names_the_right_one():
    with pytest.raises(UnknownNameError, match="minilm") as caught:
        load("sample:minilmm")
    assert isinstance(caught.value, FeathertuneError)


@needs_sample_encoder
def test_the_sample_encoder():
    encoder = load("sample:minilm")
    assert (encoder.spec.model_type, encoder.n_layers, encoder.hidden_size) == ("bert", 6, 384)
    assert encoder.n_parameters == 22_713_216
    assert encoder.max_positions == 512
    assert encoder.new_parameters == ("classifier.weight", "classifier.bias")
    assert encoder.head_modules == ("classifier",)
    assert len(encoder.linear_names()) == 36
    assert encoder.revision is None
    assert encoder.notes == ()
    batch = encoder.tokenizer(["Good.", "Bad."], return_tensors="pt")
    assert batch["input_ids"].tolist() == [[101, 2204, 1012, 102], [101, 2919, 1012, 102]]
    assert encoder.model(**batch).logits.shape == (2, 2)

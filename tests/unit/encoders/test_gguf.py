"""GGUF files: converted once to what transformers reads from them, or refused."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, GgufConfig

from feathertune.encoders import gguf, quiet_transformers
from feathertune.encoders.files import find_encoder
from feathertune.encoders.gguf import check_header, converted_folder
from feathertune.errors import EncoderError, MissingExtraError
from ggufs import save_tiny_gguf
from tiny import COMMIT, hub_cache, save_tiny_encoder

KINDS = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "Q4_1": torch.float32,
    "Q8_0": torch.float32,
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """The cache of this test."""
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "assets" / "feathertune" / "bases" / "gguf"


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "models").mkdir()
    return save_tiny_gguf(tmp_path / "models" / "tiny.gguf")


def refused(path: Path) -> str:
    with pytest.raises(EncoderError) as caught:
        find_encoder(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# What is converted


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_tokenizer_are_those_of_transformers(kind, tmp_path):
    path = save_tiny_gguf(tmp_path / "a.gguf", kind)
    state = torch.get_rng_state()
    folder = converted_folder(path, "it")
    assert torch.equal(torch.get_rng_state(), state)
    with quiet_transformers():
        options = {"gguf_file": path.name, "dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
        expected = AutoModelForCausalLM.from_pretrained(tmp_path, **options)
        found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizers = [
            AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name),
            AutoTokenizer.from_pretrained(folder),
        ]
    weights, expected_weights = found.state_dict(), expected.state_dict()
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], expected_weights[name]) for name in weights)
    assert {tensor.dtype for tensor in load_file(folder / "model.safetensors").values()} == {KINDS[kind]}
    assert json.loads((folder / "config.json").read_text())["dtype"] == str(KINDS[kind]).removeprefix("torch.")
    first, second = (tokenizer.backend_tokenizer.to_str() for tokenizer in tokenizers)
    assert first == second
    assert tokenizers[1]("a good film").tokens() == ["a", "Ġgood", "Ġfilm"]
    assert tokenizers[1].pad_token == "<pad>"


def test_a_classifier_of_the_folder_is_that_of_the_file(file):
    folder = find_encoder(str(file)).folder
    options = {"gguf_file": file.name, "quantization_config": GgufConfig(dequantize=True)}
    with quiet_transformers():
        classifiers = [
            AutoModelForSequenceClassification.from_pretrained(place, dtype=torch.float32, **more).model
            for place, more in ((folder, {}), (file.parent, options))
        ]
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(*(model(ids).last_hidden_state for model in classifiers))


def test_files_next_to_it_are_not_read(file):
    save_tiny_encoder(file.parent / "other", "bert")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        shutil.copy(file.parent / "other" / name, file.parent)
    (file.parent / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    found = find_encoder(str(file))
    assert found.config["model_type"] == "llama"
    tokenizer = AutoTokenizer.from_pretrained(found.folder)
    assert tokenizer("good").tokens() == ["good"]
    assert not (found.folder / "adapter_config.json").exists()


# Once


def test_it_is_converted_once_whoever_asks(file, monkeypatch, cache):
    convert, calls = gguf._convert, []

    def slow(path, folder, named):
        calls.append(threading.get_ident())
        time.sleep(0.3)
        convert(path, folder, named)

    monkeypatch.setattr(gguf, "_convert", slow)
    with ThreadPoolExecutor(3) as pool:
        folders = set(pool.map(lambda _: converted_folder(file, "it"), range(3)))
    assert len(calls) == 1
    assert folders == set(cache.iterdir())
    other = save_tiny_gguf(file.parent / "other.gguf", seed=1)
    assert converted_folder(other, "it") not in folders
    assert len(calls) == 2
    shutil.copy(other, file)
    assert converted_folder(file, "it") not in folders, "another content under the same name"
    assert len(calls) == 2


def test_a_conversion_that_fails_leaves_nothing(file, monkeypatch, cache):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf, "_convert", full)
    with pytest.raises(OSError, match="No space"):
        converted_folder(file, "it")
    assert list(cache.iterdir()) == []


def test_a_file_that_changes_meanwhile_is_refused(file, monkeypatch, cache):
    convert = gguf._convert

    def while_written(path, folder, named):
        convert(path, folder, named)
        save_tiny_gguf(path, seed=1)

    monkeypatch.setattr(gguf, "_convert", while_written)
    assert "changed while it was being read" in refused(file)
    assert list(cache.iterdir()) == []


# Where it is found


def test_a_folder_with_one_file(file):
    found = find_encoder(str(file.parent))
    assert (found.id, found.revision) == (str(file), None)
    assert found.folder == find_encoder(str(file)).folder


def test_a_folder_with_several_files_names_one(file):
    shutil.copy(file, file.parent / "another.gguf")
    assert str(file.parent / "another.gguf") in refused(file.parent)


def test_safetensors_come_first(file):
    save_tiny_encoder(file.parent, "bert")
    found = find_encoder(str(file.parent))
    assert (found.id, found.folder, found.config["model_type"]) == (str(file.parent), file.parent, "bert")


@pytest.mark.parametrize("model_id", ["someone/tiny", "someone/tiny/tiny.gguf"])
def test_a_repository_in_the_cache(model_id, file, tmp_path):
    hub_cache(tmp_path / "hub", file.parent, "someone/tiny")
    found = find_encoder(model_id)
    assert (found.id, found.revision) == ("someone/tiny/tiny.gguf", COMMIT)
    assert found.folder == find_encoder(str(file)).folder


def test_of_a_repository_only_the_file_that_is_needed_is_fetched(file, tmp_path, monkeypatch):
    hub_cache(tmp_path / "hub", file.parent, "someone/tiny")
    listed, fetched = [["README.md", "tiny.gguf", "onnx/x.gguf"], ["a.gguf", "tiny.gguf"]], []
    monkeypatch.setattr("huggingface_hub.HfApi.list_repo_files", lambda *_, **__: listed.pop(0))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *args, **_: fetched.append(args) or str(file))
    find_encoder("someone/tiny")
    assert fetched == [("someone/tiny", "tiny.gguf")]
    with pytest.raises(EncoderError, match=r"someone/tiny/a\.gguf"):
        find_encoder("someone/tiny")
    assert len(fetched) == 1


def test_a_file_that_is_nowhere():
    assert "neither a folder or GGUF file" in refused(Path("/no/such.gguf"))
    with pytest.raises(EncoderError, match="HF_HUB_OFFLINE"):
        find_encoder("someone/tiny/no.gguf")


# What is refused


def test_without_the_package(file, monkeypatch):
    monkeypatch.setattr(gguf, "is_gguf_available", lambda: False)
    with pytest.raises(MissingExtraError, match=r"feathertune\[gguf\]"):
        find_encoder(str(file))


@pytest.mark.parametrize(
    "changes",
    [
        {"block_count": 3},
        {"block_count": 2**31},
        {"embedding_length": 2**20},
        {"feed_forward_length": 2**31 - 1},
        {"head_count": 0},
        {"head_count_kv": 3},
        {"context_length": 2**31 - 1, "vocab_size": 2**30},
        {"skip": "ffn_up"},
        {"skip": "token_embd"},
    ],
    ids=str,
)
def test_a_configuration_that_the_weights_do_not_fit(changes, tmp_path):
    start = time.monotonic()
    refused(save_tiny_gguf(tmp_path / "a.gguf", **changes))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + bytes(60), b"PK\x03\x04" + bytes(60), b"\x80\x04."])
def test_what_is_no_gguf_file(content, tmp_path):
    (tmp_path / "a.gguf").write_bytes(content)
    refused(tmp_path / "a.gguf")


def test_the_number_of_elements(file):
    assert check_header(file) == 2 * 270 * 32 + 32 + 2 * (2 * 32 + 2 * 32 * 32 + 2 * 16 * 32 + 3 * 64 * 32)


def test_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.gguf")
    with pytest.raises(EncoderError, match="file"):
        find_encoder(str(tmp_path / "a.gguf"))

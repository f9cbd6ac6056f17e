"""Which splits are kept as hidden states, where, and what is said of those that are not."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace

import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.prefix_cache import activations
from feathertune.engine.prefix_cache.activations import CachedTexts
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, seed_everything
from tiny import save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
TEXTS = {
    "train": ["the film was good", "bad", "a long story and a dull plot", "fine"],
    "validation": ["the actor was great", "no"],
}
N_TEXTS = sum(len(texts) for texts in TEXTS.values())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"), "bert", num_hidden_layers=3)


def prepared(folder, top_layers=1):
    seed_everything(0)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    lora = METHODS["lora"]
    return encoder, lora.prepare(encoder, lora.options(r=2, top_layers=top_layers), Job(0))


def cache(encoder, **config):
    return ActivationCache(EngineConfig(**config), CPU, token_budget=64, base_fingerprint=encoder.fingerprint)


def use(store, encoder, model):
    """What a training would read, and for how many texts the prefix ran."""
    splits = {name: encode(encoder.tokenizer, texts, max_length=16) for name, texts in TEXTS.items()}
    done = []
    with store.inputs(encoder, model, splits, done.append) as inputs:
        return SimpleNamespace(
            n_computed=sum(done),
            kept=[name for name, texts in inputs.texts.items() if isinstance(texts, CachedTexts)],
            hidden={n: t.hidden.clone() for n, t in inputs.texts.items() if isinstance(t, CachedTexts)},
            split_point=inputs.split_point,
            notes=inputs.notes,
            names=list(inputs.texts),
        )


def test_kept_in_memory_and_used_again(folder):
    encoder, model = prepared(folder)
    store = cache(encoder)
    first = use(store, encoder, model)
    assert first.kept == list(TEXTS)
    assert (first.n_computed, first.split_point, first.notes) == (N_TEXTS, 2, [])
    again = use(store, *prepared(folder))  # the next run of a study
    assert again.kept == list(TEXTS)
    assert again.n_computed == 0
    for name, hidden in first.hidden.items():
        assert torch.equal(again.hidden[name], hidden), name


def test_off_is_silent(folder):
    encoder, model = prepared(folder)
    found = use(cache(encoder, cache="off"), encoder, model)
    assert (found.kept, found.n_computed, found.split_point, found.notes) == ([], 0, 0, [])
    assert found.names == list(TEXTS)


def test_nothing_is_frozen_before_the_first_block(folder):
    encoder, model = prepared(folder, top_layers=None)
    found = use(cache(encoder), encoder, model)
    assert (found.kept, found.split_point) == ([], 0)
    assert found.notes == ["Hidden states are not cached: the first block is trained."]


def test_no_room_in_memory_means_tokens_and_a_note(folder):
    encoder, model = prepared(folder)
    found = use(cache(encoder, cache="ram", cache_bytes=0), encoder, model)
    assert (found.kept, found.n_computed) == ([], 0)
    assert found.names == list(TEXTS)
    assert [note.partition(" (")[0] for note in found.notes] == [f"The {name} hidden states" for name in TEXTS]
    assert found.split_point == 0, "nothing starts at a boundary where nothing is kept"


def test_the_budget_holds_the_most_important_split_only(folder):
    encoder, model = prepared(folder)
    tokens = encode(encoder.tokenizer, TEXTS["train"], max_length=16)
    budget = int(tokens.offsets[-1]) * encoder.hidden_size * 4
    found = use(cache(encoder, cache="ram", cache_bytes=budget), encoder, model)
    assert found.kept == ["train"]
    assert found.split_point == 2
    assert len(found.notes) == 1
    assert "The validation hidden states" in found.notes[0]


@pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # the temporary folder ends with the cache
def test_too_large_for_the_budget_goes_to_a_file(folder):
    encoder, model = prepared(folder)
    found = use(cache(encoder, cache="auto", cache_bytes=0), encoder, model)
    assert found.kept == list(TEXTS)
    assert found.notes == []


def test_files_of_an_earlier_run_are_used_and_damaged_ones_made_anew(folder, tmp_path):
    encoder, model = prepared(folder)
    where = tmp_path / "states"
    first = use(cache(encoder, cache="disk", cache_folder=str(where)), encoder, model)
    assert (first.kept, first.n_computed) == (list(TEXTS), N_TEXTS)

    again = use(cache(encoder, cache="disk", cache_folder=str(where)), *prepared(folder))
    assert again.n_computed == 0
    for name, hidden in first.hidden.items():
        assert torch.equal(again.hidden[name], hidden), name

    damaged = max(where.glob("*.states"), key=lambda path: path.stat().st_size)  # that of the training texts
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 64
    damaged.write_bytes(content)
    mended = use(cache(encoder, cache="disk", cache_folder=str(where)), *prepared(folder))
    assert mended.n_computed == len(TEXTS["train"])
    assert mended.notes == []
    for name, hidden in first.hidden.items():
        assert torch.equal(mended.hidden[name], hidden), name


def test_files_are_of_one_boundary(folder, tmp_path):
    encoder, model = prepared(folder)
    use(cache(encoder, cache="disk", cache_folder=str(tmp_path)), encoder, model)
    other = use(cache(encoder, cache="disk", cache_folder=str(tmp_path)), *prepared(folder, top_layers=2))
    assert (other.split_point, other.n_computed) == (1, N_TEXTS)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_means_tokens_and_a_note(folder, tmp_path, monkeypatch, number):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(activations, "_claim", refused)
    encoder, model = prepared(folder)
    found = use(cache(encoder, cache="disk", cache_folder=str(tmp_path)), encoder, model)
    assert (found.kept, found.split_point) == ([], 0)
    reason = os.strerror(number)
    assert found.notes == [
        f"The {name} hidden states are not cached: writing them failed ({reason})." for name in TEXTS
    ]
    assert list(tmp_path.iterdir()) == []


def test_another_boundary_drops_the_old_states(folder):
    encoder, model = prepared(folder)
    store = cache(encoder)
    first = use(store, encoder, model)
    other = use(store, *prepared(folder, top_layers=2))
    assert (other.split_point, other.n_computed) == (1, N_TEXTS)
    assert not torch.equal(other.hidden["train"], first.hidden["train"])
    back = use(store, *prepared(folder))
    assert back.n_computed == N_TEXTS
    assert torch.equal(back.hidden["train"], first.hidden["train"])

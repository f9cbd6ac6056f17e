"""Encoders of all kinds behave alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.encoders.block_form import rate_of
from tiny import FAMILIES, TEXTS, UNKNOWN_FAMILIES, drop_tensors, save_tiny_encoder

ALL = [*FAMILIES, *UNKNOWN_FAMILIES]
LABELS = ("negative", "neutral", "positive")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save_tiny_encoder(tmp_path_factory.mktemp(family), family) for family in ALL}


@pytest.fixture
def encoder(request: pytest.FixtureRequest, folders: dict[str, Path]) -> LoadedEncoder:
    return load_encoder(str(folders[request.param]), labels=LABELS, seed=0)


each = pytest.mark.parametrize("encoder", ALL, indirect=True)
each_family = pytest.mark.parametrize("family", ALL)


@each
def test_loads_and_classifies(encoder):
    batch = encoder.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = encoder.model(**batch).logits
    assert logits.shape == (len(TEXTS), len(LABELS))
    assert torch.isfinite(logits).all()
    assert not encoder.model.training
    assert encoder.model.config.id2label == dict(enumerate(LABELS))
    assert encoder.model.config.label2id == {label: index for index, label in enumerate(LABELS)}
    assert {p.dtype for p in encoder.model.parameters()} == {torch.float32}
    assert (encoder.n_layers, encoder.hidden_size) == (2, 32)
    assert bool(encoder.notes) == (encoder.facts.padding is None)


@each
def test_the_longest_text_fits_and_one_token_more_does_not(encoder):
    longest = torch.full((1, encoder.max_positions), 7)
    encoder.model(input_ids=longest)
    if encoder.spec.model_type in {"modernbert", "deberta", "deberta-v2"}:
        return  # relative and rotary positions have no table that ends
    with pytest.raises((IndexError, RuntimeError)):
        encoder.model(input_ids=torch.full((1, encoder.max_positions + 1), 7))


@each
def test_names_are_modules(encoder):
    spec = encoder.spec
    assert len(encoder.blocks) == (1 if spec.shared_blocks else encoder.n_layers)
    for block in encoder.blocks:
        modules = dict(block.named_modules())
        linears = {name for name, module in modules.items() if isinstance(module, nn.Linear)}
        assert {*spec.query, *spec.key, *spec.value, *spec.last} <= linears
        norms = {name for name, module in modules.items() if "LayerNorm" in type(module).__name__}
        assert norms <= set(spec.norms) <= set(modules)
    for block, form in zip(encoder.blocks, encoder.forms, strict=bool(encoder.forms)):
        assert set(form.layers) == {name for name, module in block.named_modules() if isinstance(module, nn.Linear)}
        assert form.fits(block.eval()) == (not any(rate_of(block, path) for path in form.rates))
    for name in spec.head:
        assert any(True for _ in encoder.model.get_submodule(name).parameters())


@each
def test_linear_names_are_the_linears_of_the_blocks_and_no_more(encoder):
    names = encoder.linear_names()
    assert len(names) == len(set(names)) > 0
    inside = {
        n for n, m in encoder.model.named_modules() if isinstance(m, nn.Linear) and f"{encoder.spec.blocks}." in n
    }
    assert set(names) == inside
    queries = encoder.query_value_names()
    assert set(queries) < set(names)
    assert len(queries) == len(encoder.blocks) * len({*encoder.spec.query, *encoder.spec.value})


@each
def test_head_and_backbone_are_disjoint_and_whole(encoder):
    inside = {id(p) for p in encoder.backbone.parameters()}
    head = {id(p) for n in encoder.spec.head for p in encoder.model.get_submodule(n).parameters()}
    assert not inside & head
    assert inside | head == {id(p) for p in encoder.model.parameters()}
    # The checkpoints hold the backbone and no head, so what is new is the head, all of it.
    new = {id(encoder.model.get_parameter(name)) for name in encoder.new_parameters}
    assert new == head
    assert encoder.head_modules == encoder.spec.head


@each_family
def test_the_head_comes_from_the_seed_and_the_backbone_from_the_file(family, folders):
    first, again, other = (load_encoder(str(folders[family]), labels=LABELS, seed=s) for s in (1, 1, 2))
    new = set(first.new_parameters)
    for name, parameter in first.model.named_parameters():
        assert torch.equal(parameter, again.model.get_parameter(name))
        if name not in new:
            assert torch.equal(parameter, other.model.get_parameter(name)), name
    drawn = [n for n in new if n.endswith("weight") and "norm" not in n]
    assert drawn
    for name in drawn:
        assert not torch.equal(first.model.get_parameter(name), other.model.get_parameter(name)), name


@each_family
def test_the_fingerprint_is_that_of_the_pretrained_tensors(family, folders, tmp_path):
    path = str(folders[family])
    fingerprint = load_encoder(path, labels=LABELS, seed=0).fingerprint
    assert load_encoder(path, labels=("a", "b"), seed=9).fingerprint == fingerprint
    assert load_encoder(path, labels=LABELS, seed=0, dtype=torch.bfloat16).fingerprint == fingerprint
    save_tiny_encoder(tmp_path / "other", family, seed=1)
    assert load_encoder(str(tmp_path / "other"), labels=LABELS, seed=0).fingerprint != fingerprint


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_a_pooler_missing_from_the_checkpoint_joins_the_head(family, tmp_path):
    folder = save_tiny_encoder(tmp_path / "encoder", family)
    whole = load_encoder(str(folder), labels=LABELS, seed=0)
    assert whole.new_pooler is None
    drop_tensors(folder, "pooler")
    encoder = load_encoder(str(folder), labels=LABELS, seed=0)
    assert encoder.new_pooler == f"{family}.pooler"
    assert encoder.head_modules == ("classifier", f"{family}.pooler")
    assert {n for n in encoder.new_parameters if "pooler" in n} == {
        n for n, _ in encoder.model.named_parameters() if "pooler" in n
    }
    assert encoder.fingerprint != whole.fingerprint
    assert encoder.fingerprint == load_encoder(str(folder), labels=LABELS, seed=5).fingerprint


@pytest.mark.parametrize("family", ["bert", "modernbert", "distilbert"])
def test_a_missing_part_of_the_embeddings_is_trained_and_saved(family, tmp_path):
    folder = save_tiny_encoder(tmp_path, family)
    drop_tensors(folder, "embeddings.norm" if family == "modernbert" else "embeddings.LayerNorm")
    encoder = load_encoder(str(folder), labels=LABELS, seed=0)
    (extra,) = set(encoder.head_modules) - set(encoder.spec.head)
    assert extra.endswith((".embeddings.norm", ".embeddings.LayerNorm"))


@each_family
def test_a_head_in_the_checkpoint_is_kept_and_said(family, tmp_path):
    folder = save_tiny_encoder(tmp_path, family, with_head=True)
    same = load_encoder(str(folder), labels=("a", "b"), seed=0)
    assert same.new_parameters == ()
    assert any("already has a head" in note for note in same.notes)
    assert same.head_modules == same.spec.head
    wider = load_encoder(str(folder), labels=LABELS, seed=0)
    assert wider.new_parameters
    assert all(wider.model.get_parameter(n).shape[0] == 3 for n in wider.new_parameters)
    assert wider.fingerprint == same.fingerprint


@each_family
def test_attention_falls_back_where_a_family_has_one_only(family, folders):
    eager = load_encoder(str(folders[family]), labels=LABELS, seed=0, attention="eager")
    other = load_encoder(str(folders[family]), labels=LABELS, seed=0, attention="sdpa")
    has_sdpa = family not in {"deberta", "deberta-v2", "mpnet", "convbert"}
    assert eager.model.config._attn_implementation == "eager"
    assert other.model.config._attn_implementation == ("sdpa" if has_sdpa else "eager")
    batch = eager.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(eager.model(**batch).logits, other.model(**batch).logits)

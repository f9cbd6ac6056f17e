"""Trials of the engine's blocks: rounding does not refuse them, and a large state hides no wrong form."""

from dataclasses import replace

import pytest
import torch

from families import save_family
from feathertune.encoders import load_encoder
from feathertune.encoders.trial import close, trial_batches
from feathertune.engine import fit

LABELS = ("no", "yes")


def load(folder, dtype=None):
    return load_encoder(str(folder), labels=LABELS, seed=0, attention="sdpa", dtype=dtype)


@pytest.fixture
def tries_again(monkeypatch):
    monkeypatch.setattr(fit, "_found", {})


@pytest.fixture
def deep(tmp_path):
    """A decoder whose rounding in bf16 is larger than any tolerance of its logits."""
    folder = save_family(tmp_path / "deep", "llama", num_hidden_layers=24, dtype=torch.bfloat16, initializer_range=0.3)
    return load(folder)


@torch.no_grad()
def test_rounding_that_adds_up_over_blocks_refuses_none(deep, tries_again):
    exact, rounded = deep.model.float(), load(deep.id)
    batch = trial_batches(deep)[0]
    assert next(rounded.backbone.parameters()).dtype == torch.bfloat16
    assert not close(exact(**batch).logits.bfloat16(), rounded.model(**batch).logits)
    assert fit.blocks_fit(rounded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("factor", [1, 1000])
@pytest.mark.parametrize("wrong", [{}, {"scaling": 0.5}, {"positions": "none"}])
def test_a_wrong_form_is_refused_next_to_a_large_state(tmp_path, tries_again, dtype, factor, wrong):
    encoder = load(save_family(tmp_path / "base", "llama", initializer_range=0.2), dtype)
    first = trial_batches(encoder)[0]["input_ids"][0, 0]
    encoder.model.get_input_embeddings().weight.data[first] *= factor
    forms = tuple(replace(form, **wrong) for form in encoder.forms)
    encoder = replace(encoder, spec=replace(encoder.spec, forms=forms))
    assert fit.blocks_fit(encoder) == (not wrong)

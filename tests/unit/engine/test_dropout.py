"""A frozen encoder without its dropout says the same twice, in training mode too; what is added later keeps its own."""

import pytest
import torch
from torch import nn

from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import turn_off_dropout
from feathertune.methods import METHODS, Job
from tiny import FAMILIES, save_tiny_encoder

RATE = 0.4
# Where a family's words for its rates are not BERT's.
WORDS = {
    "distilbert": ("dropout", "attention_dropout"),
    "modernbert": ("attention_dropout", "mlp_dropout", "embedding_dropout"),
}
BERTS = ("hidden_dropout_prob", "attention_probs_dropout_prob")


@pytest.fixture(params=FAMILIES)
def encoder(request, tmp_path):
    rates = dict.fromkeys(WORDS.get(request.param, BERTS), RATE)
    folder = save_tiny_encoder(tmp_path / "encoder", request.param, **rates)
    return load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")


def twice(encoder):
    ids = torch.arange(6, 18)[None].expand(3, -1)
    encoder.backbone.train()
    with torch.no_grad():
        return [encoder.backbone(input_ids=ids)[0] for _ in range(2)]


def test_a_frozen_encoder_says_the_same_twice(encoder):
    one, other = twice(encoder)
    assert not torch.equal(one, other), "its dropout is on at first"
    turn_off_dropout(encoder.backbone)
    one, other = twice(encoder)
    assert torch.equal(one, other)


def test_the_adapters_own_dropout_and_the_heads_stay(encoder):
    turn_off_dropout(encoder.backbone)
    before = {name for name, module in encoder.model.named_modules() if isinstance(module, nn.Dropout) and module.p}
    lora = METHODS["lora"]
    model = lora.prepare(encoder, lora.options(lora_dropout=0.25), Job(0))
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p}
    adapters = [p for name, p in rates.items() if "lora_dropout" in name]
    assert adapters
    assert set(adapters) == {0.25}
    assert all(not name.startswith(f"{encoder.backbone.base_model_prefix}.") for name in before)

"""What `finish` makes of a trained model is shipped: the same answers, in a form that every tool can load."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForSequenceClassification

from feathertune.bundle import Description, load_bundle, merged_model, save_bundle
from feathertune.config import TrainConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import LoadedEncoder, load_encoder, quiet_transformers
from feathertune.engine.predict import predict_logits
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo, Recipe, Training
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, seed_everything
from tiny import save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
TEXTS = ["a great film", "the plot is bad", "it was great fun", "bad and not fun", "great", "very bad"] * 4
LABELS = np.array([1, 0, 1, 0, 1, 0] * 4, dtype=np.int64)
EPOCHS, BATCH = 5, 6
N_STEPS = EPOCHS * len(TEXTS) // BATCH
SETTINGS = Description(method="adalora", max_length=32, text_columns=["text"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder") / "base", "roberta")


def trained(folder: Path, name: str, validation: np.ndarray = LABELS, **options) -> tuple[LoadedEncoder, Training]:
    """A training that has ended; its best epoch is not restored yet."""
    method = METHODS[name]
    seed_everything(0)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    job, settled = Job(0, n_steps=N_STEPS, max_length=32), method.options(**options)
    model = method.prepare(encoder, settled, job)
    texts = encode(encoder.tokenizer, TEXTS, max_length=32)
    training = Training(
        model,
        Labelled(texts, LABELS),
        Labelled(texts, validation),
        Recipe(
            TrainConfig(epochs=EPOCHS, batch_size=BATCH, warmup_ratio=0.0, patience=EPOCHS),
            learning_rate=5e-3,
            seed=0,
            hook=None if method.hook is None else method.hook(model, settled, job),
        ),
        runtime=CPU,
    )
    assert len([event for event in training.events() if isinstance(event, EpochInfo)]) == EPOCHS
    return encoder, training


def logits(model: nn.Module, encoder: LoadedEncoder) -> np.ndarray:
    return predict_logits(model, encode(encoder.tokenizer, TEXTS, max_length=32), token_budget=512, runtime=CPU)


def plain_peft(folder: Path, bundle: Path) -> PeftModel:
    """As a stranger loads it, with another random head underneath."""
    torch.manual_seed(1234)
    with quiet_transformers():
        base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, attn_implementation="eager")
        return PeftModel.from_pretrained(base, bundle).eval()


# PiSSA and OLoRA: a plain LoRA of twice the rank on the untouched weights.


@pytest.mark.parametrize("options", [{"r": 3, "lora_alpha": 3}, {"r": 2, "lora_alpha": 5}])
@pytest.mark.parametrize("name", ["pissa", "olora"])
def test_a_part_taken_out_of_the_weights_is_put_back(name, options, folder, tmp_path):
    encoder, training = trained(folder, name, **options)
    training.restore_best()
    model: PeftModel = training.model
    pretrained = load_encoder(str(folder), labels=("no", "yes"), seed=0).model
    weights = {n: p for n, p in pretrained.named_parameters() if n.removesuffix(".weight") in encoder.linear_names()}
    layers = {name: model.base_model.model.get_submodule(name.removesuffix(".weight")) for name in weights}
    apart = [(layers[n].base_layer.weight - weight).abs().max().item() for n, weight in weights.items()]
    assert min(apart) > 1e-2, "it was taken out"
    before = logits(model, encoder)

    METHODS[name].finish(model)
    np.testing.assert_allclose(logits(model, encoder), before, atol=1e-5, rtol=0)
    for n, weight in weights.items():
        torch.testing.assert_close(layers[n].base_layer.weight, weight, atol=1e-6, rtol=0)
    others = {n: p for n, p in pretrained.named_parameters() if n not in weights and not n.startswith("classifier.")}
    for n, parameter in others.items():
        own, _, last = n.rpartition(".")
        module = model.base_model.model.get_submodule(own)
        assert torch.equal(getattr(getattr(module, "base_layer", module), last), parameter), n

    save_bundle(tmp_path / "bundle", model, encoder, replace(SETTINGS, method=name))
    config = json.loads((tmp_path / "bundle" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (2 * options["r"], 2 * options["lora_alpha"])
    assert config["init_lora_weights"] is True
    assert config["peft_type"] == "LORA"
    plain = plain_peft(folder, tmp_path / "bundle")
    np.testing.assert_allclose(logits(plain, encoder), before, atol=1e-5, rtol=0)
    with plain.disable_adapter():
        for n, weight in weights.items():
            layer = plain.base_model.model.get_submodule(n.removesuffix(".weight"))
            assert torch.equal(layer.base_layer.weight, weight), "the encoder is as it was published"
            assert layer.lora_A["default"].weight.shape[0] == 2 * options["r"]
    np.testing.assert_allclose(logits(merged_model(load_bundle(tmp_path / "bundle")), encoder), before, atol=1e-5)


# AdaLoRA: the ranks that are shipped are those of the epoch that is shipped.


def kept(model: nn.Module) -> dict[str, list[bool]]:
    """Which directions do something, by layer."""
    found = {n: (p.detach().flatten() != 0).tolist() for n, p in model.named_parameters() if "lora_E" in n}
    return {name.removeprefix("base_model.model."): pattern for name, pattern in found.items()}


@pytest.mark.parametrize(
    ("validation", "best"),
    [(LABELS, range(2, EPOCHS + 1)), (1 - LABELS, range(1, 2))],
    ids=["late", "first"],
)
def test_the_pattern_is_that_of_the_best_epoch(validation, best, folder, tmp_path):
    encoder, training = trained(folder, "adalora", validation, target_r=2, init_r=4)
    model: PeftModel = training.model
    at_the_end = {n: list(pattern) for n, pattern in model.peft_config["default"].rank_pattern.items()}
    assert sum(map(sum, at_the_end.values())) == 2 * len(at_the_end), "as many as the budget allows"
    assert training.restore_best().epoch in best
    before = logits(model, encoder)

    METHODS["adalora"].finish(model)
    pattern = {n: list(values) for n, values in model.peft_config["default"].rank_pattern.items()}
    assert pattern == kept(model)
    assert pattern.keys() == at_the_end.keys()
    if 1 in best:
        assert pattern != at_the_end
    np.testing.assert_array_equal(logits(model, encoder), before)

    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    saved = json.loads((tmp_path / "bundle" / "adapter_config.json").read_text())["rank_pattern"]
    assert sorted(saved.values()) == sorted(pattern.values())
    bundle = load_bundle(tmp_path / "bundle", attention="eager")
    np.testing.assert_allclose(logits(bundle.model, encoder), before, atol=1e-5, rtol=0)
    ranks = [module.lora_E["default"].shape[0] for _, module in bundle.model.named_modules() if _is_svd(module)]
    assert sorted(ranks) == sorted(map(sum, pattern.values()))
    np.testing.assert_allclose(logits(plain_peft(folder, tmp_path / "bundle"), encoder), before, atol=1e-5, rtol=0)
    np.testing.assert_allclose(logits(merged_model(bundle), encoder), before, atol=1e-5, rtol=0)


def test_a_layer_that_has_lost_all_its_rank_comes_back(folder, tmp_path):
    encoder, training = trained(folder, "adalora", target_r=2, init_r=4)
    model = training.model
    first = next(module for module in model.modules() if _is_svd(module))
    first.lora_E["default"].data.zero_()
    before = logits(model, encoder)
    METHODS["adalora"].finish(model)
    assert [False] * 4 in model.peft_config["default"].rank_pattern.values()
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    bundle = load_bundle(tmp_path / "bundle", attention="eager")
    np.testing.assert_allclose(logits(bundle.model, encoder), before, atol=1e-5, rtol=0)
    np.testing.assert_allclose(logits(merged_model(bundle), encoder), before, atol=1e-5, rtol=0)


def _is_svd(module: nn.Module) -> bool:
    return "default" in getattr(module, "lora_E", {})

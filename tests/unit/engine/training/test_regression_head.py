"""The unit in the head, for every family and wherever PEFT has put it; and an output that is not rounded."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from feathertune.config import EngineConfig, TrainConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.predict import predict_logits
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import Recipe, Training
from feathertune.engine.training.regression_head import output_layer, put_into_unit
from feathertune.errors import EncoderError
from feathertune.methods import METHODS, Job
from feathertune.tasks.losses import CROSS_ENTROPY, objective_of
from tiny import FAMILIES, TEXTS, UNKNOWN_FAMILIES
from whole import BF16, CPU, folder

NUMBERS = np.array([1950.0, 1987.5, 2003.0, 1999.25])
OBJECTIVE = objective_of(TrainConfig(), NUMBERS, 1)


def loaded(family="bert", task="regression"):
    labels = ("year",) if task == "regression" else ("no", "yes")
    return load_encoder(str(folder(family)), labels=labels, seed=0, attention="eager", task=task)


def data(encoder, objective=OBJECTIVE):
    return Labelled(encode(encoder.tokenizer, TEXTS, max_length=16), NUMBERS, objective)


def numbers(model, encoder, runtime=CPU):
    return predict_logits(model, data(encoder).texts, token_budget=512, runtime=runtime)


@pytest.mark.parametrize("family", [*FAMILIES, *UNKNOWN_FAMILIES])
def test_the_last_layer_of_every_family_takes_the_unit(family):
    encoder = loaded(family)
    assert encoder.model.config.problem_type == "regression"
    standard = numbers(encoder.model, encoder)
    assert standard.shape == (4, 1)
    put_into_unit(encoder, OBJECTIVE)
    found = numbers(encoder.model, encoder)
    np.testing.assert_allclose(found, OBJECTIVE.in_unit(standard), rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.mean(), NUMBERS.mean(), atol=200)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_copy_that_is_trained_takes_it(method):
    encoder = loaded("roberta")
    if why := method.refusal(encoder):
        pytest.skip(why)
    batch = data(encoder).texts.collate(np.arange(4), CPU.device)
    model = method.prepare(encoder, method.options(), Job(0, n_steps=4, max_length=16, batches=lambda: [batch]))
    standard, before = numbers(model, encoder), copy.deepcopy(model.state_dict())
    put_into_unit(encoder, OBJECTIVE)
    np.testing.assert_allclose(numbers(model, encoder), OBJECTIVE.in_unit(standard), rtol=0, atol=2e-3)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert len(changed) == 2, changed
    assert all(parameter.requires_grad for name, parameter in model.named_parameters() if name in changed)


def test_classes_have_no_unit():
    encoder = loaded(task="single_label")
    before = copy.deepcopy(encoder.model.state_dict())
    put_into_unit(encoder, CROSS_ENTROPY)
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.model.state_dict().items())
    logits = np.ones((2, 2), np.float32)
    assert CROSS_ENTROPY.in_unit(logits) is logits
    assert CROSS_ENTROPY.comparable(0.5) == 0.5


def test_a_head_that_cannot_take_it_is_refused():
    encoder = loaded()
    encoder.model.classifier = nn.Linear(32, 1, bias=False)
    with pytest.raises(EncoderError, match="does not end in one linear layer with a bias"):
        output_layer(encoder)


def trained(encoder):
    settings = TrainConfig(epochs=40, batch_size=4, warmup_ratio=0, patience=40)
    given = (data(encoder), data(encoder, CROSS_ENTROPY))
    return Training(encoder.model, *given, Recipe(settings, learning_rate=0.01, seed=0), runtime=CPU)


def test_validation_is_in_the_unit_while_the_model_is_not():
    encoder = loaded()
    training = trained(encoder)
    first = training.validate()[0]
    assert first.rmse < 300, "as far off as a random head, in years"
    list(training.events())
    again = trained(loaded())
    again.load_state(training.state())
    assert again.best.validation == training.best.validation, "as a checkpoint keeps it"
    best = training.restore_best()
    assert best.validation.rmse < 5 < first.rmse
    np.testing.assert_allclose(
        best.validation_probabilities, OBJECTIVE.in_unit(numbers(encoder.model, encoder)), atol=1e-2
    )
    assert abs(numbers(encoder.model, encoder)).max() < 3, "standard scores"
    put_into_unit(encoder, OBJECTIVE)
    np.testing.assert_allclose(numbers(encoder.model, encoder), best.validation_probabilities, atol=1e-2)
    assert OBJECTIVE.comparable(NUMBERS.var()) == pytest.approx(1), (
        "always the mean, in the unit of the training's loss"
    )


def test_in_bf16_the_number_is_not_rounded():
    encoder = loaded()
    put_into_unit(encoder, OBJECTIVE)
    exact = numbers(encoder.model, encoder)
    rounded = numbers(encoder.model, encoder, BF16)
    assert set(rounded.ravel() % 8) == {0.0}, "bf16 has steps of 8 at 2,000: this is what is to be mended"
    with fast_parts(encoder, EngineConfig(), BF16) as installed:
        found = numbers(encoder.model, encoder, BF16)
    assert "output in fp32" in installed.parts
    assert np.abs(found - exact).max() < 3, "a tenth of the spread: of the encoder's own products"
    with fast_parts(encoder, EngineConfig(), CPU) as installed:
        assert "output in fp32" not in installed.parts
    np.testing.assert_array_equal(numbers(encoder.model, encoder), exact)

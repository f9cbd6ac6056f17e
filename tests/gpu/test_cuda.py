"""On a GPU: the engine's parts change nothing but rounding, and training and prediction agree with the processor's."""

import numpy as np
import pytest
import torch

from feathertune.config import EngineConfig, TrainConfig
from feathertune.data.tokens.encode import encode
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.training.gradient import Labelled
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, choose_runtime
from feathertune.study.running.prepare import ReadyModel, training_of
from feathertune.tasks.losses import CROSS_ENTROPY
from tiny import TEXTS
from whole import CONFIGS, POST_NORM, assert_equal_answers, batch, prepared

pytestmark = pytest.mark.gpu
FAMILIES = (*POST_NORM, "modernbert", "llama", "deberta-v2")
PADDED = (11, 2, 7)


def gradients(found, inputs, runtime):
    trained = {name: p for name, p in found.model.named_parameters() if p.requires_grad}
    with runtime.autocast():
        logits = found.model(**inputs).logits.float()
    grads = torch.autograd.grad(logits.square().sum(), list(trained.values()), allow_unused=True)
    pairs = zip(trained.items(), grads, strict=True)
    gradients = {name: torch.zeros_like(p) if g is None else g for (name, p), g in pairs}
    return {name: tensor.detach().cpu() for name, tensor in {"logits": logits, **gradients}.items()}


@pytest.mark.parametrize("case", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_engine_on_a_gpu_is_transformers_on_the_processor(family, case):
    found = prepared(family, case)
    inputs = batch(found.encoder, PADDED)
    cpu = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
    expected = gradients(found, inputs, cpu)
    cuda = Runtime(torch.device("cuda"), "fp32", "sdpa", "test", {})
    found.model.to(cuda.device)
    moved = {name: tensor.to(cuda.device) for name, tensor in inputs.items()}
    for name in ("auto", "all-off"):
        with fast_parts(found.encoder, CONFIGS[name], cuda):
            assert_equal_answers(gradients(found, moved, cuda), expected, of_largest=1e-4)


@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_trains_in_the_format_that_is_chosen_there(method):
    runtime, encoder, chosen = (
        choose_runtime(EngineConfig(device="cuda")),
        prepared("bert", "full").encoder,
        METHODS[method],
    )
    model = chosen.prepare(encoder, chosen.options(), Job(0)).to(runtime.device)
    data = Labelled(encode(encoder.tokenizer, TEXTS, max_length=24), np.array([0, 1, 0, 1]))
    settings = TrainConfig(epochs=2, batch_size=2, patience=2, token_budget=64)
    ready = ReadyModel(chosen, chosen.options(), Job(0, n_steps=4, max_length=24), encoder, model, CROSS_ENTROPY)
    with fast_parts(encoder, EngineConfig(), runtime):
        events = list(training_of(ready, data, data, settings=settings, runtime=runtime).events())
    losses = [event.train_loss for event in events if hasattr(event, "train_loss")]
    assert len(losses) == 2
    assert np.isfinite(losses).all()

"""Every method trained once on each tiny encoder: what the tests that run over the whole registry look at.

Nothing here, nor in those tests, knows a method by its name: what differs is asked of `Method`.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from feathertune.bundle import Description, save_bundle
from feathertune.config import TrainConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.engine.fast_path import turn_off_dropout
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import EpochInfo, Training
from feathertune.methods import METHODS, Job, Method, Options
from feathertune.runtime import seed_everything
from feathertune.study.running.prepare import ReadyModel, training_of
from feathertune.tasks.losses import CROSS_ENTROPY
from tiny import FAMILIES, UNKNOWN_FAMILIES
from whole import CPU, folder

LABELS = ("no", "yes")
MAX_LENGTH = 16
TEXTS = ["a great film", "the plot is bad", "it was great fun", "bad and not fun", "great", "very bad"] * 2
CLASSES = np.array([1, 0, 1, 0, 1, 0] * 2, dtype=np.int64)
# All rows in each step: whatever the rate, a loss that rises is no accident of the order.
# Ten, since an update of a fixed size (DeLoRA's) is too large for so narrow an encoder at first.
SETTINGS = TrainConfig(epochs=10, batch_size=len(TEXTS), warmup_ratio=0.0, patience=10, token_budget=512)
# The rates are those of encoders ten times as wide, so at the method's own the loss may jump about here. The second is
# tried where it did not fall at the first.
RATE_FACTORS = (1.0, 0.1)

ALL = (*FAMILIES, next(iter(UNKNOWN_FAMILIES)))


def pairs(*, others: bool = True) -> Any:
    """Run a test on every method and family; only some of the pairs where slow tests are left out.

    Args:
        others: Of those, each method on one family, all families in turn; else on the first one alone.
    """
    params = []
    for number, method in enumerate(METHODS):
        chosen = ALL[number % len(ALL)] if others else ALL[0]
        for family in ALL:
            marks = [] if family == chosen else [pytest.mark.slow]
            params.append(pytest.param(family, method, id=f"{family}-{method.name}", marks=marks))
    return pytest.mark.parametrize(("family", "method"), params)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Two threads gain nothing at this size, and wait for each other where the machine is busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Begun:
    """A prepared model and what it was made of; the encoder's dropout is off."""

    method: Method
    options: Options
    job: Job
    encoder: LoadedEncoder
    model: nn.Module
    data: Labelled
    foundation: Tensor  # logits before the method came
    reads_data: bool  # the method looked at training texts first

    def logits(self) -> Tensor:
        return logits_of(self.model, self.data)

    def training(self, rate_factor: float = 1.0) -> Training:
        options = self.options.model_copy(update={"learning_rate": rate_factor * self.options.learning_rate})
        ready = ReadyModel(self.method, options, self.job, self.encoder, self.model, CROSS_ENTROPY)
        return training_of(ready, self.data, self.data, settings=SETTINGS, runtime=CPU)

    def state(self) -> dict[str, Tensor]:
        """Copies of every parameter and buffer, those too that are not saved."""
        tensors = (*self.model.named_parameters(), *self.model.named_buffers())
        return {name: tensor.detach().clone() for name, tensor in tensors}

    def trained_names(self) -> set[str]:
        return {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}

    def head_names(self) -> set[str]:
        """Those of the parameters that are trained which are in the head, wherever PEFT has put it."""
        heads = [f".{name}." for name in self.encoder.head_modules]
        return {name for name in self.trained_names() if any(head in f".{name}" for head in heads)}


@dataclass(frozen=True)
class Trained(Begun):
    """A model at the end of its training."""

    start: Tensor  # logits as it was prepared
    before: dict[str, Tensor]
    losses: list[float]  # before each step
    gradients: set[str]  # of trained parameters that had a gradient which was not zero, in any step


def begin(family: str, method: Method, *, seed: int = 0, **options: Any) -> Begun:
    """Load a tiny encoder and let a method prepare it.

    Raises:
        ConfigError: If the method cannot serve it.
    """
    seed_everything(seed)
    encoder = load_encoder(str(folder(family)), labels=LABELS, seed=seed, attention="eager")
    turn_off_dropout(encoder.model)
    data = Labelled(encode(encoder.tokenizer, TEXTS, max_length=MAX_LENGTH), CLASSES)
    foundation = logits_of(encoder.model, data)
    looked = []

    def batches() -> list[dict[str, Tensor]]:
        looked.append(True)
        return [whole_batch(data)]

    job = Job(seed, n_steps=SETTINGS.epochs, max_length=MAX_LENGTH, batches=batches)
    chosen = method.options(**options)
    model = method.prepare(encoder, chosen, job)
    return Begun(method, chosen, job, encoder, model, data, foundation, reads_data=bool(looked))


def whole_batch(data: Labelled) -> dict[str, Tensor]:
    return data.texts.collate(np.arange(len(data.labels)), CPU.device)


def logits_of(model: nn.Module, data: Labelled) -> Tensor:
    model.eval()
    with torch.no_grad():
        found: Tensor = model(**whole_batch(data)).logits
    return found


def refused(family: str, method: Method) -> str:
    """Why a method does not serve an encoder; nothing where it does."""
    return method.refusal(load_encoder(str(folder(family)), labels=LABELS, seed=0))


def once(function: Any) -> Any:
    """Call a function of a family and a method once for each pair."""
    results: dict[tuple[str, str], Any] = {}

    @functools.wraps(function)
    def call(family: str, method: Method) -> Any:
        if (key := (family, method.name)) not in results:
            results[key] = function(family, method)
        return results[key]

    return call


@once
def trained(family: str, method: Method) -> Trained:
    """A method's training, at the first of the rates by which the loss falls; tests do not change the model."""
    for factor in RATE_FACTORS:
        found = _train(family, method, factor)
        if found.losses[-1] < found.losses[0]:
            break
    return found


def _train(family: str, method: Method, rate_factor: float) -> Trained:
    begun = begin(family, method)
    start, before = begun.logits(), begun.state()
    training = begun.training(rate_factor)
    gradients: set[str] = set()
    for name, parameter in begun.model.named_parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(
                lambda p, name=name: gradients.add(name) if p.grad.any() else None
            )
    losses = [event.train_loss for event in training.events() if isinstance(event, EpochInfo)]
    fields = {field.name: getattr(begun, field.name) for field in dataclasses.fields(Begun)}
    return Trained(**fields, start=start, before=before, losses=losses, gradients=gradients)


def finished(found: Begun) -> Begun:
    """A copy in the form that is shipped."""
    inner, model = copy.deepcopy((found.encoder.model, found.model))
    if found.method.finish is not None:
        found.method.finish(model)
    return dataclasses.replace(found, model=model, encoder=dataclasses.replace(found.encoder, model=inner))


def save(place: Path, model: nn.Module, encoder: LoadedEncoder, method: Method) -> Path:
    """Write a bundle, which is loaded and compared once by that."""
    description = Description(method=method.name, max_length=MAX_LENGTH, text_columns=["text"])
    save_bundle(place, model, encoder, description)
    return place


@once
def shipped(family: str, method: Method) -> tuple[Path, Tensor]:
    """The bundle of a trained model, and the logits of what was saved."""
    home = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, home)
    found = finished(trained(family, method))
    return save(home / "bundle", found.model, found.encoder, method), found.logits()

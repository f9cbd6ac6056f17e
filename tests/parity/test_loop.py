"""The training loop against a plain one: transformers' and peft's own objects, one padded batch a step, no tricks."""

import numpy as np
import pytest
import torch

from feathertune.config import TrainConfig
from feathertune.data.tokens.batching import plan_steps
from feathertune.data.tokens.encode import encode
from feathertune.encoders import load_encoder
from feathertune.engine.training import loop
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.loop import Recipe, Training
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime, seed_everything
from tiny import FAMILIES, save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
TEXTS = ["a great film", "the plot is bad, very bad", "it was great fun", "bad " * 12, "great", "very bad"] * 3
LABELS = np.array([1, 0, 1, 0, 1, 0] * 3, dtype=np.int64)
SETTINGS = TrainConfig(epochs=2, batch_size=5, token_budget=24, warmup_ratio=0.2, max_grad_norm=0.1)
RATE = 3e-3
# The loop knows no methods, so one of each form will do, without what a plain loop does not have.
PLAIN = [m for m in METHODS if not (m.hook or m.changes_input or m.rates(m.options()))]
CHOSEN = list({(m.kind, m.size is None): m for m in reversed(PLAIN)}.values())


def prepared(folder, method):
    """The same model twice over; dropout off, since the two loops would draw its masks in another order."""
    seed_everything(0)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    model = method.prepare(encoder, method.options(), Job(0))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout_prob"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return encoder, model


def plain_loop(encoder, model, rows_of_steps):
    """What a tutorial writes: pad to the longest text of all, let the model make the loss, clip, step, schedule."""
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices, rest = [p for p in trained if p.ndim >= 2], [p for p in trained if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": SETTINGS.weight_decay}, {"params": rest, "weight_decay": 0.0}], lr=RATE
    )
    n_steps = len(rows_of_steps)
    n_warmup = round(SETTINGS.warmup_ratio * n_steps)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: (i + 1) / n_warmup if i + 1 <= n_warmup else (n_steps - i) / (n_steps - n_warmup),
    )
    model.train()
    gradients = {}
    for number, rows in enumerate(rows_of_steps):
        batch = encoder.tokenizer(
            [TEXTS[i] for i in rows], truncation=True, max_length=16, padding="max_length", return_tensors="pt"
        )
        batch.pop("token_type_ids", None)
        loss = model(**batch, labels=torch.from_numpy(LABELS[rows])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, SETTINGS.max_grad_norm)
        if number == 0:
            gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return gradients


@pytest.mark.parametrize("method", CHOSEN, ids=lambda method: method.name)
@pytest.mark.parametrize("family", FAMILIES)
def test_same_gradients_and_same_parameters_as_a_plain_loop(family, method, tmp_path, monkeypatch):
    folder = save_tiny_encoder(tmp_path / "base", family)
    encoder, model = prepared(folder, method)
    data = Labelled(encode(encoder.tokenizer, TEXTS, max_length=16), LABELS)
    run = Training(model, data, data, Recipe(SETTINGS, learning_rate=RATE, seed=0), runtime=CPU)
    first_gradients = {}
    real = loop.clip_gradients

    def clip_and_keep(parameters, *args, **kwargs):
        norm = real(parameters, *args, **kwargs)
        if not first_gradients:
            found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            first_gradients.update(found)
        return norm

    monkeypatch.setattr(loop, "clip_gradients", clip_and_keep)
    list(run.events())
    monkeypatch.undo()

    steps = [
        np.concatenate(passes)
        for epoch in (1, 2)
        for passes in plan_steps(data.texts.lengths, batch_size=5, token_budget=24, seed=(0, epoch))
    ]
    reference_encoder, reference = prepared(folder, method)
    before = {n: p.detach().clone() for n, p in reference.named_parameters()}
    gradients = plain_loop(reference_encoder, reference, steps)

    assert first_gradients.keys() == gradients.keys()
    for name, expected in gradients.items():
        torch.testing.assert_close(first_gradients[name], expected, rtol=1e-4, atol=1e-6, msg=name)
    found = dict(model.named_parameters())
    moved = 0.0
    for name, expected in reference.named_parameters():
        # Adam divides by the gradient's own size: where that is rounding only, as of a key's bias, so is the step.
        noise = name in gradients and gradients[name].abs().max() < 1e-6
        if not noise:
            torch.testing.assert_close(found[name], expected, rtol=1e-3, atol=2e-4, msg=name)
        moved = max(moved, (expected - before[name]).abs().max().item())
    assert moved > 3 * RATE, "the comparison says something only if the parameters moved far beyond the tolerance"

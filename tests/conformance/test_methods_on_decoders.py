"""Every method on decoders and encoder-decoders: it works as on encoders, or says before training why it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from families import save_family
from feathertune.bundle import Description, load_bundle, merged_model, save_bundle
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.encoders.trial import trial_batches
from feathertune.errors import ConfigError
from feathertune.methods import METHODS, Job, Method
from trained import one_thread

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
# With no biases and grouped heads, with transposed weights, and two encoder-decoders.
FAMILIES = ("llama", "gpt2", "t5", "bart")
EXACT = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: save_family(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture
def encoder(folders: dict[str, Path], family: str) -> LoadedEncoder:
    return load_encoder(str(folders[family]), labels=("no", "yes"), seed=0, attention="eager")


def _able(method: Method, family: str, encoder: LoadedEncoder) -> bool:
    """By the method's traits and the model's parameters."""
    has_biases = any(name.endswith("bias") for name, _ in encoder.blocks.named_parameters())
    needs_biases = "biases" in method.summary
    return not method.changes_input and (method.conv1d or family != "gpt2") and (has_biases or not needs_biases)


def _prepared(method: Method, encoder: LoadedEncoder) -> nn.Module:
    """The model that a method prepares, whatever it says, away from where it begins."""
    small = {"n_frequency": 200} if "n_frequency" in method.options.model_fields else {}
    batches = trial_batches(encoder)[1:]
    torch.manual_seed(0)
    model = method.build(encoder, method.options(**small), Job(0, n_steps=10, max_length=16, batches=lambda: batches))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def _logits(model: nn.Module, encoder: LoadedEncoder) -> tuple[Tensor, Tensor]:
    """Of a text alone, and of it in a batch with padding."""
    alone, together = (model(**batch).logits for batch in trial_batches(encoder))
    return alone[0], together[1]


@pytest.mark.parametrize("family", FAMILIES)
def test_refuses_what_it_cannot_serve(encoder, family):
    for method in METHODS:
        assert bool(method.refusal(encoder)) != _able(method, family, encoder), method.name
        if method.refusal(encoder):
            with pytest.raises(ConfigError, match=f"'{method.name}' does not support"):
                method.prepare(encoder, method.options(), Job(0))


def _pairs() -> Any:
    """All pairs, most of them only where slow tests run: each fifth method on another family."""
    pairs = [(place, n, family, method) for n, method in enumerate(METHODS) for place, family in enumerate(FAMILIES)]
    return [
        pytest.param(
            family,
            method,
            id=f"{family}-{method.name}",
            marks=[] if n % 5 == 0 and n // 5 % 4 == place else [pytest.mark.slow],
        )
        for place, n, family, method in pairs
    ]


@pytest.mark.parametrize(("family", "method"), _pairs())
def test_works_or_could_not(encoder, family, method, tmp_path):
    if not _able(method, family, encoder):
        _could_not(method, encoder)
        return
    model = _prepared(method, encoder)
    alone, together = _logits(model, encoder)
    torch.testing.assert_close(alone, together, **EXACT)
    together.square().sum().backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert method.kind == "full" or not [name for name, p in trained.items() if p.grad is None or not p.grad.any()]
    if method.finish is not None:
        method.finish(model)
        torch.testing.assert_close(_logits(model, encoder)[0], alone, rtol=1e-4, atol=1e-4)
    save_bundle(
        tmp_path / "bundle", model, encoder, Description(method=method.name, max_length=16, text_columns=["text"])
    )
    bundle = load_bundle(tmp_path / "bundle", attention="eager")
    torch.testing.assert_close(_logits(bundle.model, encoder)[0], alone, rtol=1e-4, atol=1e-4)
    if method.mergeable:
        torch.testing.assert_close(_logits(merged_model(bundle), encoder)[0], alone, rtol=1e-4, atol=1e-4)


def _could_not(method: Method, encoder: LoadedEncoder) -> None:
    """The refusal is needed: the day it is not, this fails."""
    try:
        alone, together = _logits(_prepared(method, encoder), encoder)
    except (ConfigError, RuntimeError, TypeError, ValueError):
        return
    trained = [name for name, parameter in encoder.model.named_parameters() if parameter.requires_grad]
    heads = tuple(f"{name}." for name in encoder.head_modules)
    assert (alone - together).abs().max() > 1e-3 or all(name.startswith(heads) for name in trained)

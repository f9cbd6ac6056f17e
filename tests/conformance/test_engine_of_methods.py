"""Whatever a method has made of an encoder, the engine gives its answers and its gradients."""

import copy

import numpy as np
import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.prefix_cache.activations import CachedTexts
from feathertune.engine.prefix_cache.split_point import find_split_point
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.errors import ConfigError
from trained import LABELS, begin, one_thread, pairs, refused, trained, whole_batch
from whole import CONFIGS, CPU, LENGTHS, Prepared, answers, answers_to, assert_equal_answers, batch, folder, mode

OF_LARGEST = 2e-5  # twice what the engine's own layers are held to in `tests/parity`
WEIGHTS_OFF = 1e-6  # of each weight, some sixteen times the rounding of fp32
pytestmark = pytest.mark.usefixtures(one_thread.__name__)


def bounds_of(model, inputs, expected):
    """How far the engine may be off: as far as a model whose weights are off by a millionth.

    A share of the largest number alone would be too wide for most methods and too narrow for some: the gradient of a
    coefficient of a wavelet is a sum over a whole weight of rounded terms, which nearly cancel.
    """
    moved = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1 + WEIGHTS_OFF * torch.randn(parameter.shape, generator=generator))
    elsewhere = answers_to(moved, inputs)
    # What is zero but for rounding, such as a key's bias, has the size of its neighbours' rounding.
    floor = 1e-2 * max(tensor.abs().max().item() for tensor in expected.values())
    return {
        name: max((elsewhere[name] - tensor).abs().max().item(), OF_LARGEST * max(floor, tensor.abs().max().item()))
        for name, tensor in expected.items()
    }


def assert_within(found, expected, bounds):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=0, atol=bounds[name], msg=lambda text, name=name: f"{name}: {text}"
        )


@pairs()
def test_fast_parts_change_nothing(family, method):
    """In a model that was trained: where adapters begin, they often do nothing."""
    if why := refused(family, method):
        pytest.skip(f"refused, which test_methods looks at: {why}")
    case = trained(family, method)
    found = Prepared(case.encoder, case.model)
    # Elsewhere there is but one form of the last layer.
    names = ("auto", "last-layer-keys") if case.encoder.forms and case.encoder.forms[-1].has_plain_heads else ("auto",)
    with mode(case.model, training=True):
        expected = answers(found, LENGTHS["short-padded"])
        bounds = bounds_of(case.model, batch(case.encoder, LENGTHS["short-padded"]), expected)
        assert sum(bool(tensor.any()) for tensor in expected.values()) > 1
        for name in names:
            with fast_parts(case.encoder, CONFIGS[name], CPU):
                assert_within(answers(found, LENGTHS["short-padded"]), expected, bounds)
        assert_equal_answers(answers(found, LENGTHS["short-padded"]), expected, of_largest=0)


@pairs()
def test_starts_where_training_begins(family, method):
    """With as few layers as a method can be told, what is before them is computed once; or it is said why not."""
    if why := refused(family, method):
        pytest.skip(f"refused, which test_methods looks at: {why}")
    encoder = load_encoder(str(folder(family)), labels=LABELS, seed=0)
    can_be_told = "top_layers" in method.options.model_fields
    if can_be_told and encoder.spec.shared_blocks:
        with pytest.raises(ConfigError, match="share their weights"):
            begin(family, method, top_layers=1)
        return
    begun = begin(family, method, **({"top_layers": 1} if can_be_told else {}))
    disturb(begun.model)
    split_point, why = find_split_point(begun.encoder, begun.model)
    if can_be_told:
        assert (split_point, why) == (len(begun.encoder.blocks) - 1, "")
    texts, batch_of_all = begun.data.texts, whole_batch(begun.data)
    expected = answers_to(begun.model, batch_of_all)
    bounds = bounds_of(begun.model, batch_of_all, expected)
    cache = ActivationCache(EngineConfig(), CPU, token_budget=512, base_fingerprint=begun.encoder.fingerprint)
    with (
        fast_parts(begun.encoder, EngineConfig(), CPU),
        cache.inputs(begun.encoder, begun.model, {"train": texts}) as inputs,
    ):
        kept = inputs.texts["train"]
        assert isinstance(kept, CachedTexts) == (split_point > 0), inputs.notes
        assert (inputs.notes == []) == (split_point > 0)
        if isinstance(kept, CachedTexts):
            started = answers_to(begun.model, kept.collate(np.arange(len(kept)), CPU.device))
            assert_within(started, expected, bounds)
        assert_within(answers_to(begun.model, batch_of_all), expected, bounds)


def disturb(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))

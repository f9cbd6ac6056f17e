"""What a method has trained comes back, with feathertune and without it."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from feathertune.bundle import load_bundle
from feathertune.bundle.files import WEIGHTS
from feathertune.encoders import quiet_transformers
from feathertune.engine.training.state import set_parameters
from trained import LABELS, begin, finished, logits_of, one_thread, pairs, refused, save, shipped, trained
from whole import folder

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
EXACT = {"rtol": 0, "atol": 1e-5}


@pytest.fixture
def case(family, method):
    """A pair that has been trained."""
    if why := refused(family, method):
        pytest.skip(f"refused, which test_methods looks at: {why}")
    return trained(family, method)


def plain_model(family, bundle):
    """What a stranger loads, with transformers and PEFT alone: by the file of weights that is in the folder."""
    torch.manual_seed(1234)
    (weights,) = bundle.glob("*.safetensors")
    whole = bundle if weights.name == WEIGHTS["full"] else folder(family)
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(
            whole, num_labels=len(LABELS), attn_implementation="eager"
        )
        if weights.name == WEIGHTS["peft"]:
            return PeftModel.from_pretrained(model, bundle)
    if weights.name != WEIGHTS["full"]:
        found = model.load_state_dict(load_file(weights), strict=False)
        assert not found.unexpected_keys
    return model


@pairs()
def test_the_form_that_is_shipped_gives_the_same_answers(case):
    torch.testing.assert_close(finished(case).logits(), case.logits(), rtol=0, atol=1e-4)


@pairs()
def test_loads_again(family, case):
    """The base has another seed there, so whatever is not in the bundle is another."""
    place, expected = shipped(family, case.method)
    bundle = load_bundle(place, attention="eager")
    torch.testing.assert_close(logits_of(bundle.model, case.data), expected, **EXACT)
    assert (expected - case.start).abs().max() > 1e-2, "else there would be nothing to lose"
    assert bundle.info.method == case.method.name


@pairs()
def test_loads_without_feathertune(family, case):
    place, expected = shipped(family, case.method)
    torch.testing.assert_close(logits_of(plain_model(family, place), case.data), expected, **EXACT)


@pairs(others=False)
def test_is_saved_and_loaded_twice(family, case, tmp_path):
    place, expected = shipped(family, case.method)
    first = load_bundle(place, attention="eager")
    second = load_bundle(save(tmp_path / "again", first.model, first.base, case.method), attention="eager")
    torch.testing.assert_close(logits_of(second.model, case.data), expected, **EXACT)
    files = [{path.name for path in where.iterdir()} for where in (place, tmp_path / "again")]
    assert files[0] == files[1]
    (one,), (other,) = (where.glob("*.safetensors") for where in (place, tmp_path / "again"))
    once, twice = load_file(one), load_file(other)
    assert once.keys() == twice.keys()
    assert all(torch.equal(tensor, twice[name]) for name, tensor in once.items())
    if (config := place / "adapter_config.json").is_file():
        assert json.loads(config.read_text()) == json.loads((tmp_path / "again" / config.name).read_text())


@pairs(others=False)
def test_an_earlier_epoch_can_be_shipped(family, case, tmp_path):
    """The best epoch need not be the last; what a method knows by then may be of the last."""
    begun = begin(family, case.method)
    training = begun.training()
    events = training.events()
    next(events), next(events)
    parameters = {name: p.detach().clone() for name, p in begun.model.named_parameters() if p.requires_grad}
    expected = begun.logits()
    list(events)
    assert not torch.equal(begun.logits(), expected)
    set_parameters(begun.model, parameters)
    if case.method.finish is not None:
        case.method.finish(begun.model)
    bundle = load_bundle(save(tmp_path / "bundle", begun.model, begun.encoder, case.method), attention="eager")
    torch.testing.assert_close(logits_of(bundle.model, case.data), expected, rtol=0, atol=1e-4)

"""What any method has learned can be put into the weights of any family, and the answers stay.

Parametrised from the registries alone.
"""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from feathertune.bundle import load_bundle, merged_model
from feathertune.encoders import load_encoder, quiet_transformers
from feathertune.errors import BundleError
from feathertune.export import export_model
from feathertune.methods import METHODS
from trained import ALL, LABELS, logits_of, one_thread, pairs, refused, shipped, trained
from whole import folder

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
# Shares of the largest logit. x W + (x A) B becomes x (W + A B), so each sum is rounded in another order. In fp64 that
# is 1e-14; C3A alone computes its Fourier transform in fp32 whatever it is given, and is off by 3e-7 at most. A method
# that was merged wrongly, or in part, is off by hundredths.
IN_FP64 = 1e-6
IN_FP32 = 1e-5


def assert_same(found, expected, *, of_largest):
    torch.testing.assert_close(found, expected, rtol=0, atol=of_largest * max(1.0, expected.abs().max().item()))


@pairs()
def test_merging_keeps_the_answers(family, method):
    if why := refused(family, method):
        pytest.skip(f"refused, which test_methods looks at: {why}")
    place, _ = shipped(family, method)
    bundle = load_bundle(place)
    if not method.mergeable:
        with pytest.raises(BundleError, match=f"Cannot merge .*the method '{method.name}' .*Ship the bundle unmerged"):
            merged_model(bundle)
        return
    bundle.model.double()
    data = trained(family, method).data
    expected = logits_of(bundle.model, data)
    merged = merged_model(bundle)
    assert isinstance(merged, PreTrainedModel)
    assert not [name for name, module in merged.named_modules() if type(module).__module__.startswith("peft")]
    assert not any(module.training for module in merged.modules())
    plain = load_encoder(str(folder(family)), labels=LABELS, seed=0).model.state_dict()
    found = merged.state_dict()
    assert {name: tensor.shape for name, tensor in found.items()} == {name: t.shape for name, t in plain.items()}
    assert_same(logits_of(merged, data), expected, of_largest=IN_FP64)


@pytest.mark.parametrize("family", ALL)
def test_the_folder_is_plain_transformers(family, tmp_path, monkeypatch):
    """Of every family, with another method each, so that all kinds of bundles are among them."""
    monkeypatch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 16)
    able = [method for method in METHODS if method.mergeable and not refused(family, method)]
    method = able[ALL.index(family) * 4 % len(able)]
    place, expected = shipped(family, method)
    parity = export_model(place, tmp_path / "merged")
    assert parity.max_abs_difference <= IN_FP32 * max(1.0, parity.largest_logit)
    for text in (path.read_text(encoding="utf-8") for path in (tmp_path / "merged").glob("*.json")):
        assert str(folder(family)) not in text, "it needs nothing of the machine that made it"
    with quiet_transformers():
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert tuple(plain.config.id2label.values()) == LABELS
    assert_same(logits_of(plain, trained(family, method).data), expected, of_largest=IN_FP32)

"""Round trips of every family: bundle, plain PEFT, merged, ONNX, and each time the same logits.

One family a method by default; all of them are slow.
"""

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from conformance.test_bundles_of_methods import plain_model
from conformance.test_merge import assert_same
from feathertune.bundle import load_bundle
from feathertune.encoders import quiet_transformers
from feathertune.export import export_model
from feathertune.methods import METHODS
from trained import ALL, LABELS, TEXTS, logits_of, one_thread, refused, shipped, trained

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
from feathertune.export.onnx_folder import OnnxFolder

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
OF_LARGEST = 1e-5
# A method each of: updates of weights, scales of activations, single weights, all weights.
ROUND_TRIPS = ("lora", "ia3", "shira", "full")


def _pairs():
    params = []
    for number, method in enumerate(ROUND_TRIPS):
        for family in ALL:
            # The two that differ most: an update of an encoder that other tests export, and all weights of a new one.
            is_quick = family == ALL[3 + 2 * number] and method in ("lora", "full")
            marks = [] if is_quick else [pytest.mark.slow]
            params.append(pytest.param(family, METHODS[method], id=f"{family}-{method}", marks=marks))
    return pytest.mark.parametrize(("family", "method"), params)


@_pairs()
def test_every_form_gives_the_logits_that_were_trained(family, method, tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 16)
    if why := refused(family, method):
        pytest.skip(f"refused, which test_methods looks at: {why}")
    place, expected = shipped(family, method)
    data = trained(family, method).data
    assert_same(logits_of(load_bundle(place).model, data), expected, of_largest=OF_LARGEST)
    assert_same(logits_of(plain_model(family, place), data), expected, of_largest=OF_LARGEST)

    export_model(place, tmp_path / "merged")
    with quiet_transformers():
        merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert_same(logits_of(merged, data), expected, of_largest=OF_LARGEST)

    parity = export_model(place, tmp_path / "onnx", to="onnx")
    assert parity.max_abs_difference <= OF_LARGEST * max(1.0, parity.largest_logit)
    graph = OnnxFolder(tmp_path / "onnx")
    assert tuple(graph.facts.labels) == LABELS
    tokens = graph.encode(TEXTS)
    np.testing.assert_array_equal(tokens.ids, data.texts.ids)
    for found in (graph.logits(tokens), graph.logits_alone(tokens)):
        assert_same(torch.from_numpy(found), expected, of_largest=OF_LARGEST)

"""The encoder's own dropout: on where the encoder is trained, off where it is frozen, or as the settings say."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from feathertune.encoders import load_encoder
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime
from feathertune.study.running.prepare import prepared_model
from tiny import save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("base") / "encoder", "bert", classifier_dropout=0.3)


@pytest.mark.parametrize(
    ("method", "setting", "is_on"),
    [("lora", "auto", False), ("full", "auto", True), ("lora", "on", True), ("full", "off", False)],
)
def test_the_encoders_dropout(folder, method, setting, is_on):
    def load(seed, *, in_fp32):
        assert in_fp32 == (method == "full")
        return load_encoder(str(folder), labels=("no", "yes"), seed=seed, attention="eager")

    bench = SimpleNamespace(runtime=CPU, pretrained=SimpleNamespace(load=load))
    encoder, _ = prepared_model(METHODS[method], METHODS[method].options(), Job(0), bench, dropout=setting)
    rates = {module.p for module in encoder.backbone.modules() if isinstance(module, nn.Dropout)}
    assert rates == ({0.1} if is_on else {0.0})
    head = [m.p for n, m in encoder.model.named_modules() if isinstance(m, nn.Dropout) and not n.startswith("bert.")]
    assert head == [0.3], "the head keeps its own"

"""`--top-layers`: the frozen blocks below are computed once, and the bundle says where training began."""

import json

import pytest

from e2e.cli import SMALL, feathertune, in_process
from tiny import save_tiny_encoder


@pytest.fixture(scope="module")
def three_layers(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("base") / "encoder", "bert", num_hidden_layers=3)


def test_few_layers_or_as_many_as_it_takes(three_layers, data, tmp_path, monkeypatch, capsys):
    def trained(top_layers):
        out = tmp_path / top_layers
        command = ("train", data, "--base", three_layers, *SMALL, "--out", out, "--top-layers", top_layers, "--json")
        result = in_process(monkeypatch, capsys, *command)
        assert result.code == 0, result.stderr
        config = json.loads((out / "adapter_config.json").read_text())
        return json.loads((out / "feathertune.json").read_text())["hyperparameters"], config["target_modules"]

    found, targets = trained("1")
    assert (found["top_layers"], found["frontier"]) == (1, 2)
    assert "depths_tried" not in found
    assert targets
    assert all(".layer.2." in target for target in targets)

    found, targets = trained("auto")
    tried = {int(depth): accuracy for depth, accuracy in found["depths_tried"].items()}
    assert list(tried) == [1, 2, 3]
    depth = found["top_layers"]
    assert depth == min(k for k, accuracy in tried.items() if accuracy >= max(tried.values()) - 0.01 - 1e-9)
    assert found["frontier"] == 3 - depth
    assert {int(target.partition(".layer.")[2][0]) for target in targets} == set(range(3 - depth, 3))

    shipped = feathertune("predict", tmp_path / "1", "--text", "a great film")
    assert shipped.code == 0, shipped.stderr


@pytest.mark.parametrize("wrong", ["0", "4", "some", "1.5"])
def test_what_is_no_number_of_layers_is_refused(wrong, three_layers, data, tmp_path, monkeypatch, capsys):
    command = ("train", data, "--base", three_layers, *SMALL, "--out", tmp_path / "out", "--top-layers", wrong)
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 2
    assert "Traceback" not in result.stderr
    assert "top_layers" in result.stderr or "--top-layers" in result.stderr

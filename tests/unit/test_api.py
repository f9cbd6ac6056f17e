import subprocess
import sys

import pytest

import feathertune
from e2e.cli import reviews, write_csv
from feathertune.errors import UnknownNameError
from tiny import save_tiny_encoder


@pytest.fixture
def config(tmp_path):
    return feathertune.load_config(
        options={
            "data.source": str(write_csv(tmp_path / "reviews.csv", reviews(60))),
            "data.max_length": 16,
            "base.id": str(save_tiny_encoder(tmp_path / "base", "bert")),
            "train.epochs": 1,
            "engine.dtype": "fp32",
        }
    )


def test_compare_and_evaluate_base(config, tmp_path):
    study = feathertune.compare(config, tmp_path / "study")
    assert study.status == "complete"
    base = feathertune.evaluate_base(config, tmp_path / "base-study")
    assert {run.method for run in base.runs} == {"majority", "tfidf", "foundation", "probe"}
    shared = [run for run in study.runs if run.kind in ("baseline", "probe")]
    assert [run.test for run in base.runs] == [run.test for run in shared]


def test_finetune_and_load(config, tmp_path):
    scores = feathertune.finetune(config, tmp_path / "bundle")
    assert scores["test"].n == 12
    predictor = feathertune.load(tmp_path / "bundle")
    assert predictor.probabilities(["great"]).shape == (1, 2)
    with pytest.raises(UnknownNameError, match="Did you mean 'lora'"):
        feathertune.finetune(config, tmp_path / "other", method="lorra")
    assert not (tmp_path / "other").exists()


def test_public_names_exist_and_importing_loads_no_torch():
    for name in feathertune.__all__:
        assert getattr(feathertune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        feathertune.nothing  # noqa: B018
    code = "import sys, feathertune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

import itertools
import subprocess
import sys

import numpy as np
import pytest

import feathertune
from e2e.cli import reviews, write_csv
from feathertune.config import BaseConfig
from feathertune.errors import BundleError, ConfigError, EncoderError, UnknownNameError
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
    assert study.folder == tmp_path / "study"
    assert set(study.predictions()) == {"row", "text", "label", *(run.id for run in study.runs)}
    base = feathertune.evaluate_base(config, tmp_path / "base-study")
    assert {run.method for run in base.runs} == {"majority", "tfidf", "foundation", "probe", "stack"}
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


def test_a_refused_training_leaves_no_folder(config, tmp_path):
    wrong = config.model_copy(update={"base": (BaseConfig(id=str(tmp_path / "nowhere")),)})
    with pytest.raises(EncoderError):
        feathertune.finetune(wrong, tmp_path / "new" / "bundle")
    assert not (tmp_path / "new").exists()


def test_an_older_bundle_stays_until_the_new_one_is_proven(config, tmp_path, monkeypatch):
    out = tmp_path / "bundle"
    feathertune.finetune(config, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def kept() -> bool:
        return {path.name: path.read_bytes() for path in out.iterdir()} == before

    with pytest.raises(ConfigError, match="--overwrite"):
        feathertune.finetune(config, out, seed=1)
    with monkeypatch.context() as broken:
        calls = itertools.count()
        broken.setattr("feathertune.bundle.save.logits_of", lambda *_: np.full((4, 2), float(next(calls))))
        with pytest.raises(BundleError, match="logits differ"):
            feathertune.finetune(config, out, seed=1, overwrite=True)
    assert kept(), "what was trained over it was not good"
    # That training left a checkpoint, so it may go on, and then take the place.
    feathertune.finetune(config, out, seed=1, resume=True)
    assert not kept()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "bundle", "reviews.csv"]


def test_a_training_without_test_rows_says_so_and_a_study_refuses_it(config, tmp_path):
    config = config.model_copy(update={"data": config.data.model_copy(update={"test_size": 0})})
    scores = feathertune.finetune(config, tmp_path / "bundle")
    assert scores.keys() == {"validation"}
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "There was no test set." in card
    assert "`reviews.csv`" in card
    assert str(tmp_path) not in card
    with pytest.raises(ConfigError, match="a study needs test rows"):
        feathertune.compare(config, tmp_path / "study")

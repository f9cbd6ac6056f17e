"""What an export of a bundle of numbers has to keep: the numbers, or of a form that rounds their order."""

from __future__ import annotations

import numpy as np
import pytest

from feathertune.bundle import Description, load_bundle, merged_model, save_bundle
from feathertune.bundle.load import read_bundle
from feathertune.encoders import load_encoder
from feathertune.engine.training.regression_head import put_into_unit
from feathertune.errors import BundleError
from feathertune.export import Check, NumberParity, Parity, export_model
from feathertune.export.parity import ask, compare, fp32_logits, require
from feathertune.methods import METHODS, Job
from feathertune.records import LabelSummary
from feathertune.tasks.losses import Objective
from tiny import save_tiny_encoder

YEARS = LabelSummary(mean=1987.3, sd=8.2, low=1960.0, q25=1982.0, median=1988.0, q75=1993.5, high=2003.0)


def save(folder):
    """A bundle of a family with a head of two layers, whose numbers are years."""
    save_tiny_encoder(folder / "base", "roberta")
    encoder = load_encoder(str(folder / "base"), labels=("year",), seed=0, task="regression")
    method = METHODS["lora"]
    model = method.prepare(encoder, method.options(), Job(0))
    put_into_unit(encoder, Objective(standard=(YEARS.mean, YEARS.sd)))
    save_bundle(
        folder / "bundle",
        model,
        encoder,
        Description(method="lora", max_length=16, text_columns=["text"], task="regression", numbers=YEARS),
    )
    return folder / "bundle"


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 12)
    return save(tmp_path)


def test_the_numbers_are_kept_to_a_thousandth(bundle, tmp_path):
    parity = export_model(bundle, tmp_path / "merged")
    assert isinstance(parity, NumberParity)
    assert parity.max_abs_difference <= parity.tolerance < 0.1
    assert parity.rank_agreement > 0.999
    assert (parity.label_flips, parity.accuracy_before, parity.rank_correlation_before) == (0, None, None)
    assert "the numbers differ from the bundle's by at most" in (tmp_path / "merged" / "README.md").read_text()


def test_a_merge_that_loses_a_tenth_of_a_year_is_not_kept(bundle, tmp_path, monkeypatch):
    def lossy(loaded):
        model = merged_model(loaded)
        model.classifier.out_proj.bias.data += 0.1
        return model

    monkeypatch.setattr("feathertune.export.merged.merged_model", lossy)
    with pytest.raises(BundleError, match=r"gives different numbers \(they differ from the bundle's by 0\.1"):
        export_model(bundle, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_form_that_rounds_keeps_the_order(bundle):
    loaded = load_bundle(bundle)
    asked = ask(loaded, Check())
    expected = fp32_logits(loaded.model, asked.tokens)
    near = compare(expected, expected + 0.3, asked, loaded, to="onnx-int8", rounds=True)
    assert (near.rank_agreement, near.tolerance, near.least_agreement) == (pytest.approx(1), None, 0.98)
    require(near, loaded, "The graph")
    shuffled = np.random.default_rng(0).permutation(expected)
    with pytest.raises(BundleError, match=r"orders the 16 texts of None differently .* --max-flips"):
        require(compare(expected, shuffled, asked, loaded, to="onnx-int8", rounds=True), loaded, "The graph")
    with pytest.raises(BundleError, match="not numbers"):
        require(compare(expected, expected * np.nan, asked, loaded, to="onnx-int8", rounds=True), loaded, "The graph")
    worse = near.model_copy(
        update={"rank_correlation_before": 0.8, "rank_correlation_after": 0.79, "max_accuracy_loss": 0.005}
    )
    with pytest.raises(BundleError, match=r"rank correlation of 0\.790 .* --max-accuracy-loss"):
        require(worse, loaded, "The graph")


def test_a_parity_of_classes_is_what_it_was():
    assert not {"rank_agreement", "least_agreement"} & set(Parity.model_fields)


def test_a_bundle_that_answers_otherwise_is_not_written(tmp_path, monkeypatch):
    def other(folder, **options):
        found = read_bundle(folder, **options)
        put_into_unit(found.base, Objective(standard=(0.01, 1.0)))
        return found

    monkeypatch.setattr("feathertune.bundle.save.read_bundle", other)
    with pytest.raises(BundleError, match=r"logits differ from the trained model's by 0\.0"):
        save(tmp_path)

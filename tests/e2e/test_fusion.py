"""`METHOD+tfidf` through every verb: a study's scores are those of the bundle, in each kind of label."""

import csv
import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from e2e.cli import SMALL, feathertune, in_process, python, reviews, tickets, write_csv
from e2e.ratings import write_ratings
from e2e.server import serving
from feathertune.baselines.word_model import WEIGHTS_FILE, WORDS_FILE
from feathertune.bundle import load_bundle
from feathertune.bundle.plain_use import plain_model
from feathertune.bundle.proof import logits_of
from feathertune.config import EngineConfig
from feathertune.encoders.files import find_encoder
from feathertune.errors import BundleError, ConfigError
from feathertune.methods import method_named, one_method
from feathertune.predictor import load as load_predictor
from feathertune.records import load_study
from feathertune.storage import sha256_of

SETTINGS = [*SMALL, "--set", "engine.device=cpu"]


def load(folder):
    return load_predictor(folder, engine=EngineConfig(dtype="fp32", device="cpu"))


def write_tickets(path):
    return write_csv(path, [(text, "|".join(tags)) for text, tags in tickets(160)])


KINDS = {
    "classes": (lambda path: write_csv(path, reviews(160)), []),
    "sets": (write_tickets, ["--label-separator", "|"]),
    "numbers": (lambda path: write_ratings(path, 160), ["--label-column", "rating", "--set", "data.task=regression"]),
}


@pytest.fixture(scope="module")
def studies(encoder, tmp_path_factory):
    """A study of each kind of label, made once."""
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("fusion")
            write, options = KINDS[kind]
            data = write(folder / "data.csv")
            given = ["--base", encoder, "--methods", "tfidf,lora,lora:r=2+tfidf", *options, *SETTINGS, "--seeds", "1"]
            result = feathertune("compare", data, *given, "--out", folder / "study")
            assert result.code == 0, result.stderr
            made[kind] = folder / "study"
        return made[kind]

    return make


@pytest.fixture
def bundle(studies):
    return studies("classes") / "runs" / "lora-r=2-tfidf-s0" / "bundle"


@pytest.mark.parametrize("kind", KINDS)
def test_the_bundle_gives_the_studys_probabilities(studies, kind):
    folder = studies(kind)
    study = load_study(folder)
    run = next(run for run in study.runs if run.method == "lora:r=2+tfidf")
    assert (run.status, run.kind) == ("complete", "peft")
    alone = next(run for run in study.runs if run.method == "lora")
    predictor = load(folder / run.bundle)
    n_words = predictor.bundle.fused.words.n_parameters
    assert run.trainable_parameters == pytest.approx(alone.trainable_parameters / 4 + n_words, rel=0.1), (
        "r=2, and words"
    )
    weights = run.hyperparameters["fusion"]
    assert weights["model"] >= 0
    assert weights["words"] > 0
    assert predictor.bundle.info.method == "lora+tfidf"
    texts = pq.read_table(folder / "test.parquet")["text"].to_pylist()
    table = pq.read_table(folder / run.predictions)
    expected = np.array(table["predicted" if kind == "numbers" else "probabilities"].to_pylist())
    unit = predictor.bundle.info.logit_unit
    np.testing.assert_allclose(predictor.predict_proba(texts).reshape(expected.shape), expected, atol=1e-4 * unit)
    plain = load(folder / alone.bundle).predict_proba(texts)
    assert np.abs(plain.reshape(expected.shape) - expected).max() > 1e-2 * unit, "the words count"


def test_evaluate_and_predict_fuse(bundle, studies, tmp_path, monkeypatch, capsys):
    data = write_csv(tmp_path / "new.csv", reviews(40, seed=3))
    scores = json.loads(in_process(monkeypatch, capsys, "evaluate", bundle, data, "--json").stdout)
    assert scores["accuracy"] > 0.9, "a word decides"
    out = tmp_path / "out.csv"
    assert in_process(monkeypatch, capsys, "predict", bundle, "--input", data, "--output", out).code == 0
    with out.open(newline="") as file:
        labels = [row["label"] for row in csv.DictReader(file)]
    assert np.mean([a == b for a, (_, b) in zip(labels, reviews(40, seed=3), strict=True)]) == scores["accuracy"]


def test_the_server_gives_the_same_next_to_a_bundle_without_words(bundle, studies, tmp_path):
    alone = studies("classes") / "runs" / "lora-s0" / "bundle"
    texts = [text for text, _ in reviews(12, seed=5)]
    expected = {place: load(place).predict_proba(texts) for place in (bundle, alone)}
    with serving(f"fused={bundle}", f"alone={alone}", "--set", "engine.dtype=fp32") as server:
        for name, place in (("fused", bundle), ("alone", alone)):
            status, answer = server.predict(name, *texts)
            assert status == 200
            found = [[*row["probabilities"].values()] for row in answer["predictions"]]
            np.testing.assert_allclose(found, expected[place], atol=1e-4)


def test_the_cards_code_gives_the_words_part(bundle):
    card = (bundle / "README.md").read_text(encoding="utf-8")
    codes = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    result = python("-c", codes[1], cwd=bundle)
    assert result.code == 0, result.stderr
    loaded = load_bundle(bundle)
    found = [[float(number) for number in result.stdout.strip().strip("[]").split()]]
    np.testing.assert_allclose(found, loaded.fused.words.logits(["A text."]), atol=1e-5)
    assert f"{loaded.info.fusion.words:.6g}" in card


def damage(bundle, tmp_path, name, content):
    """Return a copy with another file, and a manifest that fits it."""
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_bytes(content)
    manifest = json.loads((copy / "manifest.json").read_text())
    if content is None:
        del manifest["files"][name]
    else:
        manifest["files"][name] = {"sha256": sha256_of(copy / name), "bytes": len(content)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    info = json.loads((copy / "feathertune.json").read_text())
    base = (bundle / info["base"]["local"]).resolve()
    return copy, str(base)


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[[]]", b"[[1]]", b"\xff", b"[" * 100_000])
def test_a_damaged_vocabulary_is_refused(bundle, tmp_path, content):
    copy, base = damage(bundle, tmp_path, WORDS_FILE, content)
    with pytest.raises(BundleError, match="word model"):
        load_bundle(copy, base=base)


def test_words_in_another_order_are_refused(bundle, tmp_path):
    words = json.loads((bundle / WORDS_FILE).read_text(encoding="utf-8"))
    copy, base = damage(bundle, tmp_path, WORDS_FILE, json.dumps([words[0][::-1]]).encode())
    with pytest.raises(BundleError, match="no longer gives the logits"):
        load_bundle(copy, base=base)


@pytest.mark.parametrize("content", [None, b"", b"x" * 100])
def test_damaged_weights_are_refused(bundle, tmp_path, content):
    copy, base = damage(bundle, tmp_path, WEIGHTS_FILE, content)
    with pytest.raises(BundleError, match=r"words\.safetensors"):
        load_bundle(copy, base=base)


@pytest.mark.parametrize("to", ["merged", "onnx"])
def test_an_export_is_refused_in_a_sentence(bundle, tmp_path, to, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "export", bundle, "--to", to, "--out", tmp_path / "out")
    assert result.code == 2
    assert "a word model" in result.stderr
    assert not (tmp_path / "out").exists()


def test_without_validation_or_test_rows_the_prior_decides(encoder, tmp_path, monkeypatch, capsys):
    data = write_csv(tmp_path / "data.csv", reviews(60))
    given = ["--base", encoder, "--method", "lora+tfidf", *SETTINGS, "--validation-size", "0", "--test-size", "0"]
    result = in_process(monkeypatch, capsys, "train", data, *given, "--out", tmp_path / "bundle")
    assert result.code == 0, result.stderr
    found = load_bundle(tmp_path / "bundle", base=str(encoder)).info.fusion
    assert min(found.model, found.words) > 0


def test_names():
    assert method_named("lora:r=4:lora_alpha=8+tfidf").is_fused
    assert not method_named("lora").is_fused
    for name in ("tfidf+tfidf", "lora+probe", "lora+tfidf:r=4", "lora+tfidf+tfidf", "+tfidf", "all+tfidf"):
        with pytest.raises((ConfigError, LookupError)):
            one_method(name)


def test_the_adapter_is_plain_pefts(bundle):
    loaded = load_bundle(bundle)
    info, texts = loaded.info, ["the film was great", "the plot was bad"]
    plain = plain_model(bundle, info, find_encoder(loaded.base.id).folder, "sdpa")
    model = logits_of(plain, loaded.tokenizer, texts, info)
    fused = loaded.logits(model, loaded.added(texts))
    np.testing.assert_allclose(fused, load(bundle).logits(texts), atol=1e-4)
    assert np.abs(fused - model).max() > 0.1


def test_a_model_that_the_study_has_trained_is_not_trained_again(encoder, tmp_path):
    data = write_csv(tmp_path / "data.csv", reviews(160))
    given = ["--base", encoder, *SETTINGS, "--seeds", "1"]
    both, alone = tmp_path / "both", tmp_path / "alone"
    for methods, out in (("lora,lora+tfidf", both), ("lora+tfidf", alone)):
        result = feathertune("compare", data, *given, "--methods", methods, "--out", out)
        assert result.code == 0, result.stderr
    runs = {run.method: run for run in load_study(both).runs}
    fused, trained = runs["lora+tfidf"], runs["lora"]
    again = next(run for run in load_study(alone).runs if run.method == "lora+tfidf")
    assert fused.metrics is None, "no step was taken"
    assert again.metrics is not None
    assert (fused.epochs, fused.best_epoch, fused.train_losses) == (again.epochs, again.best_epoch, again.train_losses)
    assert fused.seconds.total > trained.seconds.total, "it is charged the training"
    assert fused.trainable_parameters == again.trainable_parameters
    assert fused.test.model_dump() == pytest.approx(again.test.model_dump(), rel=1e-4)
    assert fused.validation.model_dump() == pytest.approx(again.validation.model_dump(), rel=1e-4)
    found, expected = (
        np.array(pq.read_table(folder / run.predictions)["probabilities"].to_pylist())
        for folder, run in ((both, fused), (alone, again))
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    bundles = [load_bundle(folder / run.bundle) for folder, run in ((both, fused), (alone, again))]
    assert [one.info.method for one in bundles] == ["lora+tfidf"] * 2
    assert bundles[0].info.fusion.words == pytest.approx(bundles[1].info.fusion.words, rel=1e-2)
    texts = ["the film was great", "the plot was bad"]
    np.testing.assert_allclose(load(bundles[0].folder).logits(texts), load(bundles[1].folder).logits(texts), atol=1e-3)

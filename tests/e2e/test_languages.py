"""Reviews in seven languages through every verb: a tiny XLM-R and a tiny mDeBERTa, labels in Arabic and Hindi.

A random encoder learns little of them; the words, scripts and labels are those of people.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from e2e.cli import in_process, write_csv
from feathertune.api import compare, finetune
from feathertune.config import Config, EngineConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import quiet_transformers
from feathertune.export import export_model
from feathertune.predictor import load
from feathertune.records import load_study
from feathertune.serve.models import Models
from feathertune.study.compare import default_folder
from feathertune.study.planning.plan import PLAN_FILE, Plan
from languages import NEGATIVE, POSITIVE, all_rows
from sentencepieces import FORMS, save_encoder
from whole import CPU

LENGTH = 12
EXACT = EngineConfig(dtype="fp32", device="cpu", memory="return")
FP32 = ["--set", "engine.dtype=fp32", "--set", "engine.device=cpu"]
TEXTS = [text for text, _ in all_rows()]


@pytest.fixture(scope="module")
def reviews(tmp_path_factory) -> Path:
    return write_csv(tmp_path_factory.mktemp("данные") / "отзывы.csv", all_rows())


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("bases") / "xlm-r", "xlm-r")


@pytest.fixture(scope="module")
def study(reviews, base, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "कहानी"
    config = Config.model_validate(
        {
            "data": {"source": str(reviews), "max_length": LENGTH},
            "base": {"id": str(base)},
            "train": {"epochs": 1},
            "engine": EXACT.model_dump(),
            "study": {"methods": ("lora",)},
        }
    )
    assert compare(config, out).status == "complete"
    return out


def plain_probabilities(base: Path, bundle: Path, texts: list[str]) -> np.ndarray:
    """By transformers and PEFT alone, each text by itself."""
    with quiet_transformers():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, attn_implementation="eager")
        model = PeftModel.from_pretrained(model, bundle).eval()
        tokenizer = AutoTokenizer.from_pretrained(bundle)
    found = []
    with torch.no_grad():
        for text in texts:
            batch = tokenizer([text], truncation=True, max_length=LENGTH, return_tensors="pt")
            batch.pop("token_type_ids", None)
            found.append(model(**batch).logits[0].softmax(-1).numpy())
    return np.stack(found)


def assert_same_answers(found, expected, labels):
    probabilities = np.array([[row[label] for label in labels] for _, row in found])
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert [label for label, _ in found] == [labels[i] for i in expected.argmax(1)]


def test_a_study(study):
    record = load_study(study)
    assert sorted(record.data.labels) == sorted([POSITIVE, NEGATIVE])
    tfidf = next(run for run in record.runs if run.method == "tfidf")
    assert tfidf.test.accuracy > 0.7, "words are counted in every language"
    page = (study / "report.html").read_text(encoding="utf-8")
    for label in (POSITIVE, NEGATIVE):
        assert f'<bdi class="class">{label}</bdi>' in page
    assert "отзывы.csv" in page
    plan = Plan.model_validate_json((study / PLAN_FILE).read_text(encoding="utf-8"))
    assert default_folder(plan).name.startswith("отзывы-xlm-r-")


def test_a_bundle_predicts_as_transformers_and_peft_do(study, base, tmp_path, monkeypatch, capsys):
    bundle = study / "runs" / "lora-s0" / "bundle"
    predictor = load(bundle, engine=EXACT)
    found = list(predictor.predict(TEXTS))
    assert_same_answers(found, plain_probabilities(base, bundle, TEXTS), predictor.labels)
    assert len({round(p[POSITIVE], 4) for _, p in found}) > 20, "the texts are told apart"
    given = [word for text in TEXTS[:7] for word in ("--text", text)]
    result = in_process(monkeypatch, capsys, "predict", bundle, *given, *FP32)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["text"] for line in lines] == TEXTS[:7]
    assert [line["label"] for line in lines] == [label for label, _ in found[:7]]
    assert POSITIVE in result.stdout, "not written as escapes"
    (tmp_path / "texts.csv").write_text("отзыв\n" + "\n".join(TEXTS[:3]) + "\n", encoding="utf-8")
    target = tmp_path / "out.csv"
    asked = ["--input", tmp_path / "texts.csv", "--text-column", "отзыв", "--output", target]
    assert in_process(monkeypatch, capsys, "predict", bundle, *asked, *FP32).code == 0
    assert [line.split(",")[1] for line in target.read_text("utf-8").splitlines()[1:]] == [row[0] for row in found[:3]]


@pytest.mark.parametrize("form", ["merged", pytest.param("onnx", marks=pytest.mark.slow)])
def test_exports(form, study, tmp_path):
    if form == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
        pytest.importorskip("onnxscript", reason="the extra 'onnx' is not installed")
    bundle = study / "runs" / "lora-s0" / "bundle"
    parity = export_model(bundle, tmp_path / form, to=form)
    assert parity.label_flips == 0
    expected = load(bundle, engine=EXACT)
    tokens = encode(expected.bundle.tokenizer, TEXTS, max_length=LENGTH)
    if form == "merged":
        with quiet_transformers():
            config = AutoConfig.from_pretrained(tmp_path / form)
        assert tuple(config.id2label.values()) == expected.labels
        alone = Tokenizer.from_file(str(tmp_path / form / "tokenizer.json"))
        alone.enable_truncation(LENGTH)
        assert np.concatenate([one.ids for one in alone.encode_batch(TEXTS)]).tolist() == tokens.ids.tolist()
        return
    from feathertune.export.onnx_folder import OnnxFolder

    graph = OnnxFolder(tmp_path / form)
    assert tuple(graph.facts.labels) == expected.labels
    found = graph.encode(TEXTS)
    np.testing.assert_array_equal(found.ids, tokens.ids)
    np.testing.assert_allclose(graph.logits(found), expected.logits(TEXTS), atol=1e-4)


def test_two_bundles_are_served_on_one_encoder(study):
    models, bundle = Models(EXACT, CPU), study / "runs" / "lora-s0" / "bundle"
    for name in ("one", "other"):
        models.add(name, models.read(bundle))
    first, second = models.all()
    assert first.lane == second.lane, "shared passes"
    texts = TEXTS[:14]
    answers = models.run([(model, row) for model in (first, second) for row in models.encode(model, texts)])
    offline = list(load(bundle, engine=EXACT).predict(texts))
    for (label, found), (expected_label, expected) in zip(answers, [*offline, *offline], strict=True):
        assert found == pytest.approx(expected, abs=1e-5)
        assert label == expected_label


def test_mdeberta_with_nothing_but_a_model_of_sentencepiece(reviews, tmp_path):
    """As the hub has it; its bundle holds a tokenizer that needs no SentencePiece any more."""
    base = save_encoder(tmp_path / "mdeberta", "mdeberta", FORMS[1])
    config = Config.model_validate(
        {
            "data": {"source": str(reviews), "max_length": LENGTH, "train_size": 64},
            "base": {"id": str(base)},
            "train": {"epochs": 1},
            "engine": EXACT.model_dump(),
        }
    )
    finetune(config, tmp_path / "bundle")
    assert (tmp_path / "bundle" / "tokenizer.json").exists()
    predictor = load(tmp_path / "bundle", engine=EXACT)
    expected = plain_probabilities(base, tmp_path / "bundle", TEXTS[:21])
    assert_same_answers(list(predictor.predict(TEXTS[:21])), expected, predictor.labels)

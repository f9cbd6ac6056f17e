"""An adapter of plain PEFT becomes a bundle that answers as it did in memory, or is refused in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import IA3Config, LoraConfig, PromptEncoderConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from e2e.cli import in_process
from feathertune import import_adapter
from feathertune.bundle import load_bundle
from feathertune.bundle.adopt import MultiLabel
from feathertune.config import EngineConfig
from feathertune.encoders import quiet_transformers
from feathertune.errors import BundleError, ConfigError, EncoderError
from feathertune.predictor import load
from tiny import TEXTS, drop_tensors, save_tiny_encoder

LABELS = ("negative", "neutral", "positive")
TARGETS = {"deberta-v2": ["query_proj", "value_proj"], "modernbert": ["Wqkv"], "albert": ["query", "value"]}


def plain_adapter(folder: Path, base: Path, config=None, *, n_labels: int = 3, move: float = 0.1) -> torch.Tensor:
    """Save an adapter as a notebook does; returns the logits that it gave there."""
    with quiet_transformers():
        torch.manual_seed(99)
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=n_labels)
        config = config or LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])
        model = get_peft_model(model, config)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += move * torch.randn_like(parameter)
    with quiet_transformers():
        model.save_pretrained(folder)
    return logits(model, AutoTokenizer.from_pretrained(base))


def logits(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**tokenizer(list(TEXTS), padding=True, return_tensors="pt")).logits


def refused(adapter: Path, error=BundleError, **options) -> str:
    out = adapter.parent / "bundle"
    with pytest.raises(error) as caught:
        import_adapter(adapter, out, **{"labels": LABELS, **options})
    assert not out.exists()
    return str(caught.value)


@pytest.fixture
def base(tmp_path) -> Path:
    return save_tiny_encoder(tmp_path / "base", "bert")


@pytest.fixture
def adapter(tmp_path, base) -> Path:
    plain_adapter(tmp_path / "adapter", base)
    return tmp_path / "adapter"


@pytest.mark.parametrize(
    ("family", "config"),
    [
        ("bert", LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])),
        ("roberta", LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "dense"], use_dora=True)),
        ("electra", IA3Config(task_type="SEQ_CLS", target_modules=["key"], feedforward_modules=[])),
        ("bert", PromptEncoderConfig(task_type="SEQ_CLS", num_virtual_tokens=3, encoder_hidden_size=8)),
        (
            "distilbert",
            LoraConfig(
                task_type="SEQ_CLS", r=2, target_modules=["q_lin"], modules_to_save=["pre_classifier", "classifier"]
            ),
        ),
    ],
    ids=["bert-lora", "roberta-dora", "electra-ia3", "bert-p-tuning", "distilbert-lora"],
)
def test_it_answers_as_it_did_in_the_notebook(family, config, tmp_path):
    base = save_tiny_encoder(tmp_path / "base", family)
    expected = plain_adapter(tmp_path / "adapter", base, config)
    adopted = import_adapter(tmp_path / "adapter", tmp_path / "bundle", labels=LABELS, max_length=32)
    bundle = load_bundle(tmp_path / "bundle")
    torch.testing.assert_close(logits(bundle.model, bundle.tokenizer), expected, atol=1e-5, rtol=0)
    assert (bundle.info.labels, bundle.info.max_length, adopted.notes) == (list(LABELS), 32, ())
    assert bundle.info.method == config.peft_type.value.lower()
    assert "Trained with plain PEFT" in (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")


def test_a_head_of_the_encoders_own_is_taken_along(tmp_path):
    """PEFT leaves `head` frozen and out of the file; here the checkpoint holds it, so nothing is lost."""
    base = save_tiny_encoder(tmp_path / "base", "modernbert", with_head=True, num_labels=3)
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=TARGETS["modernbert"])
    expected = plain_adapter(tmp_path / "adapter", base, config)
    assert not any(".head." in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))
    adopted = import_adapter(tmp_path / "adapter", tmp_path / "bundle", labels=LABELS, max_length=32)
    (note,) = adopted.notes
    assert "did not save head of the head" in note
    assert any(".head." in name for name in load_file(tmp_path / "bundle" / "adapter_model.safetensors"))
    bundle = load_bundle(tmp_path / "bundle")
    torch.testing.assert_close(logits(bundle.model, bundle.tokenizer), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("family", "lost"),
    [("deberta-v2", "pooler"), ("modernbert", "head"), ("albert", "albert.pooler")],
)
def test_a_head_that_peft_has_lost_is_refused(family, lost, tmp_path):
    base = save_tiny_encoder(tmp_path / "base", family)
    if family == "albert":
        drop_tensors(base, "pooler")
    config = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=TARGETS[family])
    plain_adapter(tmp_path / "adapter", base, config)
    message = refused(tmp_path / "adapter")
    assert f"the first is {lost}." in message
    assert "modules_to_save=" in message


def test_labels_are_counted_against_the_head(adapter):
    assert "has 3 outputs, but 2 labels were given (no, yes)" in refused(adapter, labels=("no", "yes"))
    for labels in (("one",), ("a", "a", "b"), ("a", " ", "b")):
        assert "Expected two or more different names" in refused(adapter, ConfigError, labels=labels)


def test_another_encoder_is_refused_or_said(adapter, tmp_path):
    wide = save_tiny_encoder(tmp_path / "wide", "bert", hidden_size=16)
    assert "does not match the base model" in refused(adapter, base=str(wide))
    assert "Or pass its path as --base." in refused_without_its_base(adapter, tmp_path)
    same = save_tiny_encoder(tmp_path / "same", "bert")
    adopted = import_adapter(adapter, tmp_path / "bundle", labels=LABELS, base=str(same), max_length=32)
    assert "PEFT stores no fingerprint" in adopted.notes[0]
    assert adopted.info.base.local == "../same"


def refused_without_its_base(adapter: Path, tmp_path: Path) -> str:
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    return refused(adapter, EncoderError)


def test_what_is_no_adapter_for_classification_is_refused(adapter, tmp_path, base):
    config = adapter / "adapter_config.json"
    original = config.read_text()
    config.write_text(json.dumps(json.loads(original) | {"task_type": "CAUSAL_LM"}))
    assert "has the task_type CAUSAL_LM, expected SEQ_CLS" in refused(adapter)
    config.write_text("{")
    assert "Cannot read" in refused(adapter)
    config.unlink()
    assert "is not a PEFT adapter" in refused(adapter)
    config.write_text(original)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert "Pickle files are never loaded" in refused(adapter)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t | {"base_model.model.classifier.bias": torch.full((3,), torch.nan)}, "contains NaN or infinity"),
        (lambda t: {n: v for n, v in t.items() if "classifier.weight" not in n}, "the first is classifier.weight"),
        (lambda t: {n: v for n, v in t.items() if "layer.1.attention.self.query.lora_A" not in n}, "lacks base_model"),
        (lambda t: t | {"base_model.model.bert.extra": torch.zeros(2)}, "contains base_model.model.bert.extra"),
    ],
    ids=["nan", "no head", "a layer lacks", "one too many"],
)
def test_damaged_tensors_are_refused(change, message, adapter):
    weights = adapter / "adapter_model.safetensors"
    save_file(change(load_file(weights)), weights, metadata={"format": "pt"})
    assert message in refused(adapter)


def test_the_tokenizer_of_the_folder_wins(adapter, tmp_path, base):
    with quiet_transformers():
        AutoTokenizer.from_pretrained(base).save_pretrained(adapter)
    adopted = import_adapter(adapter, tmp_path / "bundle", labels=LABELS)
    assert adopted.info.max_length == 66
    assert [note.split()[0] for note in adopted.notes] == ["Texts", "The"]
    with pytest.raises(ConfigError, match="Expected 4 to 66"):
        import_adapter(adapter, tmp_path / "other", labels=LABELS, max_length=67)


def test_on_the_command_line(adapter, tmp_path, monkeypatch, capsys):
    out = tmp_path / "bundle"
    message = in_process(monkeypatch, capsys, "predict", adapter, "--text", "a great film")
    assert (message.code, "convert it with `feathertune import`" in message.stderr) == (2, True)
    command = ("import", adapter, "--labels", "bad, so-so,good", "--max-length", "16", "--out", out)
    done = in_process(monkeypatch, capsys, *command)
    assert (done.code, done.stderr) == (0, "")
    assert "0 = bad, 1 = so-so, 2 = good" in done.stdout
    done = in_process(monkeypatch, capsys, "predict", out, "--text", "a great film", "--set", "engine.dtype=fp32")
    assert set(json.loads(done.stdout)["probabilities"]) == {"bad", "so-so", "good"}
    again = in_process(monkeypatch, capsys, *command)
    assert (again.code, "--overwrite" in again.stderr) == (2, True)
    done = in_process(monkeypatch, capsys, *command, "--overwrite", "--json")
    assert json.loads(done.stdout)["hyperparameters"] == {"imported_from": "peft"}
    done = in_process(monkeypatch, capsys, "import", out, "--labels", "a,b,c", "--out", tmp_path / "other")
    assert (done.code, "is already a bundle" in done.stderr) == (2, True)


# Several labels a text


def said_to_be(folder: Path, problem_type: str | None) -> None:
    """What transformers' own configuration says of the task."""
    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    (folder / "config.json").write_text(json.dumps(config | {"problem_type": problem_type}))


def test_several_labels_by_what_the_model_says(adapter, tmp_path, base):
    plain = import_adapter(adapter, tmp_path / "one", labels=LABELS, max_length=32)
    assert (plain.info.task, plain.info.threshold, plain.notes) == ("single_label", None, ())
    said_to_be(base, "multi_label_classification")
    of_the_base = import_adapter(adapter, tmp_path / "base-says", labels=LABELS, max_length=32)
    assert (of_the_base.info.task, of_the_base.info.threshold) == ("multi_label", [0.5] * 3)
    first, second = of_the_base.notes
    assert f"problem_type in the configuration of {base} means" in first
    assert "The threshold of each label is 0.5" in second
    said_to_be(adapter, None)  # the adapter's own says otherwise, and goes before
    assert import_adapter(adapter, tmp_path / "own", labels=LABELS, max_length=32).info.task == "single_label"
    said_to_be(adapter, "multi_label_classification")
    beside = import_adapter(adapter, tmp_path / "beside", labels=LABELS, max_length=32)
    assert f"problem_type in config.json in {adapter} means" in beside.notes[0]
    told = import_adapter(adapter, tmp_path / "told", labels=LABELS, max_length=32, task="single_label")
    assert (told.info.task, told.info.threshold, told.notes) == ("single_label", None, ())
    (adapter / "config.json").write_text("{")
    assert "Cannot read" in refused(adapter)


def test_it_gives_each_label_whose_sigmoid_reaches_its_threshold(tmp_path, base):
    """As transformers' own `problem_type` means it: one probability for each label, of the logits of the notebook."""
    expected = plain_adapter(tmp_path / "adapter", base, move=0.5).sigmoid().double()
    cut = [0.3, 0.5, float(expected[:, 2].median())]
    adopted = import_adapter(
        tmp_path / "adapter", tmp_path / "bundle", labels=LABELS, task=MultiLabel(cut, "|"), max_length=32
    )
    assert (adopted.info.task, adopted.info.threshold, adopted.info.label_separator) == ("multi_label", cut, "|")
    assert adopted.notes == ()
    predictor = load(tmp_path / "bundle", engine=EngineConfig(dtype="fp32", device="cpu"))
    torch.testing.assert_close(torch.from_numpy(predictor.probabilities(list(TEXTS))), expected, atol=1e-5, rtol=0)
    given = [[name for name, p, least in zip(LABELS, row, cut, strict=True) if p >= least] for row in expected.tolist()]
    assert [labels for labels, _ in predictor.predict(TEXTS)] == given
    assert len({len(labels) for labels in given}) > 1, "the thresholds tell texts apart"
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf-8")
    assert 'problem_type="multi_label_classification"' in card
    assert f"threshold = {cut}" in card
    assert "set at import, not tuned on validation texts" in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"task": MultiLabel([0.5, 0.5])},
            "The thresholds are 0.5, 0.5. Expected probabilities between 0 and 1: one for each of the 3 labels",
        ),
        ({"task": MultiLabel([1.5])}, "The thresholds are 1.5"),
        ({"task": MultiLabel([])}, "The thresholds are empty"),
        ({"task": "multilabel"}, "The task is 'multilabel'"),
    ],
)
def test_what_is_said_of_several_labels_has_to_fit(options, message, adapter):
    assert message in refused(adapter, ConfigError, **options)


def test_several_labels_on_the_command_line(adapter, tmp_path, monkeypatch, capsys):
    out = tmp_path / "bundle"
    command = ("import", adapter, "--labels", "a,b,c", "--max-length", "16", "--out", out)
    done = in_process(monkeypatch, capsys, *command, "--task", "multi_label", "--label-separator", "|")
    assert (done.code, "The threshold of each label is 0.5" in done.stdout) == (0, True)
    (tmp_path / "rows.csv").write_text("text,label\na great film,a|c\na bad plot,\n")
    done = in_process(monkeypatch, capsys, "evaluate", out, tmp_path / "rows.csv", "--json")
    assert set(json.loads(done.stdout)) >= {"micro_f1", "lrap"}
    done = in_process(monkeypatch, capsys, *command, "--overwrite", "--json", "--threshold", "0.25")
    assert json.loads(done.stdout)["threshold"] == [0.25] * 3
    done = in_process(monkeypatch, capsys, *command, "--overwrite", "--threshold", "half")
    assert (done.code, "--threshold is 'half'. Expected a number" in done.stderr) == (2, True)
    for option in (("--threshold", "0.5"), ("--label-separator", "|")):
        done = in_process(monkeypatch, capsys, *command, "--overwrite", "--task", "single_label", *option)
        assert (done.code, "--task multi_label" in done.stderr) == (2, True)

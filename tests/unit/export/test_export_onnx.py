"""The folders of ONNX, what they are compared on, and that nothing is left where it does not fit."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from e2e.cli import write_csv
from feathertune.bundle import load_bundle, save_bundle
from feathertune.config import EngineConfig
from feathertune.errors import BundleError, ConfigError, DataError, MissingExtraError
from feathertune.export import TARGETS, Check, export_model
from feathertune.export.onnx_folder import OnnxFacts, script
from feathertune.predictor import load
from feathertune.tasks import SINGLE_LABEL
from tiny import TEXTS, save_tiny_encoder
from unit.bundle.test_bundle import LABELS, SETTINGS, leftovers, trained

FILES = {"README.md", "model.json", "model.onnx", "parity.json", "tokenizer.json"}
LONG = " ".join(["the story was good but not great"] * 12)
FP32 = EngineConfig(dtype="fp32")


@pytest.fixture(scope="module", autouse=True)
def few_texts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 12)
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A bundle, and its exports; nothing here is changed."""
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    folder = tmp_path_factory.mktemp("onnx")
    save_tiny_encoder(folder / "base", "bert")
    encoder, model = trained(str(folder / "base"))
    save_bundle(folder / "bundle", model, encoder, SETTINGS)
    texts = reviews(600)
    predictor = load(folder / "bundle", engine=FP32)
    # As the bundle answers, but for every tenth.
    labels = [LABELS[(int(p.argmax()) + (i % 10 == 0)) % 3] for i, p in enumerate(predictor.probabilities(texts))]
    write_csv(folder / "rows.csv", list(zip(texts, labels, strict=True)))
    export_model(folder / "bundle", folder / "onnx", to="onnx")
    with pytest.MonkeyPatch.context() as patch:
        # As if the weights in fp32 were too large for one file.
        trace_no_more(folder, patch, lambda place: (place / "model.onnx.data").touch())
        export_model(folder / "bundle", folder / "int8", to="onnx-int8", check=rows(folder))
    return folder


@pytest.fixture
def bundle(tmp_path) -> Path:
    """Another bundle of the same encoder, whose export is always stopped before it begins."""
    save_tiny_encoder(tmp_path / "base", "bert")
    encoder, model = trained(str(tmp_path / "base"))
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    return tmp_path / "bundle"


def reviews(n):
    rng = np.random.default_rng(5)
    words = ["the", "film", "was", "good", "bad", "great", "awful", "not", "very", "and", "story", "dull", "plot"]
    return [" ".join([*rng.choice(words, rng.integers(2, 20)), str(i)]) for i in range(n)]


def rows(folder, **options):
    return Check(str(folder / "rows.csv"), **({"max_flips": 0.5, "max_accuracy_loss": 0.5} | options))


# What is written


@pytest.mark.parametrize("name", ["onnx", "int8"])
def test_the_script_on_the_card_gives_the_bundles_answers(home, name, tmp_path):
    """In a process that can import neither torch nor transformers, in a folder that nothing else is beside."""
    shutil.copytree(home / name, tmp_path / "plain")
    assert {path.name for path in (tmp_path / "plain").iterdir()} == FILES
    card = (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---\n")[1])["library_name"] == "onnx"
    script = card.split("```python\n")[1].split("```")[0]
    assert len(script.splitlines()) <= 15
    (tmp_path / "script.py").write_text(
        "import sys\nsys.modules |= dict.fromkeys(('torch', 'transformers', 'peft', 'feathertune'))\n" + script
    )
    texts = [*TEXTS, LONG]
    done = subprocess.run(
        [sys.executable, "-I", tmp_path / "script.py", *texts],
        cwd=tmp_path / "plain",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = list(load(home / "bundle", engine=FP32).predict(texts))
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["label"] for line in lines] == [label for label, _ in expected]
    for line, (_, probabilities) in zip(lines, expected, strict=True):
        assert list(line["probabilities"]) == list(LABELS)
        found, wanted = list(line["probabilities"].values()), list(probabilities.values())
        np.testing.assert_allclose(found, wanted, atol=1e-5 if name == "onnx" else 0.05)


def test_the_script_moves_the_decision_as_the_bundle_does(home, tmp_path):
    shutil.copytree(home / "onnx", tmp_path / "plain")
    facts = json.loads((tmp_path / "plain" / "model.json").read_text())
    probabilities = load(home / "bundle", engine=FP32).probabilities(TEXTS)
    facts["threshold"] = [0.2, 0.7, 0.1]
    (tmp_path / "plain" / "model.json").write_text(json.dumps(facts))
    done = subprocess.run(
        [sys.executable, "-I", "-c", script(OnnxFacts(**facts)), *TEXTS],
        cwd=tmp_path / "plain",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = SINGLE_LABEL.decide(probabilities, np.array(facts["threshold"]))
    assert not np.array_equal(expected, probabilities.argmax(axis=1))
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == [LABELS[label] for label in expected]


def test_batch_and_length_are_open_and_nothing_is_of_this_machine(home):
    import onnx

    for name in ("onnx", "int8"):
        graph = onnx.load(home / name / "model.onnx").graph
        sizes = {
            value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in (*graph.input, *graph.output)
        }
        inputs = ("input_ids", "token_type_ids", "attention_mask")
        assert sizes.pop("logits") == ["batch", len(LABELS)]
        assert sizes == {name: ["batch", "length"] for name in inputs}
        for path in (home / name).iterdir():
            assert str(home).encode() not in path.read_bytes(), path.name


def test_only_the_products_of_weights_are_in_eight_bits(home):
    import onnx
    from onnx.numpy_helper import to_array

    plain, rounded = (onnx.load(home / name / "model.onnx").graph for name in ("onnx", "int8"))
    # Two blocks of six linear layers each.
    assert sum(node.op_type == "MatMulInteger" for node in rounded.node) == 12
    weights = [tensor for tensor in rounded.initializer if tensor.data_type == onnx.TensorProto.INT8]
    assert sum(to_array(weight).size for weight in weights) > 2 * (4 * 32 * 32 + 2 * 32 * 48)
    assert not any(node.op_type == "MatMulInteger" for node in plain.node)
    assert (home / "int8" / "model.onnx").stat().st_size < (home / "onnx" / "model.onnx").stat().st_size


def test_what_parity_says(home):
    plain = json.loads((home / "onnx" / "parity.json").read_text())
    assert (plain["n_texts"], plain["n_real"], plain["data"], plain["accuracy_before"]) == (16, 0, None, None)
    assert plain["max_abs_difference"] < 1e-5 < plain["tolerance"]
    assert plain["max_flips"] is None
    rounded = json.loads((home / "int8" / "parity.json").read_text())
    assert (rounded["n_texts"], rounded["n_real"], rounded["tolerance"]) == (600, 600, None)
    assert rounded["accuracy_before"] == pytest.approx(0.9)
    assert 1e-4 < rounded["max_abs_difference"] < 0.5
    assert rounded["accuracy_after"] == pytest.approx(0.9, abs=(rounded["label_flips"] + 0.5) / 600)
    assert (rounded["max_flips"], rounded["max_accuracy_loss"]) == (0.5, 0.5)


# What is compared on


def test_real_rows_are_drawn_the_same_each_time(home):
    from feathertune.export.rows import real_texts

    info = load_bundle(home / "bundle").info
    found = real_texts(rows(home, rows=50), info)
    again = real_texts(rows(home, rows=50), info)
    assert found.texts == again.texts
    assert len(set(found.texts)) == 50
    assert len(real_texts(rows(home), info).texts) == 600
    known = dict(line.rsplit(",", 1) for line in (home / "rows.csv").read_text().splitlines())
    assert [LABELS[index] for index in found.labels] == [known[text] for text in found.texts]


def test_texts_without_labels_will_do(home, tmp_path):
    from feathertune.export.rows import real_texts

    (tmp_path / "texts.csv").write_text("id,text\n" + "\n".join(f"{i},{text}" for i, text in enumerate(reviews(9))))
    found = real_texts(Check(str(tmp_path / "texts.csv"), rows=9), load_bundle(home / "bundle").info)
    assert found.texts == reviews(9)
    assert found.labels is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rows": 601}, ConfigError, "--rows is 601, but .* has only 600 rows to compare on"),
        ({"text_column": "title"}, DataError, "has no column 'title'"),
        ({"label_column": "text"}, DataError, "both 'text'"),
    ],
)
def test_rows_that_cannot_be_used(home, tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        export_model(home / "bundle", tmp_path / "new", to="onnx", check=rows(home, **options))
    assert leftovers(tmp_path) == []


def test_few_rows_and_strange_labels_are_refused(home, tmp_path):
    write_csv(tmp_path / "few.csv", [(text, LABELS[0]) for text in reviews(499)])
    with pytest.raises(
        ConfigError, match=r"has 499 rows .* fewer than 500, a loss of half a point .* or pass --rows 499"
    ):
        export_model(home / "bundle", tmp_path / "new", to="onnx", check=Check(str(tmp_path / "few.csv")))
    write_csv(tmp_path / "other.csv", [(text, "so-so") for text in reviews(9)])
    with pytest.raises(DataError, match=r"has labels that the bundle was not trained on: so-so"):
        export_model(home / "bundle", tmp_path / "new", to="onnx", check=Check(str(tmp_path / "other.csv"), rows=9))
    assert leftovers(tmp_path) == ["few.csv", "other.csv"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0, "data": "x"}, "Expected at least 1"),
        ({"max_flips": 2}, "--max-flips is 2. Expected a share"),
        ({"max_accuracy_loss": -0.1}, "--max-accuracy-loss is -0.1"),
        ({"rows": 9}, "Pass a data source with --data"),
    ],
)
def test_a_check_is_checked(options, message):
    with pytest.raises(ConfigError, match=message):
        Check(**options)


# What is not written


def test_integers_need_real_texts(bundle, tmp_path):
    with pytest.raises(ConfigError, match=r"--to onnx-int8 rounds numbers.*500 texts with --data"):
        export_model(bundle, tmp_path / "new", to="onnx-int8")
    assert leftovers(tmp_path) == ["base", "bundle"]


@pytest.mark.parametrize("to", ["onnx", "onnx-int8"])
def test_the_extra_is_named_where_it_is_missing(bundle, tmp_path, monkeypatch, to):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(
        MissingExtraError, match=rf"--to {to} needs the extra 'onnx'.*pip install 'feathertune\[onnx\]'"
    ):
        export_model(bundle, tmp_path / "new", to=to, check=Check("rows.csv"))
    assert leftovers(tmp_path) == ["base", "bundle"]
    assert not TARGETS["merged"].packages


def trace_no_more(home, patch, change=lambda folder: None):
    """Take the graph that is in `home` already, changed: tracing takes seconds and is not what is looked at."""
    from feathertune.export import onnx, onnx_int8
    from feathertune.export.onnx_folder import OnnxFacts

    def written(_, folder):
        for name in FILES - {"README.md", "parity.json"}:
            shutil.copy(home / "onnx" / name, folder)
        change(folder)
        return OnnxFacts.model_validate_json((folder / "model.json").read_bytes())

    patch.setattr(onnx, "write_graph", written)
    patch.setattr(onnx_int8, "write_graph", written)


def scale_weights(folder, factor=1.05):
    import onnx
    from onnx.numpy_helper import from_array, to_array

    model = onnx.load(folder / "model.onnx")
    tensor = next(t for t in model.graph.initializer if list(t.dims) in ([32, 48], [48, 32]))
    tensor.CopyFrom(from_array(to_array(tensor) * np.float32(factor), tensor.name))
    onnx.save(model, folder / "model.onnx")


def test_a_graph_with_other_answers_is_not_kept(home, tmp_path, monkeypatch):
    trace_no_more(home, monkeypatch, scale_weights)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "parity.json").write_text(older := '{"to": "", "label_flips": 0, "files": []}')
    for to in ("onnx", "onnx-int8"):
        with pytest.raises(BundleError, match=r"The ONNX graph .* differ from the bundle's by .* on 16 texts, at most"):
            export_model(
                home / "bundle", tmp_path / "new", to=to, check=None if to == "onnx" else rows(home), overwrite=True
            )
    assert (tmp_path / "new" / "parity.json").read_text() == older
    assert leftovers(tmp_path) == ["new"]


def test_integers_that_lose_more_than_allowed_are_not_kept(home, tmp_path, monkeypatch):
    from feathertune.export import onnx_int8

    trace_no_more(home, monkeypatch)
    exact = onnx_int8.quantise

    def coarse(source, target, *of):
        counts = exact(source, target, *of)
        scale_a_step(target)
        return counts

    monkeypatch.setattr(onnx_int8, "quantise", coarse)
    with pytest.raises(
        BundleError, match=r"changes the label of \d+ of 600 texts .*at most 0.10% is allowed.* --max-flips"
    ):
        export_model(home / "bundle", tmp_path / "new", to="onnx-int8", check=rows(home, max_flips=0.001))
    with pytest.raises(
        BundleError,
        match=r"has an accuracy of \d.*% on 600 texts .*; the bundle's is 90.00% \(at most 1 points of loss",
    ):
        export_model(
            home / "bundle", tmp_path / "new", to="onnx-int8", check=rows(home, max_flips=1, max_accuracy_loss=0.01)
        )
    assert leftovers(tmp_path) == []


def test_products_that_lose_most_by_rounding_stay_in_fp32(home, tmp_path):
    import onnx

    from feathertune.export.onnx_folder import OnnxFolder
    from feathertune.export.onnx_int8 import quantise
    from feathertune.export.rounding import product_noise, products

    source = home / "onnx" / "model.onnx"
    folder = OnnxFolder(home / "onnx")
    with (home / "rows.csv").open(encoding="utf-8", newline="") as file:
        tokens = folder.encode([row["text"] for row in csv.DictReader(file)][:30])
    graph = onnx.load(source)
    noise = product_noise(graph, folder.facts, tokens, weight_steps=64)
    assert set(noise) == set(products(graph))
    assert all(0 < share < 0.1 for share in noise.values())
    # One number of the input far larger than the rest: the step follows from it.
    outlier = sorted(noise)[0]
    weight = next(w for w in graph.graph.initializer if w.name == products(graph)[outlier])
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] *= 100
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    worse = product_noise(graph, folder.facts, tokens, weight_steps=64)
    assert worse[outlier] > 2 * noise[outlier]

    below, above = sorted(noise.values())[len(noise) // 2 :][:2]
    limit = (below + above) / 2
    kept, rounded = quantise(source, tmp_path / "some.onnx", folder.facts, tokens, max_noise=limit)
    assert (kept, rounded) == (sum(s > limit for s in noise.values()), sum(s <= limit for s in noise.values()))
    left = {n.name for n in onnx.load(tmp_path / "some.onnx").graph.node if n.op_type == "MatMul"}
    assert left & set(noise) == {name for name, share in noise.items() if share > limit}
    errors = []
    for max_noise in (1.0, limit, min(noise.values()) * 1.001):
        copy = tmp_path / f"{max_noise}"
        shutil.copytree(home / "onnx", copy)
        quantise(source, copy / "model.onnx", folder.facts, tokens, max_noise=max_noise)
        moved = OnnxFolder(copy).logits_alone(tokens) - folder.logits_alone(tokens)
        errors.append(np.abs(moved).mean())
    assert errors[0] > errors[1] > errors[2]
    with pytest.raises(BundleError, match="each of the 12 matrix products would lose over 0%"):
        quantise(source, tmp_path / "none.onnx", folder.facts, tokens, max_noise=0.0)


def scale_a_step(path):
    """Make one weight's step ten times as large, as if a table of them had slipped."""
    import onnx
    from onnx.numpy_helper import from_array, to_array

    model = onnx.load(path)
    steps = [t for t in model.graph.initializer if t.name.endswith("_scale")]
    for tensor in steps[:4]:
        tensor.CopyFrom(from_array(to_array(tensor) * np.float32(10), tensor.name))
    onnx.save(model, path)


def test_what_cannot_be_merged_is_told(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    from feathertune.encoders import load_encoder
    from feathertune.methods import METHODS, Job

    save_tiny_encoder(tmp_path / "base", "bert")
    encoder = load_encoder(str(tmp_path / "base"), labels=LABELS, seed=0)
    method = next(m for m in METHODS if not m.mergeable)
    model = method.prepare(encoder, method.options(), Job(0))
    save_bundle(tmp_path / "bundle", model, encoder, replace(SETTINGS, method=method.name))
    with pytest.raises(BundleError, match=r"Cannot merge .* trains virtual tokens"):
        export_model(tmp_path / "bundle", tmp_path / "new", to="onnx")
    assert leftovers(tmp_path) == ["base", "bundle"]

"""A bundle from a stranger, with hashes that fit: refused in one sentence, and PEFT opens nothing that it names."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import peft.tuners.multitask_prompt_tuning.model as multitask
import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from feathertune import import_adapter
from feathertune.bundle import load as load_module
from feathertune.bundle import load_bundle, save_bundle
from feathertune.encoders import load_encoder, quiet_transformers
from feathertune.errors import BundleError
from feathertune.methods import METHODS
from tiny import TEXTS, save_tiny_encoder
from unit.bundle.test_bundle import LABELS, SETTINGS, edit, refused, saved, seal, trained

ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return saved(tmp_path_factory.mktemp("original"), "bert")


@pytest.fixture
def bundle(original, tmp_path) -> Path:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path / "bundle"


def forged(bundle: Path, file: str = "adapter_config.json", **changes) -> str:
    edit(bundle / file, **changes)
    seal(bundle)
    start = time.monotonic()
    message = refused(bundle)
    assert time.monotonic() - start < 10
    assert "\n" not in message
    return message


# What PEFT may see


@pytest.mark.parametrize("kind", ["SHADOW", "MULTITASK_PROMPT_TUNING", "XLORA", "POLY", "CPT", "nothing", None, 3, []])
def test_a_type_outside_the_registry(kind, bundle, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_args, **_kwargs: pytest.fail("a pickle was opened"))
    monkeypatch.setattr(multitask, "torch_load", lambda *_args, **_kwargs: pytest.fail("a pickle was opened"))
    more = {"prompt_tuning_init_state_dict_path": "/tmp/x.bin", "num_virtual_tokens": 2, "shadow_model": "someone/x"}
    assert "peft_type" in forged(bundle, peft_type=kind, **more)


def test_every_type_of_the_registry_is_allowed():
    known = {cls.__name__ for cls in PEFT_TYPE_TO_CONFIG_MAPPING.values()}
    assert {method.peft_config for method in METHODS if method.peft_config} <= known


@pytest.mark.parametrize("task", ["CAUSAL_LM", "TOKEN_CLS", None, "x", 1])
def test_another_task_type(task, bundle):
    assert "expected SEQ_CLS" in forged(bundle, task_type=task)


def test_names_of_files_and_models_are_not_followed(bundle, monkeypatch):
    """Whatever they hold, the bundle answers as before: PEFT gets its own defaults instead."""
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_a, **_k: pytest.fail("the hub was asked"))
    before = load_bundle(bundle).info.probes
    names = {
        "auto_mapping": {"base_model_class": "x", "parent_library": "os"},
        "base_model_name_or_path": "someone/else",
        "revision": "evil",
        "corda_config": {"cache_file": "/tmp/x.bin", "covariance_file": "/tmp/y.bin"},
        "lora_ga_config": {"cache_file": "/tmp/x.bin"},
        "eva_config": {"rho": 2},
        "loftq_config": {"loftq_bits": 4},
        "runtime_config": {"ephemeral_gpu_offload": True},
        "megatron_core": "os.path",
        "tokenizer_name_or_path": "someone/else",
        "peft_version": "99",
        "unheard_of": {"path": "/etc/passwd"},
    }
    edit(bundle / "adapter_config.json", **names)
    seal(bundle)
    assert load_bundle(bundle).info.probes == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("init_lora_weights", "/tmp/weights.bin"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", "pissa_niter_999999"),
        ("megatron_config", {"a": 1}),
        ("arrow_config", {"a": 1}),
        ("layer_replication", [[0, 2], [0, 2]]),
        ("trainable_token_indices", [0, 1]),
        ("target_parameters", ["(a+)+$"]),
        ("bias", "../all"),
        ("base_model_name_or_path", ["x"]),
        ("revision", 3),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", [1]),
        ("modules_to_save", "classifier"),
        ("modules_to_save", ["(c+)+x"]),
        ("modules_to_save", ["score"] * 10_000),
        ("layers_to_transform", ["0"]),
        ("use_dora", "maybe so"),
    ],
)
def test_a_setting_that_no_bundle_has(key, value, bundle):
    forged(bundle, **{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lora_alpha", float("nan")),
        ("lora_alpha", float("inf")),
        ("lora_alpha", 1e30),
        ("lora_alpha", -(10**18)),
        ("lora_alpha", 10**40),
        ("lora_alpha", "16"),
        ("lora_alpha", [16]),
        ("r", 10**9),
        ("r", -1),
        ("r", 0),
        ("r", float("nan")),
        ("lora_dropout", 2.0),
        ("lora_dropout", -1),
        ("lora_dropout", float("nan")),
        ("rank_pattern", {"query": 10**9}),
        ("alpha_pattern", {"query": float("nan")}),
        ("alpha_pattern", {"query": 1e30}),
    ],
)
def test_a_number_that_is_none_or_absurd(key, value, bundle):
    forged(bundle, **{key: value})


def test_a_number_that_overflows(bundle):
    path = bundle / "adapter_config.json"
    path.write_text(path.read_text().replace('"lora_alpha": 8', '"lora_alpha": 1e999'))
    seal(bundle)
    assert "1e999" in refused(bundle)


SLOW = ("(a+)+$", "(.*)*(.*)*(.*)*x", "(.*.*)*(.*.*)*[^ -~]", "(?R)", "((((a{99}){99}){99}){99})", "(" * 900)


@pytest.mark.parametrize("pattern", [*SLOW, "[", "*", "x{2,1}", "(?P<a>", "\\", "a" * 5_000, "nothing_like_it"])
@pytest.mark.parametrize("key", ["target_modules", "exclude_modules"])
def test_a_pattern_ends_in_time(key, pattern, bundle):
    """It is refused, or matches nothing: an adapter that then lacks its layers is refused too."""
    edit(bundle / "adapter_config.json", **{key: pattern})
    seal(bundle)
    start = time.monotonic()
    if key == "target_modules":
        refused(bundle)
    else:
        with contextlib.suppress(BundleError):
            load_bundle(bundle)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
@pytest.mark.parametrize("name", ["(a+)+", "layer.*", "query|value", "[", "", "a b"])
def test_a_pattern_among_the_names_of_ranks(key, name, bundle):
    assert key in forged(bundle, **{key: {name: 4}})


@pytest.mark.parametrize(
    ("key", "value"),
    [("layers_pattern", "(a+)+$"), ("layers_pattern", ["(l|l)+", "x"]), ("exclude_modules", ["(a+)+"])],
)
def test_a_pattern_among_names(key, value, bundle):
    assert "module names" in forged(bundle, **{key: value})


def plain_adapter(folder: Path, base: Path, config) -> torch.Tensor:
    with quiet_transformers():
        torch.manual_seed(9)
        model = get_peft_model(AutoModelForSequenceClassification.from_pretrained(base, num_labels=3), config)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder)
    return logits(model.eval(), AutoTokenizer.from_pretrained(base))


def logits(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(list(TEXTS), padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(task_type="SEQ_CLS", r=2, target_modules=r".*\.layer\.\d{1,2}\..*(query|value)"),
        LoraConfig(task_type="SEQ_CLS", r=2, target_modules="all-linear", exclude_modules=r".*output\.dense"),
        LoraConfig(
            task_type="SEQ_CLS",
            r=2,
            target_modules=["query", "value"],
            rank_pattern={"^bert.encoder.layer.0.attention.self.query": 4},
            alpha_pattern={r"layer\.1\.attention\.self\.value": 3},
        ),
        LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], layers_to_transform=[1], layers_pattern="layer"),
        LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"], init_lora_weights="pissa"),
        IA3Config(task_type="SEQ_CLS", target_modules=r".*(key|dense)", feedforward_modules=r".*intermediate\.dense"),
    ],
    ids=["pattern", "excluded", "ranks", "layers", "pissa", "ia3"],
)
def test_patterns_of_honest_adapters_mean_what_they_mean_in_peft(config, tmp_path):
    base = save_tiny_encoder(tmp_path / "base", "bert")
    expected = plain_adapter(tmp_path / "adapter", base, config)
    import_adapter(tmp_path / "adapter", tmp_path / "bundle", labels=LABELS, max_length=32)
    written = json.loads((tmp_path / "bundle" / "adapter_config.json").read_text())
    assert isinstance(written["target_modules"], list) or written["target_modules"] == "all-linear"
    bundle = load_bundle(tmp_path / "bundle")
    torch.testing.assert_close(logits(bundle.model, bundle.tokenizer), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "changes", [{"peft_type": "SHADOW"}, {"target_modules": "(.*.*)*(.*.*)*[^ -~]"}, {"lora_alpha": float("nan")}]
)
def test_an_import_refuses_the_same(changes, tmp_path):
    base = save_tiny_encoder(tmp_path / "base", "bert")
    plain_adapter(tmp_path / "adapter", base, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
    edit(tmp_path / "adapter" / "adapter_config.json", **changes)
    with pytest.raises(BundleError):
        import_adapter(tmp_path / "adapter", tmp_path / "bundle", labels=LABELS, max_length=32)
    assert not (tmp_path / "bundle").exists()


# What feathertune.json may say


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_length": 1_000_000}, "max_length of 1000000"),
        ({"max_length": 67}, "Expected 3 to 66"),
        ({"max_length": 1}, "max_length"),
        ({"max_length": 0}, "max_length"),
        ({"max_length": 10**30}, "too large"),
        ({"labels": ["a", "a", "b"]}, "duplicated or empty"),
        ({"labels": ["a", " ", "b"]}, "duplicated or empty"),
        ({"threshold": [0.5, 1.5, 0.5]}, "thresholds"),
        ({"threshold": [0.5, 0.0, 0.5]}, "thresholds"),
        ({"threshold": [0.5, float("nan"), 0.5]}, "not finite"),
        ({"metrics": {"test": {"accuracy": float("inf")}}}, "not finite"),
        ({"hyperparameters": {"x": [float("nan")]}}, "not finite"),
        ({"reading": {"long": "windows", "stride": 32, "max_windows": 2}}, "max_length"),
        ({"reading": {"long": "windows", "stride": 30, "max_windows": 2}}, "max_length"),
        ({"reading": {"long": "windows", "stride": 4, "max_windows": 0}}, "max_length"),
        ({"text_columns": []}, "text_columns"),
        ({"text_columns": ["a", "b", "c"]}, "text_columns"),
    ],
)
def test_what_a_description_cannot_say(changes, words, bundle):
    assert words in forged(bundle, "feathertune.json", **changes)


def test_json_that_is_nested_too_deeply(bundle):
    for file in ("feathertune.json", "adapter_config.json"):
        content = (bundle / file).read_bytes()
        (bundle / file).write_bytes(b"[" * 200_000)
        seal(bundle)
        assert "nested too deeply" in refused(bundle)
        (bundle / file).write_bytes(content)


# The proof


def test_the_answers_are_stored_and_recomputed(bundle):
    loaded = load_bundle(bundle)
    probes = json.loads((bundle / "feathertune.json").read_text())["probes"]
    assert len(probes) == 4
    with torch.no_grad():
        batch = loaded.tokenizer(probes[1]["texts"], truncation=True, max_length=32, return_tensors="pt")
        found = loaded.model(**batch).logits[0]
    torch.testing.assert_close(found, torch.tensor(probes[1]["logits"]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("file", ["adapter", "tokenizer", "answers", "none", "scale"])
def test_other_answers_are_refused(file, bundle):
    if file == "adapter":
        tensors = {name: 1.5 * tensor for name, tensor in load_file(bundle / ADAPTER).items()}
        save_file(tensors, bundle / ADAPTER)
    elif file == "tokenizer":
        content = json.loads((bundle / "tokenizer.json").read_text())
        content["normalizer"]["lowercase"] = False
        content["post_processor"] = None
        (bundle / "tokenizer.json").write_text(json.dumps(content))
    elif file == "scale":
        edit(bundle / "adapter_config.json", lora_alpha=16)
    else:
        probes = json.loads((bundle / "feathertune.json").read_text())["probes"]
        probes[2]["logits"][0] += 0.1
        edit(bundle / "feathertune.json", probes=[] if file == "none" else probes)
    seal(bundle)
    words = "has no probe texts" if file == "none" else "no longer gives the logits stored in it"
    assert words in refused(bundle)


def test_absurd_weights_are_refused(bundle):
    tensors = load_file(bundle / ADAPTER)
    save_file({n: torch.full_like(t, 3e38) for n, t in tensors.items()}, bundle / ADAPTER)
    seal(bundle)
    assert "NaN or infinite" in refused(bundle)


def test_pairs_and_bf16_are_proven_too(tmp_path):
    base = save_tiny_encoder(tmp_path / "base", "bert")
    encoder, model = trained(str(base), dtype=torch.bfloat16)
    save_bundle(tmp_path / "bundle", model, encoder, replace(SETTINGS, text_columns=["a", "b"]))
    for attention in ("eager", "sdpa"):
        found = load_bundle(tmp_path / "bundle", attention=attention).info.probes
        assert {len(probe.texts) for probe in found} == {2}
    probes = json.loads((tmp_path / "bundle" / "feathertune.json").read_text())["probes"]
    for probe in probes:
        probe["logits"] = [value + 1.0 + abs(value) for value in probe["logits"]]
    edit(tmp_path / "bundle" / "feathertune.json", probes=probes)
    seal(tmp_path / "bundle")
    assert "no longer gives the logits" in refused(tmp_path / "bundle")


def test_a_tokenizer_with_more_tokens_than_the_base_embeds(bundle):
    content = json.loads((bundle / "tokenizer.json").read_text())
    content["model"]["vocab"]["zebra"] = 4_000
    (bundle / "tokenizer.json").write_text(json.dumps(content))
    tokens = json.loads((bundle / "tokenizer.json").read_text())["added_tokens"]
    content["added_tokens"] = [*tokens, {**tokens[0], "id": 200, "content": "[NEW]"}]
    (bundle / "tokenizer.json").write_text(json.dumps(content))
    seal(bundle)
    message = refused(bundle)
    assert "has 153 tokens" in message
    assert "embeddings for only 151" in message


# Copies of its own


@pytest.fixture(params=["peft", "part", "full"])
def of_a_kind(request, tmp_path) -> Path:
    base = save_tiny_encoder(tmp_path / "base", "bert")
    if request.param == "peft":
        encoder, model = trained(str(base))
    else:
        encoder = load_encoder(str(base), labels=LABELS, seed=0)
        model = encoder.model
        model.bert.embeddings.requires_grad_(request.param == "full")
    save_bundle(tmp_path / "bundle", model, encoder, SETTINGS)
    return tmp_path / "bundle"


@pytest.mark.parametrize("how", ["overwritten", "truncated"])
def test_a_loaded_model_does_not_depend_on_files(how, of_a_kind):
    loaded = load_bundle(of_a_kind)
    before = logits(loaded.model, loaded.tokenizer)
    for path in (*of_a_kind.glob("*.safetensors"), *(of_a_kind.parent / "base").glob("*.safetensors")):
        with path.open("r+b") as file:  # in place: the same file that a map would show
            if how == "truncated":
                file.truncate(16)
            else:
                file.write(b"\x11" * path.stat().st_size)
    assert torch.equal(logits(loaded.model, loaded.tokenizer), before)
    assert str(of_a_kind.parent) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("file", ["feathertune.json", "adapter_config.json", ADAPTER, "tokenizer.json"])
def test_a_file_that_changes_after_its_hash_was_checked(file, bundle, monkeypatch):
    real = load_module.read_info

    def swapping(folder):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-1] + content[-1:])
        return real(folder)

    monkeypatch.setattr(load_module, "read_info", swapping)
    assert f"changed while it was loaded: {file}" in refused(bundle)

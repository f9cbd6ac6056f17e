"""Every family that transformers classifies texts with goes the whole way: facts, fast parts, bundle, export, bf16."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from families import CANNOT, NAMES, VARIANTS, runs_text, save_family, save_variant
from feathertune.bundle import Description, load_bundle, save_bundle
from feathertune.bundle.plain_use import plain_use
from feathertune.config import EngineConfig, TrainConfig
from feathertune.data.tokens.encode import encode
from feathertune.encoders import LoadedEncoder, load_encoder, quiet_transformers
from feathertune.encoders.classifier_head import head_logits
from feathertune.encoders.trial import trial_batches
from feathertune.engine.fast_path import fast_parts, fitting_runtime, turn_off_dropout
from feathertune.engine.prefix_cache.store import ActivationCache
from feathertune.engine.training.gradient import Labelled
from feathertune.engine.training.head import extract_features
from feathertune.errors import BundleError, ConfigError, EncoderError
from feathertune.export import export_model
from feathertune.methods import METHODS, Job
from feathertune.predictor import Predictor
from feathertune.study.running.prepare import ReadyModel, training_of
from feathertune.tasks.losses import CROSS_ENTROPY
from tiny import TEXTS
from trained import one_thread
from whole import BF16, CONFIGS, CPU, assert_equal_answers

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
LABELS = ("no", "yes")
MAX_LENGTH = 24
# Of different structure: two-way and one-way attention, grouped heads, an encoder-decoder, padding on the left,
# relative positions that fail in bf16, no linear layers. The others take minutes.
DEFAULT = ("deberta", "gemma3_text-both-ways", "gpt2-no-pad", "ibert", "t5", "xlnet")
# Plain transformers gives a padded text other logits there: their models read padding.
READ_PADDING = {"canine", "convbert", "fnet", "mobilebert", "nystromformer", "t5gemma", "t5gemma2", "yoso"}
NO_LINEARS = {"ibert", "squeezebert"}
# Where a head pools logits of tokens, or of several vectors.
READ_SEVERAL = {"eurobert"}
# Families whose blocks the engine knows, by their structure.
_OWN_BLOCKS = """
albert arcee bert camembert data2vec-text deberta-v2 distilbert electra ernie eurobert gemma gemma3 gemma3_text
gpt2 gpt_bigcode gte jina_embeddings_v3 llama ministral ministral3 mistral modernbert
modernbert-decoder modernvbert mpnet nemotron nomic_bert olmo olmo2 olmo3 phi3 qwen2 qwen3
roberta roberta-prelayernorm roc_bert seed_oss smollm3 starcoder2 ultrabert ultravbert xlm-roberta
xlm-roberta-xl
"""
OWN_BLOCKS = set(_OWN_BLOCKS.split())
FAILS_IN_BF16 = {"deberta", "xmod"}
# Layers whose output no logit depends on: plain PEFT has no gradient for their adapters either.
HAS_IDLE_LAYERS = {"axk2", "canine", "lilt", "modernvbert", "mra", "reformer"}
# Backward passes of transformers' own, which run in training mode only.
TRAINS_IN_TRAINING_MODE = {"reformer"}
# Several layers share a weight, and each gets an adapter of its own.
SHARE_WEIGHTS = {"zamba", "zamba2"}
# Their attention is zero without a CUDA kernel, and a first token sees itself alone.
READ_NOTHING = {"mra"}
# Fewest tokens of a text that transformers can read alone.
FEWEST_TOKENS = {"canine": 4}
# Share of the largest number.
IN_FP32, IN_BF16 = 5e-5, 3e-2


def _each() -> Any:
    names = sorted({*NAMES, *VARIANTS} - CANNOT.keys())
    return [pytest.param(name, marks=[] if name in DEFAULT else [pytest.mark.slow]) for name in names]


@pytest.fixture(scope="module", params=_each())
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("base") / request.param
    return request.param, save_variant(folder, request.param)


@pytest.fixture
def family(base: tuple[str, Path]) -> str:
    return base[0]


@pytest.fixture
def load(base: tuple[str, Path]) -> Any:
    return functools.partial(load_encoder, str(base[1]), labels=LABELS, seed=0, attention="eager")


def _answers(model: nn.Module, batches: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], set[str]]:
    """Logits and gradients of trained parameters, and names of those that have one."""
    logits = [model(**batch).logits for batch in batches]
    model.zero_grad()
    sum((one.square() * torch.arange(1, one.shape[1] + 1)).sum() for one in logits).backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in trained.items()}
    return (
        {"logits": torch.cat(logits).detach(), **found},
        {name for name, p in trained.items() if p.grad is not None},
    )


def _moved(encoder: LoadedEncoder, method: str) -> nn.Module:
    """The model that a method prepares, away from where adapters begin."""
    chosen = METHODS[method]
    model = chosen.prepare(encoder, chosen.options(), Job(0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return model


def test_the_head_alone_gives_the_models_logits(family, load):
    encoder = load()
    facts = encoder.facts
    assert (facts.padding is None) == (family in READ_PADDING)
    assert (facts.reads is None) == (family in READ_SEVERAL)
    assert encoder.hidden_size in (32, 48)
    assert not [path for path in encoder.spec.all_blocks if "vision" in path or "embeddings" in path]
    layers = []
    for batch in trial_batches(encoder)[: 1 if facts.padding is None else 2]:
        with torch.no_grad():
            expected = encoder.model(**batch).logits
            features = extract_features(encoder, batch)
            assert features.layers.shape[0] == len(features.read)
            layers.append(features.layers[-1])  # of the same text, alone and next to a shorter one
            assert torch.isfinite(features.mean).all()
            if facts.reads is not None:
                torch.testing.assert_close(head_logits(encoder, features.read), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layers[0], layers[-1], rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        alone = torch.cat([encoder.model(**batch).logits for batch in trial_batches(encoder)])
    differ = bool((alone[0] - alone[1]).abs().max() > 1e-3)
    assert differ == (family not in READ_NOTHING)
    assert differ != any("same vector for every text" in note for note in encoder.notes)


def test_hidden_states_that_are_kept_change_nothing(family, load):
    encoder = load()
    if family in NO_LINEARS or encoder.spec.shared_blocks:
        pytest.skip("it has no last block to adapt alone")
    turn_off_dropout(encoder.model)
    method = METHODS["lora"]
    model = method.prepare(encoder, method.options(top_layers=1), Job(0)).train(family in TRAINS_IN_TRAINING_MODE)
    texts = {"train": encode(encoder.tokenizer, [*TEXTS, *TEXTS], max_length=MAX_LENGTH)}
    found = []
    for cache in ("off", "ram"):
        kept = ActivationCache(EngineConfig(cache=cache), CPU, token_budget=4096, base_fingerprint="")
        with fast_parts(encoder, EngineConfig(), CPU), kept.inputs(encoder, model, texts) as inputs:
            found.append(_answers(model, [inputs.texts["train"].collate(np.arange(8), CPU.device)]))
    assert_equal_answers(found[1][0], found[0][0], of_largest=IN_FP32)
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_fast_parts_keep_logits_and_gradients(family, load, method):
    encoder = load()
    if method == "lora" and family in NO_LINEARS:
        with pytest.raises(ConfigError, match="no linear layers"):
            METHODS[method].prepare(encoder, METHODS[method].options(), Job(0))
        return
    turn_off_dropout(encoder.model)
    model = _moved(encoder, method).train(family in TRAINS_IN_TRAINING_MODE)
    batches = trial_batches(encoder)
    with fast_parts(encoder, CONFIGS["all-off"], CPU) as parts:
        assert not parts.parts
        expected, with_gradient = _answers(model, batches)
    with fast_parts(encoder, EngineConfig(), CPU) as parts:
        assert ("blocks" in parts.parts) == (VARIANTS.get(family, (family,))[0] in OWN_BLOCKS)
        found, same = _answers(model, batches)
    assert_equal_answers(found, expected, of_largest=IN_FP32)
    idle = {name for name, p in model.named_parameters() if p.requires_grad} - with_gradient
    if method == "lora":
        assert same == with_gradient
        assert bool(idle) == (family in HAS_IDLE_LAYERS), idle


@pytest.mark.parametrize("method", ["head", "lora", "full"])
def test_a_bundle_is_plain_transformers_and_peft(family, base, load, method, tmp_path, monkeypatch):
    if method == "lora" and family in NO_LINEARS:
        pytest.skip("refused")
    encoder = load()
    model = _moved(encoder, method)
    _train(encoder, model, method, CPU)
    save_bundle(
        tmp_path / "bundle",
        model,
        encoder,
        Description(method=method, max_length=MAX_LENGTH, text_columns=["text"]),
    )
    texts = [text for text in TEXTS if len(encoder.tokenizer(text)["input_ids"]) >= FEWEST_TOKENS.get(family, 0)]
    batch = texts if family not in READ_PADDING else []
    expected = _by_a_stranger(tmp_path / "bundle", base[1], monkeypatch, texts, batch)
    assert np.ptp(expected[:, 0]) > 1e-3 or family in READ_NOTHING
    predictor = Predictor(load_bundle(tmp_path / "bundle"), CPU, EngineConfig())
    alone = np.concatenate([predictor.probabilities([text]) for text in texts])
    np.testing.assert_allclose(alone, expected, rtol=0, atol=1e-5)
    if batch:
        np.testing.assert_allclose(predictor.probabilities(batch), expected, rtol=0, atol=1e-5)
    if method == "lora" and family in SHARE_WEIGHTS:
        with pytest.raises(BundleError, match="share a weight"):
            export_model(tmp_path / "bundle", tmp_path / "merged")
    elif method != "head":
        monkeypatch.setattr("feathertune.export.parity.N_PSEUDO_TEXTS", 8)
        parity = export_model(tmp_path / "bundle", tmp_path / "merged")
        assert parity.max_abs_difference <= IN_FP32 * max(1.0, parity.largest_logit)


def _train(encoder: LoadedEncoder, model: nn.Module, method: str, runtime: Any) -> list[float]:
    """Losses of one step by the engine's loop."""
    chosen, job = METHODS[method], Job(0, n_steps=1, max_length=MAX_LENGTH)
    data = Labelled(encode(encoder.tokenizer, TEXTS, max_length=MAX_LENGTH), np.array([0, 1, 0, 1]))
    ready = ReadyModel(chosen, chosen.options(), job, encoder, model, CROSS_ENTROPY)
    settings = TrainConfig(epochs=1, batch_size=len(TEXTS), patience=1, token_budget=512)
    training = training_of(ready, data, data, settings=settings, runtime=runtime)
    return [event.train_loss for event in training.events() if hasattr(event, "train_loss")]


def _by_a_stranger(bundle: Path, base: Path, monkeypatch: Any, texts: list[str], batch: list[str]) -> np.ndarray:
    """Probabilities ``(N, C)`` of the texts, each alone, by the Python of the bundle's card; the same in a batch."""
    info = load_bundle(bundle).info
    code = plain_use(info, info.kind).replace(json.dumps(info.base.repository), json.dumps(str(base)))
    monkeypatch.chdir(bundle)
    names: dict[str, Any] = {}
    torch.manual_seed(1234)
    with quiet_transformers(), torch.no_grad():
        exec(code, names)
        model, settings = names["model"], {"truncation": True, "max_length": MAX_LENGTH, "return_tensors": "pt"}
        found = [model(**names["tokenizer"]([text], **settings)).logits.softmax(-1) for text in texts]
        if batch:
            together = model(**names["tokenizer"](batch, padding=True, **settings))
            torch.testing.assert_close(together.logits.softmax(-1), torch.cat(found), rtol=0, atol=1e-5)
    return torch.cat(found).numpy()


@pytest.mark.parametrize("method", ["lora", "full"])
def test_bf16_works_or_gives_way(family, load, method):
    if method == "lora" and family in NO_LINEARS:
        method = "head"
    encoder = load()
    turn_off_dropout(encoder.model)
    runtime, note = fitting_runtime(encoder, EngineConfig(), BF16)
    assert bool(note) == (runtime.dtype == "fp32") == (family in FAILS_IN_BF16)
    model = _moved(encoder, method).eval()
    texts = encode(encoder.tokenizer, [f"{one} {other}" for one in TEXTS for other in TEXTS], max_length=MAX_LENGTH)
    batch = texts.collate(np.arange(len(texts)), CPU.device)
    with torch.no_grad():
        exact = model(**batch).logits
        with fast_parts(encoder, EngineConfig(), runtime), runtime.autocast():
            found = model(**batch).logits.float()
    # Not the largest difference: a router sends a token to another expert after a rounding.
    assert (found - exact).abs().median() <= IN_BF16 * exact.abs().max()
    assert all(np.isfinite(_train(encoder, model, method, runtime)))


def test_bert_that_looks_back_only(tmp_path):
    encoder = load_encoder(str(save_family(tmp_path, "bert", is_decoder=True)), labels=LABELS, seed=0)
    batches = trial_batches(encoder)
    with torch.no_grad():
        expected = [encoder.model(**batch).logits for batch in batches]
        with fast_parts(encoder, EngineConfig(), CPU) as parts:
            assert len(parts.blocks) == len(encoder.blocks)
            for batch, logits in zip(batches, expected, strict=True):
                torch.testing.assert_close(encoder.model(**batch).logits, logits)


@pytest.mark.parametrize("family", CANNOT)
def test_what_transformers_cannot_run_is_refused(family, tmp_path):
    """The day it can, this fails: take the family off the list."""
    by_transformers, said = CANNOT[family]
    assert runs_text(family) != by_transformers
    if by_transformers:
        return
    with pytest.raises(EncoderError, match=said):
        load_encoder(str(save_family(tmp_path, family)), labels=LABELS, seed=0)


def test_the_page_names_every_family():
    page = (Path(__file__).parents[2] / "docs" / "base-models.md").read_text(encoding="utf-8")
    assert not [name for name in NAMES if f"`{name}`" not in page]

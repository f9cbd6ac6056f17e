"""Full fine-tuning whose head begins with the mean over tokens: ``read=mean``."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from feathertune.config import load_config
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.engine.training.head import extract_features
from feathertune.errors import ConfigError
from feathertune.methods import METHODS, Job
from feathertune.study import compare
from feathertune.study.observe import Silent
from feathertune.study.planning.planned_method import PlannedMethod
from feathertune.study.running import prepare
from tiny import TEXTS, save_texts, save_tiny_encoder
from whole import CONFIGS, CPU, LENGTHS, POST_NORM, Prepared, answers, assert_equal_answers, folder, mode, set_dropout

FULL = METHODS["full"]
MEAN = FULL.options(read="mean")


def prepared(tmp_path, family, options):
    folder = save_tiny_encoder(tmp_path / family, family)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    FULL.prepare(encoder, options, Job(0))
    return encoder


def texts_for(encoder):
    """All of `TEXTS` as an encoder takes them, padded."""
    return dict(encoder.tokenizer(list(TEXTS), padding=True, return_tensors="pt"))


@pytest.mark.parametrize("family", POST_NORM)
def test_the_head_reads_the_mean_of_the_last_hidden_states(family, tmp_path):
    plain, changed = (prepared(tmp_path, family, options) for options in (FULL.options(), MEAN))
    batch = texts_for(plain)
    assert len(set(batch["attention_mask"].sum(1).tolist())) > 1, "padding counts nowhere"
    mean = extract_features(plain, batch).mean
    centred = mean - mean.mean(1, keepdim=True)
    expected = centred / centred.norm(dim=1, keepdim=True)
    read = extract_features(changed, batch).read
    if family == "bert":  # behind the pooler, whose tanh this takes back
        read = torch.atanh(read)
    # The first token's own state is a thousandth of the sum that the block's norm reads.
    torch.testing.assert_close(read, expected, atol=2e-3, rtol=0)
    with torch.no_grad():
        hidden = [one.model(**batch, output_hidden_states=True).hidden_states for one in (plain, changed)]
    assert len(hidden[1]) == len(hidden[0]) + 1
    for before, after in zip(hidden[0], hidden[1], strict=False):
        torch.testing.assert_close(before, after, atol=0, rtol=0)
    assert all(parameter.requires_grad for parameter in changed.model.parameters())


@pytest.mark.parametrize("family", POST_NORM)
def test_what_stands_before_the_output_layer_lets_the_mean_through(family, tmp_path):
    changed = prepared(tmp_path, family, MEAN)
    batch = texts_for(changed)
    seen = []
    head = changed.model.get_submodule(changed.spec.head[-1])
    output = [module for module in head.modules() if isinstance(module, nn.Linear)][-1]
    hook = output.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        last = changed.backbone(**batch)[0][:, 0]
        changed.model(**batch)
    hook.remove()
    through = {"electra": nn.functional.gelu, "distilbert": torch.relu}.get(family, torch.tanh)
    torch.testing.assert_close(seen[0], through(last), atol=1e-6, rtol=0)


@pytest.mark.parametrize("family", POST_NORM)
def test_transformers_loads_it_with_one_layer_more(family, tmp_path):
    changed = prepared(tmp_path, family, MEAN)
    batch = texts_for(changed)
    changed.model.save_pretrained(tmp_path / "saved")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", attn_implementation="eager").eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, changed.model(**batch).logits, atol=0, rtol=0)
    assert loaded.config.num_hidden_layers == changed.n_layers == 3


@pytest.mark.parametrize("family", POST_NORM)
@pytest.mark.parametrize("config", CONFIGS)
def test_the_engine_gives_its_answers_and_gradients(family, config):
    encoder = load_encoder(str(folder(family)), labels=("no", "yes", "so"), seed=0, attention="eager")
    found = Prepared(encoder, FULL.prepare(encoder, MEAN, Job(0)))
    with mode(found.model, training=True):
        set_dropout(found.model, 0.0)
        expected = answers(found, LENGTHS["short-padded"])
        added = {name: value for name, value in expected.items() if f"{encoder.spec.blocks}.2." in name}
        assert sum(bool(value.any()) for value in added.values()) >= 5, "values, output, biases and norms are trained"
        with fast_parts(encoder, CONFIGS[config], CPU):
            assert_equal_answers(answers(found, LENGTHS["short-padded"]), expected, of_largest=5e-5)


def test_training_leaves_the_added_attention_a_mean(tmp_path):
    """Query and key are zero, and each stands before the other's gradient."""
    changed = prepared(tmp_path, "bert", MEAN)
    batch = texts_for(changed)
    optimizer = torch.optim.AdamW(changed.model.parameters(), lr=1e-2)
    before = changed.blocks[-1].attention.self.value.weight.detach().clone()
    for _ in range(3):
        changed.model(**batch, labels=torch.tensor([0, 1, 0, 1][: len(TEXTS)])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        attention = changed.model(**batch, output_attentions=True).attentions[-1]
    alike = batch["attention_mask"] / batch["attention_mask"].sum(1, keepdim=True)
    torch.testing.assert_close(attention[:, :, 0], alike[:, None].expand(-1, attention.shape[1], -1))
    assert (changed.blocks[-1].attention.self.value.weight - before).abs().max() > 1e-3


@pytest.mark.parametrize("family", ["albert", "deberta", "mpnet", "modernbert"])
def test_an_encoder_without_such_blocks_is_refused(family, tmp_path):
    with pytest.raises(ConfigError, match=f"BERT's kind of blocks, which {family} encoders do not have"):
        prepared(tmp_path, family, MEAN)


def test_reading_the_mean_has_a_rate_of_its_own_where_none_is_said():
    assert (FULL.options().learning_rate, MEAN.learning_rate) == (5e-5, 1e-4)
    assert FULL.options(read="mean", learning_rate=3e-5).learning_rate == 3e-5


def test_the_head_is_fitted_first_to_what_it_reads_then(tmp_path, monkeypatch):
    data = save_texts(tmp_path / "texts.csv", 24)
    folder = save_tiny_encoder(tmp_path / "encoder", "bert")
    options = {"data.source": str(data), "base.id": str(folder), "data.max_length": 16, "engine.dtype": "fp32"}
    study = compare.prepare(load_config(options={**options, "data.validation_size": 0}), Silent())
    bench, train = study.bench, study.study.config.train
    found = {}
    monkeypatch.setattr(prepare, "fit_head", lambda _encoder, read, *_args, **_named: found.update(read=read))
    for wanted in (FULL.options(), MEAN):
        ready = prepare.ready_model(PlannedMethod(FULL, wanted).run(0), train, bench)
        prepare.start_head(ready, bench)
        ids = torch.tensor(bench.encoded["train"].pieces([3])[0], dtype=torch.long)[None]
        read = extract_features(ready.encoder, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).read
        torch.testing.assert_close(torch.from_numpy(found["read"][3:4]), read, atol=1e-5, rtol=1e-5)

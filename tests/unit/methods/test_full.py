"""Full fine-tuning whose head begins with the mean over tokens: ``read=mean``."""

import pytest
import torch

from feathertune.config import load_config
from feathertune.encoders import load_encoder
from feathertune.engine.head import extract_features
from feathertune.errors import ConfigError
from feathertune.methods import METHODS, Job
from feathertune.study import prepare
from feathertune.study.observe import Silent
from feathertune.study.workbench import Workbench
from tiny import TEXTS, save_tiny_encoder

FULL = METHODS["full"]
MEAN = FULL.options(read="mean")


def prepared(tmp_path, family, options):
    folder = save_tiny_encoder(tmp_path / family, family)
    encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
    FULL.prepare(encoder, options, Job(0))
    return encoder


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_the_first_token_looks_at_all_alike_in_the_last_layer_and_nothing_else_changes(family, tmp_path):
    plain, changed = (prepared(tmp_path, family, options) for options in (FULL.options(), MEAN))
    batch = dict(plain.tokenizer(list(TEXTS), padding=True, return_tensors="pt"))
    n_tokens = batch["attention_mask"].sum(1)
    with torch.no_grad():
        before, after = (one.model(**batch, output_attentions=True).attentions for one in (plain, changed))
    alike = batch["attention_mask"] / n_tokens[:, None]
    torch.testing.assert_close(after[-1][:, :, 0], alike[:, None].expand(-1, after[-1].shape[1], -1))
    assert (before[-1] - after[-1]).abs().max() > 0.01
    torch.testing.assert_close(before[0], after[0], atol=0, rtol=0)
    assert all(parameter.requires_grad for parameter in changed.model.parameters())


@pytest.mark.parametrize("family", ["albert", "deberta", "modernbert"])
def test_an_encoder_without_such_a_query_is_refused(family, tmp_path):
    with pytest.raises(ConfigError, match=f"the last layer of {family} encoders has no query of its own"):
        prepared(tmp_path, family, MEAN)


def test_the_head_is_fitted_first_to_what_it_reads_then(tmp_path, monkeypatch):
    data = tmp_path / "texts.csv"
    data.write_text("text,label\n" + "".join(f'"{TEXTS[i % 4]} {i}",{"ab"[i % 2]}\n' for i in range(24)))
    folder = save_tiny_encoder(tmp_path / "encoder", "bert")
    options = {"data.source": str(data), "base.id": str(folder), "data.max_length": 16, "engine.dtype": "fp32"}
    bench = Workbench.prepare(load_config(options={**options, "data.validation_size": 0}), Silent())
    found = {}
    monkeypatch.setattr(prepare, "fit_head", lambda _encoder, read, *_args, **_named: found.update(read=read))
    for wanted in (FULL.options(), MEAN):
        encoder, _ = prepare.prepared_model(FULL, wanted, prepare.job_of(bench, 0), bench)
        prepare.start_head(encoder, FULL, wanted, 0, bench)
        ids = torch.tensor(bench.encoded["train"].pieces([3])[0], dtype=torch.long)[None]
        read = extract_features(encoder, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).read
        torch.testing.assert_close(torch.from_numpy(found["read"][3:4]), read, atol=1e-5, rtol=1e-5)

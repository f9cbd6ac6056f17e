"""The work that a run is expected to do is the work that it reports, so a bar ends at 100%."""

import pytest

from e2e.cli import reviews, write_csv
from feathertune.config import load_config
from feathertune.study.compare import prepare
from feathertune.study.finetune import finetune
from feathertune.study.observe import Silent
from feathertune.study.running import training
from feathertune.study.running.runs import expected_work
from feathertune.study.running.training import Outputs
from tiny import save_tiny_encoder


class Counting(Silent):
    def __init__(self):
        self.work = self.done = self.before = 0.0

    def planned(self, work, finished):
        (self.work,) = work.values()

    def advanced(self, work, text=""):
        self.done += work

    def skipped(self, work):
        self.before += work


@pytest.fixture
def config(tmp_path):
    data = write_csv(tmp_path / "reviews.csv", reviews(60))
    encoder = save_tiny_encoder(tmp_path / "encoder", "bert")
    options = {"data.source": str(data), "base.id": str(encoder), "data.max_length": 16, "train.epochs": 1}
    return load_config(options={**options, "engine.dtype": "fp32", "study.methods": ["lora"], "study.seeds": 1})


@pytest.mark.parametrize(("head_first", "method"), [("on", "lora"), ("off", "lora"), ("on", "full:read=mean")])
def test_a_training_reports_all_of_its_work(config, tmp_path, head_first, method):
    settings = config.train.model_copy(update={"head_first": head_first})
    counting = Counting()
    finetune(config.model_copy(update={"train": settings}), method, tmp_path / "out", seed=0, observer=counting)
    assert counting.done + counting.before == counting.work > 0
    assert (counting.before > 0) == (method != "lora"), "the features of a mean are not the base model's"


def test_features_that_another_run_computed_are_behind_it(config, tmp_path):
    prepared = prepare(config, Silent())
    (spec,) = (spec for spec in prepared.plan.runs if spec.method == "lora")
    counts = []
    for name in ("first", "second"):
        counts.append(Counting())
        training.train_and_test(spec, prepared, counts[-1], Outputs(tmp_path / f"{name}.jsonl"))
    n_train = len(prepared.bench.encoded["train"])
    assert [count.before for count in counts] == [0, n_train]
    assert {count.done + count.before for count in counts} == {expected_work(spec, prepared)}

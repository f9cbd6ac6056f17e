"""From settings to a study that can start: what each stage decides and refuses."""

import dataclasses
import pickle

import pytest

from e2e.cli import reviews, write_csv
from feathertune.config import load_config
from feathertune.errors import ConfigError, UnknownNameError
from feathertune.runtime import choose_runtime
from feathertune.study.observe import Silent
from feathertune.study.planning.resolve import settle
from feathertune.study.prepared import prepare_study
from feathertune.study.running.workbench import Workbench
from feathertune.tasks import SINGLE_LABEL
from tiny import save_tiny_encoder


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return {
        "data.source": str(write_csv(folder / "reviews.csv", reviews(60))),
        "base.id": str(save_tiny_encoder(folder / "encoder", "bert")),
        "data.max_length": 16,
        "engine.dtype": "fp32",
        "study.methods": ["lora", "full"],
    }


def resolved(options, seed=None, **more):
    settled = settle(load_config(options=options | {key.replace("__", "."): value for key, value in more.items()}))
    return prepare_study(settled, choose_runtime(settled.config.engine), Silent(), seed=seed)


def test_settings_alone_decide_methods_sweeps_and_steps():
    config = load_config(options={"study.methods": ["lora", "lora:top_layers=auto", "full", "majority"]})
    settled = settle(config)
    assert {one.method.name: one.sweeps_depth for one in settled.methods} == {
        "lora": False,
        "lora:top_layers=auto": True,
        "full": False,
    }
    assert settled.config.study.methods == ("lora", "lora:top_layers=auto", "full")
    assert settled.config.method["lora:top_layers=auto"]["top_layers"] == "auto"
    assert settled.config.train.min_steps == 0
    assert settle(settled.config) == settled, "settings that are written down mean the same again"
    with pytest.raises(UnknownNameError):
        settle(load_config(options={"study.methods": ["lorra"], "data.source": "missing.csv"}))


def test_a_comparison_has_its_task_metric_and_runs(options):
    prepared = resolved(options, study__seeds=2, train__decision="moved", study__metric="balanced_accuracy")
    study = prepared.study
    assert study.task.name == SINGLE_LABEL.name
    assert study.task.fit_thresholds is not SINGLE_LABEL.fit_thresholds
    assert study.task.primary.name == study.config.study.metric == "balanced_accuracy"
    trained = [(run.method, run.seed) for run in study.plan.runs if run.kind in ("peft", "full")]
    assert trained == [("lora", 0), ("full", 0), ("lora", 1), ("full", 1)]
    assert all(run.trains for run in study.plan.runs if run.kind in ("peft", "full"))
    assert {run.method for run in study.plan.runs} == {
        "majority",
        "tfidf",
        "foundation",
        "probe",
        "stack",
        "lora",
        "full",
    }
    assert prepared.plan is study.plan


def test_auto_becomes_the_metric_that_follows_from_the_data(options):
    assert resolved(options).study.config.study.metric == "accuracy"


def test_a_training_has_one_run_with_its_seed(options):
    study = resolved(options, seed=3, study__methods=["lora"]).study
    assert [(run.id, run.seed) for run in study.plan.runs] == [("lora-s3", 3)]


def test_a_fingerprint_is_of_settings_data_and_encoder(options, tmp_path):
    first = resolved(options).plan.fingerprint
    assert resolved(options).plan.fingerprint == first
    other_data = {**options, "data.source": str(write_csv(tmp_path / "reviews.csv", reviews(80)))}
    other_base = {**options, "base.id": str(save_tiny_encoder(tmp_path / "encoder", "bert", num_hidden_layers=3))}
    changed = [
        resolved(options, train__epochs=9),
        resolved(options, study__seeds=2),
        resolved(options, train__class_weights="balanced"),
        resolved(other_data),
        resolved(other_base),
    ]
    assert len({first, *(one.plan.fingerprint for one in changed)}) == 1 + len(changed)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"data__shots": 1000}, "--shots is 1,000"),
        ({"study__train_sizes": "5,5000"}, "--train-sizes has 5,000"),
        ({"data__max_length": 5000}, "--max-length is 5000"),
        ({"study__metric": "spearman"}, "study.metric is spearman"),
    ],
)
def test_what_does_not_fit_data_or_encoder_is_refused(options, more, words):
    with pytest.raises(ConfigError) as error:
        resolved(options, **more)
    assert words in str(error.value)


def test_the_workbench_knows_no_settings_and_a_study_may_train_otherwise(options):
    prepared = resolved(options)
    assert "config" not in {field.name for field in dataclasses.fields(Workbench)}
    assert not hasattr(prepared.bench, "config")
    study = prepared.study
    short = study.with_train(study.config.train.model_copy(update={"epochs": 1}))
    assert (short.config.train.epochs, study.config.train.epochs) == (1, 5)
    assert short.plan.runs == study.plan.runs
    assert short.task is study.task


def test_what_other_processes_get_survives_the_way(options):
    """A runner sends both to other processes."""
    cloudpickle = pytest.importorskip(
        "cloudpickle", reason="cloudpickle, which the runner 'ray' needs, is not installed"
    )
    prepared = resolved(options, train__decision="moved")
    bench = prepared.bench.for_processes(prepared.bench.runtime)
    study, again = pickle.loads(cloudpickle.dumps((prepared.study, bench)))
    assert study.plan == prepared.plan
    assert study.config.runner == prepared.study.config.runner
    ours = prepared.study.task
    assert (study.task.name, study.task.primary.name) == (ours.name, ours.primary.name)
    assert list(again.splits["train"].texts) == list(bench.splits["train"].texts)

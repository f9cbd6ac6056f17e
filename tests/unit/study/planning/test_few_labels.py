"""Few labels: what is settled where no rows are kept for validation, and what is refused."""

import numpy as np
import pytest

from e2e.cli import reviews, write_csv
from feathertune.config import STEPS_WITHOUT_VALIDATION, TrainConfig, load_config
from feathertune.errors import ConfigError
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.study.planning.resolve import settle
from tiny import save_tiny_encoder


def settled(**options):
    return settle(load_config(options=options)).config


def test_shots_are_all_that_is_known_and_steps_are_counted():
    config = settled(**{"data.shots": 8})
    assert config.data.validation_size == 0
    assert config.train.min_steps == STEPS_WITHOUT_VALIDATION
    assert settle(config).config == config, "what is written down runs again as it is"
    assert settled().train.min_steps == 0
    assert settled(**{"data.validation_size": 0, "train.min_steps": 7}).train.min_steps == 7


@pytest.mark.parametrize(
    ("n_rows", "epochs"),
    [(16, 100), (17, 50), (32, 50), (320, 5), (10_000, 5)],
)
def test_epochs_are_raised_to_the_steps(n_rows, epochs):
    assert TrainConfig(min_steps=100).epochs_on(n_rows) == epochs
    assert TrainConfig().epochs_on(n_rows) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data.shots": 8, "data.validation_size": 0.2}, "but --validation-size is 0.2"),
        ({"data.shots": 8, "data.train_size": 100}, "Both --shots and --train-size set"),
        ({"data.shots": 8, "study.train_sizes": "10,all"}, "Both --shots and --train-sizes set"),
        ({"data.shots": 8, "study.search": 5}, "--search 5 needs validation rows, but --shots 8 keeps none"),
        (
            {"data.validation_size": 0, "study.search": 5},
            "--search 5 needs validation rows, but --validation-size 0 keeps",
        ),
        ({"data.validation_size": 0, "train.decision": "moved"}, "train.decision 'moved' needs validation rows"),
        ({"data.validation_size": 0, "method.top_layers": "auto"}, "top_layers 'auto' of lora needs validation rows"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ConfigError) as error:
        settled(**options)
    assert words in str(error.value)


def test_each_seed_draws_its_own_rows_for_all_methods_alike(tmp_path):
    data = write_csv(tmp_path / "reviews.csv", reviews(60))
    encoder = save_tiny_encoder(tmp_path / "encoder", "bert")
    options = {"data.source": str(data), "base.id": str(encoder), "data.max_length": 16, "data.shots": 4}
    prepared = prepare(load_config(options={**options, "engine.dtype": "fp32", "study.seeds": 2}), Silent())
    bench, plan = prepared.bench, prepared.plan
    n_rows = len(bench.encoded["train"])
    seeds = {name: [run.seed for run in plan.runs if run.method == name] for name in ("tfidf", "probe", "lora")}
    assert seeds == {"tfidf": [0, 1], "probe": [0, 1], "lora": [0, 1]}, "baselines are fitted to each draw, too"
    assert {run.train_rows for run in plan.runs if run.method != "foundation"} == {8}
    first, again, other = (bench.with_rows(8, seed).splits["train"] for seed in (0, 0, 1))
    assert first.texts == again.texts
    assert set(first.texts) != set(other.texts)
    for drawn in (first, other):
        assert np.bincount(drawn.labels).tolist() == [4, 4]
    assert (bench.data.n_train, bench.data.n_validation, bench.data.class_counts["train"]) == (8, 0, [4, 4])
    assert f"Each seed draws 4 rows of each class from {n_rows:,} training rows" in bench.data.notes[-1]

"""How few of the last layers are enough: which depths are tried, and which is taken."""

import pytest

from e2e.cli import reviews, write_csv
from feathertune.config import load_config
from feathertune.study.compare import prepare as prepare_comparison
from feathertune.study.observe import Silent
from feathertune.study.running import prepare
from feathertune.study.running import top_layers_sweep as depth
from feathertune.study.running.top_layers_sweep import choose_depth, depths, smallest_within
from tiny import save_tiny_encoder


@pytest.mark.parametrize(
    ("n_layers", "expected"),
    [(12, [1, 2, 3, 4, 6, 8, 12]), (6, [1, 2, 3, 4, 6]), (2, [1, 2]), (1, [1]), (24, [1, 2, 3, 4, 12, 16, 24])],
)
def test_depths_go_from_one_layer_to_all(n_layers, expected):
    assert depths(n_layers) == expected


@pytest.mark.parametrize(
    ("scores", "margin", "expected"),
    [
        ({1: 0.70, 2: 0.80, 4: 0.805, 6: 0.81}, 0.01, 2),  # exactly a margin below still counts
        ({1: 0.70, 2: 0.79, 4: 0.80, 6: 0.81}, 0.01, 4),
        ({1: 0.70, 2: 0.80, 4: 0.80, 6: 0.79}, 0.0, 2),
        ({1: 0.90, 6: 0.80}, 0.01, 1),
        ({3: 0.5}, 0.0, 3),
    ],
)
def test_the_smallest_within_a_margin_of_the_best(scores, margin, expected):
    assert smallest_within(scores, margin) == expected


def test_a_sweep_looks_at_no_test_row_and_gives_the_same_twice(tmp_path, monkeypatch):
    data = write_csv(tmp_path / "reviews.csv", reviews(60))
    encoder = save_tiny_encoder(tmp_path / "encoder", "bert")
    options = {"data.source": str(data), "base.id": str(encoder), "data.max_length": 16, "engine.dtype": "fp32"}
    options |= {"study.methods": ["lora"], "method.lora": {"top_layers": "auto", "r": 2}}
    prepared = prepare_comparison(load_config(options=options), Silent())
    bench, study = prepared.bench, prepared.study
    (spec,) = (run for run in study.plan.runs if run.method == "lora")
    assert spec.sweeps_depth
    bench.encoded.pop("test")
    monkeypatch.setattr(depth, "_TRAIN_ROWS", 20)
    monkeypatch.setattr(depth, "_VALIDATION_ROWS", 10)
    seen = []

    class Watched(prepare.Training):
        def __init__(self, model, train, validation, recipe, **settings):
            super().__init__(model, train, validation, recipe, **settings)
            trained = sum("lora_A" in name and p.requires_grad for name, p in model.named_parameters())
            seen.append((len(train.texts), len(validation.texts), recipe.settings.epochs, trained))

    monkeypatch.setattr(prepare, "Training", Watched)
    chosen, scores = choose_depth(spec, prepared)
    n_validation = min(10, len(bench.encoded["validation"]))
    assert seen == [(20, n_validation, 2, 6), (20, n_validation, 2, 12)]
    assert list(scores) == [1, 2]
    assert chosen == smallest_within(scores, study.config.study.margin)
    assert choose_depth(spec, prepared) == (chosen, scores)
    settled = spec.at_depth(chosen)
    assert (settled.options["top_layers"], settled.options["r"], settled.sweeps_depth) == (chosen, 2, False)

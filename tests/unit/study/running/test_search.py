"""Which options are searched, and which trial is taken. The search itself: `e2e/test_search.py`."""

import importlib.util

import pytest

from feathertune.config import load_config
from feathertune.errors import ConfigError, MissingExtraError
from feathertune.methods import method_named
from feathertune.records import TrialRecord
from feathertune.study.planning.method_sizing import Fit
from feathertune.study.planning.plan import make_plan, runs_of_study
from feathertune.study.planning.resolve import settle
from feathertune.study.running import search


def plan_of(**options):
    settled = settle(load_config(options={key.replace("__", "."): value for key, value in options.items()}))
    fit = Fit(settled.methods)
    return make_plan(settled.config, fit, runs_of_study(fit, settled.config.study.seeds), content=("d", "b"))


def spaces(**options):
    return {run.method: set(run.space) for run in plan_of(study__search=4, **options).runs if run.kind != "baseline"}


def test_what_is_given_is_not_searched():
    assert spaces(study__methods=["lora", "ia3"]) == {
        "probe": set(),
        "stack": set(),
        "lora": {"r", "learning_rate", "target_modules"} & set(method_named("lora").search_space),
        "ia3": {"learning_rate"},
    }
    assert "r" not in spaces(study__methods=["lora"], method__lora={"r": 4})["lora"]
    assert "r" not in spaces(study__methods=["lora"], method__r=4)["lora"]
    assert "r" not in spaces(study__methods=["lora:r=4"])["lora:r=4"]
    assert "r" not in spaces(study__methods=["lora:lora_alpha=8"], method__lora={"r": 4})["lora:lora_alpha=8"]
    assert "learning_rate" not in spaces(study__methods=["lora"], train__learning_rate=0.1)["lora"]
    assert "r" not in spaces(study__methods=["lora"], study__match_parameters="1%")["lora"]


def test_without_a_search_nothing_is_and_the_plan_is_the_one_it_was():
    plan = plan_of(study__methods=["lora"])
    assert all(run.space == {} for run in plan.runs)
    assert plan.fingerprint != plan_of(study__methods=["lora"], study__search=4).fingerprint


def test_what_is_searched_stays_open_in_the_settings():
    config = settle(load_config(options={"study.search": 4, "study.methods": ["lora"]})).config
    assert not {"r", "learning_rate"} & set(config.method["lora"])
    assert config.method["lora"]["lora_alpha"] == 16
    assert settle(config).config == config


def test_the_default_is_among_the_values_and_a_rate_is_a_range():
    (lora,) = (run for run in plan_of(study__search=4, study__methods=["lora"]).runs if run.method == "lora")
    lora = lora.with_options(learning_rate=1e-3)  # as the search fills it in
    bounds = search._bounds(lora)
    assert lora.options["r"] in bounds["r"]
    assert bounds["r"] == sorted(bounds["r"])
    low, high = bounds["learning_rate"]
    assert low < lora.options["learning_rate"] < high


def trial(number, status="complete", accuracy=0.5, log_loss=0.7):
    return TrialRecord(number=number, options={}, status=status, score=accuracy, log_loss=log_loss)


@pytest.mark.parametrize(
    ("trials", "best"),
    [
        ([trial(0), trial(1, accuracy=0.6), trial(2, accuracy=0.55)], 1),
        ([trial(0), trial(1, log_loss=0.6)], 1),
        ([trial(0), trial(1)], 0),
        ([trial(0), trial(1, "pruned", accuracy=0.9)], 0),
        ([trial(0, "failed", None, None), trial(1)], 1),
        ([trial(0, "failed", None, None)], None),
    ],
)
def test_the_best_trial_ran_to_its_end(trials, best):
    assert search._best(trials) == best


def test_what_cannot_be_searched_is_told_before_anything_is_read(monkeypatch):
    config = load_config(options={"study.search": 4, "method.lora": {"top_layers": "auto"}, "study.methods": ["lora"]})
    with pytest.raises(ConfigError, match=r"top_layers 'auto' of lora cannot be combined with study\.search"):
        settle(config)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'feathertune\[search\]'"):
        settle(load_config(options={"study.search": 4}))

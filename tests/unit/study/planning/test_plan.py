"""The list of runs of a study, and the fingerprint by which its folder is continued."""

from dataclasses import replace

from feathertune.baselines import BASELINES
from feathertune.config import Config, load_config
from feathertune.study.planning.method_sizing import Fit
from feathertune.study.planning.plan import make_plan, runs_of_study
from feathertune.study.planning.resolve import settle


def plan_of(config, content=("data", "base"), **rows):
    settled = settle(config)
    fit = Fit(settled.methods)
    return make_plan(settled.config, fit, runs_of_study(fit, config.study.seeds, **rows), content=content)


def test_baselines_may_be_named_and_are_there_anyway():
    plan = plan_of(load_config(options={"study.methods": ["probe", "lora", "lora"]}))
    assert {spec.method for spec in plan.runs} == {*BASELINES.names(), "lora"}
    assert [spec.id for spec in plan.runs if spec.method == "foundation"] == [f"foundation-s{i}" for i in range(5)]


def test_it_goes_seed_by_seed_and_knows_itself():
    config = load_config(options={"study.seeds": 2})
    plan = plan_of(config)
    assert [s.id for s in plan.runs if s.kind in ("peft", "full")] == ["lora-s0", "full-s0", "lora-s1", "full-s1"]
    assert plan.runs[-2].options["r"] == 8
    assert plan_of(plan.config) == plan, "a config with every option spelled out is the same plan"
    others = [
        plan_of(config, ("other", "base")),
        plan_of(config, ("data", "other")),
        plan_of(Config()),
        plan_of(load_config(options={"study.seeds": 2, "study.metric": "balanced_accuracy"})),
    ]
    assert len({plan.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_a_learning_curve_goes_from_few_rows_to_many_within_a_seed():
    plan = plan_of(load_config(options={"study.seeds": 2, "study.methods": ["lora"]}), sizes=(10, 30), n_rows=30)
    ids = [spec.id for spec in plan.runs]
    assert ids[-4:] == ["lora-n10-s0", "lora-n30-s0", "lora-n10-s1", "lora-n30-s1"]
    assert [spec.id for spec in plan.runs if spec.method == "tfidf"] == ["tfidf-n10-s0", "tfidf-n10-s1", "tfidf-n30-s0"]


def test_several_bases_are_done_one_after_the_other_and_texts_are_read_once():
    settled = settle(load_config(options={"study.seeds": 2, "study.methods": ["lora:r=4"]}))
    fit = Fit(tuple(replace(planned, base=base) for base in "ab" for planned in settled.methods))
    runs = runs_of_study(fit, 2, bases=("a", "b"))
    per_base = [
        *(f"foundation@%s-s{seed}" for seed in range(5)),
        "probe@%s-s0",
        "stack@%s-s0",
        "lora-r=4@%s-s0",
        "lora-r=4@%s-s1",
    ]
    assert [run.id for run in runs] == ["majority-s0", "tfidf-s0", *(id % base for base in "ab" for id in per_base)]
    assert (runs[-1].method, runs[-1].base, runs[-1].row) == ("lora:r=4", "b", "lora:r=4@b")
    assert [run.base for run in runs[:3]] == [None, None, "a"]

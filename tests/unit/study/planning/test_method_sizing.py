import pytest

from feathertune.config import load_config
from feathertune.encoders import load_encoder
from feathertune.errors import ConfigError
from feathertune.methods import METHODS, Method
from feathertune.methods.sizes import n_head
from feathertune.registry import Registry
from feathertune.study.observe import Silent
from feathertune.study.planning.method_sizing import fit_methods, join_fits
from feathertune.study.planning.plan import make_plan, runs_of_study
from feathertune.study.planning.resolve import settle
from tiny import save_tiny_encoder

BUDGET = 500


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return load_encoder(str(save_tiny_encoder(tmp_path_factory.mktemp("bert"), "bert")), labels=("a", "b"), seed=0)


@pytest.fixture(scope="module")
def modernbert(tmp_path_factory):
    folder = save_tiny_encoder(tmp_path_factory.mktemp("modernbert"), "modernbert")
    return load_encoder(str(folder), labels=("a", "b"), seed=0)


@pytest.fixture
def few(monkeypatch):
    """A registry of some methods: `all` of them are soon looked at."""
    names = ("lora", "ia3", "bitfit", "prefix", "head", "full")
    registry = Registry("method", [METHODS[name] for name in names])
    monkeypatch.setattr("feathertune.methods.METHODS", registry)
    monkeypatch.setattr("feathertune.study.planning.method_sizing.METHODS", registry)
    return registry


def fitted(encoder, **options):
    given = {"data.max_length": 16} | {key.replace("__", "."): value for key, value in options.items()}
    return fit(load_config(options=given), encoder)


def fit(config, encoder):
    settled = settle(config)
    return settled.config, fit_methods(settled.config, settled.methods, encoder, Silent())


def plan_of(config, found):
    return make_plan(config, found, runs_of_study(found, config.study.seeds), content=("data", "base"))


def test_a_size_for_a_budget_leaves_the_rate_to_each_training(bert):
    config, found = fitted(bert, study__methods=["lora"], study__match_parameters=2_000)
    (lora,) = plan_of(config, found).runs[-1:]
    assert lora.method == "lora"
    assert lora.options["r"] != METHODS["lora"].options().r
    assert "learning_rate" not in lora.options
    assert "learning_rate" not in config.method["lora"]


def test_each_method_gets_the_size_nearest_to_the_budget(bert):
    config, found = fitted(
        bert, study__methods=["lora", "shira", "fourierft", "ln-tuning"], study__match_parameters=BUDGET
    )
    trains = {one.method.name: one.trains - n_head(bert) for one in found.methods}
    rank_one = sum(out + into for out, into in (bert.model.get_submodule(n).weight.shape for n in bert.linear_names()))
    assert trains["lora"] == rank_one  # over the budget, and there is nothing below
    assert trains["fourierft"] == pytest.approx(BUDGET, rel=0.02)
    off = {one.method.name: one.off_budget for one in found.methods if one.off_budget}
    assert off["ln-tuning"] == (
        f"trains {trains['ln-tuning']:,} parameters of the encoder; the budget is {BUDGET:,}, but its size is fixed"
    )
    assert "no r comes closer" in off["lora"]
    plan = plan_of(config, found)
    lora, *_ = (run for run in plan.runs if run.method == "lora")
    assert (lora.options["r"], lora.trains, lora.notes) == (1, rank_one + n_head(bert), [off["lora"]])
    assert plan.parameter_budget == BUDGET
    assert plan.off_budget == off


def test_a_share_is_of_the_encoder_without_its_head(bert):
    _, found = fitted(bert, study__methods=["fourierft"], study__match_parameters="5%")
    assert found.budget == round(0.05 * bert.n_parameters)


def test_the_settings_that_are_written_give_the_same_plan_again(bert, few, tmp_path):
    plan = plan_of(*fitted(bert, study__methods=["all"], study__match_parameters="4.0%"))
    path = tmp_path / "config.yaml"
    path.write_text(plan.config.to_yaml())
    assert plan_of(*fit(load_config(path), bert)) == plan
    others = (
        load_config(path, assignments=["study.match_parameters=5%"]),
        load_config(path, options={"train.epochs": 9}),
    )
    for other in others:
        assert plan_of(*fit(other, bert)).fingerprint != plan.fingerprint


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"method.lora": {"r": 4}}, "Both method.lora.r and match_parameters (1000) set the size of lora"),
        ({"method.r": 4}, "Both method.r and match_parameters (1000)"),
        ({"method.top_layers": "auto"}, "top_layers 'auto'"),
        ({"study.match_parameters": "abc"}, "is 'abc': expected a share"),
        ({"study.match_parameters": "0%"}, "is '0%': expected a share"),
        ({"study.match_parameters": "-1"}, "is '-1': expected a share"),
        ({"study.match_parameters": "200%"}, "is '200%': expected a share"),
        ({"study.match_parameters": True}, "is True: expected a share"),
        ({"study.match_parameters": "nan%"}, "is 'nan%': expected a share"),
        ({"study.match_parameters": 10**9}, "match_parameters is 1,000,000,000, but"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(options, expected, bert):
    given = {"study.methods": ["lora"], "study.match_parameters": 1_000} | options
    with pytest.raises(ConfigError) as caught:
        fitted(bert, **given)
    assert expected in str(caught.value)
    assert "Value error" not in str(caught.value)


def test_all_is_every_method_that_can_serve_and_says_which_cannot(modernbert, few):
    _, found = fitted(modernbert, study__methods=["lora", "all"], method__top_layers=1)
    names = [one.method.name for one in found.methods]
    assert names[0] == "lora"
    assert len(names) == len(set(names))
    assert sorted([*names, *found.left_out]) == sorted(few.names())
    assert "have no biases" in found.left_out["bitfit"]


def test_one_of_all_whose_options_do_not_fit_is_left_out_and_a_named_one_is_refused(bert, few):
    _, found = fitted(bert, study__methods=["all"], method__lora={"r": 33})
    assert "Set r to 32 or less" in found.left_out["lora"]
    with pytest.raises(ConfigError, match="Set r to 32 or less"):
        fitted(bert, study__methods=["all", "lora"], method__lora={"r": 33})


def test_a_method_that_breaks_when_it_is_looked_at_is_left_to_its_run(bert, monkeypatch):
    def prepare(method, encoder, options, job):
        if method.name == "ia3":
            raise KeyError("oops")
        return method.build(encoder, options, job)

    monkeypatch.setattr(Method, "prepare", prepare)
    _, found = fitted(bert, study__methods=["ia3", "lora"])
    assert [one.trains is None for one in found.methods] == [True, False]
    assert "oops" in found.methods[0].notes[0]


def test_a_method_is_left_out_for_the_base_that_it_cannot_serve(bert, modernbert):
    settled = settle(load_config(options={"study.methods": ["bitfit", "full"], "data.max_length": 16}))
    encoders = {"bert": bert, "modern": modernbert}  # which has no biases
    fits = [fit_methods(settled.config, settled.methods, one, Silent(), base=name) for name, one in encoders.items()]
    found = join_fits(settled.config, fits)
    assert [planned.row for planned in found.methods] == ["bitfit@bert", "full@bert", "full@modern"]
    assert list(found.left_out) == ["bitfit@modern"]
    with pytest.raises(ConfigError, match=r"Method 'bitfit' fits none of the 1 base models\. bitfit@modern: "):
        join_fits(settled.config, fits[1:])


def test_a_share_is_refused_for_several_bases():
    options = {"base": ["a", "b"], "study.match_parameters": "0.3%"}
    with pytest.raises(ConfigError, match=r"0\.3%, but a share gives a different number on each of the 2 base models"):
        settle(load_config(options=options))
    settle(load_config(options={**options, "study.match_parameters": 1000}))

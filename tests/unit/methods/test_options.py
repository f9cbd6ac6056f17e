import subprocess
import sys

import pytest

from feathertune.errors import ConfigError, UnknownNameError
from feathertune.methods import METHODS, choose_methods
from feathertune.methods.families.partial import rank_for_density


def options_of(name, settings, learning_rate=None):
    ((_, options),) = choose_methods([name], settings, learning_rate=learning_rate)
    return options


def test_the_more_special_wins():
    assert options_of("lora", {}).r == 8
    assert options_of("lora", {"r": 4}).r == 4
    assert options_of("lora", {"r": 4, "lora": {"r": 2}}).r == 2
    default = METHODS["lora"].options().learning_rate
    assert options_of("lora", {}).learning_rate == default
    assert options_of("lora", {}, 1.0).learning_rate == 1.0
    assert options_of("lora", {"lora": {"learning_rate": 2.0}}, 1.0).learning_rate == 2.0


def test_an_option_of_one_method_does_not_reach_another():
    chosen = dict(choose_methods(["lora", "full"], {"r": 4}, learning_rate=None))
    assert {m.name: hasattr(o, "r") for m, o in chosen.items()} == {"lora": True, "full": False}


def test_a_name_may_hold_options_of_its_own():
    chosen = choose_methods(
        ["lora", "lora:r=2", "lora:r=2:learning_rate=1e-3", "lora:r=2"],
        {"lora_alpha": 4, "lora": {"r": 4}, "lora:r=2": {"lora_dropout": 0.5}},
        learning_rate=0.1,
    )
    found = {method.name: options for method, options in chosen}
    assert list(found) == ["lora", "lora:r=2", "lora:r=2:learning_rate=1e-3"]
    assert [o.r for o in found.values()] == [4, 2, 2]
    assert [o.learning_rate for o in found.values()] == [0.1, 0.1, 0.001]
    assert [o.lora_alpha for o in found.values()] == [4, 4, 4]
    assert [o.lora_dropout for o in found.values()] == [0.0, 0.5, 0.0]


@pytest.mark.parametrize(
    ("names", "settings", "error", "expected"),
    [
        (
            ["lora:r"],
            {},
            ConfigError,
            "Method 'lora:r': 'r' is not an option. Expected ':' and option=value, e.g. lora:r=8",
        ),
        (["lora:r=2:r=4"], {}, ConfigError, "sets r twice"),
        (["lora:rr=2"], {}, ConfigError, "Method 'lora:rr=2' has no option 'rr'. Did you mean 'r'?"),
        (["lora:r=[2"], {}, ConfigError, "Method 'lora:r=[2': the value is not valid YAML"),
        (["lorra:r=2"], {}, UnknownNameError, "Did you mean 'lora'?"),
        (["lorra"], {}, UnknownNameError, "Did you mean 'lora'?"),
        (["lora"], {"lora": {"rr": 4}}, ConfigError, "Method 'lora' has no option 'rr'. Did you mean 'r'?"),
        (["lora"], {"lora": {"r": 0}}, ConfigError, "Option 'r' of method 'lora' is 0"),
        (["lora"], {"lora": 4}, ConfigError, "Expected options"),
        (["full"], {"r": 4}, ConfigError, "neither a method nor an option of the methods full"),
        (["lora"], {"lora_alfa": 4}, ConfigError, "Did you mean 'lora_alpha'?"),
        (["shira"], {"shira": {"density": 1.5}}, ConfigError, "less than or equal to 1"),
        (
            ["lora"],
            {"lora": {"target_modules": "query"}},
            ConfigError,
            "or a list of module names, e.g. [query, value]",
        ),
        (
            ["lora:target_modules=query@value"],
            {},
            ConfigError,
            "contains '@', which separates method and base",
        ),
    ],
)
def test_wrong_options_say_what_is_right(names, settings, error, expected):
    with pytest.raises(error) as caught:
        choose_methods(names, settings, learning_rate=None)
    assert expected in str(caught.value)


def test_baselines_may_be_named_and_are_there_anyway():
    assert choose_methods(["probe", "tfidf"], {}, learning_rate=None) == []


@pytest.mark.parametrize(
    ("hidden_size", "n_steps", "rate"),
    [
        (384, 1, 2e-3),
        (64, 128, 2e-3),
        (384, 512, 1e-3),
        (768, 128, 1e-3),
        (768, 512, 5e-4),
        (384, 2048, 5e-4),
        (4096, 10_000, 2e-4),
    ],
)
def test_loras_rate_falls_with_width_and_steps(hidden_size, n_steps, rate):
    ((lora, options),) = choose_methods(["lora"], {}, learning_rate=None)
    given = lora.given(options)
    assert "learning_rate" not in given
    assert given["r"] == 8
    assert lora.options_for(given, hidden_size=hidden_size, n_steps=n_steps).learning_rate == rate


@pytest.mark.parametrize(
    ("name", "settings", "shared"),
    [("lora", {"lora": {"learning_rate": 3e-4}}, None), ("lora:learning_rate=3e-4", {}, None), ("lora", {}, 3e-4)],
)
def test_a_given_rate_is_kept(name, settings, shared):
    ((lora, options),) = choose_methods([name], settings, learning_rate=shared)
    assert lora.options_for(lora.given(options), hidden_size=384, n_steps=10).learning_rate == 3e-4


def test_density_becomes_the_nearest_rank():
    shapes = [(384, 384)] * 4 + [(1536, 384), (384, 1536)]
    r = rank_for_density(shapes, 0.2)
    n_weights = sum(m * n for m, n in shapes)

    def density(rank):
        return rank * sum(m + n for m, n in shapes) / n_weights

    assert abs(density(r) - 0.2) == min(abs(density(k) - 0.2) for k in range(1, 200))
    for impossible in (1e-6, 1.0):
        with pytest.raises(ConfigError, match="density"):
            rank_for_density(shapes, impossible)


def test_the_registry_loads_no_torch():
    code = "import sys, feathertune.methods, feathertune.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

import sys
from dataclasses import dataclass

import pytest

from feathertune.errors import ConfigError, UnknownNameError
from feathertune.registry import Found, Registry, entry_points
from packages import make_distribution


@dataclass
class Thing:
    name: str
    origin: str = "here"


def test_order_lookup_and_nearest_name():
    things = Registry("thing", [Thing("lora"), Thing("full")])
    assert things.names() == ("lora", "full")
    assert things["full"].name == "full"
    assert "full" in things
    assert len(things) == 2
    with pytest.raises(UnknownNameError) as error:
        things["Lorra"]
    assert str(error.value) == "Unknown thing 'Lorra'. Did you mean 'lora'? Known: full, lora."


def test_two_of_one_name_are_refused():
    with pytest.raises(ValueError, match="Two values"):
        Registry("thing", [Thing("a"), Thing("a")])


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a distribution on the path whose entry points name what its module holds."""

    def put(name, entries, code, group="feathertune.tests"):
        monkeypatch.setattr(sys, "path", [str(tmp_path / name), *sys.path])
        make_distribution(tmp_path / name, name, {group: entries}, {f"{name}.py": code})

    yield put
    for module in list(sys.modules):
        if module.startswith("of_another"):
            del sys.modules[module]


FILE = f"import sys\nThing = sys.modules[{__name__!r}].Thing\n"


def test_others_come_last_and_in_the_order_of_their_names(install):
    code = FILE + "B = Thing('b', 'there')\nA = Thing('a', 'there')\n"
    install("of_another", {"b": "of_another:B", "a": "of_another:A"}, code)
    found = entry_points("feathertune.tests", Thing)
    assert found == Found((Thing("a", "there"), Thing("b", "there")), {})
    assert Registry("thing", [Thing("lora")], others=found).names() == ("lora", "a", "b")
    assert entry_points("feathertune.other-tests", Thing) == Found()


def test_nobody_takes_a_name_that_is_in_use(install):
    install("of_another", {"lora": "of_another:MINE"}, FILE + "MINE = Thing('lora', 'there')\n")
    things = Registry("thing", [Thing("lora")], others=entry_points("feathertune.tests", Thing))
    assert things.names() == ("lora",)
    assert things["lora"].origin == "here"


@pytest.mark.parametrize(
    ("entry", "code", "why"),
    [
        ("of_another:X", "raise OSError('no such device')", "cannot be loaded: OSError: no such device"),
        ("of_another:X", "import a_package_that_nobody_has", "cannot be loaded: ModuleNotFoundError: No module named"),
        ("of_another:X", "", "cannot be loaded: AttributeError"),
        ("of_another:X", "X = 'a word'", "is a str, expected a Thing"),
        ("of_another:X", FILE + "X = Thing", "is a type, expected a Thing"),
    ],
    ids=["raises", "lacks a package", "names nothing", "another kind", "a class"],
)
def test_what_cannot_be_loaded_breaks_nothing_until_it_is_asked_for(install, entry, code, why):
    install("of_another", {"broken": entry}, code)
    install("of_another_still", {"good": "of_another_still:X"}, FILE + "X = Thing('good')")
    things = Registry("thing", [Thing("lora")], others=entry_points("feathertune.tests", Thing))
    assert things.names() == ("lora", "good")
    assert things["lora"].name == "lora"
    assert "broken" not in things
    with pytest.raises(ConfigError) as error:
        things["broken"]
    assert str(error.value).startswith(f"The thing 'broken' cannot be used: {entry} of the package of_another {why}")
    with pytest.raises(UnknownNameError):
        things["brokn"]


def test_a_broken_one_does_not_hide_ours(install):
    install("of_another", {"lora": "of_another:X"}, "raise ValueError('no')")
    things = Registry("thing", [Thing("lora")], others=entry_points("feathertune.tests", Thing))
    assert things["lora"] == Thing("lora")

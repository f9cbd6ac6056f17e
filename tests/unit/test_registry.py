from dataclasses import dataclass

import pytest

from feathertune.errors import UnknownNameError
from feathertune.registry import Registry


@dataclass
class Thing:
    name: str


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

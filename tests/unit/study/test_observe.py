from __future__ import annotations

from unittest.mock import Mock, call

from feathertune.study.observe import Observer, Silent, together


def test_all_observers_hear_everything_in_their_order():
    heard = Mock()
    both = together(heard.one, heard.other)
    both.stage("reading")
    both.advanced(2.0, "epoch 1")
    assert heard.mock_calls == [
        call.one.stage("reading"),
        call.other.stage("reading"),
        call.one.advanced(2.0, "epoch 1"),
        call.other.advanced(2.0, "epoch 1"),
    ]


def test_the_silent_observer_has_every_method():
    methods = [name for name, value in vars(Observer).items() if callable(value) and not name.startswith("_")]
    assert len(methods) == 8
    assert all(getattr(Silent(), name)(*([None] * (1 + (name == "planned")))) is None for name in methods)

import pytest

from feathertune.study.run_spec import RunSpec, run_id


@pytest.mark.parametrize(
    ("method", "rows", "seed", "expected"),
    [
        ("lora", None, 0, "lora-s0"),
        ("lora", 40, 2, "lora-n40-s2"),
        ("lora:top_layers=3", None, 1, "lora-top_layers=3-s1"),
        ("lora:target_modules=[query,value]", None, 0, "lora-target_modules=-query-value-s0"),
    ],
)
def test_a_run_has_a_name_that_a_folder_can_have(method, rows, seed, expected):
    assert run_id(method, rows, seed) == expected


def test_other_options_leave_the_run_as_it_was():
    spec = RunSpec(
        id="lora-s0", method="lora", kind="peft", seed=0, options={"r": 8, "top_layers": "auto"}, sweeps_depth=True
    )
    assert spec.with_options(r=2).options == {"r": 2, "top_layers": "auto"}
    assert spec.with_options(r=2).sweeps_depth
    settled = spec.at_depth(3)
    assert (settled.options, settled.sweeps_depth) == ({"r": 8, "top_layers": 3}, False)
    assert (spec.options["top_layers"], spec.sweeps_depth) == ("auto", True)

"""The tables of docs/large-studies.md are the output of its code, and the code counts what the engine computes."""

import json
import re
from pathlib import Path
from statistics import fmean

import pytest

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "large-studies.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


HEAD, REST = CODE[0].split("# Operations per token", 1)
ROWS = re.findall(r"^\| (.+?) \| `(.+?)` \| ±?([\d,.]+) ?(\w+|%) \|$", PAGE, re.MULTILINE)
UNITS = {"MB": 1e6, "GB": 1e9, "TB": 1e12, "GFLOP": 1e9, "EFLOP": 1e18}


def numbers(**changed):
    """Return the variables of the page's code; `changed` replaces some of its first numbers."""
    namespace = {}
    exec(HEAD, namespace)
    assert changed.keys() <= namespace.keys()
    namespace.update(changed)
    exec("# Operations per token" + REST, namespace)
    return namespace


def test_every_row_is_read():
    lines = [line for line in PAGE.splitlines() if line.startswith("| ") and "| expression |" not in line]
    assert len(CODE) == 1
    assert len(ROWS) == len(lines) == 25


@pytest.mark.parametrize(("what", "code", "value", "unit"), ROWS, ids=[row[0] for row in ROWS])
def test_the_row_is_what_the_code_gives(what, code, value, unit):
    found = eval(code, numbers()) / UNITS.get(unit, 1.0)
    digits = value.replace(",", "").replace(".", "").lstrip("0")
    assert float(f"{found:.{max(2, len(digits.rstrip('0')))}g}") == float(value.replace(",", "")), found


def test_the_operations_are_those_of_the_known_account():
    """`F`, `DX` and `DW` of bert-base as tabulated for three lengths: 0.524, 0.535 and 0.566 GFLOP a token."""
    for tokens, gflop in ((128, 0.524), (230, 0.535), (512, 0.566)):
        found = numbers(tokens_a_text=tokens)
        assert found["forward"] + found["to_inputs"] + found["to_weights"] == pytest.approx(gflop * 1e9, rel=2e-3)
    found = numbers()
    # IMDB: an epoch of 25,000 reviews of 260 tokens is 3.50 PFLOP; adapters save a third of it, not more.
    imdb = numbers(tokens_a_text=260, epochs=1)
    assert imdb["run_flop"](25_000, held_out=0, checked=0, trains_weights=True) == pytest.approx(3.50e15, rel=5e-3)
    alone = {"held_out": 0, "checked": 0}
    full = found["run_flop"](1_000, trains_weights=True, **alone)
    assert full / found["run_flop"](1_000, **alone) == pytest.approx(1.47, abs=0.01)
    # Two layers of twelve, three epochs: 2.6 times as fast, 4.9 times with the others run once.
    assert full / found["run_flop"](1_000, top=2, **alone) == pytest.approx(2.6, abs=0.05)
    assert full / found["run_flop"](1_000, top=2, cached=True, **alone) == pytest.approx(4.9, abs=0.1)
    # 25,000 reviews of 230 tokens as bf16: 8.83 GB.
    assert numbers(texts=25_000)["hidden_bytes"] == pytest.approx(8.83e9, rel=1e-3)


def test_our_own_speed_is_that_of_the_committed_study():
    study = json.loads((ROOT / "benchmarks" / "results" / "rotten-tomatoes-minilm.json").read_text(encoding="utf-8"))
    assert study["hardware"]["cores"] == 2
    (base,) = study["bases"]
    small = numbers(layers=base["n_layers"], width=base["hidden_size"], tokens_a_text=27)
    tokens_per_s = fmean(run["tokens_per_second"] for run in study["runs"] if run["method"] == "lora")
    assert tokens_per_s * (small["forward"] + small["to_inputs"]) == pytest.approx(small["speed"]["2 cores"], rel=0.1)


def test_a_readers_numbers_change_what_they_should():
    ours, theirs = numbers(), numbers(seeds=5)
    assert theirs["study"] == pytest.approx(ours["study"] / 2)
    assert theirs["adapters"] == ours["adapters"]
    assert numbers(classes=4)["prediction_bytes"] - ours["prediction_bytes"] == 8 * ours["test"]

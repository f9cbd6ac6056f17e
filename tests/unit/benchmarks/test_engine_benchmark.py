"""What the engine's benchmark says of its rounds, and the README's tables made of it."""

import json

import engine_table
import numpy as np
import pytest
from bench_time_to_accuracy import accuracy_to_reach, row, seconds_to
from children import Problem, Rows, load_problem, save_problem
from contestants import ABLATION, CONTESTANTS, RATIOS, TO_ACCURACY, Contestant, choose
from engine_summary import checks, epoch_seconds, ratios
from engine_summary import row as engine_row

README = "before\n<!-- results: x -->\ntable\n<!-- /results -->\n\nafter\n"


def found(seconds, *, cache=0.0, loss=0.6, **others):
    whole = {"seconds": seconds, "cache_seconds": cache, "losses": [loss], "peak_memory_bytes": 10**9}
    return whole | {"operations": 6e9, "padded_tokens": 400, "dtype": "bf16", "trained_parameters": 5} | others


ROUNDS = {
    "trainer-full-tuned": [found([4.0]), found([6.0]), found([8.0])],
    "trainer-lora-tuned": [found([2.0]), {"error": "it fell"}, found([3.0])],
    "lora": [found([1.0]), found([2.0]), found([2.0])],
}


def test_an_epoch_bears_its_share_of_what_is_kept():
    assert epoch_seconds(found([1.0, 2.0, 3.0], cache=6.0)) == 4.0


def test_ratios_are_taken_within_a_round_and_without_failed_runs():
    by_pair = {(one["against"], one["of"]): one for one in ratios(ROUNDS)}
    assert by_pair["trainer-full-tuned", "lora"]["rounds"] == [4.0, 3.0, 4.0]
    assert by_pair["trainer-full-tuned", "lora"]["ratio"] == 4.0
    assert by_pair["trainer-full-tuned", "lora"]["low"] == 3.0
    assert by_pair["trainer-lora-tuned", "lora"]["rounds"] == [2.0, 1.5]
    assert ("trainer-full-tuned", "full") not in by_pair


def test_a_row_is_of_one_epoch():
    one = Contestant("kept", "feathertune", "lora", top_share=0.5)
    figures = engine_row(one, [found([1.0, 1.0, 1.0], cache=3.0)], tokens=100, peak=2e9)
    assert (figures["seconds_per_epoch"], figures["tokens_per_second"]) == (2.0, 50.0)
    assert figures["share_of_peak"] == pytest.approx(0.5)  # 2e9 operations in two seconds, of 2e9 a second
    assert figures["padding_share"] == pytest.approx(0.25)


def test_checks_tell_when_something_else_was_learned():
    def judged(**others):
        rounds = {
            "trainer-lora-tuned-no-dropout": [found([1.0], first_loss=0.70)],
            "lora": [
                found(
                    [1.0],
                    **{
                        "first_loss": 0.70,
                        "logits_difference": 0.01,
                        "logits_tolerance": 0.02,
                        "logits_difference_of_plain": 0.005,
                    }
                    | others,
                )
            ],
        }
        return [one["holds"] for one in checks(CONTESTANTS, rounds)]

    assert judged() == [True, True, True]
    assert judged(logits_difference=0.03) == [False, True, True]
    assert judged(first_loss=0.73) == [True, False, True]
    assert judged(loss=0.8) == [True, True, False]


def test_a_tuned_trainer_that_is_slower_than_the_tutorial_is_told():
    rounds = {"trainer-full-tutorial": [found([4.0])], "trainer-full-tuned": [found([5.0])]}
    slower = checks(CONTESTANTS, rounds)[0]
    assert (slower["difference"], slower["holds"]) == (1.25, False)


def test_contestants_are_chosen_by_name():
    names = [one.name for one in CONTESTANTS]
    assert len(set(names)) == len(names)
    assert {name for pair in RATIOS for name in pair} <= set(names)
    assert all(one.name == "lora" or "=" in one.name for one in ABLATION)
    assert any(one.top_share for one in TO_ACCURACY)
    chosen, left_out = choose(CONTESTANTS, "full,lora")
    assert ([one.name for one in chosen], left_out) == (["full", "lora"], [])
    with pytest.raises(SystemExit, match="nobody"):
        choose(CONTESTANTS, "nobody")


def test_what_this_feathertune_cannot_run_is_left_out_and_said(monkeypatch):
    monkeypatch.setattr("contestants.can_cache", lambda: False)
    chosen, left_out = choose(CONTESTANTS, None)
    assert all(one.top_share is None for one in chosen)
    assert [line.partition(" ")[0] for line in left_out] == ["lora-top-half-cached", "lora-top-quarter-cached"]


def test_the_top_layers_of_six_and_twelve():
    half, quarter = (Contestant("x", "feathertune", "lora", top_share=share) for share in (1 / 2, 1 / 4))
    assert [half.top_layers(6), half.top_layers(12), quarter.top_layers(6), quarter.top_layers(12)] == [3, 6, 2, 3]


def test_a_problem_comes_back_from_its_file(tmp_path):
    rows = Rows(np.arange(9, dtype=np.int32), np.array([0, 4, 9]), np.array([1, 0]))
    save_problem(tmp_path / "p.npz", Problem(rows, rows.first(1), pad_id=3, labels=("no", "yes")))
    back = load_problem(str(tmp_path / "p.npz"))
    assert (back.pad_id, back.labels, len(back.train), len(back.validation)) == (3, ("no", "yes"), 2, 1)
    np.testing.assert_array_equal(back.validation.ids, [0, 1, 2, 3])
    np.testing.assert_array_equal(back.train.offsets, rows.offsets)


def test_seconds_to_an_accuracy():
    def run(*points):
        return {"curve": [{"seconds": s, "accuracy": a} for s, a in points], "seconds": points[-1][0]}

    yardstick = [run((1, 0.7), (2, 0.8), (3, 0.79)), run((1, 0.82), (2, 0.7)), {"error": "it fell"}]
    wanted = accuracy_to_reach(yardstick)
    assert wanted == pytest.approx(0.805)
    assert [seconds_to(one, wanted) for one in yardstick] == [None, 1, None]
    figures = row("x", [run((1, 0.9)), run((5, 0.9)), run((9, 0.1))], wanted)
    assert (figures["seconds"], figures["reached"], figures["seconds_median"]) == ([1, 5, None], 2, 5)
    assert row("x", yardstick, wanted)["seconds_median"] is None, "two of three never got there"
    assert accuracy_to_reach([{"error": "it fell"}]) is None


def test_readme_and_page_hold_what_was_measured_and_nothing_else(tmp_path):
    assert engine_table.with_table(README, tmp_path) == README
    assert engine_table.page(tmp_path) == ""
    table = [engine_row(one, ROUNDS[one.name][:1], tokens=100, peak=1e12) for one in CONTESTANTS if one.name in ROUNDS]
    hardware = {"cores": 2, "processor": "X"}
    result = {"title": "A case", "hardware": hardware, "peak_flop_per_s": 4e11, "rounds": ROUNDS, "table": table}
    (tmp_path / "engine-bert-base-27.json").write_text(json.dumps(result))
    (tmp_path / "engine-bert-base-27-ablation.json").write_text("not read")
    assert engine_table.with_table(README, tmp_path) == README, "the README is of another machine"
    (tmp_path / "epyc").mkdir()
    elsewhere = {**result, "title": "Another case", "hardware": {"cores": 4, "processor": "Y"}}
    (tmp_path / "epyc" / "engine-bert-base-27.json").write_text(json.dumps(elsewhere))
    once = engine_table.with_table(README, tmp_path)
    assert engine_table.with_table(once, tmp_path) == once
    assert once.index("<!-- /results -->") < once.index("4 cores (Y)") < once.index("after")
    assert "(X)" not in once
    memory = "1.0\u202fGB (PEFT 1.0\u202fGB)"
    assert f"| Another case | 1.8x | – | – | {memory} |" in once, "tuned LoRA, and two that were not measured"
    page = engine_table.page(tmp_path)
    assert page.index("| [A case, 2 cores (X)](") < page.index("| [Another case, 4 cores (Y)](")
    assert "| – | 1.8x | – | 4.0x | – | – |" in page
    assert "results/epyc/engine-bert-base-27.json" in page
    for path in tmp_path.rglob("*.json"):
        path.unlink()
    assert engine_table.with_table(once, tmp_path) == README


def test_readme_and_page_are_those_of_the_committed_results():
    readme = engine_table.README.read_text(encoding="utf-8")
    assert engine_table.with_table(readme) == readme, "run `make docs`"
    assert engine_table.PAGE.read_text(encoding="utf-8") == engine_table.page(), "run `make docs`"
    assert ("<!-- engine:" in readme) == bool(engine_table.measured())

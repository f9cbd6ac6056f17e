"""Whose texts go into the next pass, with passes that are none."""

import asyncio
import logging
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feathertune.data.tokens.batching import cut_widths
from feathertune.serve.batcher import Batcher, QueueFull, Stopping
from serving import SMALL, FakeModel, fakes


def run(scenario, models=None, limits=SMALL):
    """Run a scenario with a batcher, and stop it."""
    models = models or fakes()
    infos = []
    batcher = Batcher(models, limits, on_pass=infos.append)

    async def whole():
        batcher.start()
        try:
            return await asyncio.wait_for(scenario(batcher, models), 200)
        finally:
            models.go.set()
            await batcher.close()

    result = asyncio.run(whole())
    assert not batcher.alive
    assert batcher.n_waiting == 0, "whatever came has gone"
    return result, models, infos


async def held(batcher, models, *first):
    """A pass that has begun and does not end; what comes now has to wait."""
    models.begun.clear()
    models.go.clear()
    task = asyncio.ensure_future(batcher.submit(models["a"], list(first)))
    await asyncio.to_thread(models.begun.wait, 100)
    return task


async def submitted(batcher, model, *texts):
    task = asyncio.ensure_future(batcher.submit(model, list(texts)))
    await asyncio.sleep(0)
    return task


def test_answers_are_each_texts_own_and_in_order():
    async def scenario(batcher, models):
        requests = [(models[name], [f"{name} {i} {j}" for j in range(i + 1)]) for i in range(3) for name in "ab"]
        found = await asyncio.gather(*(batcher.submit(model, texts) for model, texts in requests))
        for (model, texts), answers in zip(requests, found, strict=True):
            assert answers == [model.answer(text) for text in texts]

    _, models, infos = run(scenario, fakes("a", "b"), replace(SMALL, queue_texts=100))
    assert sum(map(len, models.passes)) == 12
    assert sum(info.n_texts for info in infos) == 12


def test_what_comes_during_a_pass_is_put_together_across_clients_and_models():
    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        rest = [await submitted(batcher, models[name], f"{name}{i}") for i in range(2) for name in "ab"]
        models.go.set()
        await asyncio.gather(first, *rest)

    _, models, infos = run(scenario, fakes("a", "b"))
    assert models.passes == [["first"], ["a0", "b0", "a1", "b1"]]
    assert [info.n_models for info in infos] == [1, 2]


def test_lanes_are_not_mixed_and_the_oldest_goes_first():
    models = fakes("a", "b")
    models.by_name["b"].lane = "two"

    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        rest = [await submitted(batcher, models[name], f"{name}{i}") for i in range(2) for name in "ba"]
        models.go.set()
        await asyncio.gather(first, *rest)

    run(scenario, models)
    assert models.passes == [["first"], ["b0", "b1"], ["a0", "a1"]]


def test_texts_of_a_length_go_together_within_the_token_budget():
    long = "w " * 6  # 48 wide

    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        rest = [await submitted(batcher, models["a"], *texts) for texts in ([long], ["s1", "s2"], [long], ["s3"])]
        models.go.set()
        await asyncio.gather(first, *rest)

    _, models, infos = run(scenario)
    assert models.passes[1:] == [[long], ["s1", "s2", "s3"], [long]]
    assert all(info.n_padded_tokens <= SMALL.token_budget for info in infos)


def test_a_text_over_the_budget_goes_alone():
    huge = "w " * 20

    async def scenario(batcher, models):
        return await batcher.submit(models["a"], [huge, "small"])

    answers, models, _ = run(scenario)
    assert answers == [FakeModel("a").answer(huge), FakeModel("a").answer("small")]
    assert [huge] in models.passes


def test_a_full_queue_says_when_to_come_again_and_empties():
    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        waiting = [await submitted(batcher, models["a"], "x", "y") for _ in range(3)]
        assert batcher.n_waiting == 7
        with pytest.raises(QueueFull) as full:
            await batcher.submit(models["a"], ["one", "two"])
        assert full.value.retry_after_s >= 1
        await submitted(batcher, models["a"], "one")  # exactly full
        models.go.set()
        await asyncio.gather(first, *waiting)
        assert len(await batcher.submit(models["a"], ["again", "and again"])) == 2

    run(scenario)


def test_who_gives_up_is_not_run_and_makes_room():
    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        gone = await submitted(batcher, models["a"], *"abcd")
        stays = await submitted(batcher, models["a"], "stays")
        gone.cancel()
        await asyncio.sleep(0.01)
        models.go.set()
        await asyncio.gather(first, stays)

    _, models, _ = run(scenario)
    assert models.passes == [["first"], ["stays"]]


def test_who_gives_up_while_being_tokenised_is_not_run():
    models = fakes()
    begun, go, encode = threading.Event(), threading.Event(), models.encode

    def slowly(model, texts):
        begun.set()
        assert go.wait(100)
        return encode(model, texts)

    models.encode = slowly

    async def scenario(batcher, models):
        gone = await submitted(batcher, models["a"], "gone")
        await asyncio.to_thread(begun.wait, 100)
        gone.cancel()
        await asyncio.sleep(0.01)
        go.set()
        await batcher.submit(models["a"], ["stays"])

    _, models, _ = run(scenario, models)
    assert models.passes == [["stays"]]


def test_a_request_that_takes_too_long_is_given_up():
    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        with pytest.raises(TimeoutError):
            await batcher.submit(models["a"], ["late"])
        with pytest.raises(TimeoutError):
            await first
        models.go.set()
        assert await batcher.submit(models["a"], ["next"]) == [models["a"].answer("next")]

    _, models, _ = run(scenario, limits=replace(SMALL, timeout_s=0.1))
    assert ["late"] not in models.passes


def test_a_failed_pass_fails_its_requests_alone(caplog):
    async def scenario(batcher, models):
        models.fail = RuntimeError("no memory")
        with pytest.raises(RuntimeError, match="no memory"):
            await batcher.submit(models["a"], ["one", "w " * 6])  # two passes
        models.fail = None
        with pytest.raises(RuntimeError, match="no tokens"):
            await batcher.submit(models["a"], ["untokenisable"])
        return await batcher.submit(models["a"], ["fine"])

    with caplog.at_level(logging.CRITICAL, "feathertune.serve"):
        answers, *_ = run(scenario)
    assert answers == [FakeModel("a").answer("fine")]


def test_closing_finishes_what_was_taken_and_takes_no_more():
    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        waiting = await submitted(batcher, models["a"], "taken")
        closing = asyncio.ensure_future(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(Stopping):
            await batcher.submit(models["a"], ["late"])
        with pytest.raises(Stopping):
            await batcher.call(print)
        models.go.set()
        answers = await asyncio.gather(first, waiting)
        await closing
        return answers

    answers, *_ = run(scenario)
    assert answers == [[FakeModel("a").answer("first")], [FakeModel("a").answer("taken")]]


def test_calls_run_between_passes_and_bring_back_what_they_found():
    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        call = asyncio.ensure_future(batcher.call(lambda: list(models.passes)))
        failing = asyncio.ensure_future(batcher.call(lambda: 1 / 0))
        await asyncio.sleep(0.01)
        models.go.set()
        await first
        assert await call == [["first"]]
        with pytest.raises(ZeroDivisionError):
            await failing

    run(scenario)


def test_waits_until_as_many_are_there_as_the_last_pass_had():
    """With a budget that never ends: whoever waits for more than that hangs."""

    async def scenario(batcher, models):
        await batcher.submit(models["a"], ["alone"])  # a single client never waits for others
        first = await held(batcher, models, "first")
        both = [await submitted(batcher, models["a"], text) for text in ("x", "y")]
        models.go.set()
        await asyncio.gather(first, *both)
        one = await submitted(batcher, models["a"], "one of two")
        await asyncio.sleep(0.1)
        assert not one.done()
        await asyncio.gather(one, batcher.submit(models["a"], ["the other"]))

    _, models, _ = run(scenario, limits=replace(SMALL, latency_budget_s=1e6))
    assert models.passes[-1] == ["one of two", "the other"]


def test_waits_no_longer_than_the_budget():
    budget_s = 0.2

    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        both = [await submitted(batcher, models["a"], text) for text in ("x", "y")]
        models.go.set()
        await asyncio.gather(first, *both)
        start = time.monotonic()
        await batcher.submit(models["a"], ["nobody else comes"])
        return time.monotonic() - start

    waited_s, models, _ = run(scenario, limits=replace(SMALL, latency_budget_s=budget_s))
    assert models.passes[-1] == ["nobody else comes"]
    assert waited_s >= budget_s


def two_at_once():
    """Each pass but that of "last" is held up until another has begun: one thread alone would wait for ever."""
    models = fakes()
    models.n_workers = 2
    both = threading.Barrier(2)
    run_one = models.run

    def run_both(rows, *, worker, alone):
        if rows[0][1].text != "last":
            both.wait(100)
        return run_one(rows, worker=worker, alone=alone)

    models.run = run_both
    return models


def test_passes_of_two_threads_run_beside_each_other():
    models = two_at_once()

    async def scenario(batcher, models):
        answers = await asyncio.gather(*(batcher.submit(models["a"], [text]) for text in ("one", "two")))
        await batcher.submit(models["a"], ["last"])
        return answers

    answers, models, _ = run(scenario, models)
    assert answers == [[models["a"].answer(text)] for text in ("one", "two")]
    assert {worker for worker, _ in models.workers[:2]} == {0, 1}
    assert models.workers[2][1], "nothing ran beside the last one"
    assert sum(alone for _, alone in models.workers[:2]) <= 1


def test_a_request_is_shared_out_to_idle_threads():
    models = two_at_once()

    async def scenario(batcher, models):
        await asyncio.sleep(0.05)  # both threads wait
        return await batcher.submit(models["a"], list("abcd"))

    answers, models, _ = run(scenario, models)
    assert answers == [models["a"].answer(text) for text in "abcd"]
    assert sorted(map(len, models.passes)) == [2, 2]


def test_calls_are_the_first_threads_while_the_other_goes_on():
    models = fakes()
    models.n_workers = 2

    async def scenario(batcher, models):
        names = [await batcher.call(lambda: threading.current_thread().name) for _ in range(5)]
        started, go = threading.Event(), threading.Event()
        held_up = asyncio.ensure_future(batcher.call(lambda: (started.set(), go.wait(100))))
        await asyncio.to_thread(started.wait, 100)
        await batcher.submit(models["a"], ["meanwhile"])
        go.set()
        await held_up
        return names

    names, models, _ = run(scenario, models)
    assert names == ["feathertune-passes-0"] * 5
    assert models.workers == [(1, True)]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.integers(1, 6), min_size=1, max_size=4)), max_size=12),
    st.integers(1, 3),
)
def test_any_requests_in_any_number_of_threads_get_their_own_answers(requests, n_workers):
    models = fakes("a", "b")
    models.n_workers = n_workers
    models.by_name["b"].lane = "two"
    wanted = [
        (models[name], [f"{'w ' * n}{i} {j}" for j, n in enumerate(sizes)]) for i, (name, sizes) in enumerate(requests)
    ]

    async def scenario(batcher, models):
        return await asyncio.gather(*(batcher.submit(model, texts) for model, texts in wanted))

    found, models, infos = run(scenario, models, replace(SMALL, queue_texts=100))
    assert found == [[model.answer(text) for text in texts] for model, texts in wanted]
    assert sum(info.n_texts for info in infos) == sum(len(texts) for _, texts in wanted)


@given(
    st.dictionaries(st.sampled_from(range(8, 520, 8)), st.integers(1, 50), max_size=12),
    st.integers(64, 4096),
    st.integers(0, 500),
    st.sampled_from([0.0, 0.125, 1.0]),
)
@settings(deadline=None)
def test_cut_widths_is_the_cheapest_cut(counts, token_budget, pass_tokens, share):
    groups = cut_widths(counts, token_budget=token_budget, pass_tokens=pass_tokens, padding_share=share)
    assert [width for group in groups for width in group] == sorted(counts)

    def cost(group):
        n, widest = sum(counts[width] for width in group), group[-1]
        tokens = sum(counts[width] * (width + share * (widest - width)) for width in group)
        return tokens + pass_tokens * -(-n // max(1, token_budget // widest))

    def cheapest(widths):
        if not widths:
            return 0
        return min(cost(widths[i:]) + (cheapest(widths[:i])) for i in range(len(widths)))

    if len(counts) <= 8:
        assert sum(map(cost, groups)) == cheapest(sorted(counts))


def test_texts_of_all_lengths_go_together_where_padding_costs_little():
    models = fakes()
    models.by_name["a"].padding_share = 0.0

    async def scenario(batcher, models):
        first = await held(batcher, models, "first")
        rest = [await submitted(batcher, models["a"], text) for text in ("w " * 3, "s")]
        models.go.set()
        await asyncio.gather(first, *rest)

    _, models, _ = run(scenario, models)
    assert models.passes[1:] == [["w " * 3, "s"]]

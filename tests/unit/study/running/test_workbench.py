"""The parts of a study that its runs work on: one base at a time, and some of its training rows."""

from feathertune.study.run_spec import RunSpec
from feathertune.study.running.workbench import Parts, Prepared


class Bench:
    """Stands for a workbench; counts what is dropped."""

    def __init__(self, name, dropped):
        self.name, self.dropped = name, dropped

    def with_rows(self, n, seed):
        return f"{self.name}, {n} rows of seed {seed}"

    def drop_caches(self):
        self.dropped.append(self.name)


def spec(base, rows=None, seed=0):
    return RunSpec(id="x", method="lora", base=base, kind="peft", seed=seed, train_rows=rows)


def test_what_was_computed_on_a_base_is_dropped_when_the_next_begins():
    dropped = []
    benches = {name: Bench(name, dropped) for name in "ab"}
    parts = Parts(Prepared(benches["a"], None, benches))
    assert parts.of(spec(None)).bench is benches["a"], "a run that reads no base goes on with any"
    assert parts.of(spec("a")).bench is benches["a"]
    assert dropped == []
    assert parts.of(spec("b")).bench is benches["b"]
    assert dropped == ["a"]
    assert parts.of(spec(None)).bench is benches["b"]
    assert dropped == ["a"]


def test_rows_are_drawn_from_the_runs_base_by_its_seed():
    benches = {name: Bench(name, []) for name in "ab"}
    parts = Parts(Prepared(benches["a"], None, benches))
    assert parts.of(spec("a", 10, 3)).bench == "a, 10 rows of seed 3"
    assert parts.of(spec("b", 10, 3)).bench == "b, 10 rows of seed 3"
    assert parts.of(spec("b", 10, 3), seed=0).bench == "b, 10 rows of seed 0"
    assert parts.of(spec("b", 10, 3)) is parts.of(spec("b", 10, 3))


def test_a_study_of_one_base_has_it_under_no_name():
    bench = Bench("a", [])
    assert Parts(Prepared(bench, None, {None: bench})).of(spec(None)).bench is bench

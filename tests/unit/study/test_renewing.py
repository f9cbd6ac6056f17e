"""How often the record of a study is made anew: after each run, unless that takes long; at the end in any case."""

import pytest

from feathertune.study import compare


class Study:
    """Runs that end, a record of them that takes so long to make, and a clock of its own."""

    def __init__(self, takes_s, monkeypatch):
        self.takes_s, self.now_s, self.n_runs, self.recorded = takes_s, 0.0, 0, []
        monkeypatch.setattr(compare.time, "monotonic", lambda: self.now_s)

    def assemble(self):
        self.now_s += self.takes_s
        self.recorded.append(self.n_runs)

    def end_run(self, renew, *, takes_s=0.1):
        self.now_s += takes_s
        self.n_runs += 1
        renew()


def test_what_is_quick_is_done_after_every_run(monkeypatch):
    study = Study(0.4, monkeypatch)
    with compare._renewing(study.assemble) as renew:
        for _ in range(3):
            study.end_run(renew)
    assert study.recorded == [0, 1, 2, 3]


def test_what_takes_long_takes_a_twentieth_of_the_time_and_leaves_nothing_out(monkeypatch):
    study = Study(6.0, monkeypatch)
    with compare._renewing(study.assemble) as renew:
        for _ in range(100):
            study.end_run(renew, takes_s=30.0)
    assert study.recorded == [0, *range(4, 100, 4), 100], "120 s of runs for 6 s, and the end"


def test_an_interruption_finds_all_that_was_finished(monkeypatch):
    study = Study(6.0, monkeypatch)

    def until_interrupted():
        with compare._renewing(study.assemble) as renew:
            study.end_run(renew)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        until_interrupted()
    assert study.recorded == [0, 1]

"""What trackers are told, and that none of them can hurt a study. No tracker is needed for this."""

from __future__ import annotations

import os

import pytest

from feathertune.config import Config
from feathertune.errors import MissingExtraError, UnknownNameError
from feathertune.records import Metrics, RunRecord, Seconds
from feathertune.study.observe import Silent
from feathertune.study.run_spec import RunSpec
from feathertune.track import TRACKERS, choose_trackers, tracked
from feathertune.track.tracker import Tracker, environment

SPEC = RunSpec(id="lora-s1", method="lora", kind="peft", seed=1, options={"r": 8, "target_modules": None})
METRICS = Metrics.model_construct(accuracy=0.75, macro_f1=0.7, mcc=0.5, log_loss=0.4, ece=float("nan"), n=8)
EPOCH = {"event": "epoch", "epoch": 1, "train_loss": 0.5, "validation_loss": 0.6, "validation_score": 0.7}


def step(number, loss=0.5):
    return {"event": "step", "step": number, "epoch": 1, "loss": loss, "learning_rate": 1e-3, "seconds": 0.1}


def record(status="complete"):
    test = METRICS if status == "complete" else None
    return RunRecord(
        id="lora-s1", method="lora", kind="peft", seed=1, status=status, test=test, seconds=Seconds(total=2.0)
    )


class Fake:
    """A tracker that writes down what it is told, and breaks on request."""

    def __init__(self, name="fake", breaks=()):
        self.told, self.points, self.breaks = [], [], breaks
        self.tracker = Tracker(name, (), self.start)

    def _tell(self, what, *values):
        if what in self.breaks:
            raise RuntimeError(f"{what} is broken\nand more")
        self.told.append((what, *values))

    def start(self, folder, study, run, settings):
        self._tell("start", folder, study, run, settings)
        self.place = str(folder)
        return self

    def log(self, step, values):
        self._tell("log", step)
        self.points.append((step, values))

    def finish(self, *, failed):
        self._tell("finish", failed)


class Listening(Silent):
    def __init__(self):
        self.heard = []

    def said(self, text):
        self.heard.append(text)

    def measured(self, line):
        self.heard.append(line["event"])


def whole_run(observer):
    observer.started(SPEC)
    for number in (1, 2):
        observer.measured(step(number))
    observer.measured(EPOCH)
    observer.ended(record())


def test_a_run_is_told_from_its_settings_to_its_costs(tmp_path):
    fake, listening = Fake(), Listening()
    with tracked(listening, [fake.tracker], tmp_path / "my-study", Config()) as observer:
        assert not fake.told, "nothing is opened before the first run: the folder must be empty until then"
        whole_run(observer)
        whole_run(observer)
    folder = tmp_path / "my-study" / "track" / "fake"
    what, place, study, run, settings = fake.told[0]
    assert (what, place, study, run) == ("start", folder, "my-study", "lora-s1")
    assert folder.is_dir()
    assert settings.items() >= {"method": "lora", "seed": 1, "option.r": 8, "train.epochs": 5}.items()
    assert "option.target_modules" not in settings, "what is not set is not told"
    assert settings
    assert all(isinstance(value, (str, int, float, bool)) for value in settings.values())
    assert [entry[0] for entry in fake.told] == ["start", "log", "log", "log", "log", "finish"] * 2
    assert [step for step, _ in fake.points[:4]] == [1, 2, 2, 2]
    first, _, epoch, scores = (values for _, values in fake.points[:4])
    assert first == {"train/loss": 0.5, "train/learning_rate": 1e-3, "train/epoch": 1.0}
    assert epoch == {"train/epoch_loss": 0.5, "validation/loss": 0.6, "validation/score": 0.7}
    assert (scores["test/accuracy"], scores["cost/seconds"]) == (0.75, 2.0)
    assert "test/ece" not in scores, "what is no number is not told"
    assert fake.told[-1] == ("finish", False)
    assert listening.heard[0] == f"--track fake writes to {folder}"
    assert listening.heard[1:4] == ["step", "step", "epoch"], "the first observer hears all the same"


def test_a_failed_run_and_a_stopped_study_end_as_failed(tmp_path):
    fake = Fake()

    def study():
        with tracked(Silent(), [fake.tracker], tmp_path, Config()) as observer:
            observer.started(SPEC)
            observer.ended(record("failed"))
            observer.started(SPEC)
            observer.measured(step(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study()
    ends = [entry for entry in fake.told if entry[0] in ("log", "finish")]
    assert ends == [("log", 0), ("finish", True), ("log", 1), ("finish", True)]


def test_a_training_ends_with_its_scores(tmp_path):
    fake = Fake()
    with tracked(Silent(), [fake.tracker], tmp_path / "bundle", Config(), beside=True) as observer:
        observer.started(SPEC)
        observer.measured(step(7))
        observer.measured({"event": "scores", "validation": METRICS, "test": METRICS})
    assert fake.told[0][1:3] == (tmp_path / "bundle.track" / "fake", "bundle")
    assert fake.points[-1][0] == 7
    assert fake.points[-1][1]["test/mcc"] == 0.5
    assert [entry[0] for entry in fake.told] == ["start", "log", "log", "finish"]
    assert fake.told[-1] == ("finish", False)


@pytest.mark.parametrize("breaks", ["start", "log", "finish"])
def test_a_tracker_that_breaks_is_said_once_and_hurts_nobody(tmp_path, breaks):
    broken, sound, listening = Fake("broken", (breaks,)), Fake("sound"), Listening()
    with tracked(listening, [broken.tracker, sound.tracker], tmp_path, Config()) as observer:
        whole_run(observer)
        whole_run(observer)
    said = [text for text in listening.heard if "turned off" in text]
    assert said == [f"--track broken failed and was turned off: RuntimeError: {breaks} is broken"]
    assert [entry[0] for entry in sound.told] == ["start", "log", "log", "log", "log", "finish"] * 2


def test_nothing_is_wrapped_where_nothing_is_tracked(tmp_path):
    observer = Silent()
    with tracked(observer, (), tmp_path, Config()) as watched:
        assert watched is observer


def test_names_are_chosen_with_commas_and_once(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    chosen = choose_trackers(["tensorboard, wandb", "mlflow", "wandb", ""])
    assert [tracker.name for tracker in chosen] == ["tensorboard", "wandb", "mlflow"]
    with pytest.raises(UnknownNameError, match=r"tracker 'tensorbord'. Did you mean 'tensorboard'\?"):
        choose_trackers(["tensorbord"])


@pytest.mark.parametrize("tracker", TRACKERS, ids=lambda tracker: tracker.name)
def test_a_missing_package_names_the_extra(tracker, monkeypatch):
    missing = tracker.packages[-1]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else object())
    with pytest.raises(
        MissingExtraError, match=rf"--track {tracker.name} .*pip install 'feathertune\[{tracker.name}\]'"
    ):
        choose_trackers([tracker.name])


def test_every_tracker_has_its_extra():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    for tracker in TRACKERS:
        extra = " ".join(project["optional-dependencies"][tracker.name])
        assert all(package in extra for package in tracker.packages)


def test_variables_of_the_user_win_and_ours_do_not_stay(monkeypatch):
    monkeypatch.setenv("FEATHER_GIVEN", "theirs")
    monkeypatch.delenv("FEATHER_NEW", raising=False)
    with environment(FEATHER_GIVEN="ours", FEATHER_NEW="ours"):
        assert (os.environ["FEATHER_GIVEN"], os.environ["FEATHER_NEW"]) == ("theirs", "ours")
    assert os.environ["FEATHER_GIVEN"] == "theirs"
    assert "FEATHER_NEW" not in os.environ

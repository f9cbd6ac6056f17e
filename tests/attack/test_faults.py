"""Each operation on files fails once: nothing is torn or lost, one sentence says why, and the next run succeeds."""

import csv
import errno
import json
import random
import signal

import pytest

from attack.faults import FAULTS, KILL, run
from e2e.cli import reviews, write_csv
from feathertune.bundle.files import check_manifest
from feathertune.records import load_study

SEEDED = ["--max-length", "16", "--epochs", "1", "--set", "engine.dtype=fp32", "--quiet"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_csv(tmp_path_factory.mktemp("rows") / "rows.csv", reviews(48))


@pytest.fixture(scope="module")
def trained(rows, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "bundle"
    assert run(["train", rows, "--base", encoder, *SEEDED, "--out", out], out.parent).code == 0
    return out


def _train(rows, encoder, trained, root):
    out = root / "bundle"
    return ["train", rows, "--base", encoder, *SEEDED, "--out", out, "--overwrite"], lambda: check_manifest(out)


def _compare(rows, encoder, trained, root):
    command = ["compare", rows, "--base", encoder, "--methods", "lora", *SEEDED, "--out", root / "study"]

    def check():
        study = load_study(root / "study")
        assert study.status == "complete"
        for record in study.runs:
            assert (root / "study" / record.predictions).exists()
        assert (root / "study" / "report.html").stat().st_size > 10_000

    return command, check


def _predict(rows, encoder, trained, root):
    out = root / "out.csv"

    def check():
        with out.open(newline="") as file:
            assert len(list(csv.DictReader(file))) == 48

    return ["predict", trained, "--input", rows, "--output", out, "--overwrite"], check


def _export(rows, encoder, trained, root):
    def check():
        names = json.loads((root / "merged" / "parity.json").read_text())["files"]
        assert "model.safetensors" in names
        for name in names:
            assert (root / "merged" / name).stat().st_size > 0

    return ["export", trained, "--to", "merged", "--out", root / "merged", "--overwrite"], check


def _fix(rows, encoder, trained, root):
    def check():
        assert len((root / "fixed.csv").read_text().splitlines()) == 49
        assert (root / "fixed.changes.csv").exists()

    command = ["inspect", rows, "--base", encoder, "--max-length", "16", "--quiet", "--fix", root / "fixed.csv"]
    return [*command, "--out", root / "inspection", "--overwrite"], check


COMMANDS = {function.__name__[1:]: function for function in (_train, _compare, _predict, _export, _fix)}


@pytest.mark.parametrize(
    ("name", "every"),
    [
        *((name, False) for name in ("predict", "export", "fix")),
        *(pytest.param(name, True, marks=[pytest.mark.slow, pytest.mark.timeout(3_000)]) for name in COMMANDS),
    ],
)
def test_each_operation_fails_once(rows, encoder, trained, tmp_path, name, every):
    plain = tmp_path / "plain" / "root"
    plain.mkdir(parents=True)
    command, check = COMMANDS[name](rows, encoder, trained, plain)
    undisturbed = run(command, plain)
    assert undisturbed.code == 0, undisturbed.stderr
    check()
    points = [(at, fault) for at in range(undisturbed.operations) for fault in FAULTS]
    assert len(points) >= 12
    chosen = points if every else random.Random(name).sample(points, 4)
    for at, fault in chosen:
        root = tmp_path / f"{at}-{fault}" / "root"
        root.mkdir(parents=True)
        command, check = COMMANDS[name](rows, encoder, trained, root)
        broken = run(command, root, fault=fault, at=at)
        where = f"operation {at}, {fault if fault == KILL else errno.errorcode[fault]}: {broken.stderr}"
        assert broken.code in ((-signal.SIGKILL,) if fault == KILL else (0, 1, 2)), where
        assert "Traceback" not in broken.stderr, where
        assert "bug in feathertune" not in broken.stderr, where
        if broken.code in (1, 2):
            assert broken.stderr.count("feathertune: ") == 1, where
        if broken.code == 0:
            check()
        again = run(command, root)
        if again.code == 2 and "--resume" in again.stderr:
            again = run([*(word for word in command if word != "--overwrite"), "--resume"], root)
        assert again.code == 0, where + again.stderr
        check()
        left = [path for path in root.rglob(".*") if path.name.endswith((".tmp", ".lock"))]
        assert left == [], where
    print(f"{name}: {undisturbed.operations} operations, {len(chosen)} faults")

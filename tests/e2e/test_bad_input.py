"""Bad input gets one clear message, exit code 2, no traceback, and writes nothing."""

import json
import subprocess
import sys

import pytest

from e2e.cli import ENVIRONMENT, SMALL, in_process, reviews, write_csv
from tiny import save_tiny_encoder

ROWS = reviews(60)


def csv_text(rows, header="text,label"):
    return "\n".join([header, *(f"{text},{label}" for text, label in rows)]) + "\n"


def jsonl(rows):
    return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)


CASES = {
    "no column": ("d.csv", csv_text(ROWS, "body,label"), ["no text column", "body", "--text-column"]),
    "nearest column": ("d.csv", csv_text(ROWS, "txt,label"), ["Did you mean 'txt'?"]),
    "ragged row": ("d.csv", csv_text(ROWS[:5]) + "a,b,c\n", ["d.csv", "row 6", "3", "2"]),
    "encoding": ("d.csv", "text,label\ncaf\xe9,pos\n".encode("latin-1"), ["UTF-8", "row 1"]),
    "utf-16": ("d.csv", csv_text(ROWS).encode("utf-16"), ["UTF-16"]),
    "empty file": ("d.csv", "", ["empty"]),
    "empty text": ("d.csv", csv_text([*ROWS[:3], ("   ", "pos")]), ["row 4", "empty text", "--drop-invalid"]),
    "missing label": ("d.csv", csv_text([*ROWS[:3], ("film", "")]), ["row 4", "without a label"]),
    "one class": ("d.csv", csv_text([(t, "pos") for t, _ in ROWS]), ["'pos'", "two classes"]),
    "class with one row": ("d.csv", csv_text([*ROWS, ("film", "rare")]), ["rare", "1"]),
    "null byte": ("d.csv", csv_text([*ROWS[:2], ("fi\0lm", "pos")]), ["null byte", "row 3"]),
    "half a surrogate": ("d.jsonl", jsonl([*ROWS[:2], ("\ud800", "pos")]), ["surrogate", "line 3"]),
    "no object": ("d.jsonl", jsonl(ROWS[:2]) + "[1, 2]\n", ["line 3", "object"]),
    "no JSON": ("d.jsonl", jsonl(ROWS[:2]) + "{text: 1}\n", ["line 3"]),
    "no parquet": ("d.parquet", "text,label\n", ["d.parquet", "parquet"]),
    "unknown ending": ("d.xlsx", "x", [".csv", ".parquet"]),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_data(case, encoder, tmp_path, monkeypatch, capsys):
    name, content, expected = CASES[case]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    out = tmp_path / "out"
    refused(in_process(monkeypatch, capsys, "compare", path, "--base", encoder, *SMALL, "--out", out), expected)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere.csv"], ["nowhere.csv does not exist"]),
        (["sample:imbd"], ["Did you mean 'imdb'?"]),
        (["smaple:imdb"], ["Did you mean 'sample'?"]),
        (["hub:someone/nothing"], ["someone/nothing", "without a network"]),
        (["DATA", "--methods", "lorra"], ["Unknown method 'lorra'. Did you mean 'lora'?"]),
        (["DATA", "--base", "sample:minilmm"], ["Did you mean 'minilm'?"]),
        (["DATA", "--base", "someone/nothing"], ["someone/nothing", "sample:minilm"]),
        (["DATA", "--set", "train.epoch=1"], ["Did you mean 'epochs'?"]),
        (["DATA", "--set", "method.lora.rr=1"], ["Did you mean 'r'?"]),
        (["DATA", "--set", "method.lora.target_modules=[kuery]"], ["kuery", "query"]),
        (
            ["DATA", "--set", "method.lora.target_modules=[classifier]"],
            ["'classifier'", "a full name such as"],
        ),
        (["DATA", "--set", "method.lora.r=33"], ["Option 'r' of method 'lora' is 33", "Set r to 32 or less"]),
        (["DATA", "--methods", "shira", "--set", "method.shira.density=1.5"], ["'density'", "less than or equal to 1"]),
        (["DATA", "--methods", "shira", "--set", "method.shira.density=0"], ["'density'", "greater than 0"]),
        (
            ["DATA", "--methods", "gralora", "--set", "method.gralora.r=7"],
            ["Option 'gralora_k' of method 'gralora' is 2, but must divide r (7)", "The widths allow 1, 2, 4, 8, 16"],
        ),
        (
            ["DATA", "--methods", "adalora", "--set", "method.adalora={target_r: 8, init_r: 4}"],
            ["Options of method 'adalora': target_r (8) may not be above init_r (4)"],
        ),
        (["DATA", "--methods", "prompt", "--max-length", "60"], ["8 virtual tokens", "Pass --max-length 58 or less"]),
        (["DATA", "--methods", "ia3,full", "--set", "method.r=4"], ["'method.r'", "of the methods ia3, full"]),
        (["DATA", "--methods", "all", "--set", "method.rr=4"], ["'method.rr'", "more", "Did you mean 'r'?"]),
        (["DATA", "--match-parameters", "abc"], ["'abc'", "e.g. 0.3%"]),
        (["DATA", "--match-parameters", "70000", "--set", "method.r=4"], ["method.r", "match_parameters", "Leave one"]),
        (["DATA", "--label-column", "lable"], ["lable", "Did you mean 'label'?"]),
        (["DATA", "--train-size", "5000"], ["train_size is 5,000"]),
        (["DATA", "--test-size", "many"], ["data.test_size", "many"]),
        (["DATA", "--max-length", "5000"], ["reads at most"]),
        (["DATA", "--config", "none.yaml"], ["none.yaml cannot be read"]),
        (["DATA", "--set", "engine.device=cuda:7"], ["engine.device is 'cuda:7'"]),
        (["DATA", "--out", "FILE"], ["is a file"]),
        (["DATA", "--out", "FOLDER"], ["was not written by feathertune"]),
        (["DATA", "--out", "FOLDER", "--overwrite"], ["was not written by feathertune"]),
        (["DATA", "--out", "FILE/below"], ["cannot be written"]),
    ],
)
def test_bad_arguments(arguments, expected, encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.doc").write_text("mine")
    words = {"DATA": data, "FILE": "file", "FOLDER": "folder", "FILE/below": "file/below"}
    given = [words.get(word, word) for word in arguments]
    base = [] if "--base" in given else ["--base", encoder]
    result = in_process(monkeypatch, capsys, "compare", *SMALL, *given, *base)
    refused(result, expected)
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "thesis.doc").read_text() == "mine"


def test_a_method_on_an_encoder_that_it_cannot_serve(data, tmp_path, monkeypatch, capsys):
    encoder = save_tiny_encoder(tmp_path / "tiny-modernbert", "modernbert")
    out = tmp_path / "bundle"
    command = ("train", data, "--base", encoder, "--method", "bitfit", *SMALL, "--out", out)
    refused(in_process(monkeypatch, capsys, *command), ["'bitfit' does not support", "have no biases"])
    assert not out.exists()


def test_one_training_is_of_one_method(data, encoder, tmp_path, monkeypatch, capsys):
    command = ("train", data, "--base", encoder, "--method", "all", "--out", tmp_path / "bundle")
    refused(in_process(monkeypatch, capsys, *command), ["'all' means every method", "compare --methods all"])


def refused(result, expected):
    """One message, on stderr, that says what is needed."""
    assert result.code == 2, result.stderr
    assert result.stdout == ""
    _, _, message = result.stderr.partition("feathertune: ")
    assert "feathertune: " not in message, "one message"
    for word in expected:
        assert word in message, message
    assert "Traceback" not in result.stderr


def test_a_test_label_that_training_never_saw(encoder, tmp_path, monkeypatch, capsys):
    train = write_csv(tmp_path / "train.csv", ROWS)
    test = write_csv(tmp_path / "test.csv", [("film", "pos"), ("plot", "neutral")])
    result = in_process(monkeypatch, capsys, "compare", train, "--test", test, "--base", encoder, *SMALL)
    refused(result, ["neutral", "train"])


@pytest.mark.slow
def test_what_is_odd_but_right_works(encoder, tmp_path, monkeypatch, capsys):
    odd = [
        ("film " * 200_000, "pos"),
        ('two "lines"\nof, it', "neg"),
        ("日本語 🎬\u200d", "pos"),
        ("\u202eright to left", "neg"),
    ]
    path = write_csv(tmp_path / "odd.csv", [*ROWS, *odd])
    command = ("compare", path, "--base", encoder, "--methods", "lora", *SMALL, "--out", tmp_path / "out", "--json")
    result = in_process(monkeypatch, capsys, *command)
    assert result.code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["data"]["n_train"] + record["data"]["n_validation"] + record["data"]["n_test"] == 64
    assert record["bases"][0]["truncated_fraction"] > 0


def test_invalid_rows_may_be_left_out_and_are_counted(encoder, tmp_path, monkeypatch, capsys):
    path = write_csv(tmp_path / "d.csv", [*ROWS, (" ", "pos"), ("film", "")])
    command = ("compare", path, "--base", encoder, "--methods", "", *SMALL, "--out", tmp_path / "out", "--json")
    result = in_process(monkeypatch, capsys, *command, "--drop-invalid")
    assert result.code == 0, result.stderr
    assert any("2 rows left out" in note for note in json.loads(result.stdout)["data"]["notes"])


def test_a_terminal_without_unicode_gets_the_result_all_the_same():
    environment = {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    assert b"lora" in started("methods", **environment).stdout
    missing = started("report", "日本語", **environment)
    assert missing.returncode == 2
    assert b"is not a study folder" in missing.stderr
    assert b"Traceback" not in missing.stderr


def started(*arguments, **environment):
    """Run in a process that loads everything itself."""
    command = [sys.executable, "-m", "feathertune", *arguments]
    return subprocess.run(command, env={**ENVIRONMENT, **environment}, capture_output=True, check=False, timeout=60)


def test_help_version_and_wrong_options():
    assert b"compare" in started("--help").stdout
    assert started("--version").stdout.startswith(b"feathertune 0.")
    wrong = started("compare", "--methds", "lora")
    assert wrong.returncode == 2
    assert b"--methods" in wrong.stderr
    assert started("report", "nowhere").returncode == 2

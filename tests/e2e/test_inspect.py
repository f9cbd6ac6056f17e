"""`feathertune inspect`: what is in the data, whatever it is."""

import json

from e2e.cli import SMALL, in_process, reviews, write_csv


def test_says_what_is_there_and_writes_nothing(encoder, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = in_process(monkeypatch, capsys, "inspect", data, "--base", encoder, "--max-length", "16")
    assert result.code == 0, result.stderr
    said = result.stdout.replace("\u202f", " ")
    for words in ("120 rows, 2 labels", "columns   text 'text', label 'label'", "50.0 %", "--max-length", "texts cut"):
        assert words in said
    assert "About 24 test rows" in said
    assert list(tmp_path.iterdir()) == []


def test_as_json(encoder, data, monkeypatch, capsys):
    result = in_process(monkeypatch, capsys, "inspect", data, "--base", encoder, "--max-length", "16", "--json")
    found = json.loads(result.stdout)
    assert found["classes"] == {"neg": 60, "pos": 60}
    assert list(found["lengths"]["cut"]) == ["16", "64", "128", "256", "512"]
    assert found["lengths"]["n"] == 120
    assert found["refused"] is None


def test_what_a_study_refuses_is_told_with_all_the_rest(encoder, tmp_path, monkeypatch, capsys):
    bad = write_csv(tmp_path / "bad.csv", [*reviews(60), ("", "pos"), (" ", "neg"), ("film", "")])
    result = in_process(monkeypatch, capsys, "inspect", bad, "--base", encoder, "--max-length", "16")
    assert result.code == 0, result.stderr
    assert "3 rows cannot be used" in result.stdout
    assert "2 with an empty text (bad.csv, row 61" in " ".join(result.stdout.split())
    assert "A study would refuse this data: 3 rows cannot be used." in result.stdout
    lenient = in_process(
        monkeypatch, capsys, "inspect", bad, "--base", encoder, "--max-length", "16", "--drop-invalid", "--json"
    )
    assert json.loads(lenient.stdout)["refused"] is None


def test_a_class_that_cannot_be_split(encoder, tmp_path, monkeypatch, capsys):
    rare = write_csv(tmp_path / "rare.csv", [*reviews(60), ("film", "odd")])
    result = in_process(monkeypatch, capsys, "inspect", rare, "--base", encoder, "--max-length", "16")
    assert result.code == 0, result.stderr
    assert "A study would refuse this data: " in result.stdout
    assert "'odd' (1)" in result.stdout
    refused = in_process(monkeypatch, capsys, "compare", rare, "--base", encoder, *SMALL, "--out", tmp_path / "o")
    assert refused.code == 2


def test_bad_arguments(encoder, data, tmp_path, monkeypatch, capsys):
    for words, expected in (
        (["nowhere.csv"], "nowhere.csv does not exist"),
        ([data, "--text-column", "txt"], "Did you mean 'text'?"),
        ([data, "--max-length", "5000"], "reads at most"),
    ):
        result = in_process(monkeypatch, capsys, "inspect", *words, "--base", encoder)
        assert result.code == 2
        assert expected in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""

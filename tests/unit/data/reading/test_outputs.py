import csv
import json

import pyarrow.parquet as pq
import pytest

from feathertune.data.reading.outputs import open_output
from feathertune.errors import ConfigError

ROWS = [
    {"text": 'a "quoted",\nbroken line', "label": "pos", "probabilities": {"neg": 0.25, "pos": 0.75}},
    {"text": "ünï", "label": "neg", "probabilities": {"neg": 0.5, "pos": 0.5}},
]


def write(path, rows, **kwargs):
    with open_output(path, overwrite=kwargs.get("overwrite", False)) as writer:
        for row in rows:
            writer.write(row)


def test_json_lines(tmp_path):
    write(tmp_path / "p.jsonl", ROWS)
    assert [json.loads(line) for line in (tmp_path / "p.jsonl").read_text("utf-8").splitlines()] == ROWS


@pytest.mark.parametrize(("name", "delimiter"), [("p.csv", ","), ("p.tsv", "\t")])
def test_delimited_flattens_the_probabilities(tmp_path, name, delimiter):
    write(tmp_path / name, ROWS)
    with (tmp_path / name).open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file, delimiter=delimiter))
    assert [row["text"] for row in read] == [row["text"] for row in ROWS]
    assert read[0]["probabilities.pos"] == "0.75"
    assert list(read[0]) == ["text", "label", "probabilities.neg", "probabilities.pos"]


def test_parquet_in_several_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.data.reading.outputs._PARQUET_ROWS", 2)
    write(tmp_path / "p.parquet", ROWS * 2 + ROWS[:1])
    table = pq.read_table(tmp_path / "p.parquet")
    assert table.column("text").to_pylist() == [row["text"] for row in ROWS * 2 + ROWS[:1]]
    assert table.column("probabilities.neg").to_pylist() == [0.25, 0.5, 0.25, 0.5, 0.25]
    assert pq.ParquetFile(tmp_path / "p.parquet").num_row_groups == 3


def test_a_break_keeps_what_was_written_and_the_old_file(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text("old")

    def break_after_one_row():
        with open_output(path, overwrite=True) as writer:
            writer.write(ROWS[0])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_after_one_row()
    assert path.read_text() == "old"
    (partial,) = tmp_path.glob(".p.jsonl.*.partial")
    assert json.loads(partial.read_text("utf-8")) == ROWS[0]


def test_refusals(tmp_path):
    (tmp_path / "p.csv").write_text("mine")
    for path, expected in [
        (tmp_path / "p.csv", "--overwrite"),
        (tmp_path / "p.xlsx", "Expected one of .jsonl, .csv"),
        (tmp_path / "none" / "p.csv", "cannot be written"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            write(path, ROWS)
    assert (tmp_path / "p.csv").read_text() == "mine"

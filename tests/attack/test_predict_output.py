"""`predict --output`: each run its own file, no value lost or moved, and one sentence for what cannot be written."""

import csv
import errno
import json
import math
import os
from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from e2e.cli import in_process, reviews, write_csv
from feathertune.config import Config
from feathertune.data.reading.outputs import open_output, schema_of, schema_of_file
from feathertune.errors import ConfigError, DataError
from feathertune.study.finetune import finetune
from feathertune.study.observe import Silent
from tiny import save_tiny_encoder

DIFFERING = [{"text": "a"}, {"id": 1, "text": "b"}, {"text": "c", "late": "x", "id": 2}]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predict")
    base = save_tiny_encoder(folder / "base", "bert")
    data = write_csv(folder / "data.csv", reviews(60))
    settings = {
        "data": {"source": str(data), "max_length": 16},
        "base": {"id": str(base)},
        "train": {"epochs": 1},
        "engine": {"dtype": "fp32"},
    }
    finetune(Config.model_validate(settings), "lora", folder / "bundle", seed=0, observer=Silent())
    return folder / "bundle"


@pytest.fixture
def predict(bundle, monkeypatch, capsys, tmp_path):
    def run(source, output, *more):
        result = in_process(
            monkeypatch, capsys, "predict", bundle, "--input", source, "--output", tmp_path / output, *more
        )
        assert "Traceback" not in result.stderr
        return result

    return run


def json_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_keys_that_differ_from_row_to_row(predict, tmp_path):
    source = json_lines(tmp_path / "in.jsonl", DIFFERING)
    assert predict(source, "out.csv").code == 0
    rows = read_csv(tmp_path / "out.csv")
    assert list(rows[0])[:4] == ["text", "id", "late", "label"]
    assert [(row["text"], row["id"], row["late"]) for row in rows] == [("a", "", ""), ("b", "1", ""), ("c", "2", "x")]
    assert predict(source, "out.parquet").code == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["late"].to_pylist() == [None, None, "x"]
    assert table["id"].to_pylist() == [None, 1, 2]


def test_column_names_never_collide(predict, tmp_path):
    row = {
        "text": "a film",
        "label": "mine",
        "input_label": "mine, too",
        "probabilities": {"pos": 7},
        "probabilities.pos": "text",
    }
    source = json_lines(tmp_path / "in.jsonl", [row])
    for name in ("out.jsonl", "out.csv", "out.parquet"):
        assert predict(source, name).code == 0
    (found,) = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    (cells,) = read_csv(tmp_path / "out.csv")
    (values,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert found["input_probabilities"] == values["input_probabilities"] == json.loads(cells["input_probabilities"])
    for written in (found, cells, values):
        assert written["input_input_label"] == "mine"
        assert written["input_label"] == "mine, too"
        assert written["input_probabilities.pos"] == "text"
        assert written["label"] in ("neg", "pos")


def test_a_text_column_that_is_named_like_the_answer(predict, tmp_path):
    source = json_lines(tmp_path / "in.jsonl", [{"label": "a film"}])
    assert predict(source, "out.jsonl", "--text-column", "label").code == 0
    assert json.loads((tmp_path / "out.jsonl").read_text())["input_label"] == "a film"


ODD = {
    "day": date(2020, 2, 29),
    "at": datetime(2020, 1, 2, 3, 4, 5, tzinfo=UTC),
    "price": Decimal("1.50"),
    "raw": b"\x00\xff",
    "nested": {"a": [1, None]},
    "list": ["x", "y"],
    "nan": math.nan,
    "yes": True,
}


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.tsv", "out.parquet"])
def test_values_of_every_type(predict, tmp_path, name):
    table = pa.Table.from_pylist([{"text": "a film", **ODD}])
    pq.write_table(table, tmp_path / "in.parquet")
    assert predict(tmp_path / "in.parquet", name).code == 0
    if name == "out.parquet":
        found = pq.read_table(tmp_path / name)
        assert [found.schema.field(field.name).type for field in table.schema] == table.schema.types
        assert found["day"].to_pylist() == [ODD["day"]]
        assert found["raw"].to_pylist() == [ODD["raw"]]
        return
    if name == "out.jsonl":
        found = json.loads((tmp_path / name).read_text())
        assert (found["nested"], found["list"], found["nan"], found["yes"]) == (
            {"a": [1, None]},
            ["x", "y"],
            None,
            True,
        )
    else:
        with (tmp_path / name).open(newline="") as file:
            (found,) = csv.DictReader(file, delimiter="\t" if name == "out.tsv" else ",")
        assert (found["nested"], found["list"], found["nan"]) == ('{"a": [1, null]}', "x|y", "")
        assert found["yes"] == "true"
    assert found["day"] == "2020-02-29"
    assert found["at"] == "2020-01-02T03:04:05+00:00"
    assert (found["price"], found["raw"]) == ("1.50", "AP8=")


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_json_values_without_a_common_type(predict, tmp_path, name):
    odd = [1, 2**70, "text", True, None, math.inf, [1], {}, "half \ud800", 1.5]
    source = json_lines(tmp_path / "in.jsonl", [{"text": f"film {i}", "odd": value} for i, value in enumerate(odd)])
    assert predict(source, name).code == 0
    if name == "out.parquet":
        assert pq.read_table(tmp_path / name)["odd"].to_pylist()[:4] == ["1", str(2**70), "text", "true"]
    if name == "out.jsonl":
        found = [json.loads(line)["odd"] for line in (tmp_path / name).read_text("utf-8").splitlines()]
        assert found == [*odd[:5], None, *odd[6:]]


def test_parquet_columns_that_begin_with_nulls(tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.data.reading.outputs._PARQUET_ROWS", 2)
    rows = [{"text": "a", "x": None}] * 4 + [{"text": "a", "x": "late", "y": 1.5}] * 3
    source = json_lines(tmp_path / "in.jsonl", rows)
    with open_output(tmp_path / "out.parquet", schema_of_file(source, typed=True), overwrite=False) as writer:
        for row in rows:
            writer.write(row)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["x"].to_pylist() == [None] * 4 + ["late"] * 3
    assert table["y"].to_pylist() == [None] * 4 + [1.5] * 3


def test_no_rows_are_a_whole_file(predict, tmp_path):
    (tmp_path / "in.csv").write_text("text,id\n")
    for name in ("out.csv", "out.parquet", "out.jsonl"):
        assert predict(tmp_path / "in.csv", name).code == 0
    assert (tmp_path / "out.csv").read_text() == "text,id,label,probabilities.neg,probabilities.pos\n"
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_formulas(predict, tmp_path):
    dangerous = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"]
    with (tmp_path / "in.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "=note"], *([f"film {i}", cell] for i, cell in enumerate(dangerous))])
    assert predict(tmp_path / "in.csv", "as-they-are.csv").code == 0
    assert [row["=note"] for row in read_csv(tmp_path / "as-they-are.csv")] == dangerous
    assert predict(tmp_path / "in.csv", "safe.csv", "--spreadsheet-safe").code == 0
    assert [row["'=note"] for row in read_csv(tmp_path / "safe.csv")] == [f"'{cell}" for cell in dangerous]
    refused = predict(tmp_path / "in.csv", "safe.parquet", "--spreadsheet-safe")
    assert refused.code == 2
    assert "--spreadsheet-safe works only with .csv and .tsv" in refused.stderr


def test_two_runs_into_one_file(tmp_path):
    path = tmp_path / "out.csv"
    schema = schema_of([{"text": ""}])

    def second():
        with open_output(path, schema, overwrite=False) as two:
            with open_output(path, schema, overwrite=False) as one:
                one.write({"text": "first"})
                two.write({"text": "second"})
            two.write({"text": "second, again"})

    with pytest.raises(ConfigError, match="Another process wrote the output") as error:
        second()
    assert path.read_text() == "text\nfirst\n"
    (kept,) = tmp_path.glob(".out.csv.*.partial")
    assert str(kept) in str(error.value)
    assert kept.read_text() == 'text\nsecond\n"second, again"\n'


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "victim").write_text("mine")
    for name in ("out.csv.partial", ".out.csv.0.partial"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    names = iter("011")
    monkeypatch.setattr("secrets.token_hex", lambda n: next(names))
    with open_output(tmp_path / "out.csv", overwrite=False) as writer:
        writer.write({"text": "a"})
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "out.csv").read_text() == "text\na\n"


def test_a_full_disk_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "out.csv").write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    for name in ("out.csv", "out.jsonl", "out.parquet"):
        with (
            pytest.raises(ConfigError, match="No space left on device"),
            open_output(tmp_path / name, overwrite=True) as writer,
        ):
            writer.write({"text": "a"})
    assert (tmp_path / "out.csv").read_text() == "old"
    assert not (tmp_path / "out.parquet").exists()


def test_rows_before_a_fault_are_kept_and_named(predict, tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.predictor.CHUNK_TEXTS", 2)
    source = tmp_path / "in.jsonl"
    source.write_text('{"text": "a"}\n{"text": "b"}\n{"text": \n{"text": "c", "late": 1}\n')
    result = predict(source, "out.csv")
    assert result.code == 2
    assert "in.jsonl, line 3: not JSON" in result.stderr
    (kept,) = tmp_path.glob(".out.csv.*.partial")
    assert str(kept) in result.stderr
    assert [row["text"] for row in read_csv(kept)] == ["a", "b"]


def test_a_value_that_parquet_refuses(tmp_path):
    schema = pa.schema([("x", pa.int8())])

    def write():
        with open_output(tmp_path / "out.parquet", schema, overwrite=False) as writer:
            writer.write({"x": 1})
            writer.write({"x": 1000})

    with pytest.raises(DataError, match="Rows 1 to 2 of the column 'x' cannot be written to Parquet as int8"):
        write()

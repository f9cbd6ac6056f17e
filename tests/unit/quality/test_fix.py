"""A cleaned copy: what is certain is done and listed, the original is never touched."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feathertune.data.sources.collector import Collector, ReadOptions
from feathertune.errors import ConfigError, DataError
from feathertune.quality.fix import changes_path, check_output, write_fixed
from feathertune.quality.scan import scan
from feathertune.quality.tables import loaded_table, table_of

ROWS = [
    ("1", "good film", "pos", "train"),
    ("2", "bad film", "neg", "train"),
    ("3", "good film", "pos", "train"),  # repeats 1
    ("4", "odd film", "pos", "train"),  # contradicted by 5
    ("5", "odd film", "neg", "train"),
    ("6", "test film", "pos", "train"),  # is a test row, too
    ("7", "test film", "pos", "test"),
    ("8", "", "pos", "train"),
    ("9", "no label", "", "train"),
    ("10", "cafÃ© film", "pos", "train"),
    ("11", "café film", "pos", "train"),  # what 10 is after its repair
    ("12", "a\x07 bell,\nand a line", "neg", "train"),
    ("13", "\ufeff", "neg", "train"),  # empty only after its repair
    ("14", "lost \ufffd stays", "neg", "train"),
]
KEPT = {
    1: "good film",
    2: "bad film",
    7: "test film",
    10: "café film",
    12: "a bell,\nand a line",
    14: "lost \ufffd stays",
}
COLUMNS = ("id", "text", "label", "split")
WHAT = {
    3: "removed: duplicate of a text and label",
    4: "removed: text has conflicting labels",
    5: "removed: text has conflicting labels",
    6: "removed: text is also in a later split",
    8: "removed: unusable: with an empty text",
    9: "removed: unusable: without a label",
    10: "text repaired",
    11: "removed: duplicate of a text and label",
    12: "text repaired",
    13: "removed: unusable: empty after repair",
}


def scanned(path, *more, **options):
    return scan([table_of(str(name), ReadOptions(split_column="split")) for name in (path, *more)])


def write_csv(path, rows=ROWS):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_csv(tmp_path):
    source = write_csv(tmp_path / "d.csv")
    before = source.read_bytes()
    fixed = write_fixed(scanned(source), tmp_path / "clean.csv")
    assert source.read_bytes() == before
    rows = read_csv(tmp_path / "clean.csv")
    assert tuple(rows[0]) == COLUMNS
    assert {int(row["id"]): row["text"] for row in rows} == KEPT
    assert (fixed.n_read, fixed.n_written) == (14, 6)
    changes = read_csv(changes_path(tmp_path / "clean.csv"))
    assert {int(change["row"]): change["what"] for change in changes} == WHAT
    because = {int(change["row"]): change["because of row"] for change in changes}
    assert because == {3: "1", 4: "5", 5: "4", 6: "7", 8: "", 9: "", 10: "", 11: "10", 12: "", 13: ""}
    repaired = next(change for change in changes if change["row"] == "10")
    assert (repaired["text"], repaired["text after"]) == ("cafÃ© film", "café film")
    assert sum(fixed.counts.values()) == len(changes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clean.changes.csv", "clean.csv", "d.csv"]


def test_a_clean_copy_is_clean(tmp_path):
    write_fixed(scanned(write_csv(tmp_path / "d.csv")), tmp_path / "once.csv")
    fixed = write_fixed(scanned(tmp_path / "once.csv"), tmp_path / "twice.csv")
    assert not fixed.counts
    assert (tmp_path / "twice.csv").read_bytes() == (tmp_path / "once.csv").read_bytes()


def test_json_lines(tmp_path):
    rows = [dict(zip(COLUMNS, row, strict=True)) | {"more": {"n": [1, None]}} for row in ROWS]
    rows += [{"id": "15", "text": "half \ud800", "label": "pos", "split": "train"}]
    rows += [{"id": "16", "text": "null\0byte", "label": "pos", "split": "train"}]
    source = tmp_path / "d.jsonl"
    source.write_text("\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    write_fixed(scanned(source), tmp_path / "clean.jsonl")
    found = [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {int(row["id"]): row["text"] for row in found} == KEPT | {16: "nullbyte"}
    assert found[0]["more"] == {"n": [1, None]}
    lines = {change["row"] for change in read_csv(tmp_path / "clean.changes.csv")}
    assert {"5", "29"} <= lines, "lines of the file: row 3 stands in line 5, row 15 in line 29"


def test_parquet_keeps_its_types(tmp_path):
    schema = pa.schema(
        [
            ("id", pa.int16()),
            ("text", pa.large_string()),
            ("label", pa.string()),
            ("split", pa.string()),
            ("d", pa.date32()),
        ]
    )
    rows = [dict(zip(COLUMNS, (int(row[0]), *row[1:]), strict=True)) for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "d.parquet")
    write_fixed(scanned(tmp_path / "d.parquet"), tmp_path / "clean.parquet")
    found = pq.read_table(tmp_path / "clean.parquet")
    assert found.schema.equals(schema)
    assert dict(zip(found["id"].to_pylist(), found["text"].to_pylist(), strict=True)) == KEPT


def test_training_rows_that_are_in_a_test_file(tmp_path):
    source = write_csv(tmp_path / "d.csv", [row for row in ROWS if row[3] == "train"][:2])
    test = write_csv(tmp_path / "t.csv", [("1", "bad film", "neg", "test"), ("2", "bad film", "neg", "test")])
    fixed = write_fixed(scanned(source, test), tmp_path / "clean.csv")
    assert fixed.n_read == 2, "the test file is read for comparison alone"
    assert [row["id"] for row in read_csv(tmp_path / "clean.csv")] == ["1"]
    (change,) = read_csv(tmp_path / "clean.changes.csv")
    assert (change["because of row"], change["of"]) == ("1", str(test))


def test_test_rows_that_are_not_used_stay(tmp_path):
    source = write_csv(tmp_path / "d.csv", [*ROWS[:2], ROWS[6]])
    test = write_csv(tmp_path / "t.csv", [("1", "another", "neg", "test")])
    fixed = write_fixed(scanned(source, test), tmp_path / "clean.csv")
    assert (fixed.n_read, fixed.n_written) == (3, 3)


def test_a_source_that_is_no_file(tmp_path):
    collector = Collector("s", drop_invalid=True)
    for text in ("one", "two", "one"):
        collector.add(text, "pos", None, "somewhere")
    fixed = write_fixed(scan([loaded_table(collector.finish())]), tmp_path / "clean.tsv")
    assert fixed.n_written == 2
    assert (tmp_path / "clean.tsv").read_text() == "text\tlabel\none\tpos\ntwo\tpos\n"


def test_places_that_are_refused(tmp_path):
    source = write_csv(tmp_path / "d.csv")
    (tmp_path / "there.csv").write_text("mine")
    for name, words in (
        ("d.csv", "would replace the source"),
        ("there.csv", "exists"),
        ("clean.jsonl", "Expected .csv, like the source"),
        ("nowhere/clean.csv", "nowhere does not exist"),
    ):
        with pytest.raises(ConfigError, match=words):
            check_output(str(source), tmp_path / name, overwrite=False)
    with pytest.raises(ConfigError, match="would replace the source"):
        check_output(str(source), source, overwrite=True)
    check_output(str(source), tmp_path / "there.csv", overwrite=True)
    check_output("sample:imdb", tmp_path / "clean.jsonl", overwrite=False)
    with pytest.raises(ConfigError, match=r"Expected \.jsonl or \.csv"):
        check_output("sample:imdb", tmp_path / "clean.txt", overwrite=False)


def test_where_nothing_would_be_left(tmp_path):
    source = write_csv(tmp_path / "d.csv", ROWS[3:5])
    with pytest.raises(DataError, match=r"No row of .* would be kept"):
        write_fixed(scanned(source), tmp_path / "clean.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]

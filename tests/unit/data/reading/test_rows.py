"""The row reader: what comes back, and what is said about broken files."""

from __future__ import annotations

import contextlib
import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feathertune.data.reading.rows import columns, read_rows
from feathertune.errors import DataError

FUZZ = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    database=None,
)
# Text as a file can hold it: anything but lone surrogates.
CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8).filter(
        str.strip
    ),
    min_size=1,
    max_size=4,
    unique=True,
)


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refused(path):
    with pytest.raises(DataError) as error:
        list(read_rows(path))
    return str(error.value)


def test_csv_rows_say_where_they_stand(write):
    path = write("reviews.csv", 'text,label\r\n"two\nlines, ""quoted""",pos\r\n\r\nplain,neg\r\n')
    assert list(read_rows(path)) == [
        ({"text": 'two\nlines, "quoted"', "label": "pos"}, "reviews.csv, row 1"),
        ({"text": "plain", "label": "neg"}, "reviews.csv, row 2"),
    ]
    assert columns(path) == ("text", "label")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_takes_every_line_end_and_a_byte_order_mark(write, end):
    path = write("a.CSV", b"\xef\xbb\xbf" + f"text,label{end}é,1{end}".encode())
    assert [row.values for row in read_rows(path)] == [{"text": "é", "label": "1"}]


def test_tsv_jsonl_and_text(write):
    assert [r.values for r in read_rows(write("a.tsv", "text\tlabel\na,b\tc\n"))] == [{"text": "a,b", "label": "c"}]
    path = write("a.jsonl", '\ufeff{"text": "a\\nb", "label": 1}\n\n  \n{"label": null}')
    assert list(read_rows(path)) == [
        ({"text": "a\nb", "label": 1}, "a.jsonl, line 1"),
        ({"label": None}, "a.jsonl, line 4"),
    ]
    assert columns(path) == ("text", "label")
    path = write("a.txt", "one\r\n\n \u2028 three")
    assert list(read_rows(path)) == [
        ({"text": "one"}, "a.txt, line 1"),
        ({"text": ""}, "a.txt, line 2"),
        ({"text": " \u2028 three"}, "a.txt, line 3"),
    ]
    assert columns(path) == ("text",)


def test_parquet_streams_and_reads_only_what_is_needed(tmp_path):
    path = tmp_path / "a.parquet"
    texts = [f"text {i}" for i in range(3000)]
    pq.write_table(
        pa.table({"text": texts, "label": [i % 2 for i in range(3000)], "x": texts}), path, row_group_size=700
    )
    rows = list(read_rows(path, only=["label", "text"]))
    assert columns(path) == ("text", "label", "x")
    assert rows[-1] == ({"text": "text 2999", "label": 1}, "a.parquet, row 3000")
    assert [row.values["text"] for row in rows] == texts
    assert "x" in next(read_rows(path)).values


def test_a_text_of_a_million_characters(write):
    long = "word " * 400_000
    assert next(read_rows(write("a.csv", f"text\n{long}\n"))).values["text"] == long


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        (
            "a.csv",
            "text,label\na,b\nc,d,e\n",
            ["a.csv, row 2 (line 3)", "3 fields found, 2 expected (text, label)"],
        ),
        ("a.csv", 'text,label\n"a\nb",c\nd\n', ["a.csv, row 2 (line 4)", "1 fields found, 2 expected"]),
        (
            "a.csv",
            b"text,label\na,b\nr\xe9sum\xe9,b\n",
            ["a.csv, row 2 (line 3)", "byte 0xE9", "Save the file as UTF-8"],
        ),
        ("a.csv", b"te\xe9xt,label\n", ["a.csv, header (line 1)", "byte 0xE9"]),
        ("a.csv", "text,label\na,b\n".encode("utf-16"), ["a.csv", "UTF-16", "CSV UTF-8"]),
        ("a.csv", "text\n".encode("utf-16-be"), ["a.csv", "null byte"]),
        ("a.csv", 'text,label\na,b\n"c,d\ne,f\n', ["a.csv, row 2 (line 3)", "never closed"]),
        ("a.csv", 'text,label\n"a"b,c\n', ["a.csv, row 1 (line 2)", "Double each double quote"]),
        ("a.csv", "text,label,text\n", ["a.csv", "columns 1 and 3 are both named 'text'"]),
        ("a.csv", ",text\n0,a\n", ["a.csv", "column 1 of 2 has no name", "index=False"]),
        ("a.csv", "", ["a.csv is empty"]),
        ("a.csv", b"\xef\xbb\xbf\n\n", ["a.csv is empty"]),
        ("a.tsv", "text\tlabel\na\n", ["a.tsv, row 1 (line 2)", "1 fields found, 2 expected"]),
        ("a.jsonl", '{"text": "a"}\n[1]\n', ["a.jsonl, line 2", "JSON array", "Expected one object per line"]),
        ("a.jsonl", '{"text": "a"}\n\n"b"\n', ["a.jsonl, line 3", "JSON string"]),
        ("a.jsonl", "3\n", ["a.jsonl, line 1", "JSON number"]),
        ("a.jsonl", "true\n", ["a.jsonl, line 1", "JSON boolean"]),
        ("a.jsonl", '{"text": "a"}\n{"text": }\n', ["a.jsonl, line 2", "not JSON", "character 10"]),
        ("a.jsonl", "[" * 100_000, ["a.jsonl, line 1"]),
        ("a.jsonl", '{"text": ' + "1" * 5000 + "}", ["a.jsonl, line 1", "cannot be read"]),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', ["a.jsonl, line 2", "byte 0xFF"]),
        ("a.jsonl", "\n \n", ["a.jsonl is empty"]),
        ("a.txt", b"a\n\xe9\n", ["a.txt, line 2", "byte 0xE9"]),
        ("a.parquet", "text,label\n", ["a.parquet is not a Parquet file"]),
        ("a.parquet", "", ["a.parquet is not a Parquet file"]),
        ("a.xlsx", "", ["a.xlsx ends in '.xlsx'", ".csv, .tsv, .jsonl"]),
        ("reviews", "", ["reviews has no ending", ".parquet"]),
    ],
)
def test_broken_files_are_named_with_the_place(write, name, content, parts):
    message = refused(write(name, content))
    assert [part for part in parts if part not in message] == []


def test_rows_before_the_broken_one_are_given(write):
    rows = read_rows(write("a.csv", "text\na\nb\nc,d\n"))
    assert [next(rows).values["text"], next(rows).values["text"]] == ["a", "b"]
    with pytest.raises(DataError, match="row 3"):
        next(rows)


def test_a_field_without_end_does_not_fill_memory(write, monkeypatch):
    monkeypatch.setattr("feathertune.data.reading.formats._LONGEST_FIELD", 200_000)
    before = csv.field_size_limit(100)
    try:
        assert "longer than 200,000 characters" in refused(write("a.csv", 'text\na\n"' + "b\n" * 150_000))
    finally:
        csv.field_size_limit(before)


def test_missing_files_name_the_nearest(write, tmp_path):
    write("reviews.csv", "text\n")
    write("notes.pdf", "")
    message = refused(tmp_path / "reveiws.csv")
    assert "reveiws.csv does not exist" in message
    assert "Did you mean 'reviews.csv'?" in message
    assert "notes.pdf" not in message
    assert "there is no folder" in refused(tmp_path / "nowhere" / "a.csv")


def test_folders_and_unreadable_files(tmp_path, write, monkeypatch):
    (tmp_path / "part.csv").mkdir()
    assert "is a folder" in refused(tmp_path / "part.csv")

    def denied(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    for name in ("a.csv", "a.jsonl", "a.parquet"):
        path = write(name, "text\n")
        monkeypatch.setattr("pathlib.Path.open", denied)
        monkeypatch.setattr("pyarrow.parquet.ParquetFile", denied)
        assert f"{name} cannot be read: Permission denied" in refused(path)
        with pytest.raises(DataError, match="Permission denied"):
            columns(path)
        monkeypatch.undo()


def test_parquet_with_broken_content(tmp_path):
    path = tmp_path / "a.parquet"
    latin = pa.array([b"fine"] * 1500 + [b"r\xe9sum\xe9"]).cast(pa.binary())
    pq.write_table(pa.table({"text": pa.Array.from_buffers(pa.string(), len(latin), latin.buffers())}), path)
    assert "a.parquet, row 1501: byte 0xE9" in refused(path)

    pq.write_table(pa.table({"text": [f"text number {i}" for i in range(5000)]}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    content[40:4000] = bytes(3960)
    path.write_bytes(content)
    assert "a.parquet cannot be read after row" in refused(path)


def test_parquet_with_two_columns_of_one_name(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), tmp_path / "a.parquet")
    assert "columns 1 and 2 are both named 'text'" in refused(tmp_path / "a.parquet")


@FUZZ
@given(names=NAMES, data=st.data(), bom=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
def test_csv_rows_come_back_as_written(tmp_path, names, data, bom, end):
    rows = data.draw(st.lists(st.lists(CELLS, min_size=len(names), max_size=len(names)), max_size=6))
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerow(names)
    writer.writerows(rows)
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" * bom + out.getvalue().encode())
    assert [row.values for row in read_rows(path)] == [dict(zip(names, row, strict=True)) for row in rows]


@FUZZ
@given(
    rows=st.lists(
        st.dictionaries(CELLS, st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=9)), max_size=4),
        min_size=1,
        max_size=6,
    ),
    ascii_only=st.booleans(),
)
def test_jsonl_rows_come_back_as_written(tmp_path, rows, ascii_only):
    # A lone surrogate is legal JSON as an escape: reading it works, and refusing it is the collector's task.
    lines = [json.dumps(row, ensure_ascii=ascii_only or not _encodes(row)) for row in rows]
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(lines).encode())
    assert [row.values for row in read_rows(path)] == rows


def _encodes(row):
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


PIECES = [b'"', b",", b"\n", b"\r", b"\t", b"a", b"\xe9", b"\xc3\xa9", b"\0", b"{", b"}", b":", b"[", b"1"]


@FUZZ
@given(
    content=st.binary(max_size=60) | st.lists(st.sampled_from(PIECES)).map(b"".join),
    ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".txt"]),
)
def test_any_bytes_are_read_or_refused(tmp_path, content, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with contextlib.suppress(DataError):
        names = columns(path)
        for row in read_rows(path):
            assert ending == ".jsonl" or tuple(row.values) == names

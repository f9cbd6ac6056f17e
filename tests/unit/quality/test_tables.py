"""Blocks hold what the reader of rows gives, and a broken file is told of with its words."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feathertune.data.reading.rows import read_rows
from feathertune.data.sources.collector import Collector, ReadOptions
from feathertune.errors import DataError
from feathertune.quality import tables
from feathertune.quality.tables import loaded_table, table_of

TRICKY = (
    "id,text,label,more\n"
    '1,"a, quoted ""text"" with a\nline break",pos,\n'
    "\n"
    "2,plain,neg,x\r\n"
    "3,  spaces  ,pos,ünï\n"
    "\n\n"
    "4,,neg,y\n"
)


def whole(table):
    """All rows as dictionaries, with their numbers."""
    names = (table.columns.text, table.columns.label, *table.other_columns)
    blocks = [list(block) for block in table.blocks()]
    assert len({len(block) for block in blocks[:-1]}) <= 1
    return [
        (row.number, dict(zip(names, (row.text, row.label, *row.others), strict=True)))
        for block in blocks
        for row in block
    ]


def by_row(path):
    return [(int(row.where.rpartition(" ")[2]), row.values) for row in read_rows(path)]


@pytest.fixture(params=[1, 2, 1000])
def small_blocks(request, monkeypatch):
    monkeypatch.setattr(tables, "_BLOCK_ROWS", request.param)


def test_csv(tmp_path, small_blocks):
    path = tmp_path / "d.csv"
    path.write_text(
        "\ufeff" + TRICKY + "".join(f"{n},text {n},pos,\n" for n in range(300)), encoding="utf-8", newline=""
    )
    table = table_of(str(path), ReadOptions())
    assert whole(table) == by_row(path)
    assert whole(table) == by_row(path), "any number of times"
    assert table.place == "d.csv, row"


LINES = 'id,text,label,more\r\n1,"a, ""b""",pos,x\r\n2,,neg,y\n3,ünï \u2028 c,pos,\n4,d,neg,"z"'


@pytest.mark.parametrize("content", [LINES, LINES.replace("\r\n", "\r").replace("\n", "\r"), "\n" + LINES, TRICKY])
@pytest.mark.parametrize("text_column", [None, "text,more"])
def test_texts_are_read_again(tmp_path, small_blocks, content, text_column):
    path = tmp_path / "d.csv"
    path.write_text(content, encoding="utf-8", newline="")
    table = table_of(str(path), ReadOptions(text_column=text_column))
    texts = [row.text for block in table.blocks() for row in block]
    assert len(texts) == 4
    for wanted in ([0, 1, 2, 3], [0], [3], [1, 3]):
        assert list(table.texts(np.array(wanted))) == [texts[row] for row in wanted]


def test_other_formats(tmp_path, small_blocks):
    rows = [{"text": f"text {n}", "label": n % 2, "x": None} for n in range(7)]
    tsv, lines, parquet = (tmp_path / f"d.{ending}" for ending in ("tsv", "jsonl", "parquet"))
    tsv.write_text("text\tlabel\nso, so\tpos\n", encoding="utf-8")
    lines.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    pq.write_table(pa.Table.from_pylist(rows), parquet)
    for path in (tsv, lines, parquet):
        table = table_of(str(path), ReadOptions())
        assert whole(table) == by_row(path)
    assert [number for number, _ in whole(table_of(str(lines), ReadOptions()))] == [1, 3, 5, 7, 9, 11, 13], "lines"


@pytest.mark.parametrize(
    "rest",
    [b'a,"never closed\n', b"one field too many,pos,x\n", b"one too few\n", b"not \xff UTF-8,pos\n", b'a "b" c,"x"y\n'],
)
def test_a_broken_file_is_told_of_as_elsewhere(tmp_path, rest):
    path = tmp_path / "d.csv"
    path.write_bytes(b"text,label\n" + b"fine,pos\n" * 200 + rest)
    with pytest.raises(DataError) as expected:
        list(read_rows(path))
    with pytest.raises(DataError) as found:
        list(table_of(str(path), ReadOptions()).blocks())
    assert str(found.value) == str(expected.value)


def test_columns_that_are_not_there(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,b\n")
    with pytest.raises(DataError, match="Did you mean 'text'"):
        table_of(str(path), ReadOptions(text_column="txt"))


def test_a_source_in_memory(small_blocks):
    collector = Collector("s", drop_invalid=True)
    for n in range(9):
        collector.add(f"text {n}", "pos", ("train", "test")[n % 2], "somewhere")
    collector.add("", "pos", "train", "somewhere")
    table = loaded_table(collector.finish())
    texts = [row.text for block in table.blocks() for row in block]
    assert texts == [f"text {n}" for n in range(9)]
    assert [row.number for row in table.rows()] == list(range(1, 10))
    assert [row.split for row in table.rows()][:2] == ["train", "test"]
    assert table.n_dropped == 1
    assert list(table.texts(np.array([1, 8]))) == ["text 1", "text 8"]

"""Files and label folders: columns, labels, splits, and what is said about rows that cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.registry import SOURCES, load_source
from feathertune.errors import ConfigError, DataError, UnknownNameError
from packages import make_distribution


@pytest.fixture
def write(tmp_path):
    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


def jsonl(*rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def refused(name, error=DataError, **options):
    with pytest.raises(error) as caught:
        load_source(name, ReadOptions(**options))
    return str(caught.value)


def test_a_csv_file(write):
    name = write("reviews.csv", "id,Review,Sentiment\n1,good, pos \n2,bad,neg\n")
    data = load_source(name)
    assert (data.texts, data.labels) == (["good", "bad"], ["pos", "neg"])
    assert (data.split, data.label_order, data.source) == (None, None, name)
    assert (data.duplicates_removed, data.rows_dropped, data.notes) == (0, 0, ())
    assert load_source(f"file:{name}").texts == data.texts


def test_labels_are_kept_once_in_memory(write):
    data = load_source(write("a.csv", "text,label\n" + "word,some label\n" * 50))
    assert len({id(label) for label in data.labels}) == 1


def test_usual_column_names_are_taken_in_their_order(write):
    data = load_source(write("a.csv", "content,class,TEXT,label\n0,1,2,3\n"))
    assert (data.texts, data.labels) == (["2"], ["3"])
    data = load_source(
        write("b.csv", "content,class,TEXT,label\n0,1,2,3\n"), ReadOptions(text_column="Content", label_column="class")
    )
    assert (data.texts, data.labels) == (["0"], ["1"])


def test_fingerprint_is_of_the_content(write):
    same = [
        write("a.csv", "text,label\na,b\nc,d\n"),
        write("b.jsonl", jsonl({"text": "a", "label": "b"}, {"text": "c", "label": "d"})),
    ]
    other = [
        write("c.csv", "text,label\nc,d\na,b\n"),
        write("d.csv", "text,label\nab,c\n"),
        write("e.csv", "text,label\nb,ca\n"),
    ]
    assert len({load_source(name).fingerprint for name in same}) == 1
    assert len({load_source(name).fingerprint for name in same + other}) == 4


def test_split_column(write):
    name = write("a.csv", "text,label,part\na,0,Train\nb,1,dev\nc,0,val\nd,1,valid\ne,0,validation\nf,1,test\n")
    data = load_source(name, ReadOptions(split_column="Part"))
    assert data.split == ["train", *["validation"] * 4, "test"]
    assert load_source(name).split is None
    assert load_source(name).fingerprint != data.fingerprint
    message = refused(write("b.csv", "text,label,part\na,0,train\nb,1,trian\n"), split_column="part")
    assert "b.csv, row 2: the split is 'trian'" in message
    assert "Did you mean 'part'?" in refused(name, split_column="prat")


def test_labels_of_every_json_type(write, tmp_path):
    values = ["x", 3, -1, True, False, 1.0]
    data = load_source(write("a.jsonl", jsonl(*({"text": "t", "label": value} for value in values))))
    assert data.labels == ["x", "3", "-1", "true", "false", "1"]
    for value in (1.5, float("inf"), {"a": 1}):  # of lists: test_label_sets.py
        message = refused(write("b.jsonl", jsonl({"text": "t", "label": "a"}, {"text": "t", "label": value})))
        assert "b.jsonl, line 2: the label is" in message
        assert "Expected a string, a whole number or a boolean" in message
    path = tmp_path / "c.parquet"
    pq.write_table(pa.table({"text": ["a", "b"], "label": [2.0, 0.0]}), path)
    assert load_source(str(path)).labels == ["2", "0"]
    pq.write_table(pa.table({"text": ["a"], "label": [Decimal("2.00")]}), path)
    assert load_source(str(path)).labels == ["2"]
    pq.write_table(pa.table({"text": pa.array(["a", "b"]).dictionary_encode(), "label": pa.array(["x", "y"])}), path)
    assert load_source(str(path)).texts == ["a", "b"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": "", "label": "a"}, "1 with an empty text (a.jsonl, line 2)"),
        ({"text": " \n\u2003", "label": "a"}, "1 with an empty text (a.jsonl, line 2)"),
        ({"text": None, "label": "a"}, "1 with an empty text (a.jsonl, line 2)"),
        ({"label": "a"}, "1 with an empty text (a.jsonl, line 2)"),
        ({"text": "t", "label": ""}, "1 without a label (a.jsonl, line 2)"),
        ({"text": "t", "label": None}, "1 without a label (a.jsonl, line 2)"),
        ({"text": "t", "label": float("nan")}, "1 without a label (a.jsonl, line 2)"),
        ({"text": "t"}, "1 without a label (a.jsonl, line 2)"),
        ({"text": "t\0", "label": "a"}, "1 with a null byte (a.jsonl, line 2)"),
        ({"text": "t", "label": "a\0"}, "1 with a null byte (a.jsonl, line 2)"),
        (
            {"text": "t\ud800", "label": "a"},
            "1 with a broken character (an unpaired surrogate) (a.jsonl, line 2)",
        ),
    ],
)
def test_rows_that_cannot_be_used(write, row, problem):
    name = write("a.jsonl", jsonl({"text": "fine", "label": "a"}, row, {"text": "good", "label": "b"}))
    message = refused(name)
    assert f"1 row cannot be used: {problem}" in message
    assert "--drop-invalid" in message
    data = load_source(name, ReadOptions(drop_invalid=True))
    assert (data.texts, data.labels, data.rows_dropped) == (["fine", "good"], ["a", "b"], 1)
    assert data.notes == (f"1 row left out: {problem}.",)


def test_many_bad_rows_are_counted_and_the_first_named(write):
    name = write("a.csv", "text,label\n" + ",x\n" * 1200 + "y,\n")
    message = refused(name)
    assert "1,201 rows cannot be used" in message
    assert "1,200 with an empty text (a.csv, row 1, a.csv, row 2, a.csv, row 3, ...)" in message
    assert "1 without a label (a.csv, row 1201)" in message
    assert "has no usable rows: 1,200 with an empty text" in refused(name, drop_invalid=True)


def test_a_text_that_is_no_string(write):
    name = write("a.jsonl", jsonl({"text": "t", "label": "a"}, {"text": 5, "label": "a"}))
    message = refused(name, drop_invalid=True)
    assert "a.jsonl, line 2: the text is of type int. Expected a string" in message


def test_a_file_without_rows(write):
    assert "a.csv has no usable rows." in refused(write("a.csv", "text,label\n"))


def test_a_text_of_a_million_characters(write):
    assert load_source(write("a.csv", f"text,label\n{'é ' * 600_000},a\n")).texts == ["é " * 600_000]


@pytest.mark.parametrize(
    ("header", "options", "parts"),
    [
        (
            "txet,label",
            {},
            [
                "a.csv has no text column (looked for text, sentence, review, content)",
                "Did you mean 'txet'?",
                "Known: txet, label.",
                "--text-column",
            ],
        ),
        ("text,lable", {}, ["no label column", "Did you mean 'lable'?", "--label-column"]),
        (
            "text,label",
            {"text_column": "txt"},
            ["a.csv has no column 'txt'", "Did you mean 'text'?", "Known: text, label"],
        ),
        ("text,label", {"label_column": "text"}, ["both 'text'", "--label-column"]),
        ("text;label", {}, ["no text column", "The file has only one column"]),
    ],
)
def test_columns_that_are_not_there(write, header, options, parts):
    message = refused(write("a.csv", f"{header}\na{',' if ',' in header else ';'}b\n"), **options)
    assert [part for part in parts if part not in message] == []


def test_a_text_file_has_no_labels(write):
    assert "no label column" in refused(write("a.txt", "one\n"))


def test_names_that_lead_nowhere(write, tmp_path):
    write("reviews.csv", "text,label\n")
    message = refused(str(tmp_path / "review.csv"))
    assert "Did you mean 'reviews.csv'?" in message
    assert "sample:imdb" in message
    assert "hub:NAME" in refused("stanfordnlp/imdb")
    assert "Unknown kind of data source 'smaple'. Did you mean 'sample'?" in refused("smaple:imdb", UnknownNameError)
    assert "Unknown kind of data source 'https'" in refused("https://example.org/a.csv", UnknownNameError)
    for strange in ("a\0b", "x" * 5000, ""):
        assert refused(strange)
    assert SOURCES.names() == ("sample", "hub", "file", "folder")


def test_a_file_name_with_a_colon(write, monkeypatch, tmp_path):
    write("note:1.csv", "text,label\na,b\n")
    monkeypatch.chdir(tmp_path)
    assert load_source("note:1.csv").texts == ["a"]


def test_label_folders(write, tmp_path):
    for name, content in {
        "pos/2.txt": "fine",
        "pos/10.txt": b"\xef\xbb\xbfgr\xc3\xbcn\r\n",
        "neg/1.TXT": "bad",
        "neg/x.json": "{}",
        "unsup/1.txt": "?",
        ".git/a.txt": "hidden",
        "README.txt": "read me",
    }.items():
        write(f"data/{name}", content)
    data = load_source(str(tmp_path / "data"))
    assert data.texts == ["bad", "grün\r\n", "fine"]
    assert data.labels == ["neg", "pos", "pos"]
    assert data.split is None
    assert data.notes == ("1 texts of unsup were left out: they have no label.",)


def test_label_folders_within_splits(write, tmp_path):
    for split in ("train", "test", "dev"):
        write(f"aclImdb/{split}/pos/1.txt", f"good {split}")
        write(f"aclImdb/{split}/neg/1.txt", f"bad {split}")
    write("aclImdb/train/unsup/1.txt", "?")
    write("aclImdb/train/urls_pos.txt", "https://example.org")
    write("aclImdb/extra/pos/1.txt", "more")
    data = load_source(str(tmp_path / "aclImdb"))
    assert sorted(zip(data.split, data.labels, data.texts, strict=True)) == [
        ("test", "neg", "bad test"),
        ("test", "pos", "good test"),
        ("train", "neg", "bad train"),
        ("train", "pos", "good train"),
        ("validation", "neg", "bad dev"),
        ("validation", "pos", "good dev"),
    ]
    assert data.notes == (
        "The folder extra was left out: it is not a split with label folders.",
        "1 texts of train/unsup were left out: they have no label.",
    )


def test_a_label_may_be_called_train(write, tmp_path):
    write("data/train/1.txt", "rails")
    write("data/plane/1.txt", "wings")
    assert load_source(str(tmp_path / "data")).labels == ["plane", "train"]


def test_label_folders_that_are_none(write, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "one subfolder of .txt files per label" in refused(str(tmp_path / "empty"))
    write("data/pos/1.csv", "")
    assert "data/pos contains no .txt files" in refused(str(tmp_path / "data"))
    write("latin/pos/1.txt", b"gr\xfcn")
    assert "pos/1.txt: byte 3 (0xFC) is not UTF-8" in refused(str(tmp_path / "latin"))
    write("blank/pos/1.txt", " \n")
    assert "1 with an empty text (pos/1.txt)" in refused(str(tmp_path / "blank"))
    assert "Leave out data.text_column" in refused(str(tmp_path / "blank"), ConfigError, text_column="a")


def test_a_kind_of_another_package_that_breaks_says_why(tmp_path):
    """In a process of its own: the list of kinds is made once. What works is in tests/e2e/test_documents.py."""
    code = "raise OSError('no such device')"
    make_distribution(tmp_path, "tapes", {"feathertune.sources": {"tape": "tapes:TAPE"}}, {"tapes.py": code})
    script = (
        "from feathertune.data.sources.registry import load_source\n"
        "from feathertune.errors import FeathertuneError\n"
        "for name in ('tape:a', 'tap:a', 'sample:imbd'):\n"
        "    try:\n"
        "        load_source(name)\n"
        "    except FeathertuneError as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    source = Path(__file__).parents[4] / "src"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(source)])}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    broken, unknown, sample = done.stdout.splitlines()
    assert broken.startswith(
        "ConfigError The kind of data source 'tape' cannot be used: tapes:TAPE of the package tapes"
    )
    assert "OSError: no such device" in broken
    assert unknown.startswith("UnknownNameError Unknown kind of data source 'tap'.")
    assert sample.startswith("UnknownNameError")

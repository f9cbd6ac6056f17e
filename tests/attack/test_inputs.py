"""Input files: pipes, compressed and damaged ones, sizes, and files that change while they are read."""

import contextlib
import gzip
import json
import os
import random
import socket
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feathertune.config import load_config
from feathertune.data.reading.outputs import open_output, schema_of_file
from feathertune.data.reading.rows import FORMATS, columns, read_rows
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.files import load_file
from feathertune.data.sources.registry import load_source
from feathertune.errors import ConfigError, DataError, shown
from feathertune.quality.fix import write_fixed
from feathertune.quality.scan import scan
from feathertune.quality.tables import table_of

CONTENT = b"text,label\ngood film,pos\nbad film,neg\n"


def refused(path, **options):
    with pytest.raises(DataError) as error:
        load_source(str(path), ReadOptions(**options))
    assert len(str(error.value)) < 2_000
    return str(error.value)


@pytest.mark.timeout(20)
def test_pipes_sockets_and_devices(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to(tmp_path / "pipe.csv")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.csv"))
        read_end, write_end = os.pipe()
        places = {
            tmp_path / "pipe.csv": "a pipe",
            tmp_path / "link.csv": "a pipe",
            tmp_path / "socket.csv": "a socket",
            "/dev/null": "a device",
            f"/dev/fd/{read_end}": "a pipe",
        }
        for place, kind in places.items():
            message = refused(place)
            assert f"{place} is {kind}. Expected a regular file" in message
            assert "--input -" in message
        os.close(read_end)
        os.close(write_end)
    with pytest.raises(ConfigError, match="is a pipe"):
        load_config(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="is a pipe"):
        table_of(str(tmp_path / "pipe.csv"), ReadOptions())


def test_compressed_files(tmp_path):
    packed = {".gz": gzip.compress, ".zst": lambda content: pa.compress(content, "zstd", asbytes=True)}
    lines = b'{"text": "good film", "label": "pos"}\n{"text": "bad film", "label": "neg"}\n'
    contents = {
        ".csv": CONTENT,
        ".tsv": CONTENT.replace(b",", b"\t"),
        ".jsonl": lines,
        ".txt": b"good film\nbad film\n",
    }
    for ending, content in contents.items():
        for extra, pack in packed.items():
            path = tmp_path / f"d{ending}{extra}"
            path.write_bytes(pack(content))
            assert [row.values["text"] for row in read_rows(path)] == ["good film", "bad film"]
            path.write_bytes(pack(content)[:-9])
            with pytest.raises(DataError, match="cannot be read"):
                list(read_rows(path))
    (tmp_path / "renamed.csv").write_bytes(gzip.compress(CONTENT))
    assert load_source(str(tmp_path / "renamed.csv")).labels == ["pos", "neg"]
    seen = scan([table_of(str(tmp_path / "renamed.csv"), ReadOptions())])
    assert write_fixed(seen, tmp_path / "clean.csv").n_written == 2


@pytest.mark.timeout(60)
def test_a_small_file_of_a_gigabyte(tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.data.reading.formats._LONGEST_FIELD", 1_000_000)
    for name, start in (
        ("d.csv.gz", b"text,label\n"),
        ("d.jsonl.gz", b""),
        ("d.txt.gz", b""),
        ("e.csv.gz", b'text\n"'),
    ):
        with gzip.open(tmp_path / name, "wb", 1) as file:
            file.write(start)
            for _ in range(20):
                file.write(b"a" * 1_000_000)
        with pytest.raises(DataError, match=r"longer than 1,000,000 characters"):
            list(read_rows(tmp_path / name))


def test_long_texts_labels_and_names(tmp_path, monkeypatch):
    monkeypatch.setattr("feathertune.data.reading.texts.MOST_CHARACTERS", 5_000)
    path = tmp_path / "d.csv"
    path.write_text(f"text,label\ngood,pos\n{'a' * 5_001},neg\n")
    assert "d.csv, row 2: the text has 5,001 characters" in refused(path)
    path.write_text(f"text,label\ngood,{'a' * 1_001}\n")
    assert "d.csv, row 1: the label has 1,001 characters" in refused(path)
    path.write_text(f"text,{'a' * 200_000}\ngood,pos\n")
    assert "has 200,000 characters" in refused(path)
    (tmp_path / "d.jsonl").write_text(json.dumps({"text": "a", "k" * 200_000: 1}) + "\n")
    assert "Expected at most 1,000 characters" in refused(tmp_path / "d.jsonl")
    path.write_text(f"text,label,split\ngood,pos,{'a' * 200_000}\n")
    assert "the split is 'aaa" in refused(path, split_column="split")
    assert len(shown("a" * 10**6)) < 250


def test_numbers_among_which_some_are_none(tmp_path):
    path = tmp_path / "d.csv"
    rows = "".join(f"film {i},{i / 7:.3f}\n" for i in range(1, 30))
    for odd in ("nan", "NaN", "inf", "-inf", "N/A", "1e200"):
        path.write_text(f"text,label\n{rows}one,{odd}\n")
        message = refused(path)
        assert f"The labels are numbers, except '{odd}'" in message
        assert "--set data.task=regression --drop-invalid" in message
        assert refused(path, task="regression")
        data = load_source(str(path), ReadOptions(task="regression", drop_invalid=True))
        assert len(data.labels) == 29


def test_texts_in_nested_folders_are_named(tmp_path):
    for name in ("pos/a.txt", "neg/b.txt", "neg/more/c.txt", "neg/more/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    data = load_source(str(tmp_path))
    assert len(data.texts) == 2
    assert any("neg/more" in note for note in data.notes)


@pytest.mark.parametrize(
    "values",
    [
        [date(2020, 1, 1), date(2020, 1, 2)],
        [Decimal("1.5"), Decimal("2.25")],
        [b"\xff", b"b"],
        [["a"], ["b", None]],
        [{"a": 1}, {"a": 2}],
        [True, False],
        [1, 2],
        [1.5, None],
        [[["a"]], [["b"]]],
    ],
    ids=str,
)
def test_parquet_columns_of_every_type(tmp_path, values):
    """As texts, labels and splits: rows, or a sentence."""
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"odd": values, "other": ["a", "b"]}), path)
    kinds = [pa.array(values)]
    if not isinstance(values[0], list | dict):
        kinds.append(pa.array(values).dictionary_encode())
    for odd in kinds:
        pq.write_table(pa.table({"odd": odd, "other": pa.array(["a", "b"])}), path)
        for options in (
            {"text_column": "odd", "label_column": "other"},
            {"text_column": "other", "label_column": "odd"},
            {"text_column": "other", "label_column": "other", "split_column": "odd"},
        ):
            for read in (load_source, lambda name, options: scan([table_of(name, options)])):
                with contextlib.suppress(DataError):
                    read(str(path), ReadOptions(**options))


# The file changes between the two readings of `inspect --fix`.


def _replace(path, content):
    new = path.with_name("new")
    new.write_bytes(content)
    new.replace(path)


def _in_place(path, content):
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("change", [_replace, _in_place])
@pytest.mark.parametrize(
    "content",
    [
        CONTENT.replace(b"good", b"fine"),
        CONTENT.replace(b"pos", b"abc"),
        CONTENT.replace(b"bad film,neg\n", b""),
        CONTENT + b"more,pos\n",
    ],
)
def test_a_copy_is_of_the_file_that_was_scanned(tmp_path, change, content):
    source = tmp_path / "d.csv"
    source.write_bytes(CONTENT)
    seen = scan([table_of(str(source), ReadOptions())])
    change(source, content)
    with pytest.raises(DataError, match="was changed while it was read"):
        write_fixed(seen, tmp_path / "clean.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_copy_and_changes_appear_together(tmp_path, monkeypatch):
    source = tmp_path / "d.csv"
    source.write_bytes(CONTENT)
    seen = scan([table_of(str(source), ReadOptions())])
    from feathertune.quality import fix

    placed = []

    def full(temporary, path, *, overwrite):
        placed.append(path.name)
        if len(placed) == 2:
            raise OSError(28, "No space left on device")
        temporary.replace(path)

    monkeypatch.setattr(fix, "put_in_place", full)
    with pytest.raises(ConfigError, match="No space left on device"):
        write_fixed(seen, tmp_path / "clean.csv")
    assert placed == ["clean.changes.csv", "clean.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_a_row_without_a_text_in_a_copy(tmp_path):
    source = tmp_path / "d.jsonl"
    source.write_text('{"text": "a", "label": "x"}\n{"label": "x"}\n{"text": null, "label": "y"}\n')
    fixed = write_fixed(scan([table_of(str(source), ReadOptions())]), tmp_path / "clean.jsonl")
    assert (fixed.n_read, fixed.n_written) == (3, 1)


def test_half_surrogates_everywhere(tmp_path):
    rows = [{"text": f"film {i}", "label": "xy"[i % 2], "more": "\ud800"} for i in range(4)]
    rows += [{"text": "half \ud800", "label": "x"}, {"text": "a", "label": "\ud800"}, {"text": "b", "label": "x"}]
    source = tmp_path / "d.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    seen = scan([table_of(str(source), ReadOptions())])
    fixed = write_fixed(seen, tmp_path / "clean.jsonl")
    assert (fixed.n_read, fixed.n_written) == (7, 5)
    assert json.loads((tmp_path / "clean.jsonl").read_text("utf-8").splitlines()[0]) == rows[0]
    source.write_text(json.dumps({"text": "a", "\ud800": 1}) + "\n")
    with pytest.raises(DataError, match="no unpaired surrogate"):
        columns(source)


# Random and mutated files.


def _fuzzed(rng):
    kind = rng.choice(["csv", "tsv", "jsonl", "txt", "parquet", "csv.gz", "jsonl.zst"])
    if rng.random() < 0.2:
        content = rng.randbytes(rng.randrange(200))
    elif kind == "parquet":
        table = pa.table({"text": ["a", "b", None], "label": [1, 2, 3], "x": [[1.5], [], None]})
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        content = sink.getvalue().to_pybytes()
    elif kind.startswith("json"):
        content = b'{"text": "a \\ud83d\\ude00", "label": "x"}\n{"text": "b", "label": ["x", 1], "n": NaN}\n' * 3
    else:
        content = b'text,label\n"a ""q"" \xc3\xa9",x\r\nb,y\n' * 3
    packers = {"csv.gz": gzip.compress, "jsonl.zst": lambda content: pa.compress(content, "zstd", asbytes=True)}
    late = rng.random() < 0.5
    if late and kind in packers:
        content = packers[kind](content)
    content = bytearray(content)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(content) + 1)
        choice = rng.randrange(4)
        if choice == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif choice == 1:
            del content[at : at + rng.randrange(20)]
        elif choice == 2:
            content[at:at] = rng.choice(
                [b'"', b"\0", b"\n", b"{", b"[" * 5000, b"1" * 5000, b"\xff", b"\xed\xa0\x80", b","]
            )
        else:
            content[at:at] = content[: rng.randrange(len(content) + 1)]
    if not late and kind in packers:
        content = packers[kind](bytes(content))
    return kind, bytes(content)


def _copied(path, folder):
    """The rows as `predict` copies them."""
    for ending in ("csv", "parquet"):
        schema = schema_of_file(path, typed=ending == "parquet")
        with open_output(folder / f"o.{ending}", schema, overwrite=True) as writer:
            for row in read_rows(path):
                writer.write(row.values)


def _survives(tmp_path, seeds):
    for seed in seeds:
        kind, content = _fuzzed(random.Random(seed))
        path = tmp_path / f"d.{kind}"
        path.write_bytes(content)
        for read in (
            columns,
            lambda path: list(read_rows(path)),
            lambda path: load_file(str(path), ReadOptions(text_column="text", label_column="label", drop_invalid=True)),
            lambda path: write_fixed(scan([table_of(str(path), ReadOptions())]), tmp_path / "c.jsonl"),
            lambda path: _copied(path, tmp_path),
        ):
            try:
                read(path)
            except DataError:
                for kept in tmp_path.glob("*.partial"):
                    kept.unlink()
            except Exception as error:
                raise AssertionError(f"seed {seed}: {kind}") from error


@pytest.mark.timeout(60)
def test_two_hundred_broken_files(tmp_path):
    assert len(FORMATS) == 6
    _survives(tmp_path, range(200))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_broken_files(tmp_path):
    _survives(tmp_path, range(10_000))

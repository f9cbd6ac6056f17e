"""Labels that look alike are named once, with counts and the option that merges them; `inspect` finds their rows."""

import csv
import json

import numpy as np
import pytest

from feathertune.config import Config, DataConfig
from feathertune.data.from_config import load_sources, split_sources
from feathertune.data.sources.collector import ReadOptions
from feathertune.errors import DataError
from feathertune.quality.duplicates import find_duplicates
from feathertune.quality.findings import find
from feathertune.quality.scan import scan
from feathertune.quality.tables import table_of
from feathertune.study.compare import prepare
from feathertune.study.observe import Silent
from feathertune.tasks.labels.alike import look_of, merges_of, notes_on
from tiny import save_tiny_encoder

ALIKE = [
    ("neg", "NEG"),
    ("café", "cafe\u0301"),
    ("not good", "not  good"),
    ("not good", "not\u00a0good"),
    ("pos", "p\u200bos"),
    ("pos", "\ufeffpos"),
    ("pos", "pos\u00ad"),
    ("pos", "pos\ufe0f"),
    ("pos", "\uff50\uff4f\uff53"),
    ("pos", "p\u043es"),
    ("straße", "STRASSE"),
    ("true", "1"),
    ("False", "0"),
    ("1", "01"),
    ("1", "1.0"),
    ("NaN", "null"),
    ("None", "N/A"),
]
DIFFERENT = ["pos", "neg", "1", "2", "-1", "1.5", "yes", "cafe", "café", "a b", "ab", "true story", "nana", "पु", "प"]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_spellings_of_one_label(one, other):
    assert look_of(one) == look_of(other)
    assert merges_of({one: 3, other: 2, "else": 9}) == {other: one}


def test_different_labels():
    assert len({*map(look_of, DIFFERENT)}) == len(DIFFERENT)
    assert notes_on(dict.fromkeys(DIFFERENT, 5)) == []


def test_what_cannot_be_seen_is_shown_as_an_escape():
    (note,) = notes_on({"café": 3, "cafe\u0301": 2, "p\u200bos": 1, "pos": 4, "हिन्दी": 5})
    assert "'café' (3) and 'cafe\\u0301' (2)" in note
    assert "'pos' (4) and 'p\\u200bos' (1)" in note
    assert "--merge-labels" in note
    (missing,) = notes_on({"pos": 4, "NaN": 2})
    assert "'NaN' (2) is read as a label" in missing


def write(path, labels, n=20):
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = [(f"film {label} {i}", label) for label in labels for i in range(n)]
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def test_merging(tmp_path):
    source = write(tmp_path / "d.csv", ["pos", "neg"])
    with source.open("a") as file:
        file.write("one more,NEG\nand more,NEG\n")
    test = write(tmp_path / "t.csv", ["POS", "neg"], 3)
    settings = {"source": str(source), "test": str(test)}
    with pytest.raises(DataError, match=r"'POS' .*Some look alike: pass --merge-labels"):
        split_sources(DataConfig(**settings), *load_sources(DataConfig(**settings)))
    data = DataConfig(**settings, merge_labels=True)
    splits = split_sources(data, *load_sources(data))
    assert splits.labels == ("neg", "pos")
    assert len(splits.test.labels) == 6
    (note,) = splits.notes
    assert "were merged" in note
    assert "'neg' (23) and 'NEG' (2)" in note


def test_merging_labels_of_sets(tmp_path):
    path = tmp_path / "d.jsonl"
    rows = [{"text": f"film {i}", "label": ["a", "b"] if i % 2 else ["A", "c"]} for i in range(41)]
    rows += [{"text": f"both {i}", "label": ["a", "A"]} for i in range(2)] + [{"text": "one", "label": ["a"]}] * 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset, _ = load_sources(DataConfig(source=str(path), merge_labels=True))
    assert {*dataset.labels} == {("a", "b"), ("a", "c"), ("a",)}


def test_inspect_finds_the_rows(tmp_path):
    seen = scan([table_of(str(write(tmp_path / "d.csv", ["pos", "neg", "Neg", "NaN"], 2)), ReadOptions())])
    duplicates = find_duplicates(seen.hashes, seen.labels, seen.splits, seen.usable)
    found = {one.kind: one for one in find(seen, duplicates, np.zeros((0, 2), np.int64), np.zeros(0), None)}
    assert {seen.label(row) for row in found["alike-label"].rows} == {"neg", "NaN"}


class Listener(Silent):
    def __init__(self):
        self.heard = []

    def said(self, text):
        self.heard.append(text)


def test_compare_names_each_group_once(tmp_path):
    base = save_tiny_encoder(tmp_path / "base", "bert")
    source = write(tmp_path / "d.csv", ["pos", "neg", "NEG"])
    data = {"source": str(source), "max_length": 16}
    config = Config.model_validate({"data": data, "base": {"id": str(base)}, "study": {"methods": ()}})
    listener = Listener()
    record = prepare(config, listener).bench.data
    assert record.labels == ["NEG", "neg", "pos"]
    for notes in (listener.heard, record.notes):
        (note,) = [note for note in notes if "'NEG' (20) and 'neg' (20)" in note]
        assert "--merge-labels" in note
    merging = config.model_copy(update={"data": config.data.model_copy(update={"merge_labels": True})})
    record = prepare(merging, Listener()).bench.data
    assert record.labels == ["NEG", "pos"]
    assert any("were merged into the first" in note for note in record.notes)

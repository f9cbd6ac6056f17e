"""One pass over all rows: what is kept of them, and what is found in them, counted by hand."""

import json

import numpy as np
import pytest

from feathertune.data.sources.collector import ReadOptions
from feathertune.errors import DataError
from feathertune.quality.duplicates import find_duplicates
from feathertune.quality.findings import find, rows_of
from feathertune.quality.near_duplicates import candidates, shingles_of, similarities
from feathertune.quality.scan import IGNORED, NO_SPLIT, PROBLEMS, scan
from feathertune.quality.tables import table_of
from feathertune.quality.words import words_of

LONG = "this is a rather long sentence of some fifteen words, one of which is another {} here"


def write(path, *rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def row(text, label="pos", split="train", **more):
    return {"text": text, "label": label, "split": split, **more}


def seen(*paths, split_column="split"):
    return scan([table_of(str(path), ReadOptions(split_column=split_column)) for path in paths])


def findings(found):
    """All findings by kind, as row and other row in the words of a person."""
    duplicates = find_duplicates(found.hashes, found.labels, found.splits, found.usable)
    near = candidates(found.sketches, duplicates.is_first)
    texts = dict(found.texts(np.arange(len(found.hashes))))
    sets = dict(enumerate(shingles_of(words_of([text.replace("\0", "") for text in texts.values()]))))
    founds = find(found, duplicates, near, similarities(near, sets), None)
    return {one.kind: [(r.row, r.other) for r in rows_of(one, found, texts)] for one in founds}


def test_what_is_kept_of_each_row(tmp_path):
    path = write(
        tmp_path / "d.jsonl",
        row("one", 1, c="x", d=None, e="1"),
        row("two", True, c="x", d=None, e="2"),
        row("one", "1", "dev", c="x", d=None, e="2"),
        row(None, 0, c="x", d=None, e="2"),
        row("three", None, "test", c="x", d=None, e="2"),
        row("a\0b", 0, c="x", d=None, e="2"),
        row("<br /> four", 0, c="x", d=None, e="2"),
    )
    found = seen(path)
    assert found.starts == [0, 7]
    assert [found.names[label] if label >= 0 else None for label in found.labels] == [
        "1",
        "true",
        "1",
        "0",
        None,
        "0",
        "0",
    ]
    assert found.splits.tolist() == [0, 0, 1, 0, 2, 0, 0]
    assert [PROBLEMS[problem] for problem in found.problems] == [
        "",
        "",
        "",
        "with an empty text",
        "without a label",
        "with a null byte",
        "",
    ]
    assert found.hashes[0] == found.hashes[2] != found.hashes[1]
    assert found.constant == {"c": "x", "d": ""}
    assert found.checks.n_marked == 1
    assert (found.table(4).name, found.numbers[4]) == (str(path), 5)
    assert dict(found.texts(np.array([6, 0]))) == {0: "one", 6: "<br /> four"}
    assert found.checks.rows["control-character"] == [5]


def test_every_finding_with_its_rows(tmp_path):
    path = write(
        tmp_path / "d.jsonl",
        row("good film"),
        row("bad film", "neg"),
        row("good film"),
        row("odd film"),
        row("odd film", "neg"),
        row("seen film"),
        row("seen film", split="test"),
        row("seen film", split="test"),
        row("new film", "neutral", "validation"),
        row(""),
        row(LONG.format("one")),
        row(LONG.format("two")),
        row(LONG.format("three"), "neg"),
        row(LONG.format("four"), split="test"),
        row("café"),
        row("cafe\u0301"),
    )
    found = findings(seen(path))
    assert found["unusable"] == [(10, None)]
    assert found["unseen-label"] == [(9, None)]
    assert found["overlap"] == [(6, 7)]
    assert found["conflict"] == [(4, 5), (5, 4)]
    assert found["duplicate"] == [(3, 1), (8, 7)]
    assert found["not-normalised"] == [(16, None)]
    near = {kind: pairs for kind, pairs in found.items() if kind.startswith("near")}
    assert near, "16 words and one that differs are alike"
    assert {other for _, other in near["near-overlap"]} == {14}, "the training row is listed, the test row beside it"
    assert all(13 in pair for pair in near["near-conflict"])
    assert near["near-duplicate"] == [(12, 11)]


def test_without_splits_nothing_overlaps(tmp_path):
    path = write(tmp_path / "d.jsonl", row("a film"), row("a film", split="test"), row("b", "neutral", "test"))
    found = seen(path, split_column=None)
    assert (found.splits == NO_SPLIT).all()
    assert findings(found) == {"duplicate": [(2, 1)]}


def test_test_rows_of_a_file_of_their_own(tmp_path):
    source = write(tmp_path / "d.jsonl", row("a film"), row("b film", "neg"), row("old test", split="test"))
    test = write(tmp_path / "t.jsonl", row("a film", split="test"), row("c", "neutral", "test"), row("not asked for"))
    found = seen(source, test)
    assert [int(problem == IGNORED) for problem in found.problems] == [0, 0, 1, 0, 0, 1]
    assert len(found.unusable) == 0
    assert findings(found) == {"unseen-label": [(2, None)], "overlap": [(1, 1)]}
    whole = seen(source, write(tmp_path / "u.jsonl", row("a film"), row("b film", "neg")), split_column=None)
    assert findings(whole)["overlap"] == [(1, 1), (2, 2)], "all of it are test rows where it has no splits"


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (row(5), "d.jsonl, line 2: the text is of type int"),
        (row("a", [1]), "d.jsonl, line 2: the label is .* of type list"),
        (row("a", 0.5), "d.jsonl, line 2: the label 0.5 is a number"),
        (row("a", split="other"), "d.jsonl, line 2: the split is 'other'"),
    ],
)
def test_values_of_the_wrong_type_are_told_with_their_place(tmp_path, bad, words):
    with pytest.raises(DataError, match=words):
        seen(write(tmp_path / "d.jsonl", row("fine"), bad))


def test_the_sample_is_fair_and_bounded(tmp_path, monkeypatch):
    found = seen(write(tmp_path / "d.jsonl", *[row(f"{n:0100}") for n in range(300)], row("")))
    assert found.sample(0).tolist() == list(range(300)), "all usable rows"
    monkeypatch.setattr("feathertune.quality.scan._SAMPLE_ROWS", 100)
    counts = np.zeros(301)
    for seed in range(200):
        rows = found.sample(seed)
        assert len(rows) == 100
        assert (np.diff(rows) > 0).all()
        counts[rows] += 1
    # About 2,000 of each tenth; the standard deviation is some 36.
    assert np.abs(counts[:300].reshape(10, 30).sum(axis=1) - 2000).max() < 4 * 36
    assert counts[300] == 0
    assert np.array_equal(found.sample(3), found.sample(3))
    monkeypatch.setattr("feathertune.quality.scan._SAMPLE_CHARACTERS", 5000)
    assert len(found.sample(0)) == 50, "fewer of long texts"


def test_blocks_do_not_change_what_is_found(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    words = [f"word{n}" for n in range(300)]
    rows = [row(" ".join(rng.choice(words, 12)), ("pos", "neg")[n % 2]) for n in range(900)]
    rows += [row(rows[4]["text"]), row(rows[6]["text"] + " more"), row("cafÃ©"), row("a\0b"), row("мир"), row("<br>")]
    path = write(tmp_path / "d.jsonl", *rows)
    whole = seen(path)
    monkeypatch.setattr("feathertune.quality.tables._BLOCK_CHARACTERS", 500)
    blocks = seen(path)
    for field in ("hashes", "labels", "splits", "problems", "numbers"):
        assert np.array_equal(getattr(whole, field), getattr(blocks, field))
    assert whole.repaired_hashes == blocks.repaired_hashes != {}
    assert whole.checks == blocks.checks
    assert findings(whole) == findings(blocks)
    assert {"duplicate", "mojibake", "control-character", "near-duplicate"} <= findings(blocks).keys()

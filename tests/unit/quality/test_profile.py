"""What is said of a data set: counts that can be checked by hand, and a line only where something is wrong."""

import numpy as np
import pytest

from feathertune.data.sources.collector import Collector, Columns, RawDataset
from feathertune.quality.duplicates import find_duplicates
from feathertune.quality.findings import find
from feathertune.quality.profile import Tokens, as_dataset, profile
from feathertune.quality.scan import scan
from feathertune.quality.tables import loaded_table
from feathertune.records.inspection import Looked


def dataset(rows, split=None, **more):
    return RawDataset(
        texts=[text for text, _ in rows],
        labels=[label for _, label in rows],
        split=split,
        label_order=None,
        source="d.csv",
        fingerprint="f",
        **more,
    )


def balanced(n, extra=()):
    return [*((f"text number {i}", ("no", "yes")[i % 2]) for i in range(n)), *extra]


def look(found, lengths=None, unknown=0.0, max_length=64):
    seen = scan([loaded_table(found)])
    duplicates = find_duplicates(seen.hashes, seen.labels, seen.splits, seen.usable)
    found_rows = find(seen, duplicates, np.zeros((0, 2), np.int64), np.zeros(0), None)
    looked = Looked(near_candidates=0, near_compared=0, sampled=0, judged=0, accuracy=0.0)
    lengths = np.full(len(found.texts), 12) if lengths is None else np.asarray(lengths)
    tokens = Tokens(lengths, n_special=2, unknown_share=unknown)
    return profile(seen, duplicates, found_rows, tokens, looked, base="b", max_length=max_length)


def test_clean_data_is_counted_and_nothing_is_said():
    found = look(dataset(balanced(1200), columns=Columns("text", "label", ("id",))))
    assert found.rows == {"all": 1200}
    assert found.classes == {"no": 600, "yes": 600}
    assert (found.repeated, found.contradicted, found.crossing) == (0, 0, 0)
    assert found.columns.others == ["id"]
    assert found.suspicious == []
    assert found.refused is None


def test_lengths_and_what_is_cut():
    lengths = [10] * 50 + [64] * 25 + [65] * 15 + [300] * 10
    found = look(dataset(balanced(100)), lengths, max_length=32).lengths
    assert (found.n, found.shortest, found.longest) == (100, 10, 300)
    assert found.cut == {32: 0.5, 64: 0.25, 128: 0.10, 256: 0.10, 512: 0.0}
    assert found.quantiles == {"5%": 10, "25%": 10, "50%": 10, "75%": 64, "95%": 300, "99%": 300}
    assert found.mean == pytest.approx((500 + 1600 + 975 + 3000) / 100)


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (balanced(1200, [("rare", "maybe")] * 1), {}, "Rare labels: 'maybe' (1)"),
        (balanced(200, [(f"more {i}", "yes") for i in range(1000)]), {}, "91.7% of the rows are 'yes'"),
        ([(f"text {i}", f"{i / 7:.3f}") for i in range(1200)], {}, "1,200 labels for 1,200 rows"),
        ([(f"text {i}", "no") for i in range(1200)], {}, "All rows have the same label"),
        (balanced(1200, [("text number 0", "yes")] * 40), {}, "41 rows"),
        (balanced(1200, [("text number 0", "no")] * 40), {}, "40 rows"),
        (balanced(1200), {"rows_dropped": 3}, "3 rows cannot be used"),
        (balanced(100), {}, "±18 points"),
        (balanced(1200, [("a", "Yes"), ("b", " yEs")] * 10), {}, "'yes' (600) and 'Yes' (10) and 'yEs' (10)"),
        (
            balanced(1200, [("a", "größe"), ("b", "gro\u0308ße")] * 10),
            {},
            "'größe' (10) and 'gro\\u0308ße' (10)",
        ),
        (balanced(1200, [("a", "سلبي")]), {}, "Rare labels: '\u2068سلبي\u2069' (1)."),
        ([(f"{text}<br />so", label) for text, label in balanced(1200)], {}, "100% of texts"),
    ],
)
def test_what_looks_wrong_is_said(rows, more, words):
    said = look(dataset(rows, **more)).suspicious
    assert any(words in line for line in said), said


def test_tokens_that_look_wrong():
    said = look(dataset(balanced(1200)), [3] * 120 + [100] * 1080, unknown=0.2).suspicious
    assert "10.0% of texts have at most one token." in said
    assert any("20.0% of tokens are unknown to the tokenizer" in line for line in said)
    assert any("90% of texts exceed --max-length 64" in line for line in said)


def test_test_texts_among_the_others_are_counted_once():
    rows = [("a b", "no"), ("c d", "yes"), ("a b", "no"), ("e f", "yes"), ("a b", "no")]
    found = look(dataset(rows, ["train", "train", "test", "test", "validation"]))
    assert found.rows == {"train": 2, "test": 2, "validation": 1}
    assert found.crossing == 1
    assert any("1 test texts" in line for line in found.suspicious)


def test_what_the_source_dropped_counts_as_repeated():
    collector = Collector("s", drop_invalid=True, drop_duplicates=True)
    for text, label in balanced(1200, [("text number 1", "yes")] * 20):
        collector.add(text, label, None, "somewhere")
    found = look(collector.finish())
    assert found.repeated == 20
    assert found.suspicious == [], "what is gone need not be looked at"


def test_what_a_study_splits_is_what_was_read():
    rows = [("a b", "no"), ("c d", "yes"), ("a b", "no"), ("e f", "yes")]
    raw = dataset(rows, ["train", "train", "test", "test"])
    light = as_dataset(scan([loaded_table(raw)]), 0)
    assert (light.labels, light.split, light.source) == (raw.labels, raw.split, raw.source)
    same = [[a == b for b in raw.texts] for a in raw.texts]
    assert [[a == b for b in light.texts] for a in light.texts] == same
    assert as_dataset(scan([loaded_table(dataset(rows))]), 0).split is None


def test_of_very_many_rows_some_of_each_label_and_split_are_split():
    rows = [(f"text {n}", ("no", "no", "yes")[n % 3]) for n in range(90)] + [("rare", "odd")]
    split = [("train", "test")[n % 2] for n in range(90)] + ["test"]
    light = as_dataset(scan([loaded_table(dataset(rows, split))]), 0, most_a_label=4)
    kinds = list(zip(light.labels, light.split, strict=True))
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("no", "train"): 4,
        ("no", "test"): 4,
        ("yes", "train"): 4,
        ("yes", "test"): 4,
        ("odd", "test"): 1,
    }

"""Pairs of texts: found in two columns, one key, one row of tokens that says which token is of which text."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from feathertune.baselines.linear import TFIDF
from feathertune.data.reading.columns import find_columns, find_text_columns
from feathertune.data.reading.texts import Pair, columns_of, of_kind, paired
from feathertune.data.sources.collector import Collector, ReadOptions
from feathertune.data.sources.registry import load_source
from feathertune.data.splitting.splits import make_splits
from feathertune.data.tokens.encode import Padding, encode, pad_batch
from feathertune.data.tokens.shared_texts import TextBlock
from feathertune.engine.prefix_cache.activations import content_key
from feathertune.errors import ConfigError, DataError
from feathertune.records import Reading
from feathertune.tasks import SINGLE_LABEL
from feathertune.tasks.linear_models import Rows
from tiny import tiny_tokenizer

CPU = torch.device("cpu")
PAIRS = [
    Pair("a great film", "the plot was fun and the story was fresh"),
    Pair("bad", "dull"),
    Pair("the movie was very very good and the scene was bright", "no"),
    Pair("fine", "the worst story, a stale plot and a cold actor in the dark"),
]


@pytest.mark.parametrize(
    ("names", "asked", "found"),
    [
        (("premise", "hypothesis", "label"), None, ("premise", "hypothesis")),
        (("id", "Sentence1", "sentence2", "label"), None, ("Sentence1", "sentence2")),
        (("text", "text_pair", "label"), None, ("text", "text_pair")),
        (("text", "question1", "question2", "label"), None, ("text",)),  # one of a usual name goes first
        (("text", "title", "label"), "title, text", ("title", "text")),
        (("text,title", "text", "title", "label"), "text,title", ("text,title",)),  # a name with a comma in it
        (("premise", "hypothesis", "label"), "premise", ("premise",)),
    ],
)
def test_two_columns_are_found_or_named(names, asked, found):
    columns = find_columns(names, "data.csv", text_column=asked)
    assert columns.texts == found
    assert columns.others == tuple(name for name in names if name not in (*found, "label"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("text,body", "has no column 'body'"),
        ("text,text", "both texts of a pair come from the column 'text'"),
        ("text,title,label", "names 3 columns. Expected one, or two for pairs"),
        ("text,label", "the text column and the label column are both 'label'"),
    ],
)
def test_columns_that_make_no_pair_are_refused(asked, message):
    with pytest.raises(DataError, match=message):
        find_columns(("text", "title", "label"), "data.csv", text_column=asked)


def test_a_bundle_finds_its_own_kind():
    both = ("premise", "hypothesis", "text", "label")
    assert find_text_columns(both, None, "x", usual=("premise", "hypothesis")) == ("premise", "hypothesis")
    assert find_text_columns(("text", "text_pair"), None, "x", usual=("text",)) == ("text",)
    assert find_text_columns(("sentence1", "sentence2"), None, "x", usual=("a", "b")) == ("sentence1", "sentence2")
    with pytest.raises(DataError, match=r"has no columns a and b\. The bundle was trained on pairs.*--text-column A,B"):
        find_text_columns(("text",), None, "x", usual=("a", "b"))
    with pytest.raises(DataError, match="--text-column is premise,hypothesis, but the bundle was trained on single"):
        find_text_columns(both, "premise,hypothesis", "x", usual=("text",))


def test_a_file_of_pairs(tmp_path):
    path = tmp_path / "nli.csv"
    path.write_text("premise,hypothesis,label\na b,c,yes\nb,c d,no\na b,d,no\n")
    data = load_source(str(path))
    assert data.texts == [Pair("a b", "c"), Pair("b", "c d"), Pair("a b", "d")]
    assert data.text_columns == ("premise", "hypothesis")
    assert "Each row is a pair of texts, from the columns premise and hypothesis." in data.notes
    alone = load_source(str(path), ReadOptions(text_column="premise"))
    assert alone.texts == ["a b", "b", "a b"]
    assert alone.fingerprint != data.fingerprint
    path.write_text("premise,hypothesis,label\na b,,yes\n")
    with pytest.raises(DataError, match=r"1 row cannot be used: 1 with an empty text \(nli.csv, row 1\)"):
        load_source(str(path))


def test_where_one_text_ends_is_part_of_the_fingerprint():
    prints = set()
    for row in (("ab", "c"), ("a", "bc"), "abc"):
        collector = Collector("x", drop_invalid=False)
        collector.add(row, "yes", None, "row 1")
        prints.add(collector.finish().fingerprint)
    assert len(prints) == 3


def collected(rows, source="x", **options):
    collector = Collector(source, drop_invalid=False, **options)
    for row, (text, label) in enumerate(rows):
        collector.add(text, label, None, f"row {row}")
    return collector.finish()


def test_a_pair_is_one_key():
    rows = [(("a", "b"), "x"), (("a", "c"), "y"), (("b", "a"), "y"), (("a", "b"), "x")]
    data = collected(rows, drop_duplicates=True)
    assert (len(data.texts), data.duplicates_removed) == (3, 1)
    train = [((f"a{i}", "b"), "xy"[i % 2]) for i in range(40)]
    test = collected([(("a3", "b"), "y"), (("b", "a5"), "y"), (("new", "b"), "x")], "test")
    splits = make_splits(collected(train), test=test)
    assert splits.overlap_removed == 1, "only the same two texts in the same order"
    assert splits.text_columns == ("text", "text_pair")
    with pytest.raises(DataError, match=r"x has pairs of texts \(columns text, text_pair\), but test has single texts"):
        make_splits(collected(train), test=collected([("a", "x"), ("b", "y")], "test"))


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("max_length", [9, 64])
def test_tokens_are_those_of_the_tokenizer(family, max_length):
    tokenizer = tiny_tokenizer(family)
    encoded = encode(tokenizer, PAIRS, max_length=max_length)
    expected = tokenizer(
        *map(list, zip(*PAIRS, strict=True)),
        truncation="longest_first",
        max_length=max_length,
        padding=True,
        return_tensors="pt",
    )
    rows = np.arange(len(PAIRS))
    batch = encoded.collate(rows, CPU)
    assert batch.keys() == expected.keys(), "types where the tokenizer gives them"
    for name, tensor in expected.items():
        assert torch.equal(batch[name][:, : tensor.shape[1]], tensor), name
        assert not batch["attention_mask"][:, tensor.shape[1] :].any()
    assert encoded.n_truncated == (3 if max_length == 9 else 0)
    whole = [len(ids) for ids in tokenizer(*map(list, zip(*PAIRS, strict=True)))["input_ids"]]
    assert encoded.n_tokens.tolist() == whole
    assert (encoded.n_tokens - encoded.n_unread).tolist() == encoded.lengths.tolist()
    some = encoded.take(np.array([3, 1]))
    for name, tensor in some.collate(np.array([0, 1]), CPU).items():
        assert torch.equal(tensor, batch[name][[3, 1]][:, : tensor.shape[1]]), name


def test_pairs_are_read_in_one_way():
    with pytest.raises(ConfigError, match="--long windows works only with single texts, and these are pairs"):
        encode(tiny_tokenizer("bert"), PAIRS, max_length=9, reading=Reading(long="windows", max_windows=2))


def test_types_are_part_of_what_is_cached():
    tokenizer = tiny_tokenizer("bert")
    tokenizer.backend_tokenizer.post_processor = None  # nothing stands between the two texts
    one, other = (encode(tokenizer, [pair], max_length=9) for pair in (Pair("a b", "c"), Pair("a", "b c")))
    assert np.array_equal(one.ids, other.ids)
    assert content_key(one) != content_key(other)


def test_texts_without_types_beside_pairs():
    pieces, types = [np.array([1, 2, 3]), np.array([1, 2])], [None, np.array([0, 1])]
    batch = pad_batch(pieces, width=4, padding=Padding(), device=CPU, types=types)
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert "token_type_ids" not in pad_batch(pieces, width=4, padding=Padding(), device=CPU, types=[None, None])


def test_a_block_of_pairs_is_the_pairs():
    block = pickle.loads(pickle.dumps(TextBlock(PAIRS), protocol=5))
    assert list(block) == PAIRS
    assert block[1:3] == PAIRS[1:3]
    assert isinstance(block[0], Pair)
    assert list(TextBlock(["a", "b"])) == ["a", "b"]
    assert columns_of(PAIRS[1:2], 2) == {"text": ["ba"], "text_pair": ["du"]}


def test_kinds_are_not_mixed():
    assert of_kind([("a", "b")], pairs=True, where="It") == [Pair("a", "b")]
    assert of_kind(paired(["a", "b"]), pairs=True, where="It") == [Pair("a", "b"), Pair("b", "a")]
    with pytest.raises(DataError, match="It expects pairs of texts, but text 2 is a single text"):
        of_kind([Pair("a", "b"), "c"], pairs=True, where="It")
    with pytest.raises(DataError, match="It expects single texts, but text 1 is a pair"):
        of_kind([Pair("a", "b")], pairs=False, where="It")


def test_counted_words_are_of_each_text():
    # The label follows from where "good" stands: words of both texts in one bag could not tell.
    rows = [Pair("good film", f"dull {i}") if i % 2 else Pair(f"dull {i}", "good film") for i in range(40)]
    labels = np.arange(40) % 2
    fitted = TFIDF.fit(Rows(rows[:30], labels[:30], rows[30:], labels[30:], 2, SINGLE_LABEL))
    assert (fitted.predict_proba(rows[30:]).argmax(axis=1) == labels[30:]).all()

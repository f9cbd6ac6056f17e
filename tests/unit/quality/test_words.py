"""Words as numbers: the fast way finds what the slow one finds, whatever the script and wherever the text stands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.samples import load_sample
from feathertune.quality import words
from feathertune.quality.words import words_of
from languages import words_reference

TEXTS = [
    "The film's 2nd half, re-cut: GREAT!",
    "",
    " \t\n",
    "Ärger über ÇA, naïve café.",
    "мир, труд — май",
    "你好，世界。電影很好看！",
    "これはテスト です",
    "ภาษาไทย ok123",
    "😀😀 fine “quoted” text…",
    "İstanbul ΣΊΣΥΦΟΣ",
    "full\uff01width\u3000space\uff1bＡＢＣ",
    "हिन्दी शब्द है। दो॥",
    "الفيلم، رائع؛ أليس كذلك؟ نعم۔",
    "בית־ספר Բարեւ։",
]


def same_words(texts):
    """Holds the fast way against the reference: as many words in each text, and a number for each word and back."""
    found = words_of(texts)
    expected = [words_reference(text) for text in texts]
    assert found.counts.tolist() == [len(one) for one in expected]
    word_of, number_of = {}, {}
    for word, number in zip((w for one in expected for w in one), found.hashes.tolist(), strict=True):
        assert word_of.setdefault(number, word) == word
        assert number_of.setdefault(word, number) == number
    return found


def test_every_script():
    same_words(TEXTS)
    assert words_reference(TEXTS[0]) == ["the", "film", "s", "2nd", "half", "re", "cut", "great"]
    assert words_reference(TEXTS[5])[:4] == ["你", "好", "世", "界"], "no spaces: a word a character"
    assert words_reference(TEXTS[-2]) == ["الفيلم", "رائع", "أليس", "كذلك", "نعم"], "signs are no letters"


def test_real_rows():
    texts = load_sample("rotten-tomatoes", ReadOptions()).texts
    found = same_words(texts[:2000])
    assert len(np.unique(found.hashes)) > 5000


@settings(max_examples=80, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=40), max_size=5))
def test_any_text(texts):
    same_words(texts)


def test_where_a_text_stands_does_not_matter(monkeypatch):
    whole = words_of(TEXTS)
    monkeypatch.setattr(words, "_PIECE_CHARACTERS", 10)
    pieces = words_of(TEXTS)
    assert np.array_equal(whole.hashes, pieces.hashes)
    assert np.array_equal(whole.offsets, pieces.offsets)
    alone = np.concatenate([words_of([text]).hashes for text in TEXTS])
    assert np.array_equal(whole.hashes, alone)


def test_pairs_end_with_their_text():
    found = words_of(["a b c", "", "a b", "b"])
    pairs = found.pairs()
    assert len(pairs) == 6
    assert pairs[0] == pairs[3], "a b"
    assert pairs[4] == pairs[5], "b, and nothing after it"
    assert len({*pairs.tolist()}) == 4
    assert found.rows.tolist() == [0, 0, 0, 2, 2, 3]


def test_of_a_long_text_the_beginning_counts(monkeypatch):
    monkeypatch.setattr(words, "MOST_CHARACTERS", 7)
    assert words_of(["one two three"]).counts.tolist() == [2]


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(UnicodeEncodeError):
        words_of(["a \ud800"])

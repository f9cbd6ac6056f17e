"""What is counted of a text: words of any script, whole, and the same word the same however it was typed."""

import re
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feathertune.baselines.word_ngrams import _NOT_PLAIN, _PLAIN_WORD, LONGEST, _words_of_any_script, folded, grams
from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.samples import load_sample
from languages import LANGUAGES, words_reference


def words(text):
    """What is no pair and no longer piece."""
    found = grams(text)
    return found[: next((n for n in range(len(found) + 1) if n + max(0, n - 1) == len(found)), None)]


def plain(text):
    """As scikit-learn counts words of one letter and more, and pairs of them."""
    found = re.findall(r"\b\w+\b", text.lower())
    return [*found, *(f"{a} {b}" for a, b in pairwise(found))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The film's 2nd half: GREAT snake_case", "the film s 2nd half great snake_case"),
        ("Die Straße ist schön, 2½ Sterne don´t", "die straße ist schön 2½ sterne don t"),
        ("Весёлый фильм — ДА", "весёлый фильм да"),
        ("यह फ़िल्म अच्छी है। क्‍षमा", "यह फ़िल्म अच्छी है क्‍षमा"),
        ("كِتَابٌ جميل، شكرا؟", "كِتَابٌ جميل شكرا"),
        ("می‌خواهم\u200c بروم", "می‌خواهم بروم"),
        ("한국어 영화가 ㅋㅋㅋ", "한국어 영화가 ㅋㅋㅋ"),
        ("这部电影，很好看！iPhone15", "这 部 电 影 很 好 看 iphone15"),
        ("このスター・ウォーズは", "こ の ス タ ー ウ ォ ー ズ は"),
        ("❤️ 1️⃣ 👩‍👧", "1"),
        ("", ""),
    ],
)
def test_words_of_every_script_are_whole(text, expected):
    assert words(text) == folded(expected).split()


def test_pairs_follow_in_every_script():
    assert grams("Not good") == ["not", "good", "not good"]
    assert grams("很好看") == ["很", "好", "看", "很 好", "好 看"]


def test_thai_has_pieces_of_its_letters_with_their_signs():
    found = Counter(grams("เรื่องดี ok"))
    assert {"เ", "รื่", "อ", "ง", "ดี", "ok"} < set(found), "a vowel sign and a tone stay with their letter"
    assert found["เรื่อง"] == 1
    assert max(len([c for c in one if unicodedata.category(c) != "Mn"]) for one in found if " " not in one) == LONGEST
    assert not any("ok" in one and len(one) > 2 and " " not in one for one in found), "a run ends at its script"


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ("café größe", unicodedata.normalize("NFD", "café größe")),
        ("tiếng việt", unicodedata.normalize("NFD", "Tiếng Việt")),
        ("영화", unicodedata.normalize("NFD", "영화")),
        ("テスト ガ", "ﾃｽﾄ ｶﾞ"),
        ("abc123", "ＡＢＣ１２３"),
        ("film", "ﬁlm"),
        ("لا", "ﻻ"),
        ("istanbul iyi", "İstanbul İYİ".replace("Y", "y")),
        ("ΟΔΟΣ".lower(), "ΟΔΟΣ"),
    ],
)
def test_the_same_word_is_one_however_it_was_typed(one, same):
    assert one != same
    assert grams(one) == grams(same)


@pytest.mark.parametrize(("one", "other"), [("schön", "schon"), ("мои", "мой"), ("para", "pará"), ("ねこ", "ネコ")])
def test_accents_tell_words_apart(one, other):
    assert grams(one) != grams(other)


def test_english_is_counted_as_ever():
    texts = load_sample("rotten-tomatoes", ReadOptions()).texts
    assert any(not text.isascii() for text in texts)
    assert [grams(text) for text in texts] == [plain(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(max_codepoint=0x24F), max_size=40))
def test_latin_texts_are_counted_as_ever(text):
    assert grams(text) == [one.replace("i\u0307", "i") for one in plain(folded(text))]


@settings(max_examples=80, deadline=None)
@given(st.text(st.one_of(st.characters(max_codepoint=0x2BFF), st.sampled_from("영화é́’")), max_size=30))
def test_the_quick_way_finds_the_words_of_the_careful_one(text):
    text = folded(text)
    if not _NOT_PLAIN.search(text):
        assert _PLAIN_WORD.findall(text) == _words_of_any_script(text)[0]


@pytest.mark.parametrize("language", [name for name in LANGUAGES if name != "Thai"])
def test_the_fast_words_are_these_words(language):
    """`quality.words` draws its borders at the same places, where no sign is met that it does not know."""
    for text, _ in LANGUAGES[language].rows():
        assert words(text) == words_reference(folded(text))

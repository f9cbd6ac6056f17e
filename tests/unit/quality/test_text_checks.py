"""Odd characters: what is told, what is repaired, and what is left alone since somebody may have meant it."""

import unicodedata

import numpy as np
import pytest

from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.samples import load_sample
from feathertune.quality.text_checks import TextChecks, repaired


def wrong(text):
    """As it looks after UTF-8 was read as Windows-1252, or as Latin-1 where a byte is nothing there."""
    return "".join(bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "un très bon café, à Noël",
        "it’s “fine” – and so on…",
        "10 € for the lot™",
        "нормальный текст по-русски",
        "これは日本語です",
        "great 😀",
        "ÀÉÎÕÜ und Übermut, Österreich",
    ],
)
def test_mojibake_is_told_and_repaired(text):
    broken = wrong(text)
    assert broken != text
    assert repaired(broken) == text
    assert found(broken) >= {"mojibake"}


def test_mojibake_of_latin_1():
    assert repaired("café, très".encode().decode("latin-1")) == "café, très"


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "it’s “fine” – and so on…",
        "«café”…» said THÉÂTRE",
        "CAFÉ\u00a0: voilà\u00a0!",
        "São “Ã” — “Ã”",
        "MAÇÃ – PÃO",
        "30 °C ± 2 µm, ½ ©",
        "Straße, naïve, Ærø, Łódź, ﬁn",
        "мир 你好 😀",
    ],
)
def test_what_somebody_may_have_meant_is_left_alone(text):
    assert repaired(text) == text
    assert found(text) == set()


def test_twice_wrong_is_repaired_too():
    assert repaired(wrong(wrong("café"))) == "café"


@pytest.mark.parametrize(
    ("text", "kinds", "after"),
    [
        ("a\x07 bell", {"control-character"}, "a bell"),
        ("smart \x93quotes\x94 it\x92s", {"control-character"}, "smart “quotes” it’s"),
        ("a\x81b", {"control-character"}, "ab"),
        ("\ufeffbegins", {"byte-order-mark"}, "begins"),
        ("lost \ufffd here", {"lost-character"}, "lost \ufffd here"),
        ("pаypal is Latin but for one", {"mixed-script"}, "pаypal is Latin but for one"),
        (unicodedata.normalize("NFD", "café"), {"not-normalised"}, unicodedata.normalize("NFD", "café")),
    ],
)
def test_each_kind(text, kinds, after):
    assert found(text) == kinds
    assert repaired(text) == after


def found(text, beside=()):
    checks = TextChecks()
    mended = checks.add([text, *beside], np.arange(1 + len(beside)) + 5)
    checks.finish()
    assert mended.get(5, text) == repaired(text)
    return {kind for kind, rows in checks.rows.items() if 5 in rows}


def test_a_script_is_unusual_beside_many_others():
    others = ["an English text"] * 150
    assert found("совсем другой", others) == {"unusual-script"}
    assert found("совсем другой", ["ещё один"] * 150) == set()
    assert found("совсем другой", others[:5]) == set(), "of six texts nothing is unusual"


def test_the_script_of_a_text_is_that_of_most_of_its_letters():
    checks = TextChecks()
    texts = [
        "日本語です and",
        "日本 and Latin",
        "5 µm ½",
        "мир",
        "ελλάδα",
        "שלום",
        "हिन्दी",
        "ＡＢ caf",
        "한국어 OK",
        "plain",
    ]
    checks.add(texts, np.arange(len(texts)))
    assert checks.scripts == {
        "East Asian": 1,
        "Latin": 4,
        "Cyrillic": 1,
        "Greek": 1,
        "Hebrew": 1,
        "Devanagari": 1,
        "Hangul": 1,
    }


def test_looking_at_many_at_once_finds_what_looking_at_each_finds():
    rng = np.random.default_rng(0)
    pieces = ["cafÃ©", "мир", "pаypal", "a\x92s", "\ufeff", "\ufffd", "e\u0301", "naïve", "日本", "plain", "ok – fine"]
    texts = [" ".join(rng.choice(pieces, size=int(rng.integers(1, 3)))) for _ in range(900)]
    together, alone = TextChecks(), TextChecks()
    mended = together.add(texts, np.arange(900))
    one_by_one = [alone.add([text], np.array([row])) for row, text in enumerate(texts)]
    assert mended == {row: text for found in one_by_one for row, text in found.items()} != {}
    together.finish()
    alone.finish()
    assert together == alone
    assert len([kind for kind in together.rows if together.rows[kind]]) >= 6


def test_rows_are_named_and_real_texts_are_mostly_quiet():
    texts = load_sample("rotten-tomatoes", ReadOptions()).texts
    checks = TextChecks()
    for start in range(0, len(texts), 1000):
        part = texts[start : start + 1000]
        for row, mended in checks.add(part, np.arange(start, start + len(part))).items():
            assert mended == repaired(texts[row]) != texts[row]
    checks.finish()
    assert checks.scripts.total() == len(texts)
    told = {row for rows in checks.rows.values() for row in rows}
    assert len(told) < 0.01 * len(texts)

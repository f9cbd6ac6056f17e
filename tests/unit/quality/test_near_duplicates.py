"""Nearly equal texts: found among thousands, and as alike as their sets of words are."""

import numpy as np
import pytest

from feathertune.data.sources.collector import ReadOptions
from feathertune.data.sources.samples import load_sample
from feathertune.quality.near_duplicates import ALIKE, candidates, shingles_of, similarities, similarity, sketches_of
from feathertune.quality.words import words_of
from languages import words_reference


@pytest.fixture(scope="module")
def edited():
    """Real sentences, of 400 of them a copy with one word replaced, and which pairs those are."""
    texts = [t for t in load_sample("rotten-tomatoes", ReadOptions()).texts if len(t.split()) > 12][:4000]
    rng = np.random.default_rng(0)
    pairs = []
    for row in rng.permutation(len(texts))[:400].tolist():
        words = texts[row].split()
        words[int(rng.integers(len(words)))] = "zzz"
        pairs.append((row, len(texts)))
        texts.append(" ".join(words))
    return texts, pairs


def sketched(texts):
    starts = range(0, len(texts), 1000)
    return [sketches_of(words_of(texts[start : start + 1000]), np.arange(start, len(texts))[:1000]) for start in starts]


def pairs_of(text):
    words = words_reference(text)
    return {*zip(words, [*words[1:], ""], strict=True)}


def test_similarity_is_what_sets_have_in_common(edited):
    texts, pairs = edited
    sets = shingles_of(words_of(texts))
    for a, b in pairs[:50]:
        expected = len(pairs_of(texts[a]) & pairs_of(texts[b])) / len(pairs_of(texts[a]) | pairs_of(texts[b]))
        assert similarity(sets[a], sets[b]) == pytest.approx(expected)
    assert similarity(sets[0], sets[0]) == 1.0
    assert similarity(*shingles_of(words_of(["", "a"]))) == 0.0


def test_of_long_texts_it_is_estimated_well():
    rng = np.random.default_rng(1)
    words = [f"w{n}" for n in rng.permutation(6000)]
    a, b = shingles_of(words_of([" ".join(words[:5000]), " ".join(words[1000:])]))
    assert len(a) < 1000, "a sketch, not the whole set"
    # 4,000 pairs in common and 2,000 in one alone; four standard deviations of a share of 512.
    assert similarity(a, b) == pytest.approx(4000 / 6000, abs=4 * np.sqrt(2 / 9 / 512))


def test_nearly_all_of_what_is_alike_is_found_and_hardly_anything_else(edited):
    texts, planted = edited
    near = candidates(sketched(texts), np.ones(len(texts), bool))
    sets = dict(enumerate(shingles_of(words_of(texts))))
    alike = similarities(near, sets)
    found = {(a, b) for (a, b), share in zip(near.tolist(), alike, strict=True) if share >= ALIKE}
    expected = [pair for pair in planted if similarity(sets[pair[0]], sets[pair[1]]) >= ALIKE]
    assert len(expected) > 300
    assert sum(pair in found for pair in expected) >= 0.9 * len(expected)
    assert len(near) < 2 * len(found), "few candidates are none"
    assert all(a < b for a, b in found)


def test_rows_that_take_no_part_are_no_candidates(edited):
    texts, planted = edited
    usable = np.ones(len(texts), bool)
    usable[[b for _, b in planted]] = False
    near = candidates(sketched(texts), usable)
    assert len(near)
    assert usable[near].all()


def test_nothing_and_texts_without_words():
    sketches = sketched(["", "!!!", "one word"])
    assert [len(one) for one in sketches] == [1]
    assert candidates(sketches, np.ones(3, bool)).shape == (0, 2)
    assert candidates([], np.ones(0, bool)).shape == (0, 2)

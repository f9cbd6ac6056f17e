import numpy as np
import pytest
from sklearn.linear_model import Ridge

from feathertune.baselines import BASELINES
from feathertune.baselines.word_model import CountedWords
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from feathertune.tasks.linear_models import Rows
from languages import LANGUAGES, POSITIVE

TEXTS = ["good fine film", "bad poor film", "good lovely film", "bad awful film"] * 10
LABELS = np.array([1, 0, 1, 0] * 10)
WORTH = {"good": 1.5, "lovely": 2.25, "bad": -1.0, "awful": -3.0}
RATED = [f"{word} film {other}" for word in WORTH for other in WORTH] * 3
NUMBERS = np.array([1950 + WORTH[word] + WORTH[other] for word in WORTH for other in WORTH] * 3)


def test_majority_answers_with_the_shares():
    fitted = BASELINES["majority"].fit(
        Rows(TEXTS[:30] + TEXTS[:1], np.array([1, 0, 0] * 10 + [0]), [], np.array([]), 3, SINGLE_LABEL)
    )
    np.testing.assert_allclose(fitted.predict_proba(["x", "y"]), [[21 / 31, 10 / 31, 0]] * 2)


def test_tfidf_learns_words_and_word_pairs():
    fitted = BASELINES["tfidf"].fit(Rows(TEXTS, LABELS, TEXTS, LABELS, 2, SINGLE_LABEL))
    found = fitted.predict_proba(["a good film", "a bad film"])
    assert found.argmax(1).tolist() == [1, 0]
    np.testing.assert_allclose(found.sum(1), 1)
    pairs = ["not good", "not bad", "good", "bad"] * 10
    fitted = BASELINES["tfidf"].fit(
        Rows(pairs, np.array([0, 1, 1, 0] * 10), pairs, np.array([0, 1, 1, 0] * 10), 2, SINGLE_LABEL)
    )
    assert fitted.predict_proba(pairs[:4]).argmax(1).tolist() == [0, 1, 1, 0]


def test_a_strength_is_chosen_by_the_primary_score():
    texts = ["plain words"] * 40 + ["offer now"] * 3
    labels = np.array([0] * 40 + [1] * 3)
    # One offer is none: to say so of all is as often right, and finds nothing.
    validation, their_labels = ["plain words"] * 8 + ["offer now"] * 2, np.array([0] * 9 + [1])
    chosen, found = {}, {}
    for metric in ("accuracy", "balanced_accuracy"):
        fitted = BASELINES["tfidf"].fit(
            Rows(texts, labels, validation, their_labels, 2, SINGLE_LABEL.ranked_by(metric))
        )
        chosen[metric] = fitted.chosen["C"]
        found[metric] = fitted.predict_proba(["offer now"]).argmax()
    assert chosen["accuracy"] < chosen["balanced_accuracy"]
    assert found == {"accuracy": 0, "balanced_accuracy": 1}


def test_a_class_that_training_never_saw_gets_probability_zero():
    fitted = BASELINES["tfidf"].fit(Rows(TEXTS, LABELS * 2, TEXTS, LABELS * 2, 3, SINGLE_LABEL))
    assert (fitted.predict_proba(TEXTS)[:, 1] == 0).all()


@pytest.mark.parametrize("useful", ["read", "mean"])
def test_probe_takes_the_features_that_are_better_on_validation(useful):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    signal = rng.normal(size=(200, 6)) + 2 * labels[:, None]
    noise = rng.normal(size=(200, 6))
    features = {name: (signal if name == useful else noise).astype(np.float32) for name in ("read", "mean")}
    train = {name: values[:120] for name, values in features.items()}
    rest = {name: values[120:] for name, values in features.items()}
    fitted = BASELINES["probe"].fit(Rows(train, labels[:120], rest, labels[120:], 2, SINGLE_LABEL))
    assert fitted.chosen["features"] == useful
    assert (fitted.predict_proba(rest).argmax(1) == labels[120:]).mean() > 0.95
    assert fitted.n_parameters == 7


@pytest.mark.parametrize("language", LANGUAGES)
def test_tfidf_finds_the_words_of_every_language_in_sentences_it_has_not_seen(language):
    """Of Chinese a word would be a whole clause, of Hindi a piece between two vowel signs."""
    train, validation, test = (LANGUAGES[language].rows(sentence) for sentence in range(3))
    labels = [np.array([label == POSITIVE for _, label in rows], dtype=np.int64) for rows in (train, validation, test)]
    texts = [[text for text, _ in rows] for rows in (train, validation, test)]
    fitted = BASELINES["tfidf"].fit(Rows(texts[0], labels[0], texts[1], labels[1], 2, SINGLE_LABEL))
    assert (fitted.predict_proba(texts[2]).argmax(1) == labels[2]).all()


@pytest.mark.parametrize("useful", ["read", "mean"])
def test_without_validation_rows_the_training_rows_choose_by_folds(useful):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 8)
    signal = rng.normal(size=(16, 6)) + 2.0 * (2 * labels[:, None] - 1)
    noise = rng.normal(size=(16, 6))
    features = {name: (signal if name == useful else noise).astype(np.float32) for name in ("read", "mean")}
    fitted = BASELINES["probe"].fit(Rows(features, labels, {}, labels[:0], 2, SINGLE_LABEL))
    assert fitted.chosen["features"] == useful
    assert fitted.predict_proba(features).argmax(1).tolist() == labels.tolist()
    again = BASELINES["probe"].fit(Rows(features, labels, {}, labels[:0], 2, SINGLE_LABEL))
    assert again.chosen == fitted.chosen


def test_a_row_of_each_class_leaves_none_to_hold_out():
    fitted = BASELINES["tfidf"].fit(Rows(TEXTS[:2], LABELS[:2], [], LABELS[:0], 2, SINGLE_LABEL))
    assert fitted.chosen["C"] == 1.0
    assert fitted.predict_proba(["a good film", "a bad film"]).argmax(1).tolist() == [1, 0]


def test_several_labels_a_text_choose_by_folds_too():
    labels = np.stack([LABELS, 1 - LABELS, np.ones_like(LABELS)], axis=1)[:12]
    fitted = BASELINES["tfidf"].fit(Rows(TEXTS[:12], labels, [], labels[:0], 3, MULTI_LABEL))
    found = fitted.predict_proba(["a good film", "a bad film"])
    assert (found[:, 0] > found[:, 1]).tolist() == [True, False]
    assert (found[:, 2] == 1).all()


def test_majority_answers_with_the_mean():
    fitted = BASELINES["majority"].fit(Rows(RATED, NUMBERS, [], NUMBERS[:0], 1, REGRESSION))
    np.testing.assert_allclose(fitted.predict_proba(["x", "y"]), [[NUMBERS.mean()]] * 2)
    assert fitted.n_parameters == 1


def test_tfidf_is_scikit_learns_ridge_on_counted_words():
    fitted = BASELINES["tfidf"].fit(Rows(RATED, NUMBERS, RATED[:16], NUMBERS[:16], 1, REGRESSION))
    found = fitted.predict_proba(["a good film", "an awful film"])
    assert found.shape == (2, 1)
    assert found[0, 0] > found[1, 0] + 1
    words, train = CountedWords.fit(RATED)
    model = Ridge(alpha=fitted.chosen["alpha"]).fit(train, NUMBERS)
    np.testing.assert_allclose(found[:, 0], model.predict(words.transform(["a good film", "an awful film"])))
    assert fitted.chosen == {"alpha": 0.1, "ngram_range": [1, 2]}, "what is said twice needs no penalty"
    assert fitted.n_parameters == train.shape[1] + 1


@pytest.mark.parametrize("n_validation", [60, 0])
@pytest.mark.parametrize("useful", ["read", "mean"])
def test_probe_of_numbers_takes_the_features_that_are_better(useful, n_validation):
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(200, 6)), rng.normal(size=(200, 6))
    numbers = 100 + signal @ np.array([3.0, -2.0, 1.0, 0, 0, 0]) + 0.1 * rng.normal(size=200)
    features = {name: (signal if name == useful else noise).astype(np.float32) for name in ("read", "mean")}
    train = {name: values[:140] for name, values in features.items()}
    rest = {name: values[140 : 140 + n_validation] for name, values in features.items()} if n_validation else {}
    fitted = BASELINES["probe"].fit(Rows(train, numbers[:140], rest, numbers[140 : 140 + n_validation], 1, REGRESSION))
    assert fitted.chosen["features"] == useful
    found = fitted.predict_proba({name: values[140:] for name, values in features.items()})[:, 0]
    assert np.corrcoef(found, numbers[140:])[0, 1] > 0.9

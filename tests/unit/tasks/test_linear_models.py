import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import Ridge

from feathertune.baselines import BASELINES
from feathertune.baselines.linear import CountedWords, Rows
from feathertune.tasks import REGRESSION
from feathertune.tasks.linear_models import NUMBER_MODELS, Choices

WORTH = {"good": 1.5, "lovely": 2.25, "bad": -1.0, "awful": -3.0}
TEXTS = [f"{word} film {other}" for word in WORTH for other in WORTH] * 3
NUMBERS = np.array([1950 + WORTH[word] + WORTH[other] for word in WORTH for other in WORTH] * 3)


def fit(name, inputs, labels, validation, validation_labels):
    return BASELINES[name].fit(Rows(inputs, labels, validation, validation_labels, 1, REGRESSION))


def chosen_penalty(inputs, labels, validation, validation_labels):
    choices = Choices(inputs, labels, validation, validation_labels, n_classes=1, task=REGRESSION)
    return NUMBER_MODELS.best(choices).chosen["alpha"]


def test_majority_answers_with_the_mean():
    fitted = fit("majority", TEXTS, NUMBERS, [], NUMBERS[:0])
    np.testing.assert_allclose(fitted.predict_proba(["x", "y"]), [[NUMBERS.mean()]] * 2)
    assert fitted.n_parameters == 1


def test_tfidf_is_scikit_learns_ridge_on_counted_words():
    fitted = fit("tfidf", TEXTS, NUMBERS, TEXTS[:16], NUMBERS[:16])
    found = fitted.predict_proba(["a good film", "an awful film"])
    assert found.shape == (2, 1)
    assert found[0, 0] > found[1, 0] + 1
    words = CountedWords(TEXTS)
    model = Ridge(alpha=fitted.chosen["alpha"]).fit(words.train, NUMBERS)
    np.testing.assert_allclose(found[:, 0], model.predict(words.transform(["a good film", "an awful film"])))
    assert fitted.chosen == {"alpha": 0.1, "ngram_range": [1, 2]}, "what is said twice needs no penalty"
    assert fitted.n_parameters == words.train.shape[1] + 1


@pytest.mark.parametrize("n_validation", [60, 0])
@pytest.mark.parametrize("useful", ["read", "mean"])
def test_probe_takes_the_features_that_are_better(useful, n_validation):
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(200, 6)), rng.normal(size=(200, 6))
    numbers = 100 + signal @ np.array([3.0, -2.0, 1.0, 0, 0, 0]) + 0.1 * rng.normal(size=200)
    features = {name: (signal if name == useful else noise).astype(np.float32) for name in ("read", "mean")}
    train = {name: values[:140] for name, values in features.items()}
    rest = {name: values[140 : 140 + n_validation] for name, values in features.items()} if n_validation else {}
    fitted = fit("probe", train, numbers[:140], rest, numbers[140 : 140 + n_validation])
    assert fitted.chosen["features"] == useful
    found = fitted.predict_proba({name: values[140:] for name, values in features.items()})[:, 0]
    assert np.corrcoef(found, numbers[140:])[0, 1] > 0.9


def test_the_penalty_is_chosen_by_the_squared_error_and_at_a_tie_the_stronger():
    rng = np.random.default_rng(1)
    noise, numbers = rng.normal(size=(60, 40)), rng.normal(size=60)
    penalty = chosen_penalty({"noise": noise[:40]}, numbers[:40], {"noise": noise[40:]}, numbers[40:])
    assert penalty >= 100, "of noise nothing is to be learned"
    signal = noise @ rng.normal(size=40)
    penalty = chosen_penalty({"noise": noise}, signal, {"noise": noise}, signal)
    assert penalty == 0.1
    penalty = chosen_penalty({"nothing": sparse.csr_matrix((6, 3))}, numbers[:6], {}, numbers[:0])
    assert penalty == 10_000

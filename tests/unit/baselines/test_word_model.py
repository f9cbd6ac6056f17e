"""The word model that is shipped gives scikit-learn's answers, and refuses files that do not fit."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from feathertune.baselines.word_model import WEIGHTS_FILE, WORDS_FILE, WordModel, fit_words
from feathertune.bundle.files import parse_json
from feathertune.data.reading.texts import Pair
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from feathertune.tasks.linear_models import Rows

TEXTS = ["good film", "fine film", "good plot", "bad film", "an awful plot", "the plot"] * 4
CLASSES = np.array([0, 0, 0, 2, 2, 1] * 4)
SETS = np.stack([CLASSES == 2, CLASSES == 0, np.ones(24), np.zeros(24)], axis=1).astype(np.int8)
CASES = {
    "two classes": (SINGLE_LABEL, (CLASSES > 0).astype(int), 2),
    "three classes": (SINGLE_LABEL, CLASSES, 3),
    "a class without rows": (SINGLE_LABEL, np.where(CLASSES == 1, 3, CLASSES), 4),
    "two of four classes": (SINGLE_LABEL, np.where(CLASSES > 0, 2, 1), 4),
    "sets": (MULTI_LABEL, SETS, 4),
    "numbers": (REGRESSION, np.linspace(1, 5, 24), 1),
}


def rows(task, labels, n_classes, texts=TEXTS):
    return Rows(texts, labels, texts, labels, n_classes, task)


@pytest.mark.parametrize("case", CASES)
def test_logits_give_the_probabilities_of_scikit_learns_model(case):
    task, labels, n_classes = CASES[case]
    words, fitted = fit_words(rows(task, labels, n_classes), 1_000)
    found, chosen = WordModel.fit(rows(task, labels, n_classes))
    expected = fitted.predict_proba(words.transform(TEXTS))
    np.testing.assert_allclose(task.probabilities(found.logits(TEXTS)), expected, atol=1e-5)
    assert chosen == fitted.chosen
    assert found.logits([]).shape == (0, n_classes)


@pytest.mark.parametrize("texts", [TEXTS, [Pair(text, TEXTS[-1 - i]) for i, text in enumerate(TEXTS)]])
def test_what_is_loaded_again_gives_the_same_logits(texts, tmp_path):
    found, _ = WordModel.fit(rows(SINGLE_LABEL, CLASSES, 3, texts))
    found.save(tmp_path)
    vocabularies, tensors = parse_json((tmp_path / WORDS_FILE).read_bytes()), load_file(tmp_path / WEIGHTS_FILE)
    shape = (1 if texts is TEXTS else 2, 3)
    again = WordModel.of(vocabularies, tensors, shape=shape)
    np.testing.assert_array_equal(again.logits(texts), found.logits(texts))
    for wrong in (None, [], [[]], vocabularies[:-1], [[1] for _ in vocabularies], [["a", "a"] for _ in vocabularies]):
        with pytest.raises(ValueError, match=r"words\.json"):
            WordModel.of(wrong, tensors, shape=shape)
    for name in tensors:
        with pytest.raises(ValueError, match="shapes"):
            WordModel.of(vocabularies, {**tensors, name: tensors[name][1:]}, shape=shape)
    with pytest.raises(ValueError, match="shapes"):
        WordModel.of(vocabularies, tensors, shape=(shape[0], 4))

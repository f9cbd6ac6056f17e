"""Fuse a trained model with a word model: the words are fitted to training rows, the weights to validation rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from feathertune.baselines.fusion import FusedWords, fit_fusion
from feathertune.baselines.word_model import WordModel
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.study.running.workbench import Prepared

# Training texts that show how far a model's logits spread, if there are no validation rows.
_SPREAD_TEXTS = 256


def fuse_words(
    prepared: Prepared, logits_of: Callable[[EncodedTexts], np.ndarray], validation: np.ndarray
) -> FusedWords:
    """Return the word model with the weights of the sum.

    Args:
        prepared: Of the run, with its training rows.
        logits_of: Returns the trained model's logits ``(N, C)`` of texts.
        validation: The trained model's probabilities ``(N, C)`` of the validation rows, perhaps none.
    """
    task, splits = prepared.study.task, prepared.bench.splits
    words, _ = WordModel.fit(prepared.rows({name: splits[name].texts for name in ("train", "validation")}))
    texts, labels = splits["validation"].texts, splits["validation"].labels
    if len(labels):
        model = task.likelihood.logits(validation)
    else:
        texts = splits["train"].texts[:_SPREAD_TEXTS]
        model = logits_of(prepared.bench.encoded["train"].take(np.arange(len(texts))))
    return FusedWords(words, fit_fusion(task, labels, model, words.logits(texts)))

"""Texts on which an exported model is compared with its bundle, and the comparison.

Real texts would have to be shipped, so most are made of the tokenizer's own vocabulary: every kind of token, at every
length. Not for scores: the texts mean nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from feathertune.bundle.save import PROBE_TEXTS
from feathertune.data.encode import EncodedTexts
from feathertune.engine.predict import predict_logits
from feathertune.errors import BundleError
from feathertune.export.targets import Parity
from feathertune.runtime import Runtime

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from feathertune.bundle import Bundle

N_PSEUDO_TEXTS = 256
_TOKEN_BUDGET = 4_096
_FP32 = Runtime(torch.device("cpu"), "fp32", "sdpa", "exports are compared in fp32", {})


def parity_texts(tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[str]:
    """The probe texts of a bundle, and the same texts each time for a vocabulary, short ones more often than long ones.

    Args:
        tokenizer: Whose vocabulary.
        max_length: Tokens of the longest text.
    """
    rng = np.random.default_rng(0)
    special = set(tokenizer.all_special_ids)
    ids = np.array(sorted(index for index in tokenizer.get_vocab().values() if index not in special))
    lengths = np.exp(rng.uniform(0, np.log(max_length), N_PSEUDO_TEXTS)).round().astype(int)
    lengths[0] = max_length
    return [*PROBE_TEXTS, *(str(tokenizer.decode(rng.choice(ids, length).tolist())) for length in lengths)]


def fp32_logits(model: nn.Module, texts: EncodedTexts) -> np.ndarray:
    """Logits ``(N, C)`` float32 of a model on the processor."""
    return predict_logits(model, texts, token_budget=_TOKEN_BUDGET, runtime=_FP32)


def compare(
    expected: np.ndarray, found: np.ndarray, bundle: Bundle, texts: EncodedTexts, *, to: str, of_largest: float
) -> Parity:
    """Put two models' answers side by side.

    Args:
        expected: Logits ``(N, C)`` of the bundle.
        found: Of the exported model.
        bundle: The bundle.
        texts: The N texts.
        to: Name of the form.
        of_largest: The tolerance, as a share of the largest logit, or of 1 where all are smaller.
    """
    largest = float(np.abs(expected).max())
    return Parity(
        to=to,
        method=bundle.info.method,
        n_texts=len(texts),
        longest=int(texts.lengths.max()),
        largest_logit=largest,
        max_abs_difference=float(np.abs(expected - found).max()),
        label_flips=int((_labels(expected, bundle.info.task) != _labels(found, bundle.info.task)).any(axis=1).sum()),
        tolerance=of_largest * max(1.0, largest),
    )


def require(parity: Parity, bundle: Bundle, what: str) -> None:
    """Refuse a difference above the tolerance.

    Args:
        parity: What was compared.
        bundle: The bundle.
        what: Which model differs.

    Raises:
        BundleError: If it is above, or not a number.
    """
    if not parity.max_abs_difference <= parity.tolerance:
        raise BundleError(
            f"{what} of the bundle {bundle.folder} gives other logits than the bundle (they differ by "
            f"{parity.max_abs_difference:.3g} on {parity.n_texts} texts, allowed are {parity.tolerance:.3g}; "
            f"{parity.label_flips} labels change), so nothing was written. "
            f"Ship the bundle as it is, and report this: the method is '{parity.method}'."
        )


def _labels(logits: np.ndarray, task: Literal["single_label", "multi_label"]) -> np.ndarray:
    return logits > 0 if task == "multi_label" else logits.argmax(axis=1, keepdims=True)

"""Compare an exported model with its bundle, on texts generated from the vocabulary and on real texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from feathertune.bundle.proof import PROBE_TEXTS
from feathertune.data.reading.texts import Text, paired
from feathertune.data.sources.registry import without_path
from feathertune.data.tokens.encode import EncodedTexts, encode
from feathertune.engine.predict import predict_logits
from feathertune.errors import BundleError
from feathertune.export.check import Check, NumberParity, Parity
from feathertune.export.rows import RealTexts, real_texts
from feathertune.records import HEAD
from feathertune.runtime import FP32
from feathertune.tasks import TASKS
from feathertune.tasks.metrics import score_numbers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from feathertune.bundle import Bundle, BundleInfo

N_PSEUDO_TEXTS = 256
TOKEN_BUDGET = 4_096
# Generated texts are up to this many times as long as one sequence, if more than a text's first tokens are read.
_LONG_TEXTS = 3
# Merging reorders sums: x W + (x A) B becomes x (W + A B). Other libraries reorder them as well. In fp32 this changes
# logits by a few times 1e-6 of the largest one.
_OF_LARGEST = 1e-4


@dataclass(frozen=True)
class Asked:
    """Texts to compare on: generated ones, then the `real` ones, if any."""

    texts: list[Text]
    tokens: EncodedTexts
    real: RealTexts | None
    check: Check

    @property
    def n_made(self) -> int:
        """Number of generated texts."""
        return len(self.texts) - (len(self.real.texts) if self.real is not None else 0)

    def part(self, start: int, stop: int) -> Asked:
        """Return a range of texts: all generated ones, or all real ones."""
        real = self.real if stop > self.n_made else None
        return Asked(self.texts[start:stop], self.tokens.take(np.arange(start, stop)), real, self.check)


def ask(bundle: Bundle, check: Check) -> Asked:
    """Collect the texts to compare a bundle on."""
    real = real_texts(check, bundle.info) if check.data is not None else None
    longest = bundle.info.max_length if bundle.info.reading == HEAD else _LONG_TEXTS * bundle.info.max_length
    made = parity_texts(bundle.tokenizer, longest)
    texts: list[Text] = [*(paired(made) if bundle.info.reads_pairs else made)]
    texts += real.texts if real is not None else []
    tokens = encode(bundle.tokenizer, texts, max_length=bundle.info.max_length, reading=bundle.info.reading)
    return Asked(texts, tokens, real, check)


def parity_texts(tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[str]:
    """Return the probe texts, and mostly short random texts of up to `max_length` tokens, the same each time."""
    rng = np.random.default_rng(0)
    special = set(tokenizer.all_special_ids)
    ids = np.array(sorted(index for index in tokenizer.get_vocab().values() if index not in special))
    lengths = np.exp(rng.uniform(0, np.log(max_length), N_PSEUDO_TEXTS)).round().astype(int)
    lengths[0] = max_length
    return [*PROBE_TEXTS, *(str(tokenizer.decode(rng.choice(ids, length).tolist())) for length in lengths)]


def fp32_logits(model: nn.Module, texts: EncodedTexts) -> np.ndarray:
    """Return logits ``(N, C)`` float32 of a model on the CPU."""
    return predict_logits(model, texts, token_budget=TOKEN_BUDGET, runtime=FP32)


def compare(
    expected: np.ndarray, found: np.ndarray, asked: Asked, bundle: Bundle, *, to: str, rounds: bool = False
) -> Parity:
    """Compare the bundle's logits ``(N, C)`` with an exported model's; a form that rounds is judged by its labels."""
    real, info = asked.real, bundle.info
    known = real.labels if real is not None else None
    compared = Parity(
        to=to,
        method=info.method,
        n_texts=len(asked.texts),
        n_real=len(real.texts) if real is not None else 0,
        data=without_path(real.source) if real is not None else None,
        longest=int(asked.tokens.lengths.max()),
        largest_logit=float(np.abs(expected).max()),
        max_abs_difference=float(np.abs(expected - found).max()),
        tolerance=None if rounds else _OF_LARGEST * _unit(expected, info),
        max_accuracy_loss=asked.check.max_accuracy_loss if rounds and known is not None else None,
    )
    if info.numbers is not None:
        return NumberParity(
            **compared.model_dump(),
            rank_agreement=_rank_correlation(found, expected[:, 0]) or 0.0,
            least_agreement=1 - asked.check.max_flips if rounds else None,
            rank_correlation_before=_rank_correlation(expected, known),
            rank_correlation_after=_rank_correlation(found, known),
        )
    before, after = _labels(expected, info), _labels(found, info)
    labels = {
        "label_flips": int((before != after).any(axis=1).sum()),
        "accuracy_before": _accuracy(before, known),
        "accuracy_after": _accuracy(after, known),
        "max_flips": asked.check.max_flips if rounds else None,
    }
    return compared.model_copy(update=labels)


def _unit(expected: np.ndarray, info: BundleInfo) -> float:
    """Return the size of logits, of which the tolerance is a share."""
    if info.numbers is None:
        return max(1.0, float(np.abs(expected).max()))
    # A text unlike the training texts may get a number far from theirs, and rounding is a share of that number.
    return max(info.logit_unit, float(np.abs(expected - info.numbers.mean).max()))


def require(parity: Parity, bundle: Bundle, what: str) -> None:
    """Refuse an exported model, named by `what`, that differs too much."""
    if fault := parity.fault():
        raise BundleError(f"{what} of the bundle {bundle.folder} {fault}")


def _rank_correlation(predicted: np.ndarray, known: np.ndarray | None) -> float | None:
    """Correlate the last numbers of ``(N, 1)`` with `known` ``(R,)``; None if a number is not finite."""
    if known is None or not np.isfinite(predicted).all():
        return None
    return score_numbers(known, predicted[-len(known) :, 0]).spearman


def _accuracy(predicted: np.ndarray, known: np.ndarray | None) -> float | None:
    """Return the accuracy on the last texts, whose labels are `known` ``(R,)`` or ``(R, C)``."""
    if known is None:
        return None
    return float((predicted[-len(known) :] == known.reshape(len(known), -1)).all(axis=1).mean())


def _labels(logits: np.ndarray, info: BundleInfo) -> np.ndarray:
    """Return a class for each text, ``(N, 1)``, or members ``(N, C)``."""
    task = TASKS[info.task]
    threshold = None if info.threshold is None else np.array(info.threshold)
    decided = task.decide(task.probabilities(logits), threshold)
    return decided.reshape(len(logits), -1)

"""Texts on which an exported model is compared with its bundle, and the comparison.

There are always texts made of the tokenizer's own vocabulary: every kind of token, at every length. They need no data
and find what is merged or translated wrongly; what rounding costs on texts that mean something is seen on real ones
(`feathertune.export.rows`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from feathertune.bundle.save import PROBE_TEXTS, unit_of
from feathertune.data.reading.texts import Text, paired
from feathertune.data.tokens.encode import EncodedTexts, encode
from feathertune.engine.predict import predict_logits
from feathertune.errors import BundleError
from feathertune.export.rows import RealTexts, real_texts
from feathertune.export.targets import Check, NumberParity, Parity
from feathertune.records import HEAD, LabelSummary
from feathertune.runtime import FP32
from feathertune.tasks import TASKS
from feathertune.tasks.metrics import score_numbers

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from feathertune.bundle import Bundle, BundleInfo

N_PSEUDO_TEXTS = 256
TOKEN_BUDGET = 4_096
# Where more than the beginning of a text is read, made texts are up to so many times as long as what is read at once.
_LONG_TEXTS = 3
# Merging reorders sums: x W + (x A) B becomes x (W + A B); another library has another order, too. In fp32 that is
# rounding, a few times 1e-6 of the largest logit.
_OF_LARGEST = 1e-4


@dataclass(frozen=True)
class Asked:
    """What the bundle and the exported model are both asked, and what may differ.

    Attributes:
        texts: N texts: the made ones, then the real ones.
        tokens: The same, as the bundle's tokenizer has them.
        real: Where the last of them came from; None where all are made.
    """

    texts: list[Text]
    tokens: EncodedTexts
    real: RealTexts | None
    check: Check

    @property
    def n_made(self) -> int:
        """Texts that were made."""
        return len(self.texts) - (len(self.real.texts) if self.real is not None else 0)

    def only_made(self) -> Asked:
        """The made texts."""
        rows = np.arange(self.n_made)
        return Asked(self.texts[: self.n_made], self.tokens.take(rows), None, self.check)

    def only_real(self) -> Asked:
        """The real texts."""
        rows = np.arange(self.n_made, len(self.texts))
        return Asked(self.texts[self.n_made :], self.tokens.take(rows), self.real, self.check)

    def tokenised(self, tokens: EncodedTexts) -> Asked:
        """The same texts as another tokenizer has them."""
        return dataclasses.replace(self, tokens=tokens)


def ask(bundle: Bundle, check: Check) -> Asked:
    """Put the texts together.

    Args:
        bundle: Whose tokenizer, length and labels count.
        check: Names the real texts, if there are to be some.

    Raises:
        FeathertuneError: If those cannot be used; see `real_texts`.
    """
    real = real_texts(check, bundle.info) if check.data is not None else None
    longest = bundle.max_length if bundle.reading == HEAD else _LONG_TEXTS * bundle.max_length
    made = parity_texts(bundle.tokenizer, longest)
    texts: list[Text] = [*(paired(made) if bundle.info.reads_pairs else made)]
    texts += real.texts if real is not None else []
    tokens = encode(bundle.tokenizer, texts, max_length=bundle.max_length, reading=bundle.reading)
    return Asked(texts, tokens, real, check)


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
    return predict_logits(model, texts, token_budget=TOKEN_BUDGET, runtime=FP32)


def compare(
    expected: np.ndarray, found: np.ndarray, asked: Asked, bundle: Bundle, *, to: str, rounds: bool = False
) -> Parity:
    """Put two models' answers side by side.

    Args:
        expected: Logits ``(N, C)`` of the bundle.
        found: Of the exported model.
        asked: The N texts.
        bundle: The bundle.
        to: Name of the form.
        rounds: The form is judged by the labels that change, not by its logits.
    """
    if bundle.info.numbers is not None:
        return _compare_numbers(expected, found, asked, bundle, bundle.info.numbers, to=to, rounds=rounds)
    before, after = _labels(expected, bundle.info), _labels(found, bundle.info)
    real, check = asked.real, asked.check
    known = real.labels if real is not None else None
    return Parity(
        **_said_of(expected, found, asked, bundle, to=to, rounds=rounds),
        label_flips=int((before != after).any(axis=1).sum()),
        accuracy_before=_accuracy(before, known),
        accuracy_after=_accuracy(after, known),
        tolerance=None if rounds else _OF_LARGEST * max(1.0, float(np.abs(expected).max())),
        max_flips=check.max_flips if rounds else None,
    )


def _said_of(
    expected: np.ndarray, found: np.ndarray, asked: Asked, bundle: Bundle, *, to: str, rounds: bool
) -> dict[str, Any]:
    """What is said of any two models, whatever their labels are."""
    real = asked.real
    judged_by_labels = rounds and real is not None and real.labels is not None
    return {
        "to": to,
        "method": bundle.info.method,
        "n_texts": len(asked.texts),
        "n_real": len(real.texts) if real is not None else 0,
        "data": real.source if real is not None else None,
        "longest": int(asked.tokens.lengths.max()),
        "largest_logit": float(np.abs(expected).max()),
        "max_abs_difference": float(np.abs(expected - found).max()),
        "max_accuracy_loss": asked.check.max_accuracy_loss if judged_by_labels else None,
    }


def _compare_numbers(
    expected: np.ndarray,
    found: np.ndarray,
    asked: Asked,
    bundle: Bundle,
    numbers: LabelSummary,
    *,
    to: str,
    rounds: bool,
) -> NumberParity:
    """`compare` where labels are numbers."""
    real, check = asked.real, asked.check
    known = real.labels if real is not None else None
    # A text unlike those of the training may get a number that is far off them, and rounding is a share of that.
    unit = max(unit_of(numbers), float(np.abs(expected - numbers.mean).max()))
    return NumberParity(
        **_said_of(expected, found, asked, bundle, to=to, rounds=rounds),
        label_flips=0,
        accuracy_before=None,
        accuracy_after=None,
        tolerance=None if rounds else _OF_LARGEST * unit,
        max_flips=None,
        rank_agreement=_rank_correlation(found, expected[:, 0]) or 0.0,
        least_agreement=1 - check.max_flips if rounds else None,
        rank_correlation_before=_rank_correlation(expected, known),
        rank_correlation_after=_rank_correlation(found, known),
    )


def _rank_correlation(predicted: np.ndarray, known: np.ndarray | None) -> float | None:
    """Of the last numbers of ``(N, 1)`` with those that `known` holds, ``(R,)``; none where they are no numbers."""
    if known is None or not np.isfinite(predicted).all():
        return None
    return score_numbers(known, predicted[-len(known) :, 0]).spearman


def require(parity: Parity, bundle: Bundle, what: str) -> None:
    """Refuse a difference above the tolerance.

    Args:
        parity: What was compared.
        bundle: The bundle.
        what: Which model differs.

    Raises:
        BundleError: If it is above, or not a number.
    """
    if parity.tolerance is None:
        _require_labels(parity, bundle, what)
    elif not parity.max_abs_difference <= parity.tolerance:
        given, flips = "logits", f"; {parity.label_flips} labels change"
        if isinstance(parity, NumberParity):
            given, flips = "numbers", ""
        raise BundleError(
            f"{what} of the bundle {bundle.folder} gives other {given} than the bundle (they differ by "
            f"{parity.max_abs_difference:.3g} on {parity.n_texts} texts, allowed are {parity.tolerance:.3g}"
            f"{flips}), so nothing was written. "
            f"Ship the bundle as it is, and report this: the method is '{parity.method}'."
        )


def _require_labels(parity: Parity, bundle: Bundle, what: str) -> None:
    where = f"{what} of the bundle {bundle.folder}"
    instead = "so nothing was written. Ship it `--to onnx`, which rounds nothing, or allow more with"
    if not np.isfinite(parity.max_abs_difference):
        raise BundleError(f"{where} gives logits that are no numbers, so nothing was written. Ship it `--to onnx`.")
    if isinstance(parity, NumberParity):
        _require_ranks(parity, where, instead)
        return
    if parity.max_flips is not None and parity.label_flips > parity.max_flips * parity.n_texts:
        raise BundleError(
            f"{where} gives another label to {parity.label_flips} of {parity.n_texts} texts of {parity.data} "
            f"({parity.label_flips / parity.n_texts:.2%}, allowed are {parity.max_flips:.2%}), {instead} --max-flips."
        )
    if parity.max_accuracy_loss is None or parity.accuracy_before is None or parity.accuracy_after is None:
        return
    # In whole texts: 0.005 of 1,000 is 5, whatever 0.9 - 0.895 is in binary.
    lost = round((parity.accuracy_before - parity.accuracy_after) * parity.n_real)
    if lost > parity.max_accuracy_loss * parity.n_real + 1e-9:
        raise BundleError(
            f"{where} has an accuracy of {parity.accuracy_after:.2%} on {parity.n_real} texts of {parity.data}, the "
            f"bundle has {parity.accuracy_before:.2%} (allowed is a loss of {100 * parity.max_accuracy_loss:.2g} points"
            f"), {instead} --max-accuracy-loss."
        )


def _require_ranks(parity: NumberParity, where: str, instead: str) -> None:
    if parity.least_agreement is not None and parity.rank_agreement < parity.least_agreement:
        raise BundleError(
            f"{where} orders the {parity.n_texts} texts of {parity.data} otherwise (the rank correlation with the "
            f"bundle's numbers is {parity.rank_agreement:.3f}, allowed is {parity.least_agreement:.3f}), {instead} "
            "--max-flips."
        )
    before, after = parity.rank_correlation_before, parity.rank_correlation_after
    if parity.max_accuracy_loss is None or before is None or after is None:
        return
    if before - after > parity.max_accuracy_loss:
        raise BundleError(
            f"{where} has a rank correlation of {after:.3f} on {parity.n_real} texts of {parity.data}, the bundle has "
            f"{before:.3f} (allowed is a loss of {parity.max_accuracy_loss:.2g}), {instead} --max-accuracy-loss."
        )


def _accuracy(predicted: np.ndarray, known: np.ndarray | None) -> float | None:
    """Of the last texts, whose labels `known` holds, ``(R,)`` or ``(R, C)``."""
    if known is None:
        return None
    return float((predicted[-len(known) :] == known.reshape(len(known), -1)).all(axis=1).mean())


def _labels(logits: np.ndarray, info: BundleInfo) -> np.ndarray:
    """What is predicted: a class a text, ``(N, 1)``, or which labels it has, ``(N, C)``."""
    task = TASKS[info.task]
    threshold = None if info.threshold is None else np.array(info.threshold)
    decided = task.decide(task.probabilities(logits), threshold)
    return decided.reshape(len(logits), -1)

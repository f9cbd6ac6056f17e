"""Verify a bundle: a few texts are stored with their logits, which are recomputed whenever the bundle is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from feathertune.baselines.word_model import WordModel
from feathertune.bundle.files import BundleInfo, Probe
from feathertune.data.reading.texts import Pair, Text
from feathertune.data.tokens.encode import encode
from feathertune.encoders import forget_lengths
from feathertune.engine.predict import predict_logits
from feathertune.errors import BundleError, first_line
from feathertune.runtime import FP32

# Short and long texts, with upper case, digits and punctuation.
PROBE_TEXTS = (
    "A fine film.",
    "It was dull, far too long, and I left after 40 minutes.",
    "yes",
    "Nothing here works as it should; the actors, though, try hard - and that is something!",
)
# Relative to 1 plus the logit. Allows for different CPUs, kernels and attention; one rounding in bf16 is 2^-8.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
_TOKEN_BUDGET = 4_096


def make_probes(texts: Sequence[Text], logits: np.ndarray, words: WordModel | None = None) -> list[Probe]:
    """Return texts with their logits ``(N, C)`` and a word model's; raise BundleError if `logits` are not finite."""
    of_words = [None] * len(texts) if words is None else words.logits(texts).tolist()
    if not np.isfinite(logits).all():
        raise BundleError("The model's logits are NaN or infinite. Train again with a lower learning rate.")
    return [
        Probe(texts=[text] if isinstance(text, str) else list(text), logits=row.tolist(), words=by_words)
        for text, row, by_words in zip(texts, logits, of_words, strict=True)
    ]


def require_proof(
    folder: Path, model: nn.Module, tokenizer: PreTrainedTokenizerBase, info: BundleInfo, base: str
) -> None:
    """Raise BundleError if the probe texts' logits differ from the stored ones, or are not finite."""
    shapes = {(len(probe.texts), len(probe.logits)) for probe in info.probes}
    if shapes != {(len(info.text_columns), len(info.labels))}:
        raise BundleError(
            f"The bundle {folder} has no probe texts and logits that match its labels and text columns. "
            "Copy it again; if that does not help, train or import it again."
        )
    texts = _texts_of(info)
    try:
        found = logits_of(model, tokenizer, texts, info)
    except Exception as error:  # torch raises many types if parts do not match
        raise BundleError(f"The bundle {folder} does not run on {base}: {first_line(error)}.") from error
    finish = f"on the base model {base}. Pass the base model it was trained on as --base, or copy the bundle again."
    if not np.isfinite(found).all():
        raise BundleError(f"The bundle {folder} gives NaN or infinite logits {finish}")
    expected = np.array([probe.logits for probe in info.probes])
    difference = np.abs(found - expected)
    allowed = _TOLERANCE[info.dtype] * (info.logit_unit + np.abs(expected))
    if (difference > allowed).any():
        raise BundleError(
            f"The bundle {folder} no longer gives the logits stored in it (they differ by up to "
            f"{difference.max():.3g}) {finish}"
        )


def require_words(folder: Path, words: WordModel, info: BundleInfo) -> None:
    """Raise BundleError if the word model's logits for the probe texts differ from the stored ones."""
    expected, found = [probe.words for probe in info.probes], words.logits(_texts_of(info))
    if not all(expected) or not np.allclose(found, np.array(expected), rtol=1e-4, atol=1e-5 * info.logit_unit):
        raise BundleError(
            f"The bundle {folder}'s word model no longer gives the logits stored in it. Copy the bundle again."
        )


def _texts_of(info: BundleInfo) -> list[Text]:
    return [Pair(*probe.texts) if info.reads_pairs else probe.texts[0] for probe in info.probes]


def logits_of(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], info: BundleInfo
) -> np.ndarray:
    """Return logits ``(N, C)`` float64, computed on the model's device; the model stays in eval mode."""
    tokens = encode(tokenizer, texts, max_length=info.max_length)
    forget_lengths(tokenizer)
    # A trained head may be in fp32 on a bf16 encoder; bf16 rounds it as it will be rounded after loading.
    dtype = "bf16" if info.dtype == "bfloat16" else "fp32"
    runtime = replace(FP32, device=next(model.parameters()).device, dtype=dtype)
    return predict_logits(model, tokens, token_budget=_TOKEN_BUDGET, runtime=runtime).astype(np.float64)

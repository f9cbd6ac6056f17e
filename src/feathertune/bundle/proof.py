"""A bundle's proof: a few texts with the logits that it gave when it was written, computed again when it is loaded."""

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

# Short and long, cased, with digits and signs.
PROBE_TEXTS = (
    "A fine film.",
    "It was dull, far too long, and I left after 40 minutes.",
    "yes",
    "Nothing here works as it should; the actors, though, try hard - and that is something!",
)
# Share of 1 plus the logit: room for other processors, kernels and kinds of attention. One rounding in bf16 is 2^-8.
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
_TOKEN_BUDGET = 4_096


def make_probes(texts: Sequence[Text], logits: np.ndarray, words: WordModel | None = None) -> list[Probe]:
    """Return texts with their logits ``(N, C)``, and those of a word model; BundleError if these are not finite."""
    of_words = [None] * len(texts) if words is None else words.logits(texts).tolist()
    if not np.isfinite(logits).all():
        raise BundleError("The model gives logits that are NaN or infinite. Train again with a lower learning rate.")
    return [
        Probe(texts=[text] if isinstance(text, str) else list(text), logits=row.tolist(), words=by_words)
        for text, row, by_words in zip(texts, logits, of_words, strict=True)
    ]


def require_proof(
    folder: Path, model: nn.Module, tokenizer: PreTrainedTokenizerBase, info: BundleInfo, base: str
) -> None:
    """Require the logits that the bundle was written with; BundleError if they differ, or are not finite."""
    shapes = {(len(probe.texts), len(probe.logits)) for probe in info.probes}
    if shapes != {(len(info.text_columns), len(info.labels))}:
        raise BundleError(
            f"The bundle {folder} holds no probe texts with their logits, or of another shape than its labels and text "
            "columns. Copy it again, or train or import it again."
        )
    texts = _texts_of(info)
    try:
        found = logits_of(model, tokenizer, texts, info)
    except Exception as error:  # whatever torch says of parts that do not fit together
        raise BundleError(f"The bundle {folder} cannot be run on {base}: {first_line(error)}.") from error
    finish = f"on the base {base}. Name the base that it was trained on, or copy the bundle again."
    if not np.isfinite(found).all():
        raise BundleError(f"The bundle {folder} gives logits that are NaN or infinite {finish}")
    expected = np.array([probe.logits for probe in info.probes])
    difference = np.abs(found - expected)
    allowed = _TOLERANCE[info.dtype] * (info.logit_unit + np.abs(expected))
    if (difference > allowed).any():
        raise BundleError(
            f"The bundle {folder} gives other logits than when it was written (they differ by up to "
            f"{difference.max():.3g}) {finish}"
        )


def require_words(folder: Path, words: WordModel, info: BundleInfo) -> None:
    """Require the logits of the word model that the bundle was written with; BundleError if they differ."""
    expected, found = [probe.words for probe in info.probes], words.logits(_texts_of(info))
    if not all(expected) or not np.allclose(found, np.array(expected), rtol=1e-4, atol=1e-5 * info.logit_unit):
        raise BundleError(
            f"The word model of the bundle {folder} gives other logits than when it was written. Copy the bundle again."
        )


def _texts_of(info: BundleInfo) -> list[Text]:
    return [Pair(*probe.texts) if info.reads_pairs else probe.texts[0] for probe in info.probes]


def logits_of(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], info: BundleInfo
) -> np.ndarray:
    """Return logits ``(N, C)`` float64, computed where the model is; it stays in eval mode."""
    tokens = encode(tokenizer, texts, max_length=info.max_length)
    forget_lengths(tokenizer)
    # A trained head may be in fp32 over an encoder in bf16, and is rounded there as where it is loaded.
    dtype = "bf16" if info.dtype == "bfloat16" else "fp32"
    runtime = replace(FP32, device=next(model.parameters()).device, dtype=dtype)
    return predict_logits(model, tokens, token_budget=_TOKEN_BUDGET, runtime=runtime).astype(np.float64)

"""A bundle's proof: a few texts with the logits that it gave when it was written, computed again when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn
from transformers import PreTrainedTokenizerBase

from feathertune.bundle.files import BundleInfo, Probe
from feathertune.data.reading.texts import Pair, Text, paired
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


def make_probes(model: nn.Module, tokenizer: PreTrainedTokenizerBase, info: BundleInfo) -> list[Probe]:
    """Return the probe texts with a model's logits, computed on the CPU; BundleError if they are not finite."""
    texts: Sequence[Text] = paired(PROBE_TEXTS) if info.reads_pairs else PROBE_TEXTS
    found = _logits(model, tokenizer, texts, info)
    if not np.isfinite(found).all():
        raise BundleError("The model gives logits that are NaN or infinite. Train again with a lower learning rate.")
    return [
        Probe(texts=[text] if isinstance(text, str) else list(text), logits=[float(value) for value in row])
        for text, row in zip(texts, found, strict=True)
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
    texts = [Pair(*probe.texts) if info.reads_pairs else probe.texts[0] for probe in info.probes]
    try:
        found = _logits(model, tokenizer, texts, info)
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


def _logits(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: Sequence[Text], info: BundleInfo
) -> np.ndarray:
    tokens = encode(tokenizer, texts, max_length=info.max_length)
    forget_lengths(tokenizer)
    return predict_logits(model, tokens, token_budget=_TOKEN_BUDGET, runtime=FP32).astype(np.float64)

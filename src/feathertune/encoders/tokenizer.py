"""Load an encoder's tokenizer, and restore SentencePiece's normalisation table.

Since version 5.0, transformers builds some tokenizers (DeBERTa-v2's) without it: a full-width comma is then an unknown
token.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
import math
from typing import Any, cast

import transformers
from tokenizers import normalizers
from tokenizers.models import Unigram
from torch import nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils import is_protobuf_available, is_sentencepiece_available

from feathertune.encoders.files import EncoderFiles
from feathertune.errors import EncoderError, MissingExtraError, first_line

_TABLE = "Precompiled"  # that table's name in tokenizers


def load_tokenizer(files: EncoderFiles, model: PreTrainedModel) -> tuple[PreTrainedTokenizerBase, tuple[str, ...]]:
    """Load a model's tokenizer, with notes; EncoderError if it does not fit, MissingExtraError without its packages."""
    model_file = files.sentencepiece_model
    if model_file is not None and not (is_sentencepiece_available() and is_protobuf_available()):
        raise MissingExtraError(
            "sentencepiece",
            f"The base model {files.id} has its tokenizer only as a SentencePiece model, and reading one",
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(files.folder, trust_remote_code=False)
    except Exception as error:  # tokenizers' Rust code raises bare Exceptions
        # Transformers mistakes a damaged SentencePiece model for another kind, and asks for a package.
        why = first_line(error) if model_file is None else f"{model_file.name} cannot be read as a SentencePiece model"
        raise EncoderError(f"The tokenizer of the base model {files.id} cannot be loaded: {why}.") from error
    if not tokenizer.is_fast:
        raise EncoderError(
            f"The base model {files.id} has a tokenizer written in Python ({type(tokenizer).__name__}). Expected "
            "one that the package tokenizers can run, such as a tokenizer.json. Use another base model."
        )
    if len(tokenizer) > (rows := n_embedded(model)):
        raise EncoderError(
            f"The tokenizer of the base model {files.id} has {len(tokenizer)} tokens, but the model embeds "
            f"{rows}. They do not belong together."
        )
    notes = []
    if table := _lost_table(tokenizer, files):
        tokenizer = _with_table(tokenizer, table)
        notes.append(f"{files.id}: transformers drops the tokenizer's character normalisation; it was restored.")
    if tokenizer.cls_token is not None and not tokenizer.num_special_tokens_to_add():
        notes.append(
            f"{files.id}: with transformers {transformers.__version__}, the tokenizer adds no special tokens to texts. "
            "A model pretrained with them scores worse without. Try another release of transformers."
        )
    tokenizer.init_kwargs.pop("auto_map", None)  # names code that is never run, and would be saved with a bundle
    fit_to_model(tokenizer, model)
    return cast(PreTrainedTokenizerBase, tokenizer), tuple(notes)


def fit_to_model(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Limit a tokenizer, in place, to token types only for models with two types, and end tokens only at the end.

    An encoder-decoder's head refuses a batch whose texts have different numbers of end tokens.
    """
    if model.config.is_encoder_decoder:
        tokenizer.split_special_tokens = tokenizer.init_kwargs["split_special_tokens"] = True
    taken = inspect.signature(type(model).forward).parameters
    if "token_type_ids" in taken and getattr(model.config, "type_vocab_size", 2) > 1:
        return
    tokenizer.model_input_names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]


def word_embeddings(model: PreTrainedModel) -> nn.Parameter | None:
    """Return a model's table of token embeddings; None if it embeds tokens in another way (CANINE)."""
    try:
        return cast(nn.Parameter, model.get_input_embeddings().weight)
    except (NotImplementedError, AttributeError):
        return None


def n_embedded(model: PreTrainedModel) -> float:
    """Return the number of tokens that a model embeds; infinity if it has no table."""
    table = word_embeddings(model)
    return math.inf if table is None else len(table)


def add_padding_token(tokenizer: PreTrainedTokenizerBase, model_id: str) -> list[str]:
    """Use another special token for padding, in place, if the tokenizer has none; return notes."""
    if tokenizer.pad_token is not None:
        return []
    known = (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token)
    tokenizer.pad_token = next((token for token in known if token), tokenizer.convert_ids_to_tokens(0))
    return [f"{model_id} has no padding token; {tokenizer.pad_token!r} is used instead, and saved with each model."]


def set_special_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Set the special tokens that a forward pass needs and the checkpoint's configuration lacks; return those set.

    A decoder's head reads the last token that is not padding, and refuses batches without a padding token.
    """
    config, needed = model.config.get_text_config(), {}
    is_pair = config.is_encoder_decoder
    searches = type(model.config) not in MODEL_FOR_MASKED_LM_MAPPING and not is_pair
    if (known := getattr(config, "pad_token_id", None)) is None or (searches and known != tokenizer.pad_token_id):
        needed["pad_token_id"] = int(tokenizer.pad_token_id)
    if is_pair and getattr(config, "decoder_start_token_id", None) is None:
        needed["decoder_start_token_id"] = int(tokenizer.pad_token_id)  # as in T5
    for name, value in needed.items():
        setattr(config, name, value)
    return needed


def forget_lengths(tokenizer: PreTrainedTokenizerBase) -> None:
    """Remove the truncation and padding that the last call left in the tokenizer."""
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256 of a tokenizer's pipeline, special tokens, inputs and sides, regardless of its class."""
    forget_lengths(tokenizer)
    sides = (tokenizer.truncation_side, tokenizer.padding_side)
    facts = (sorted(tokenizer.special_tokens_map.items()), list(tokenizer.model_input_names), sides)
    return hashlib.sha256(f"{facts} {tokenizer.backend_tokenizer.to_str()}".encode()).hexdigest()


def _lost_table(tokenizer: PreTrainedTokenizerBase, files: EncoderFiles) -> bytes:
    """Return the normalisation table that is in the files but not in the tokenizer; empty if there is none."""
    backend = tokenizer.backend_tokenizer
    if not isinstance(backend.model, Unigram):
        return b""
    if backend.normalizer is not None and _tables(json.loads(backend.normalizer.__getstate__())):
        return b""
    if files.sentencepiece_model is not None:
        from sentencepiece import sentencepiece_model_pb2

        proto = sentencepiece_model_pb2.ModelProto()
        proto.ParseFromString(files.sentencepiece_model.read_bytes())
        return bytes(proto.normalizer_spec.precompiled_charsmap)
    path = files.folder / "tokenizer.json"
    found = _tables(json.loads(path.read_text(encoding="utf-8"))["normalizer"]) if path.exists() else []
    return base64.b64decode(found[0]) if found else b""


def _tables(normalizer: dict[str, Any] | None) -> list[str]:
    """Return the tables in base 64."""
    if normalizer is None:
        return []
    if normalizer["type"] == "Sequence":
        return [table for one in normalizer["normalizers"] for table in _tables(one)]
    return [normalizer["precompiled_charsmap"]] if normalizer["type"] == _TABLE else []


def _with_table(tokenizer: PreTrainedTokenizerBase, table: bytes) -> PreTrainedTokenizerBase:
    """Return the tokenizer with that table first, as a class that saves the table."""
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([normalizers.Precompiled(table), *own])
    special = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=tokenizer.model_input_names,
        model_max_length=tokenizer.model_max_length,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        **special,
    )

"""Pretrained encoders: find them, describe their parts, and load them for classification."""

from feathertune.encoders.encoder import LoadedEncoder
from feathertune.encoders.load import Attention, load_encoder
from feathertune.encoders.quiet import quiet_transformers
from feathertune.encoders.specs import EncoderSpec, structural_spec
from feathertune.encoders.tokenizer import fit_to_model, forget_lengths, n_embedded, set_special_tokens

__all__ = [
    "Attention",
    "EncoderSpec",
    "LoadedEncoder",
    "fit_to_model",
    "forget_lengths",
    "load_encoder",
    "n_embedded",
    "quiet_transformers",
    "set_special_tokens",
    "structural_spec",
]

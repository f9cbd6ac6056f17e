"""Pretrained encoders: find them, describe their parts, and load them for classification."""

from feathertune.encoders.encoder import LoadedEncoder
from feathertune.encoders.load import Attention, load_encoder
from feathertune.encoders.quiet import quiet_transformers
from feathertune.encoders.specs import SPECS, EncoderSpec, structural_spec
from feathertune.encoders.tokenizer import drop_foreign_inputs, forget_lengths

__all__ = [
    "SPECS",
    "Attention",
    "EncoderSpec",
    "LoadedEncoder",
    "drop_foreign_inputs",
    "forget_lengths",
    "load_encoder",
    "quiet_transformers",
    "structural_spec",
]

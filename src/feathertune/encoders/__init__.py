"""Pretrained encoders: where they are found, what is in them, and how they are loaded for classification."""

from feathertune.encoders.encoder import LoadedEncoder
from feathertune.encoders.load import Attention, drop_foreign_inputs, load_encoder, quiet_transformers
from feathertune.encoders.specs import SPECS, EncoderSpec, structural_spec

__all__ = [
    "SPECS",
    "Attention",
    "EncoderSpec",
    "LoadedEncoder",
    "drop_foreign_inputs",
    "load_encoder",
    "quiet_transformers",
    "structural_spec",
]

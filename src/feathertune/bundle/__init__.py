"""A folder with a trained classifier, which PEFT or transformers can load without feathertune.

PEFT saves no labels, omits heads not named ``classifier``, and loads damaged tensors silently. A bundle holds the
labels, the base model's fingerprint and the SHA-256 of every file, and is verified by reloading it.
"""

from feathertune.bundle.files import BaseInfo, BundleInfo, BundleKind, DataInfo
from feathertune.bundle.load import Bundle, load_bundle
from feathertune.bundle.merge import merged_model
from feathertune.bundle.save import Description, save_bundle

__all__ = [
    "BaseInfo",
    "Bundle",
    "BundleInfo",
    "BundleKind",
    "DataInfo",
    "Description",
    "load_bundle",
    "merged_model",
    "save_bundle",
]

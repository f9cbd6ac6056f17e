"""One folder that holds a trained classifier, and that PEFT or transformers load without feathertune.

PEFT saves no labels, omits heads that are not called ``classifier``, and loads damaged tensors silently. A bundle
carries labels, the base's fingerprint and the SHA-256 of every file, and is loaded again before it is kept.
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

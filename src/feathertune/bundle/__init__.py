"""One folder that holds a trained classifier, loads in plain PEFT or transformers, and proves itself whole.

PEFT saves no labels, forgets heads that are not called ``classifier``, and loads damaged tensors without a
word. So each bundle carries its labels, the fingerprint of the base it was trained on and the SHA-256 of
every file; and it is loaded again, on a base with other random numbers, before it gets its name. Not for
resuming: a checkpoint of the training loop holds the optimizer too.
"""

from feathertune.bundle.files import BaseInfo, BundleInfo, BundleKind, DataInfo
from feathertune.bundle.load import Bundle, load_bundle
from feathertune.bundle.merge import merged_model
from feathertune.bundle.save import save_bundle

__all__ = ["BaseInfo", "Bundle", "BundleInfo", "BundleKind", "DataInfo", "load_bundle", "merged_model", "save_bundle"]

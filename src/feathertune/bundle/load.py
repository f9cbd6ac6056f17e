"""Load a bundle: check its files, then the base model, then the use of every trained tensor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from feathertune.baselines.fusion import FusedWords, Fusion
from feathertune.baselines.word_model import WEIGHTS_FILE, WORDS_FILE, WordModel
from feathertune.bundle.adapter import put_adapter, read_adapter, virtual_tokens
from feathertune.bundle.files import WEIGHTS, BundleInfo, check_manifest, check_unchanged, parse_json, read_info
from feathertune.bundle.proof import require_proof, require_words
from feathertune.data.reading.texts import Text
from feathertune.data.sources.samples import SAMPLE_ENCODERS
from feathertune.encoders import (
    Attention,
    LoadedEncoder,
    fit_to_model,
    load_encoder,
    n_embedded,
    quiet_transformers,
    set_special_tokens,
)
from feathertune.errors import BundleError, EncoderError, MissingExtraError, first_line

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Seed for parameters missing from the base checkpoint. The bundle replaces them, so nothing may depend on it.
_SEED = 2**31 - 1


@dataclass(frozen=True)
class Bundle:
    """A loaded classifier in eval mode: a `PeftModel` on the base model, or a transformers classification model.

    With a word model `fused`, predictions use the sum of both models' logits.
    """

    folder: Path
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    base: LoadedEncoder
    info: BundleInfo
    fused: FusedWords | None = None

    def added(self, texts: Sequence[Text]) -> np.ndarray | None:
        """Return the word model's contribution to N texts' logits, ``(N, C)``; None without a word model."""
        return None if self.fused is None else self.fused.added(texts)

    def logits(self, model: np.ndarray, added: np.ndarray | None) -> np.ndarray:
        """Return the bundle's logits ``(N, C)``, given its model's logits and the result of `added`."""
        return model if self.fused is None or added is None else self.fused.logits(model, added).astype(np.float32)


def load_bundle(path: Path, *, base: str | None = None, attention: Attention = "sdpa") -> Bundle:
    """Load a classifier on the CPU in eval mode, after checking every file, the base model and the stored logits.

    `base` is the path of the base model, if it moved. Tensors are read into memory, never mapped from a file.

    Raises:
        BundleError: If the bundle is incomplete or damaged, the base model's fingerprint differs, or the probe texts'
            logits differ from the stored ones.
    """
    bundle = read_bundle(path, base=base, attention=attention)
    require_proof(path, bundle.model, bundle.tokenizer, bundle.info, bundle.base.id)
    if bundle.fused is not None:
        require_words(path, bundle.fused.words, bundle.info)
    return bundle


def read_bundle(path: Path, *, base: str | None = None, attention: Attention = "sdpa") -> Bundle:
    """Load a classifier like `load_bundle`, but without checking the probe texts' logits."""
    stamps = check_manifest(path)
    bundle = _read(path, base, attention)
    if (found := bundle.info.fusion) is not None:
        fusion = Fusion(found.model, found.words)
        bundle = replace(bundle, fused=FusedWords(_read_words(path, bundle.info), fusion))
    check_unchanged(path, stamps)
    _check_lengths(bundle)
    return bundle


def _read(path: Path, base: str | None, attention: Attention) -> Bundle:
    info = read_info(path)
    if not (path / WEIGHTS[info.kind]).is_file():
        raise BundleError(f"The bundle {path} has no {WEIGHTS[info.kind]}. Only safetensors files are loaded.")
    if info.kind == "full":
        whole = _load_base(str(path), None, info, path, attention)
        if whole.new_parameters:
            lacking = ", ".join(whole.new_parameters[:3])
            raise BundleError(
                f"The weights of the bundle {path} lack {lacking}, or have them for a different number of labels than "
                f"its {len(info.labels)}."
            )
        if whole.unused:  # a configuration with fewer layers would drop tensors silently
            raise BundleError(
                f"The weights of the bundle {path} do not match its config.json: the model has no use for "
                f"{len(whole.unused)} tensors; the first is {whole.unused[0]}. Copy it again."
            )
        _check_numbers(path, whole.model.state_dict())
        return Bundle(path, whole.model, whole.tokenizer, whole, info)
    settings = read_adapter(path) if info.kind == "peft" else {}
    encoder = _load_base(*_find_base(info, path, base), info, path, attention)
    if encoder.fingerprint != info.base.fingerprint:
        raise BundleError(
            f"The bundle {path} was trained on {info.base.id} with the fingerprint {info.base.fingerprint}, but the "
            f"base model {encoder.id} has the fingerprint {encoder.fingerprint}, so its weights or configuration "
            "differ. Pass the right base model as --base."
        )
    tokenizer = load_tokenizer(path, encoder)
    saved = read_tensors(path, WEIGHTS[info.kind])
    if info.kind == "peft":
        model: nn.Module = _load_adapter(path, encoder, settings, saved)
    else:
        model = _load_part(path, encoder, info, saved)
    return Bundle(path, model.eval(), tokenizer, encoder, info)


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read a tensor file into private memory; raise BundleError if it is damaged or contains NaN or infinity."""
    try:
        tensors: dict[str, Tensor] = load_tensors((folder / name).read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BundleError(f"Cannot load the weights {name} in {folder}: {first_line(error)}.") from error
    _check_numbers(folder, tensors)
    return tensors


def _read_words(folder: Path, info: BundleInfo) -> WordModel:
    tensors = {name: tensor.numpy() for name, tensor in read_tensors(folder, WEIGHTS_FILE).items()}
    try:
        vocabularies = parse_json((folder / WORDS_FILE).read_bytes())
        return WordModel.of(vocabularies, tensors, shape=(len(info.text_columns), len(info.labels)))
    except (OSError, ValueError) as error:
        raise BundleError(f"Cannot load the word model in {folder}: {first_line(error)}.") from error


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that contains NaN or infinity, or None."""
    return next((n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()), None)


def without_wrapper(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an adapter's tensors without PEFT's one- or two-part prefix, named like the encoder's modules."""
    return {name.removeprefix("base_model.").removeprefix("model."): tensor for name, tensor in saved.items()}


def misfit(encoder: LoadedEncoder, saved: Mapping[str, Tensor]) -> tuple[str, tuple[int, ...], tuple[int, ...]] | None:
    """Return the name, actual shape and expected shape of the first tensor that does not match the encoder."""
    own = encoder.model.state_dict()
    shapes = ((name, tuple(saved[name].shape), tuple(own[name].shape)) for name in sorted(saved.keys() & own.keys()))
    return next((found for found in shapes if found[1] != found[2]), None)


def load_tokenizer(folder: Path, encoder: LoadedEncoder) -> PreTrainedTokenizerBase:
    """Load a folder's tokenizer for an encoder."""
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the Rust part of tokenizers raises bare Exceptions
        raise BundleError(f"Cannot load the tokenizer in {folder}: {first_line(error)}.") from error
    fit_to_model(tokenizer, encoder.model)
    encoder.added_settings.update(set_special_tokens(encoder.model, tokenizer))
    if len(tokenizer) > (rows := n_embedded(encoder.model)):
        raise BundleError(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, but {encoder.id} has embeddings for only {rows}. "
            "Added tokens are not supported."
        )
    return tokenizer


def _check_lengths(bundle: Bundle) -> None:
    """Raise BundleError unless the base model has enough positions, and each window has room for tokens."""
    info, taken = bundle.info, 0
    if isinstance(bundle.model, PeftModel):
        taken = virtual_tokens(vars(bundle.model.active_peft_config))
    longest = bundle.base.max_positions - taken
    least = bundle.tokenizer.num_special_tokens_to_add(pair=info.reads_pairs) + info.reading.stride + 1
    if not least <= info.max_length <= longest:
        raise BundleError(
            f"The bundle {bundle.folder} has a max_length of {info.max_length}. Expected {least} to {longest} tokens "
            f"for the base model {bundle.base.id}."
        )


def _find_base(info: BundleInfo, folder: Path, given: str | None) -> tuple[str, str | None]:
    """Return the base model's id and revision."""
    if given is not None:
        return given, None
    if info.base.local is not None:
        place = Path(os.path.normpath(folder.resolve() / info.base.local))
        if not place.exists():
            raise BundleError(
                f"The bundle {folder} was trained on the local base model '{info.base.id}', which is missing from "
                f"{place}. Pass its path as --base."
            )
        return str(place), None
    for sample in SAMPLE_ENCODERS:
        if sample.hub_id == info.base.id and info.base.revision is None and sample.is_installed:
            return f"sample:{sample.name}", None
    return info.base.id, info.base.revision


def _load_base(
    model_id: str, revision: str | None, info: BundleInfo, folder: Path, attention: Attention
) -> LoadedEncoder:
    try:
        return load_encoder(
            model_id,
            labels=info.labels,
            seed=_SEED,
            revision=revision,
            attention=attention,
            dtype=DTYPES[info.dtype],
            task=info.task,
        )
    except (EncoderError, MissingExtraError) as error:
        raise BundleError(f"Cannot load the base model of the bundle {folder}. {error}") from error


def _load_adapter(
    folder: Path, encoder: LoadedEncoder, settings: Mapping[str, Any], saved: Mapping[str, Tensor]
) -> PeftModel:
    _check_tensors(folder, encoder, without_wrapper(saved))
    model, loaded = put_adapter(folder, encoder, settings, saved)
    if differing := sorted(saved.keys() ^ loaded.keys()):
        raise BundleError(
            f"The adapter in {folder} does not match its configuration: {differing[0]} is in only one of them."
        )
    return model


def _load_part(folder: Path, encoder: LoadedEncoder, info: BundleInfo, saved: Mapping[str, Tensor]) -> PreTrainedModel:
    """Replace exactly the base model's trained parameters, and raise BundleError if any is missing or extra."""
    _check_tensors(folder, encoder, saved)
    if unexpected := encoder.model.load_state_dict(saved, strict=False).unexpected_keys:
        raise BundleError(f"The bundle {folder} does not match {encoder.id}, which has no parameter {min(unexpected)}.")
    trained = info.trained or ()
    if lacking := sorted(set(trained).difference(saved)):  # otherwise the base model's own tensor would be used
        raise BundleError(
            f"The bundle {folder} lacks {len(lacking)} of its {len(trained)} trained tensors; the first is "
            f"{lacking[0]}. Copy it again."
        )
    if added := sorted(saved.keys() - set(trained)):
        raise BundleError(
            f"The bundle {folder} contains {added[0]}, which is not among its {len(trained)} listed tensors."
        )
    for name, parameter in encoder.model.named_parameters():  # marks the part, so that saving writes the same part
        parameter.requires_grad_(name in saved)
    return encoder.model


def _check_tensors(folder: Path, encoder: LoadedEncoder, saved: Mapping[str, Tensor]) -> None:
    """Raise BundleError if a head tensor is missing, or a shape does not match."""
    heads = tuple(f"{name}." for name in encoder.head_modules)
    needed = {name for name, _ in encoder.model.named_parameters() if name.startswith(heads)}
    if lacking := sorted(needed.difference(saved)):
        raise BundleError(
            f"The bundle {folder} lacks {len(lacking)} tensors of its classification head; the first is "
            f"{lacking[0]}. Copy it again."
        )
    if wrong := misfit(encoder, saved):
        name, found, expected = wrong
        raise BundleError(
            f"The bundle {folder} does not match its base model {encoder.id} with {len(encoder.labels)} labels: {name} "
            f"has the shape {found}, expected {expected}."
        )


def _check_numbers(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    if name := not_finite(tensors):
        raise BundleError(f"The bundle {folder} contains NaN or infinity in {name}. Copy it again.")

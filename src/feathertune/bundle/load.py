"""Load a bundle: check its files, then the base model, then that every trained tensor was used."""

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
_SEED = 2**31 - 1  # of parameters that the base checkpoint lacks; the bundle holds them, so nothing may depend on it


@dataclass(frozen=True)
class Bundle:
    """A loaded classifier in eval mode: a `PeftModel` over the base, or a classification model of transformers.

    With a word model `fused`, the sum of both decides.
    """

    folder: Path
    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    base: LoadedEncoder
    info: BundleInfo
    fused: FusedWords | None = None

    def added(self, texts: Sequence[Text]) -> np.ndarray | None:
        """Return what the words of N texts add to the weighted logits, ``(N, C)``; None without a word model."""
        return None if self.fused is None else self.fused.added(texts)

    def logits(self, model: np.ndarray, added: np.ndarray | None) -> np.ndarray:
        """Return the bundle's logits ``(N, C)`` of its model's, and of what `added` gives."""
        return model if self.fused is None or added is None else self.fused.logits(model, added).astype(np.float32)


def load_bundle(path: Path, *, base: str | None = None, attention: Attention = "sdpa") -> Bundle:
    """Load a classifier on the CPU, in eval mode, after every file, the base and the stored answers have been checked.

    `base` is the path of the base model, if it moved. No tensor is mapped from a file.

    Raises:
        BundleError: If the folder is not a whole bundle, the base has another fingerprint, or the probe texts get
            other logits than when the bundle was written.
    """
    bundle = read_bundle(path, base=base, attention=attention)
    require_proof(path, bundle.model, bundle.tokenizer, bundle.info, bundle.base.id)
    if bundle.fused is not None:
        require_words(path, bundle.fused.words, bundle.info)
    return bundle


def read_bundle(path: Path, *, base: str | None = None, attention: Attention = "sdpa") -> Bundle:
    """Load a classifier as `load_bundle` does, without comparing the answers to its probe texts."""
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
        raise BundleError(f"The bundle {path} holds no {WEIGHTS[info.kind]}. Only safetensors are loaded.")
    if info.kind == "full":
        whole = _load_base(str(path), None, info, path, attention)
        if whole.new_parameters:
            lacking = ", ".join(whole.new_parameters[:3])
            raise BundleError(
                f"The bundle {path} lacks {lacking} in its weights, or holds them for another number of labels than "
                f"the {len(info.labels)} that it names."
            )
        if whole.unused:  # a configuration with fewer layers would drop tensors silently
            raise BundleError(
                f"The weights of the bundle {path} do not fit its config.json: {len(whole.unused)} tensors have no "
                f"place in the model, the first being {whole.unused[0]}. Copy it again."
            )
        _check_numbers(path, whole.model.state_dict())
        return Bundle(path, whole.model, whole.tokenizer, whole, info)
    settings = read_adapter(path) if info.kind == "peft" else {}
    encoder = _load_base(*_find_base(info, path, base), info, path, attention)
    if encoder.fingerprint != info.base.fingerprint:
        raise BundleError(
            f"The bundle {path} was trained on {info.base.id} with the fingerprint {info.base.fingerprint}, but the "
            f"encoder {encoder.id} has the fingerprint {encoder.fingerprint}: its weights or its configuration are "
            "others. Name the right one as the base."
        )
    tokenizer = load_tokenizer(path, encoder)
    saved = read_tensors(path, WEIGHTS[info.kind])
    if info.kind == "peft":
        model: nn.Module = _load_adapter(path, encoder, settings, saved)
    else:
        model = _load_part(path, encoder, info, saved)
    return Bundle(path, model.eval(), tokenizer, encoder, info)


def read_tensors(folder: Path, name: str) -> dict[str, Tensor]:
    """Read a file of tensors into private memory; BundleError if it is damaged, or holds NaN or infinity."""
    try:
        tensors: dict[str, Tensor] = load_tensors((folder / name).read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise BundleError(f"The weights {name} in {folder} cannot be loaded: {first_line(error)}.") from error
    _check_numbers(folder, tensors)
    return tensors


def _read_words(folder: Path, info: BundleInfo) -> WordModel:
    tensors = {name: tensor.numpy() for name, tensor in read_tensors(folder, WEIGHTS_FILE).items()}
    try:
        vocabularies = parse_json((folder / WORDS_FILE).read_bytes())
        return WordModel.of(vocabularies, tensors, shape=(len(info.text_columns), len(info.labels)))
    except (OSError, ValueError) as error:
        raise BundleError(f"The word model in {folder} cannot be loaded: {first_line(error)}.") from error


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that holds NaN or infinity."""
    return next((n for n, t in tensors.items() if t.is_floating_point() and not torch.isfinite(t).all()), None)


def without_wrapper(saved: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an adapter's tensors by the names of the encoder's modules; PEFT's prefix has two parts, or one."""
    return {name.removeprefix("base_model.").removeprefix("model."): tensor for name, tensor in saved.items()}


def misfit(encoder: LoadedEncoder, saved: Mapping[str, Tensor]) -> tuple[str, tuple[int, ...], tuple[int, ...]] | None:
    """Return name, found shape and expected shape of the first tensor that does not fit the encoder."""
    own = encoder.model.state_dict()
    shapes = ((name, tuple(saved[name].shape), tuple(own[name].shape)) for name in sorted(saved.keys() & own.keys()))
    return next((found for found in shapes if found[1] != found[2]), None)


def load_tokenizer(folder: Path, encoder: LoadedEncoder) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder for an encoder."""
    try:
        with quiet_transformers():
            tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # tokenizers' Rust part raises bare Exceptions
        raise BundleError(f"The tokenizer in {folder} cannot be loaded: {first_line(error)}.") from error
    fit_to_model(tokenizer, encoder.model)
    encoder.added_settings.update(set_special_tokens(encoder.model, tokenizer))
    if len(tokenizer) > (rows := n_embedded(encoder.model)):
        raise BundleError(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, but {encoder.id} embeds {rows}. Added tokens are "
            "not supported."
        )
    return tokenizer


def _check_lengths(bundle: Bundle) -> None:
    """Require that the base has positions for the longest text, and that a window of it holds tokens."""
    info, taken = bundle.info, 0
    if isinstance(bundle.model, PeftModel):
        taken = virtual_tokens(vars(bundle.model.active_peft_config))
    longest = bundle.base.max_positions - taken
    least = bundle.tokenizer.num_special_tokens_to_add(pair=info.reads_pairs) + info.reading.stride + 1
    if not least <= info.max_length <= longest:
        raise BundleError(
            f"The bundle {bundle.folder} has a max_length of {info.max_length}. Expected {least} to {longest} tokens "
            f"on the base {bundle.base.id}."
        )


def _find_base(info: BundleInfo, folder: Path, given: str | None) -> tuple[str, str | None]:
    """Return id and revision of the base model."""
    if given is not None:
        return given, None
    if info.base.local is not None:
        place = Path(os.path.normpath(folder.resolve() / info.base.local))
        if not place.exists():
            raise BundleError(
                f"The bundle {folder} was trained on the local encoder '{info.base.id}', which is not at "
                f"{place}. Name its path as the base."
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
        raise BundleError(f"The bundle {folder} cannot be loaded without its encoder. {error}") from error


def _load_adapter(
    folder: Path, encoder: LoadedEncoder, settings: Mapping[str, Any], saved: Mapping[str, Tensor]
) -> PeftModel:
    _check_tensors(folder, encoder, without_wrapper(saved))
    model, loaded = put_adapter(folder, encoder, settings, saved)
    if differing := sorted(saved.keys() ^ loaded.keys()):
        raise BundleError(f"The adapter in {folder} does not fit its configuration: one side has no {differing[0]}.")
    return model


def _load_part(folder: Path, encoder: LoadedEncoder, info: BundleInfo, saved: Mapping[str, Tensor]) -> PreTrainedModel:
    """Replace the base's parameters by the trained ones: all that were trained, and no other."""
    _check_tensors(folder, encoder, saved)
    if unexpected := encoder.model.load_state_dict(saved, strict=False).unexpected_keys:
        raise BundleError(f"The bundle {folder} does not fit {encoder.id}, which has no parameter {min(unexpected)}.")
    trained = info.trained or ()
    if lacking := sorted(set(trained).difference(saved)):  # in its place the base's own would answer
        raise BundleError(
            f"The bundle {folder} lacks {len(lacking)} of the {len(trained)} tensors that were trained, the first "
            f"being {lacking[0]}. Copy it again."
        )
    if added := sorted(saved.keys() - set(trained)):
        raise BundleError(
            f"The bundle {folder} holds {added[0]}, which is not among the {len(trained)} tensors listed."
        )
    for name, parameter in encoder.model.named_parameters():  # so that it is saved again as the part that it is
        parameter.requires_grad_(name in saved)
    return encoder.model


def _check_tensors(folder: Path, encoder: LoadedEncoder, saved: Mapping[str, Tensor]) -> None:
    """Require the whole head, and shapes that fit."""
    heads = tuple(f"{name}." for name in encoder.head_modules)
    needed = {name for name, _ in encoder.model.named_parameters() if name.startswith(heads)}
    if lacking := sorted(needed.difference(saved)):
        raise BundleError(
            f"The bundle {folder} lacks {len(lacking)} tensors of its classification head, the first being "
            f"{lacking[0]}. Copy it again."
        )
    if wrong := misfit(encoder, saved):
        name, found, expected = wrong
        raise BundleError(
            f"The bundle {folder} does not fit its encoder {encoder.id} with {len(encoder.labels)} labels: {name} "
            f"has the shape {found}, expected {expected}."
        )


def _check_numbers(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    if name := not_finite(tensors):
        raise BundleError(f"The bundle {folder} holds NaN or infinity in {name}. Copy it again.")

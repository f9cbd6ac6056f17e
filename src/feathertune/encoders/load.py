"""Load a pretrained encoder with a classification head, and find the parameters that its checkpoint lacks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)

from feathertune.encoders.encoder import LoadedEncoder, linear_names_in
from feathertune.encoders.files import EncoderFiles, find_encoder
from feathertune.encoders.quiet import quiet_transformers
from feathertune.encoders.specs import EncoderSpec, structural_spec
from feathertune.encoders.tokenizer import add_padding_token, load_tokenizer, set_special_tokens, word_embeddings
from feathertune.encoders.trial import with_facts
from feathertune.errors import EncoderError, first_line
from feathertune.records import TaskName
from feathertune.runtime import GLOBAL_STATE
from feathertune.tasks import TASKS

_HASHED_AT_ONCE = 1 << 24
Attention = Literal["eager", "sdpa"]
# Configuration keys that only name things or choose what a call returns; they change no hidden state.
_NAMES_ONLY = frozenset(
    "architectures auto_map chunk_size_feed_forward dtype finetuning_task gradient_checkpointing "  # noqa: SIM905
    "id2label label2id "
    "num_labels problem_type return_dict tokenizer_class torch_dtype torchscript transformers_version use_cache".split()
)


def load_encoder(
    model_id: str,
    *,
    labels: Sequence[str],
    seed: int,
    revision: str | None = None,
    attention: Attention = "sdpa",
    dtype: torch.dtype | None = torch.float32,
    task: TaskName = "single_label",
) -> LoadedEncoder:
    """Load an encoder on the CPU, in eval mode, with a new head: one output per label, or one for regression.

    `dtype` None keeps a checkpoint's bf16, and means fp32 for others. Families without this `attention` (DeBERTa,
    MPNet) use the eager one. `task` is written to the configuration, for transformers' loss. `seed` draws the new
    parameters; the caller's random state does not change.

    Raises:
        EncoderError: If the encoder cannot be found, is damaged, or is not an encoder.
        MissingExtraError: Without its tokenizer's packages.
    """
    files = find_encoder(model_id, revision)
    with quiet_transformers():
        config = _encoder_config(files)
        vars(config).pop("auto_map", None)  # names code that is never run, and would be saved with a bundle
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        # Without this, a checkpoint trained for regression keeps its own; for one label, transformers infers it.
        kind = TASKS[task].labels
        config.problem_type = TASKS[task].problem_type if kind.sets or kind.numbers else None
        # A bf16 checkpoint is copied to fp32 only if fp32 is requested.
        kept = torch.bfloat16 if config.dtype == torch.bfloat16 and dtype != torch.float32 else torch.float32
        model, missing, unused = _from_checkpoint(files, config, attention, seed, kept)
        tokenizer, tokenizer_notes = load_tokenizer(files, model)
    spec, notes = _spec_of(model, model_id), list(tokenizer_notes)
    _check_backbone(model, spec, missing, model_id)
    if not any(name.startswith(f"{head}.") for name in missing for head in spec.head):
        notes.append(f"{model_id} already has a head with the same number of outputs; training starts from it.")
    backbone = model.get_submodule(model.base_model_prefix)
    fingerprint = _fingerprint(model, backbone, missing)
    notes += add_padding_token(tokenizer, model_id)
    added = set_special_tokens(model, tokenizer)
    if dtype is not None:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
    blocks = [(path, model.get_submodule(path)) for path in spec.all_blocks]
    encoder = LoadedEncoder(
        model=model.eval(),
        tokenizer=tokenizer,
        spec=spec,
        id=files.id,
        revision=files.revision,
        labels=tuple(labels),
        new_parameters=tuple(name for name, _ in model.named_parameters() if name in missing),
        head_modules=_head_modules(model, spec, missing),
        linears=[name for path, module in blocks for name in linear_names_in(module, path)],
        n_parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        fingerprint=fingerprint,
        added_settings=added,
        unused=unused,
        notes=tuple(notes),
    )
    return with_facts(encoder)


def _encoder_config(files: EncoderFiles) -> Any:  # noqa: ANN401 - PretrainedConfig, which is untyped
    """Read the configuration, and require an encoder that transformers can classify with."""
    model_type = files.config["model_type"]
    expected = "Expected a type such as bert, roberta, modernbert, llama, qwen3 or t5."
    try:
        config = AutoConfig.from_pretrained(files.folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise EncoderError(
            f"The base model {files.id} is of type '{model_type}', which transformers cannot configure: "
            f"{first_line(error)}. {expected}"
        ) from error
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise EncoderError(
            f"The base model {files.id} is of type '{model_type}', for which transformers has no classification model. "
            f"{expected}"
        )
    return config


def _from_checkpoint(
    files: EncoderFiles,
    config: Any,  # noqa: ANN401 - PretrainedConfig, which is untyped
    attention: Attention,
    seed: int,
    dtype: torch.dtype,
) -> tuple[PreTrainedModel, frozenset[str], tuple[str, ...]]:
    """Return the model, the names of parameters that the checkpoint lacks, and the names of its unused tensors."""
    model_class = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    with GLOBAL_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            model, info = AutoModelForSequenceClassification.from_pretrained(
                files.folder,
                config=config,
                dtype=dtype,
                attn_implementation=attention if attention != "sdpa" or model_class._supports_sdpa else "eager",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
            )
        except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
            raise EncoderError(
                f"The weights of the base model {files.id} cannot be loaded: {first_line(error)}. "
                "The files may be damaged or belong to another configuration. Download them again."
            ) from error
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()  # safetensors maps the file, which may change while the model is in use
    for config in (model.config, model.config.get_text_config()):
        config.use_cache = False  # each text's keys and values are used only once
    missing = frozenset(info["missing_keys"]) | {name for name, *_ in info["mismatched_keys"]}
    return model, missing, tuple(sorted(info["unexpected_keys"]))


def _spec_of(model: PreTrainedModel, model_id: str) -> EncoderSpec:
    try:
        return structural_spec(model)
    except LookupError as error:
        raise EncoderError(f"The base model {model_id} ({model.config.model_type}) cannot be used: {error}.") from error


def _check_backbone(model: PreTrainedModel, spec: EncoderSpec, missing: frozenset[str], model_id: str) -> None:
    """Require pretrained blocks and word embeddings; a pooler and a head may be new."""
    words = word_embeddings(model)
    essential = {n for n, p in model.named_parameters() if n.startswith(f"{spec.blocks}.") or p is words}
    if lacking := sorted(essential & missing):
        raise EncoderError(
            f"The checkpoint of {model_id} lacks {len(lacking)} of the encoder's {len(essential)} parameters "
            f"(or has them in another shape), such as {lacking[0]}. "
            "The files are damaged or belong to another configuration. Download them again."
        )


def _head_modules(model: nn.Module, spec: EncoderSpec, missing: frozenset[str]) -> tuple[str, ...]:
    names = list(spec.head)
    for parameter, _ in model.named_parameters():
        if parameter in missing and not any(parameter.startswith(f"{name}.") for name in names):
            names.append(_new_module(model, parameter, missing))
    return tuple(names)


def _new_module(model: nn.Module, parameter: str, missing: frozenset[str]) -> str:
    """Return the largest module around a new parameter that contains only new parameters."""
    name = parameter.rpartition(".")[0]
    while parent := name.rpartition(".")[0]:
        module = model.get_submodule(parent)
        if not all(f"{parent}.{inner}" in missing for inner, _ in module.named_parameters()):
            break
        name = parent
    return name


def _fingerprint(model: PreTrainedModel, backbone: nn.Module, missing: frozenset[str]) -> str:
    prefix, digest = model.base_model_prefix, hashlib.sha256()
    digest.update(json.dumps(_decisive(model.config), sort_keys=True, default=str).encode())
    for name, parameter in sorted(backbone.named_parameters()):
        if f"{prefix}.{name}" not in missing:
            digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
            for part in torch.split(parameter.detach().flatten(), _HASHED_AT_ONCE):
                digest.update(part.float().contiguous().numpy().data)
    return digest.hexdigest()


def _decisive(config: Any) -> dict[str, Any]:  # noqa: ANN401 - PretrainedConfig, which is untyped
    """Return the settings that affect the computation, without class defaults, which a file may omit."""
    default, found = type(config)().to_dict(), config.to_dict()
    changed = {
        key: value
        for key, value in found.items()
        if key not in _NAMES_ONLY and not key.startswith(("_", "output_")) and value != default.get(key)
    }
    return {"model_type": config.model_type, **changed}

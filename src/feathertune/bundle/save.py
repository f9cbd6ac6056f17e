"""Save a bundle: write it under another name, load it again, compare, and only then put it in place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from feathertune.baselines.fusion import FusedWords
from feathertune.bundle.card import model_card
from feathertune.bundle.files import (
    ADAPTER_CONFIG_FILE,
    CARD_FILE,
    SCHEMA_VERSION,
    WEIGHTS,
    BaseInfo,
    BundleInfo,
    BundleKind,
    DataInfo,
    FusionInfo,
    Probe,
    local_base,
    write_info,
)
from feathertune.bundle.load import DTYPES, not_finite, read_bundle
from feathertune.bundle.plain_use import plain_model
from feathertune.bundle.proof import PROBE_TEXTS, logits_of, make_probes
from feathertune.data.reading.texts import Text, paired
from feathertune.data.sources.samples import SAMPLE_ENCODERS
from feathertune.encoders import Attention, LoadedEncoder, forget_lengths, load_encoder, quiet_transformers
from feathertune.encoders.files import find_encoder
from feathertune.errors import BundleError
from feathertune.records import HEAD, LabelSummary, Reading, TaskName
from feathertune.runtime import versions
from feathertune.storage import new_folder, system_errors, write_atomic

# Largest difference of a logit between the saved and the reloaded model: room for kernels that choose their order of
# summation; in bf16 one rounding is 2^-8 of the value.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
# A text alone is summed in another order than in a batch.
_OTHER_SHAPES = 3
# Lists that PEFT reads as sets, and so writes in an order that changes from run to run.
_UNORDERED = ("target_modules", "modules_to_save", "feedforward_modules", "exclude_modules")


@dataclass(frozen=True, kw_only=True)
class Description:
    """The fields of `BundleInfo` that do not follow from the model and its encoder."""

    method: str
    task: TaskName = "single_label"
    max_length: int
    reading: Reading = HEAD
    text_columns: Sequence[str]
    label_separator: str | None = None
    threshold: Sequence[float] | None = None
    numbers: LabelSummary | None = None
    data: DataInfo | None = None
    metrics: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


def save_bundle(
    folder: Path,
    model: PeftModel | PreTrainedModel,
    encoder: LoadedEncoder,
    description: Description,
    fused: FusedWords | None = None,
) -> BundleInfo:
    """Write a bundle, load it again and compare; keep it only if the logits are the same.

    A `PeftModel` is saved as an adapter, another model whole if all of it was trained, else its trained parameters;
    a word model that is fused with it in files of its own.

    Raises:
        BundleError: If a tensor holds NaN or infinity, or the reloaded model gives other logits.
        OSError: From the system; nothing is left behind.
    """
    kind = _kind(model)
    part = _trained_part(model, encoder) if kind == "part" else {}
    info = BundleInfo(
        schema_version=SCHEMA_VERSION,
        kind=kind,
        labels=list(encoder.labels),
        base=_portable_base(encoder, folder),
        fusion=None if fused is None else FusionInfo(**asdict(fused.fusion)),
        trained=sorted(part) if kind == "part" else None,
        dtype="bfloat16" if next(encoder.backbone.parameters()).dtype == torch.bfloat16 else "float32",
        versions=versions(),
        **vars(description),
    )
    with new_folder(folder) as temporary:
        with quiet_transformers(), system_errors():
            if info.kind == "peft":
                # The embeddings are never resized; asked to look for that, PEFT may call the hub.
                model.save_pretrained(temporary, save_embedding_layers=False)
                _make_portable(temporary / ADAPTER_CONFIG_FILE, info.base)
            elif info.kind == "part":
                save_file(part, temporary / WEIGHTS["part"], metadata={"format": "pt"})
            else:
                model.save_pretrained(temporary)
            forget_lengths(encoder.tokenizer)  # they would be saved as the tokenizer's own
            encoder.tokenizer.save_pretrained(temporary)
        if name := not_finite(load_file(temporary / WEIGHTS[info.kind])):
            raise BundleError(f"The parameter {name} holds NaN or infinity. Train again with a lower learning rate.")
        if fused is not None:
            fused.words.save(temporary)
        write_atomic(temporary / CARD_FILE, model_card(info))
        write_info(temporary, info)
        info = info.model_copy(update={"probes": _check_reload(temporary, model, encoder, info)})
        write_info(temporary, info)
    return info


def _kind(model: nn.Module) -> BundleKind:
    if isinstance(model, PeftModel):
        return "peft"
    return "full" if all(parameter.requires_grad for parameter in model.parameters()) else "part"


def _trained_part(model: nn.Module, encoder: LoadedEncoder) -> dict[str, Tensor]:
    """Return the trained parameters, and buffers that training changed, such as running means."""
    trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: tensor for name, tensor in model.state_dict().items() if name not in parameters}
    if buffers:
        base = load_encoder(encoder.id, labels=encoder.labels, seed=0, revision=encoder.revision).model.state_dict()
        trained |= {n: t for n, t in buffers.items() if n not in base or not torch.equal(t.cpu(), base[n].to(t.dtype))}
    return {name: tensor.cpu().contiguous() for name, tensor in trained.items()}


def _portable_base(encoder: LoadedEncoder, folder: Path) -> BaseInfo:
    """Return the base as another machine can find it."""
    name, local = encoder.id, None
    if encoder.id.startswith("sample:"):
        name = SAMPLE_ENCODERS[encoder.id.removeprefix("sample:")].hub_id
    elif encoder.revision is None:
        place = Path(encoder.id).expanduser().resolve()
        name = f"{place.parent.name}/{place.name}" if place.is_file() else place.name  # a GGUF file
        local = local_base(place, folder)
    return BaseInfo(
        id=name,
        revision=encoder.revision,
        fingerprint=encoder.fingerprint,
        local=local,
        settings=encoder.added_settings,
    )


def _make_portable(path: Path, base: BaseInfo) -> None:
    """Remove this machine's path and the random order of sets from PEFT's configuration."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base.repository
    config["revision"] = base.revision
    for key in _UNORDERED:
        if isinstance(config.get(key), list):
            config[key] = sorted(set(config[key]))
    write_atomic(path, json.dumps(config, indent=2) + "\n")


def _check_reload(folder: Path, model: nn.Module, encoder: LoadedEncoder, info: BundleInfo) -> list[Probe]:
    """Require the same logits from the folder, as `read_bundle` and as plain transformers and PEFT load it."""
    # With the attention of the training: another one rounds differently, more so the deeper the encoder.
    attention: Attention = "eager" if encoder.model.config._attn_implementation == "eager" else "sdpa"
    reloaded = read_bundle(folder, attention=attention)
    texts: Sequence[Text] = paired(PROBE_TEXTS) if info.reads_pairs else PROBE_TEXTS
    found = logits_of(reloaded.model, reloaded.tokenizer, texts, info)
    probes = make_probes(texts, found, None if reloaded.fused is None else reloaded.fused.words)
    on_device = found
    if (device := next(model.parameters()).device).type != "cpu":
        on_device = logits_of(reloaded.model.to(device), reloaded.tokenizer, texts, info)
    is_training = model.training
    difference = np.abs(on_device - logits_of(model, encoder.tokenizer, texts, info)).max()
    model.train(is_training)
    tolerance = info.logit_unit * _TOLERANCE[DTYPES[info.dtype]]
    if not difference <= tolerance:
        raise BundleError(
            f"The saved model gives other logits than the trained one (they differ by {difference:.3g}), "
            f"so nothing was saved. A part that training changed is not in the bundle: the method "
            f"'{info.method}' must save {', '.join(encoder.head_modules)} and all that it trains."
        )
    del reloaded  # one model at a time
    plain = plain_model(folder, info, find_encoder(encoder.id, encoder.revision).folder, attention)
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder)
    together = logits_of(plain, tokenizer, texts, info)
    difference = np.abs(together - found).max()
    for row, text in enumerate(texts if encoder.facts.padding is not None else ()):
        difference = max(difference, np.abs(logits_of(plain, tokenizer, [text], info) - found[row]).max())
    if not difference <= _OTHER_SHAPES * tolerance * (1 + np.abs(found).max()):
        raise BundleError(
            f"Plain transformers and PEFT give other logits for this model than feathertune (they differ by "
            f"{difference:.3g}), so nothing was saved. Please report this with the base model's type, "
            f"{encoder.spec.model_type}, and the method, '{info.method}'."
        )
    return probes

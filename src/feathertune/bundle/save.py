"""Save a bundle: write it to a temporary folder, reload it, compare the logits, and only then move it into place."""

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

# Largest difference in a logit between the saved and the reloaded model. Allows for kernels that change the order of
# summation; one rounding in bf16 is 2^-8 of the value.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 5e-2}
# Factor for other batch shapes: a single text is summed in a different order than a batch.
_OTHER_SHAPES = 3
# Lists that PEFT stores as sets, whose order changes from run to run.
_UNORDERED = ("target_modules", "modules_to_save", "feedforward_modules", "exclude_modules")


@dataclass(frozen=True, kw_only=True)
class Description:
    """Fields of `BundleInfo` that cannot be derived from the model and its encoder."""

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
    """Write a bundle, reload it, and keep it only if the logits are the same.

    A `PeftModel` is saved as an adapter. Any other model is saved whole if all its parameters were trained, or else as
    its trained parameters. A fused word model gets separate files.

    Raises:
        BundleError: If a tensor contains NaN or infinity, or the reloaded model's logits differ.
        OSError: If the system cannot write the files; no files are left behind.
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
                # The embeddings are never resized, and PEFT's check for resized embeddings may call the hub.
                model.save_pretrained(temporary, save_embedding_layers=False)
                _make_portable(temporary / ADAPTER_CONFIG_FILE, info.base)
            elif info.kind == "part":
                save_file(part, temporary / WEIGHTS["part"], metadata={"format": "pt"})
            else:
                model.save_pretrained(temporary)
            forget_lengths(encoder.tokenizer)  # otherwise they would be saved as the tokenizer's settings
            encoder.tokenizer.save_pretrained(temporary)
        if name := not_finite(load_file(temporary / WEIGHTS[info.kind])):
            raise BundleError(f"The parameter {name} is NaN or infinite. Train again with a lower learning rate.")
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
    """Return the trained parameters, and buffers changed by training, such as running means."""
    trained = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {name: tensor for name, tensor in model.state_dict().items() if name not in parameters}
    if buffers:
        base = load_encoder(encoder.id, labels=encoder.labels, seed=0, revision=encoder.revision).model.state_dict()
        trained |= {n: t for n, t in buffers.items() if n not in base or not torch.equal(t.cpu(), base[n].to(t.dtype))}
    return {name: tensor.cpu().contiguous() for name, tensor in trained.items()}


def _portable_base(encoder: LoadedEncoder, folder: Path) -> BaseInfo:
    """Return the base model's description in a form that other machines can resolve."""
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
    """Raise BundleError unless the folder, loaded by `read_bundle` and by plain PEFT, gives the model's logits."""
    # Use the training's attention: another one rounds differently, especially in deep encoders.
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
            f"The saved model's logits differ from the trained model's by {difference:.3g}, so nothing was saved. "
            f"Some trained part is missing from the bundle: the method '{info.method}' must save "
            f"{', '.join(encoder.head_modules)} and everything it trains."
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
            f"This model's logits in plain transformers and PEFT differ from feathertune's by {difference:.3g}, so "
            f"nothing was saved. Please report this with the base model's type ({encoder.spec.model_type}) and the "
            f"method ('{info.method}')."
        )
    return probes

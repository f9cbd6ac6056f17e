"""Make a bundle from an adapter saved by plain PEFT.

PEFT saves no labels, thresholds, task or base model fingerprint. From a head it saves only modules whose names end in
``classifier`` or ``score``; the rest must be in the base model's checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from peft import PeftModel
from torch import Tensor

from feathertune.bundle.adapter import put_adapter, read_adapter, virtual_tokens
from feathertune.bundle.files import ADAPTER_CONFIG_FILE, BUNDLE, MANIFEST_FILE, WEIGHTS, BundleInfo, read_object
from feathertune.bundle.load import load_tokenizer, misfit, read_tensors, without_wrapper
from feathertune.bundle.save import Description, save_bundle
from feathertune.data.reading.texts import Pair
from feathertune.encoders import LoadedEncoder, load_encoder
from feathertune.encoders.files import find_encoder
from feathertune.errors import BundleError, ConfigError, EncoderError
from feathertune.output_folder import check_place, claimed
from feathertune.tasks import MULTI_LABEL, SINGLE_LABEL, TASKS
from feathertune.tasks.thresholds import THRESHOLD

_PICKLE = "adapter_model.bin"
_MODEL_CONFIG_FILE = "config.json"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json")
# Regression is left out: PEFT does not save the labels' unit.
_TASKS = tuple(name for name, task in TASKS.items() if not task.numbers)
_SEVERAL = {task.problem_type for task in TASKS.values() if task.labels.sets}


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels per text; `thresholds` has one for each label or one for all, None means 0.5."""

    thresholds: Sequence[float] | None = None
    separator: str | None = None


ImportedTask = Literal["single_label", "multi_label"] | MultiLabel


@dataclass(frozen=True)
class Adopted:
    """A bundle made from an adapter, with notes for its users."""

    info: BundleInfo
    notes: tuple[str, ...]


def adopt_adapter(
    adapter: str | Path,
    out: str | Path,
    *,
    labels: Sequence[str],
    base: str | None = None,
    max_length: int | None = None,
    pairs: bool = False,
    task: ImportedTask | None = None,
    overwrite: bool = False,
) -> Adopted:
    """Make a bundle from a folder written by ``PeftModel.save_pretrained``.

    Args:
        adapter: Adapter folder.
        out: Output folder.
        labels: Class names in the order of the logits; PEFT does not save them.
        base: Base model; None uses the one named in the adapter.
        max_length: Maximum tokens per text in training; None uses the base model's maximum.
        pairs: True if the adapter was trained on pairs of texts.
        task: ``single_label``, ``multi_label`` or `MultiLabel`; None reads ``problem_type`` of the adapter or base.
        overwrite: Replace an existing bundle once the new one is complete.

    Raises:
        FeathertuneError: If the adapter is incomplete, is not for classification, does not match the base model or the
            labels, or depends on random numbers that are not saved.
    """
    adapter, out = Path(adapter), Path(out)
    names = _checked_labels(labels)
    several = _multi_label(task, names)
    settings, saved = _read(adapter)
    check_place(out, BUNDLE, overwrite=overwrite)
    encoder = _load_base(adapter, settings, base, names)
    found_in = _says_multi_label(adapter, encoder) if task is None else ""
    several = MultiLabel() if found_in else several
    positions = encoder.max_positions - virtual_tokens(settings)
    longest = min(positions, int(encoder.tokenizer.model_max_length))
    if max_length is not None and not 4 <= max_length <= positions:
        raise ConfigError(f"max_length is {max_length}. Expected 4 to {positions} for {encoder.id}.")
    plain = without_wrapper(saved)
    _check_shapes(adapter, encoder, plain)
    added = _head_of_the_base(adapter, encoder, plain)
    if has_tokenizer := any((adapter / name).is_file() for name in _TOKENIZERS):  # saved by `Trainer`
        encoder = replace(encoder, tokenizer=load_tokenizer(adapter, encoder))
    model = _put_on(adapter, encoder, settings, saved, added)
    description = Description(
        method=str(settings["peft_type"]).lower(),
        task=SINGLE_LABEL.name if several is None else MULTI_LABEL.name,
        max_length=max_length or longest,
        text_columns=Pair._fields if pairs else Pair._fields[:1],
        label_separator=None if several is None else several.separator,
        threshold=None if several is None else _thresholds(several.thresholds, names),
        hyperparameters={"imported_from": "peft"},
    )
    with claimed(out, BUNDLE, overwrite=overwrite):
        info = save_bundle(out, model, encoder, description)
    named = settings.get("base_model_name_or_path")
    notes = {
        f"The adapter's base model is '{named}', but you passed '{base}'. PEFT stores no fingerprint to compare them: "
        "score the bundle on labelled texts to check the result.": base is not None and named and named != base,
        f"PEFT did not save {', '.join(added)} of the head, so the base model's pretrained weights are used.": added,
        f"Texts are truncated at {longest:,} tokens. Pass --max-length if training used another length.": (
            max_length is None
        ),
        "The tokenizer comes from the adapter's folder.": has_tokenizer,
        f"problem_type in {found_in} means that a text can have several labels. Pass --task single_label if each text "
        "has one.": found_in,
        f"The threshold of each label is {THRESHOLD:g}, because PEFT saves no thresholds. Pass --threshold to change "
        "it.": several is not None and several.thresholds is None,
    }
    return Adopted(info, tuple(note for note, applies in notes.items() if applies))


def _checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    names = tuple(label.strip() for label in labels)
    if len(names) < 2 or len(set(names)) < len(names) or not all(names):
        raise ConfigError(
            f"The labels are {', '.join(map(repr, names)) or 'empty'}. Expected two or more different names, in the "
            "order of the logits."
        )
    return names


def _multi_label(task: ImportedTask | None, labels: Sequence[str]) -> MultiLabel | None:
    """Return the multi-label settings, or None for one label per text or an unknown task."""
    if isinstance(task, MultiLabel):
        _thresholds(task.thresholds, labels)
        return task
    if task is None:
        return None
    if task not in _TASKS:
        raise ConfigError(f"The task is {task!r}. Expected one of: {', '.join(_TASKS)}.")
    return None if TASKS[task].default_threshold is None else MultiLabel()


def _thresholds(given: Sequence[float] | None, labels: Sequence[str]) -> list[float]:
    values = [THRESHOLD] if given is None else [float(value) for value in given]
    each = values * len(labels) if len(values) == 1 else values
    if len(each) != len(labels) or not all(0 < value < 1 for value in each):
        raise ConfigError(
            f"The thresholds are {', '.join(f'{value:g}' for value in values) or 'empty'}. Expected probabilities "
            f"between 0 and 1: one for each of the {len(labels)} labels, or one for all."
        )
    return each


def _says_multi_label(adapter: Path, encoder: LoadedEncoder) -> str:
    """Return the configuration whose ``problem_type`` means several labels, or an empty string."""
    place, where = adapter / _MODEL_CONFIG_FILE, f"{_MODEL_CONFIG_FILE} in {adapter}"
    if place.is_file():
        said = read_object(place)
    else:
        said, where = find_encoder(encoder.id, encoder.revision).config, f"the configuration of {encoder.id}"
    return where if said.get("problem_type") in _SEVERAL else ""


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if (folder / MANIFEST_FILE).is_file():
        raise BundleError(f"{folder} is already a bundle. Use it as it is.")
    if not (folder / ADAPTER_CONFIG_FILE).is_file():
        raise BundleError(
            f"{folder} is not a PEFT adapter: it has no {ADAPTER_CONFIG_FILE}. Save the adapter with save_pretrained."
        )
    if not (folder / WEIGHTS["peft"]).is_file():
        instead = ""
        if (folder / _PICKLE).exists():
            instead = " Pickle files are never loaded: save the adapter again as safetensors."
        raise BundleError(f"The adapter {folder} has no {WEIGHTS['peft']}.{instead}")
    return read_adapter(folder), read_tensors(folder, WEIGHTS["peft"])


def _load_base(adapter: Path, settings: Mapping[str, Any], given: str | None, labels: tuple[str, ...]) -> LoadedEncoder:
    name = given or settings.get("base_model_name_or_path")
    if not name:
        raise ConfigError(f"The adapter {adapter} does not name its base model. Pass it as --base.")
    try:
        return load_encoder(name, labels=labels, seed=0, revision=None if given else settings.get("revision"))
    except EncoderError as error:
        if given:
            raise
        raise EncoderError(f"The adapter {adapter} needs '{name}'. {error} Or pass its path as --base.") from error


def _check_shapes(adapter: Path, encoder: LoadedEncoder, plain: Mapping[str, Tensor]) -> None:
    if (wrong := misfit(encoder, plain)) is None:
        return
    name, found, expected = wrong
    if found[1:] == expected[1:] and expected[0] == len(encoder.labels):
        raise BundleError(
            f"The head of the adapter {adapter} has {found[0]} outputs, but {expected[0]} labels were given "
            f"({', '.join(encoder.labels)}). Pass all labels, in the order of the logits."
        )
    raise BundleError(
        f"The adapter {adapter} does not match the base model {encoder.id}: {name} has the shape {found}, expected "
        f"{expected}. Pass the base model it was trained on as --base."
    )


def _head_of_the_base(adapter: Path, encoder: LoadedEncoder, plain: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return head modules found only in the base model's checkpoint; raise BundleError if neither has one."""
    heads = {module: f"{module}." for module in encoder.head_modules}
    names = [name for name, _ in encoder.model.named_parameters()]
    lacking = [name for name in names if name.startswith(tuple(heads.values())) and name not in plain]
    lost = sorted(set(lacking) & set(encoder.new_parameters))
    if lost:
        raise BundleError(
            f"The adapter {adapter} lacks {len(lost)} tensors of its classification head; the first is {lost[0]}. "
            f"The checkpoint of {encoder.id} does not have them either: they were initialised at random in training "
            f"and not saved. Train again with modules_to_save={sorted(encoder.head_modules)}."
        )
    return tuple(module for module, prefix in heads.items() if any(name.startswith(prefix) for name in lacking))


def _put_on(
    adapter: Path,
    encoder: LoadedEncoder,
    settings: Mapping[str, Any],
    saved: Mapping[str, Tensor],
    added: Sequence[str],
) -> PeftModel:
    # PEFT's prefix for the wrapped model's parameters.
    prefix = "base_model." if virtual_tokens(settings) else "base_model.model."
    heads = tuple(f"{module}." for module in added)
    own = {f"{prefix}{n}": p.detach().clone() for n, p in encoder.model.named_parameters() if n.startswith(heads)}
    if added:
        settings = {**settings, "modules_to_save": sorted({*(settings.get("modules_to_save") or ()), *added})}
    model, loaded = put_adapter(adapter, encoder, settings, {**own, **saved})
    if extra := sorted(saved.keys() - loaded.keys()):
        raise BundleError(f"The adapter {adapter} contains {extra[0]}. Bundles do not support changed embeddings.")
    if lacking := sorted(loaded.keys() - saved.keys() - own.keys()):
        raise BundleError(f"The adapter {adapter} lacks {lacking[0]}, which its {ADAPTER_CONFIG_FILE} requires.")
    return model

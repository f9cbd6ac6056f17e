"""Load an untrusted adapter onto an encoder: PEFT gets only validated settings, and names instead of patterns.

Left unchecked, ``adapter_config.json`` makes PEFT open files, look up models and evaluate regular expressions.
"""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import regex
from peft import PeftConfig, PeftModel, PeftModelForSequenceClassification
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from feathertune.bundle.files import ADAPTER_CONFIG_FILE, read_object
from feathertune.encoders import LoadedEncoder, quiet_transformers
from feathertune.errors import BundleError, first_line
from feathertune.methods import METHODS
from feathertune.runtime import kept_random_state

TASK_TYPE = "SEQ_CLS"
# Settings about the adapter's origin and initialisation, which are not passed to PEFT; it uses its defaults.
_NOT_PASSED_ON = frozenset(
    "auto_mapping base_model_name_or_path corda_config eva_config inference_mode loftq_config "  # noqa: SIM905
    "lora_ga_config "
    "megatron_core peft_version prompt_tuning_init prompt_tuning_init_text revision runtime_config tokenizer_kwargs "
    "tokenizer_name_or_path".split()
)
_NAMES = (
    "target_modules",
    "exclude_modules",
    "feedforward_modules",
    "modules_to_save",
    "layers_pattern",
    "target_parameters",
)
_MAY_BE_PATTERNS = _NAMES[:3]
_ALL_LINEAR = "all-linear"
# Tensor sizes, limited to the widest layer or the largest dimension of the adapter's tensors.
_SIZES = frozenset(
    "r init_r target_r hybrid_r mini_r num_virtual_tokens token_dim num_layers num_attention_heads "  # noqa: SIM905
    "num_transformer_submodules num_vectors vector_length n_frequency rank_pattern n_frequency_pattern "
    "boft_n_butterfly_factor num_cayley_neumann_terms".split()
)
# Seeds and step counts, which do not determine any tensor size.
_ANY_SIZE = {"projection_prng_key", "random_loc_seed", "random_seed", "total_step", "tinit", "tfinal", "deltaT"}
_LARGEST = 1e6
_STARTS = re.compile(r"gaussian|eva|olora|orthogonal|pissa(_niter_\d{1,2})?")
_WORD = re.compile(r"[\w-]{1,64}")
_NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
_KEY = re.compile(r"(\^|\.\*\\\.)?[\w-]+(\\?\.[\w-]+)*\$?")
# Compiling a pattern has no time limit: nested counts multiply, and groups other than these can recurse.
_PATTERN_S, _PATTERN_LENGTH = 1.0, 1_000
_COUNT = re.compile(r"\{\d{0,2}(,\d{0,2})?\}")
_OTHER_GROUP = re.compile(r"\(\?(?!:|=|!|<=|<!)")


def read_adapter(folder: Path) -> dict[str, Any]:
    """Return ``adapter_config.json``; raise BundleError unless it is a known PEFT type for classification."""
    settings = read_object(folder / ADAPTER_CONFIG_FILE)
    known, found = _config_classes(), settings.get("peft_type")
    if not isinstance(found, str) or found not in known:
        raise BundleError(
            f"The adapter {folder} has the unsupported peft_type {_shown(found)}. "
            f"Expected one of {', '.join(sorted(known))}."
        )
    if settings.get("task_type") != TASK_TYPE:
        raise BundleError(
            f"The adapter {folder} has the task_type {_shown(settings.get('task_type'))}, expected {TASK_TYPE}. "
            "Only text classifiers can be bundles."
        )
    for key in ("base_model_name_or_path", "revision"):
        if not isinstance(settings.get(key), str | None):
            raise _refused(folder, key, settings[key], "a name or null")
    return settings


def put_adapter(
    folder: Path, encoder: LoadedEncoder, settings: Mapping[str, Any], saved: Mapping[str, Tensor]
) -> tuple[PeftModel, dict[str, Tensor]]:
    """Return the encoder with the adapter, in eval mode, and the adapter's tensors as loaded by PEFT."""
    config = _checked(folder, encoder, settings, saved)
    try:
        with quiet_transformers(), kept_random_state():
            model = PeftModelForSequenceClassification(encoder.model, config)
            set_peft_model_state_dict(model, dict(saved), adapter_name="default")
            loaded = get_peft_model_state_dict(model, save_embedding_layers=False)
    except Exception as error:  # PEFT raises many types for inconsistent settings
        raise BundleError(f"Cannot load the adapter {folder} onto {encoder.id}: {first_line(error)}.") from error
    return model.eval(), loaded


def virtual_tokens(settings: Mapping[str, Any]) -> int:
    """Return the number of the encoder's positions that the adapter uses in each text."""
    found = settings.get("num_virtual_tokens")
    return found if isinstance(found, int) else 0


def _config_classes() -> dict[str, type[PeftConfig]]:
    """Return PEFT's configuration classes of all registered methods, by type."""
    names = {method.peft_config for method in METHODS}
    return {str(kind.value): cls for kind, cls in PEFT_TYPE_TO_CONFIG_MAPPING.items() if cls.__name__ in names}


def _checked(
    folder: Path, encoder: LoadedEncoder, settings: Mapping[str, Any], saved: Mapping[str, Tensor]
) -> PeftConfig:
    """Return PEFT's configuration from validated settings; like PEFT, ignore unknown settings."""
    cls = _config_classes()[settings["peft_type"]]
    known = {field.name for field in dataclasses.fields(cls)} - _NOT_PASSED_ON
    modules = [name for name, _ in encoder.model.named_modules()]
    widest = max((max(m.weight.shape) for m in encoder.model.modules() if isinstance(m, nn.Linear)), default=1)
    largest = max([widest, *(size for tensor in saved.values() for size in tensor.shape)])
    values: dict[str, Any] = {}
    for key, value in settings.items():
        if key in known:
            _check(folder, key, value, largest, n_modules=len(modules))
            is_pattern = key in _MAY_BE_PATTERNS and _is_text(value) and value.lower() != _ALL_LINEAR
            values[key] = _matching(folder, key, value, modules) if is_pattern else value
    try:
        return cls(**values, inference_mode=True)
    except Exception as error:  # PEFT raises many types for inconsistent settings
        raise BundleError(f"PEFT rejects the settings of the adapter {folder}: {first_line(error)}.") from error


def _check(folder: Path, key: str, value: Any, largest: int, *, n_modules: int) -> None:  # noqa: ANN401 - JSON
    """Raise BundleError for a setting that does not have a harmless form."""
    if value is None or isinstance(value, bool) or value in ([], {}) or (key in _MAY_BE_PATTERNS and _is_text(value)):
        return
    if key in _NAMES:
        names = [value] if key == "layers_pattern" and _is_text(value) else value
        if not isinstance(names, list) or len(names) > n_modules or not all(_is_text(n, _NAME) for n in names):
            raise _refused(folder, key, value, "a list of module names")
    elif _is_text(value):
        if not _is_text(value, _STARTS if key == "init_lora_weights" else _WORD):
            raise _refused(folder, key, value, "a supported value")
    else:
        for number in _numbers(folder, key, value, n_modules):
            _check_number(folder, key, number, largest)


def _numbers(folder: Path, key: str, value: object, n_modules: int) -> list[object]:
    """Return a setting's numbers; a pattern by module has numbers, or lists of numbers, as its values."""
    if isinstance(value, dict) and key.endswith("_pattern"):
        if len(value) > n_modules or not all(map(_KEY.fullmatch, value)):
            raise _refused(folder, key, next(iter(value)), "module names, with at most one entry for each module")
        return [number for item in value.values() for number in (item if isinstance(item, list) else [item])]
    if isinstance(value, list) and key == "layers_to_transform":
        return value
    if not isinstance(value, int | float):
        raise _refused(folder, key, value, "null, because bundles do not support this setting")
    return [value]


def _is_text(value: object, form: re.Pattern[str] | None = None) -> bool:
    return isinstance(value, str) and (form is None or form.fullmatch(value) is not None)


def _check_number(folder: Path, key: str, value: object, largest: int) -> None:
    limit = 1.0 if "dropout" in key else largest if key in _SIZES else math.inf if key in _ANY_SIZE else _LARGEST
    least = 0.0 if key in _SIZES or "dropout" in key else -limit
    if not isinstance(value, int | float) or not least <= value <= limit:
        raise _refused(folder, key, value, f"a number from {least:g} to {limit:g}")


def _matching(folder: Path, key: str, pattern: str, modules: Sequence[str]) -> list[str]:
    """Return the modules whose full name matches a regular expression, within a time limit."""
    end = time.monotonic() + _PATTERN_S
    try:
        counts = len(_COUNT.findall(pattern))
        if len(pattern) > _PATTERN_LENGTH or _OTHER_GROUP.search(pattern) or not pattern.count("{") == counts <= 2:
            raise TimeoutError
        compiled = regex.compile(pattern)
        found = [name for name in modules if compiled.fullmatch(name, timeout=max(1e-3, end - time.monotonic()))]
    except TimeoutError as error:
        raise _refused(folder, key, pattern, "a simpler pattern, or a list of module names") from error
    except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise _refused(folder, key, pattern, f"a regular expression ({first_line(error)})") from error
    if not found and key == "target_modules":
        raise _refused(folder, key, pattern, "a pattern that matches a module of the base model")
    return found


def _refused(folder: Path, key: str, value: object, expected: str) -> BundleError:
    return BundleError(
        f"The adapter {folder} has {key} = {_shown(value)} in {ADAPTER_CONFIG_FILE}. Expected {expected}."
    )


def _shown(value: object) -> str:
    text = str(value) if _is_text(value, _WORD) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."

"""Trained vectors that scale activations: IA3 and LN-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from feathertune.methods.adapters import adapter, scaled_rates
from feathertune.methods.base import Job, at_rate
from feathertune.methods.targets import LayeredOptions, TargetedOptions, in_top_layers, target_names

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder


def _feedforward(encoder: LoadedEncoder, options: TargetedOptions, _job: Job) -> Mapping[str, Any]:
    """Return the layers whose inputs are scaled instead of their outputs: the second layer of each MLP."""
    ends = tuple(f".{name}" for name in encoder.spec.last)
    return {"feedforward_modules": [name for name in target_names(encoder, options) if name.endswith(ends)]}


def _norms(encoder: LoadedEncoder) -> list[str]:
    starts = tuple(f"{path}." for path in encoder.spec.all_blocks)
    ends = tuple(f".{norm}" for norm in encoder.spec.norms)
    return [
        name
        for name, module in encoder.model.named_modules()
        # The first norm of ModernBERT is an identity without weights.
        if name.startswith(starts) and name.endswith(ends) and next(module.parameters(), None) is not None
    ]


def _needs_norms(encoder: LoadedEncoder) -> str:
    return "" if _norms(encoder) else f"the blocks of {encoder.spec.model_type} models have no norms with weights"


def _targets(encoder: LoadedEncoder, options: LayeredOptions, _job: Job) -> Mapping[str, Any]:
    return {"target_modules": in_top_layers(encoder, _norms(encoder), options)}


IA3 = adapter(
    name="ia3",
    config="IA3Config",
    arguments=_feedforward,
    summary="Trains one vector per layer that scales its outputs (for the second layer of an MLP, its inputs).",
    when="For the smallest file, and with few labels.",
    source="Liu et al. 2022, arXiv:2205.05638",
    options=at_rate(TargetedOptions, 1e-2),
    search_space={"learning_rate": scaled_rates(1e-2)},
)
LN_TUNING = adapter(
    name="ln-tuning",
    config="LNTuningConfig",
    arguments=_targets,
    refusal=_needs_norms,
    summary="Trains the scales and shifts of the layer norms.",
    when="For the smallest file, with no overhead in prediction.",
    source="Qi et al. 2022, arXiv:2211.08682",
    options=at_rate(LayeredOptions, 2e-3),
    search_space={"learning_rate": scaled_rates(2e-3)},
)

"""LoRA with other initializations: PiSSA and OLoRA start from the weights, EVA from the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from feathertune.methods.base import Job, at_rate
from feathertune.methods.families.lora import LoraOptions, lora_method
from feathertune.methods.targets import shapes_of, target_names

if TYPE_CHECKING:
    from torch import Tensor, nn

    from feathertune.encoders import LoadedEncoder

# Attribute that keeps a layer's initial factors.
_START = "_feathertune_start"
_EVA_BATCHES = 16


class PissaOptions(LoraOptions):
    """PiSSA's options, which are LoRA's. If ``lora_alpha`` equals ``r``, the trained part is extracted unscaled."""

    lora_alpha: int = Field(default=8, ge=1)


class EvaOptions(LoraOptions):
    """EVA's options.

    Attributes:
        rho: Maximum rank of a layer as a multiple of ``r``, at the same total rank; 1 keeps every layer at ``r``.
    """

    own: ClassVar[frozenset[str]] = LoraOptions.own | {"rho"}

    rho: float = Field(default=2.0, ge=1)


def _keep_start(model: nn.Module, _encoder: LoadedEncoder, _options: LoraOptions, _job: Job) -> None:
    for module, name in _lora_layers(model):
        setattr(module, _START, tuple(f.detach().clone() for f in _factors(module, name)))


def as_plain_lora(model: nn.Module) -> None:
    """Write ``s B A - s B0 A0`` as one update ``s [B, -B0] [A; A0]`` of twice the rank, with the same outputs.

    Source: PEFT's ``path_initial_model_for_weight_conversion``, which needs a second folder.
    """
    import torch
    from torch import nn

    config = _config(model)
    with torch.no_grad():
        for module, name in _lora_layers(model):
            a, b = _factors(module, name)
            a0, b0 = getattr(module, _START)
            delattr(module, _START)
            taken_out = module.scaling[name] * (b0 @ a0)
            module.base_layer.weight += taken_out.T if module.fan_in_fan_out else taken_out  # GPT-2's is transposed
            for factors, joined in (
                (module.lora_A, torch.cat([a, a0])),
                (module.lora_B, torch.cat([b, -b0], dim=1)),
            ):
                wide = nn.Linear(joined.shape[1], joined.shape[0], bias=False, device=joined.device)
                wide.weight = nn.Parameter(joined)
                factors[name] = wide
            module.r[name] *= 2
    # Each layer keeps its scaling, ``lora_alpha / r``.
    config.r, config.lora_alpha, config.init_lora_weights = 2 * config.r, 2 * config.lora_alpha, True


def _look_at_data(model: nn.Module, encoder: LoadedEncoder, options: EvaOptions, job: Job) -> None:
    from functools import partial
    from itertools import islice

    from peft import initialize_lora_eva_weights

    if job.batches is None:  # only the shape matters
        return
    batches = [{"attention_mask": None, **batch} for batch in islice(job.batches(), _EVA_BATCHES)]
    mode, config = model.training, _config(model)
    model.eval()
    initialize_lora_eva_weights(
        model,
        dataloader=batches,
        prepare_model_inputs_fn=lambda batch, _config: batch["attention_mask"],
        prepare_layer_inputs_fn=partial(_words_alone, at_least=round(config.r * config.eva_config.rho)),
        show_progress_bar=False,
    )
    model.train(mode)
    # A reload needs only the ranks, which are now in the configuration.
    config.init_lora_weights, config.eva_config = True, None


def _words_alone(
    layer_input: Any,  # noqa: ANN401 - a forward hook's input
    mask: Tensor | None,
    _layer: str,
    *,
    at_least: int,
) -> Tensor:
    """Return a layer's inputs without padding, ``(N, I)``, repeated to at least the number of rows that PEFT needs."""
    inputs: Tensor = layer_input[0] if isinstance(layer_input, tuple | list) else layer_input
    if mask is None or inputs.shape[:-1] != mask.shape:  # such as DeBERTa's positions
        rows = inputs.reshape(-1, inputs.shape[-1])
    else:
        rows = inputs[mask.bool()]
    return rows.repeat(-(-at_least // len(rows)), 1) if len(rows) < at_least else rows


def _config(model: Any) -> Any:  # noqa: ANN401 - PeftModel and its LoraConfig, which are untyped
    return model.peft_config["default"]


def _lora_layers(model: nn.Module) -> list[tuple[Any, str]]:
    from peft.tuners.lora.layer import LoraLayer

    return [(m, name) for m in model.modules() if isinstance(m, LoraLayer) for name in m.lora_A]


def _factors(module: Any, name: str) -> tuple[Tensor, Tensor]:  # noqa: ANN401 - a LoraLayer, which is untyped
    return module.lora_A[name].weight, module.lora_B[name].weight


def _eva_config(encoder: LoadedEncoder, options: EvaOptions, job: Job) -> dict[str, Any]:
    from peft import EvaConfig

    if job.batches is None:
        return {}
    # A layer has at most as many directions as inputs.
    narrowest = min(n_in for _, n_in in shapes_of(encoder, target_names(encoder, options)))
    return {"init_lora_weights": "eva", "eva_config": EvaConfig(rho=min(options.rho, narrowest / options.r))}


PISSA = lora_method(
    name="pissa",
    fixed={"init_lora_weights": "pissa"},
    then=_keep_start,
    summary="LoRA initialized with each weight's largest singular values and vectors, which are removed from it.",
    when="For few steps: it trains each weight's main directions from the start. Ships twice LoRA's size.",
    source="Meng et al. 2024, arXiv:2404.02948",
    options=at_rate(PissaOptions, 2e-4),
    finish=as_plain_lora,
)
OLORA = lora_method(
    name="olora",
    conv1d=False,
    fixed={"init_lora_weights": "olora"},
    then=_keep_start,
    summary="LoRA initialized with the first columns of each weight's QR decomposition, which are removed from it.",
    when="Like PiSSA, with a cheaper initialization.",
    source="Büyükakyüz 2024, arXiv:2406.01775",
    options=at_rate(PissaOptions, 5e-4),
    finish=as_plain_lora,
)
EVA = lora_method(
    name="eva",
    arguments=_eva_config,
    then=_look_at_data,
    summary="LoRA initialized with the main directions of each layer's inputs on training texts; layers with more "
    "variance to explain get a higher rank.",
    when="With a fixed parameter budget, and time for a pass over some of the data.",
    source="Paischer et al. 2024, arXiv:2410.07170",
    options=at_rate(EvaOptions, 5e-4),
)

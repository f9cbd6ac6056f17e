"""AdaLoRA reduces the rank during training. Source: Zhang et al. 2023, arXiv:2303.10512, sections 3.1 to 3.3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from feathertune.methods.adapters import adapter, check_rank, scaled_rates
from feathertune.methods.base import Job, Size, at_rate
from feathertune.methods.targets import TargetedOptions, target_names

if TYPE_CHECKING:
    from torch import Tensor, nn

    from feathertune.encoders import LoadedEncoder

# Shares of the steps before the first reduction of rank, and after the last.
_WARMING, _SETTLING = 0.2, 0.4
_REMEMBERED = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class AdaLoraOptions(TargetedOptions):
    """AdaLoRA's options, with PEFT's names.

    Attributes:
        target_r: Mean rank of the layers at the end.
        init_r: Rank of each layer at the start. Null means 1.5 times `target_r`.
        lora_alpha: Scale of the update; PEFT's AdaLoRA does not divide it by the remaining rank.
        orth_reg_weight: Weight of the orthogonality penalty.
    """

    target_r: int = Field(default=8, ge=1)
    init_r: int | None = Field(default=None, ge=1)
    lora_alpha: int = Field(default=16, ge=1)
    orth_reg_weight: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _shrinks(self) -> AdaLoraOptions:
        if self.init_r is not None and self.target_r > self.init_r:
            raise ValueError(f"target_r ({self.target_r}) may not be above init_r ({self.init_r})")
        return self


def _schedule(encoder: LoadedEncoder, options: AdaLoraOptions, job: Job) -> Mapping[str, Any]:
    init_r = options.init_r or math.ceil(1.5 * options.target_r)
    given = "target_r" if options.init_r is None else "init_r"
    check_rank("adalora", given, init_r, encoder, target_names(encoder, options))
    tinit, tfinal = int(_WARMING * job.n_steps), int(_SETTLING * job.n_steps)
    if tinit >= job.n_steps - tfinal:  # a step or two
        tinit = tfinal = 0
    return {
        "init_r": init_r,
        "total_step": job.n_steps,
        "tinit": tinit,
        "tfinal": tfinal,
        "deltaT": max(1, job.n_steps // 100),
    }


class _Allocation:
    """PEFT's rank allocator as a `TrainingHook`."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - PeftModel, which is untyped
        self._model, self._config = model, model.peft_config["default"]
        self._tuner, self._allocator = model.base_model, model.base_model.rankallocator

    def penalty(self) -> Tensor:
        """Return the weighted mean distance of each layer's directions from orthogonality; paper, equation 3."""
        import torch

        terms = []
        for name, parameter in self._model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                gram = parameter @ parameter.T if "lora_A" in name else parameter.T @ parameter
                terms.append(torch.dist(gram, torch.eye(len(gram), device=gram.device, dtype=gram.dtype)))
        weight: float = self._config.orth_reg_weight
        return weight * torch.stack(terms).mean()

    def after_step(self, step: int) -> None:
        """Measure each direction's importance, and zero those beyond this step's budget."""
        self._tuner.update_and_allocate(step)

    def state(self) -> Mapping[str, Tensor]:
        """Return each parameter's importance and the remaining directions."""
        import torch

        found = {
            f"{what}/{name}": tensor for what in _REMEMBERED for name, tensor in getattr(self._allocator, what).items()
        }
        pattern = self._config.rank_pattern or {}
        return found | {f"pattern/{name}": torch.tensor(kept) for name, kept in pattern.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        remembered: dict[str, dict[str, Any]] = {what: {} for what in (*_REMEMBERED, "pattern")}
        for label, tensor in tensors.items():
            what, _, name = label.partition("/")
            remembered[what][name] = tensor.tolist() if what == "pattern" else tensor.clone()
        for what in _REMEMBERED:
            setattr(self._allocator, what, remembered[what])
        if remembered["pattern"]:
            self._config.rank_pattern = remembered["pattern"]


def _as_kept(model: nn.Module) -> None:
    """Set the rank pattern to that of the best epoch, which may not be the last."""
    tuned: Any = model
    tuned.peft_config["default"].rank_pattern = {
        name: (parameter.detach().flatten() != 0).tolist()
        for name, parameter in tuned.base_model.model.named_parameters()
        if "lora_E" in name
    }


ADALORA = adapter(
    name="adalora",
    config="AdaLoraConfig",
    arguments=_schedule,
    summary="LoRA as a singular value decomposition that drops the least important ranks during training.",
    when="With a fixed parameter budget and hundreds of steps. Each step costs more than LoRA's.",
    source="Zhang et al. 2023, arXiv:2303.10512",
    options=at_rate(AdaLoraOptions, 3e-3),
    size=Size("target_r", lambda shapes: range(1, min(map(min, shapes)) * 2 // 3 + 1)),
    search_space={"target_r": (4, 8, 16), "learning_rate": scaled_rates(3e-3)},
    hook=lambda model, _options, _job: _Allocation(model),
    finish=_as_kept,
)

"""Merge a bundle into one plain transformers model."""

from __future__ import annotations

import warnings

from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper, ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from feathertune.bundle.load import Bundle
from feathertune.errors import BundleError, first_line


def merged_model(bundle: Bundle) -> PreTrainedModel:
    """Merge the adapter into the weights and return the model in eval mode; it replaces the bundle's model."""
    model = bundle.model
    if bundle.fused is not None:
        raise BundleError(
            f"Cannot export the bundle {bundle.folder}: it includes a word model, which only feathertune can run."
        )
    if isinstance(model, PeftModel):
        method = f"the method '{bundle.info.method}'"
        instead = "Ship the bundle unmerged: `feathertune predict` and plain PEFT can load it; see its README.md."
        if model.active_peft_config.is_prompt_learning:
            raise BundleError(
                f"Cannot merge the bundle {bundle.folder}: {method} trains virtual tokens or prefixes, which the base "
                f"model's weights cannot represent. {instead}"
            )
        adapted = [module.get_base_layer() for module in model.modules() if isinstance(module, BaseTunerLayer)]
        weights = [layer.weight for layer in adapted if hasattr(layer, "weight")]  # experts have several weights
        if len({id(weight) for weight in weights}) < len(weights):
            raise BundleError(
                f"Cannot merge the bundle {bundle.folder}: some layers of its base model share a weight, but {method} "
                f"has learned a different update for each layer. {instead}"
            )
        try:
            model = _without_peft(model)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise BundleError(
                f"Cannot merge the bundle {bundle.folder}: PEFT cannot merge {method} into the weights "
                f"({first_line(error)}). {instead}"
            ) from error
        if left := [n for n, m in model.named_modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]:
            raise BundleError(
                f"Cannot merge the bundle {bundle.folder}: PEFT leaves {len(left)} modules of {method} in the model; "
                f"the first is {left[0]}. {instead}"
            )
    if not isinstance(model, PreTrainedModel):
        raise BundleError(f"The bundle {bundle.folder} holds a {type(model).__name__}, not a transformers model.")
    return model.eval()


def _without_peft(model: PeftModel) -> nn.Module:
    # PEFT's merge fails on heads with several layers, so put the heads in place first.
    for name, wrapper in list(model.named_modules()):
        if isinstance(wrapper, ModulesToSaveWrapper):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, wrapper.modules_to_save[wrapper.active_adapters[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns about other merged adapters, but there is only one
        plain: nn.Module = model.base_model.merge_and_unload(safe_merge=True)
    return plain

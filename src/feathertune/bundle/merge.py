"""Merge a bundle into one plain model of transformers."""

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
    """Merge the adapter into the weights and return the model, in eval mode; the bundle's own model is used up."""
    model = bundle.model
    if bundle.fused is not None:
        raise BundleError(
            f"The bundle {bundle.folder} cannot be exported: a word model decides with it, which only feathertune runs."
        )
    if isinstance(model, PeftModel):
        method = f"the method '{bundle.info.method}'"
        instead = "Ship the bundle as it is: `feathertune predict` loads it, and plain PEFT as its README.md says."
        if model.active_peft_config.is_prompt_learning:
            raise BundleError(
                f"The bundle {bundle.folder} cannot be merged: {method} puts trained tokens before each text, or "
                f"states before each layer's, and no weight of the encoder can hold those. {instead}"
            )
        adapted = [module.get_base_layer() for module in model.modules() if isinstance(module, BaseTunerLayer)]
        weights = [layer.weight for layer in adapted if hasattr(layer, "weight")]  # experts have no single one
        if len({id(weight) for weight in weights}) < len(weights):
            raise BundleError(
                f"The bundle {bundle.folder} cannot be merged: layers of its base share a weight, and {method} has "
                f"learned another change to it for each. {instead}"
            )
        try:
            model = _without_peft(model)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise BundleError(
                f"The bundle {bundle.folder} cannot be merged: PEFT fails to add what {method} has learned to the "
                f"weights ({first_line(error)}). {instead}"
            ) from error
        if left := [n for n, m in model.named_modules() if isinstance(m, BaseTunerLayer | AuxiliaryTrainingWrapper)]:
            raise BundleError(
                f"The bundle {bundle.folder} cannot be merged: PEFT leaves {len(left)} modules of {method} in the "
                f"model, the first being {left[0]}. {instead}"
            )
    if not isinstance(model, PreTrainedModel):
        raise BundleError(f"The bundle {bundle.folder} holds a {type(model).__name__}, not a model of transformers.")
    return model.eval()


def _without_peft(model: PeftModel) -> nn.Module:
    # PEFT's merge fails on heads of several layers, so they are put in place first.
    for name, wrapper in list(model.named_modules()):
        if isinstance(wrapper, ModulesToSaveWrapper):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, wrapper.modules_to_save[wrapper.active_adapters[0]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other adapters that are merged by now: there is one only
        plain: nn.Module = model.base_model.merge_and_unload(safe_merge=True)
    return plain

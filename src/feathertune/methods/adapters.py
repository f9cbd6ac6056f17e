"""Methods that PEFT implements: from a method's options to PEFT's configuration, by name.

A family's file names the configuration, the fixed settings and those that follow from the encoder. Methods without a
PEFT type are in `feathertune.methods.families.partial`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from feathertune.errors import ConfigError, first_line
from feathertune.methods.base import Job, Method, Options, Size
from feathertune.methods.targets import TargetedOptions, shapes_of, target_names

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder

Arguments = Callable[["LoadedEncoder", Any, Job], Mapping[str, Any]]


class RankOptions(TargetedOptions):
    """Settings of a method whose size is a rank.

    Attributes:
        r: Rank of what is trained for each weight; at most the narrower side of the narrowest target layer.
    """

    r: int = Field(default=8, ge=1)


# From 1 to the narrowest side; a layer of full rank has nothing left to save.
RANK = Size("r", lambda shapes: range(1, min(min(shape) for shape in shapes) + 1))


def _nothing(_encoder: LoadedEncoder, _options: Any, _job: Job) -> Mapping[str, Any]:  # noqa: ANN401 - any Options
    return {}


def adapter(
    *,
    config: str,
    fixed: Mapping[str, Any] | None = None,
    arguments: Arguments = _nothing,
    then: Callable[[nn.Module, LoadedEncoder, Any, Job], None] | None = None,
    **fields: Any,  # noqa: ANN401 - those of Method
) -> Method:
    """Return a method that PEFT implements.

    Args:
        config: Name of its configuration class in ``peft``.
        fixed: Settings that make it this method.
        arguments: Settings that follow from encoder, options and job; they win over all others.
        then: Changes the wrapped model further.
        fields: Of `Method`.
    """

    def build(encoder: LoadedEncoder, options: Any, job: Job) -> nn.Module:  # noqa: ANN401 - any Options
        import peft

        from feathertune.encoders import quiet_transformers

        settings: dict[str, Any] = {
            "task_type": peft.TaskType.SEQ_CLS,
            "modules_to_save": list(encoder.head_modules),
            **options.model_dump(exclude=options.own),
            **(fixed or {}),
        }
        if isinstance(options, TargetedOptions):
            settings["target_modules"] = target_names(encoder, options)
            if isinstance(options, RankOptions):
                check_rank(fields["name"], "r", options.r, encoder, settings["target_modules"])
        settings |= arguments(encoder, options, job)
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model: nn.Module = peft.get_peft_model(encoder.model, getattr(peft, config)(**settings))
            except (TypeError, ValueError) as error:  # PEFT's word for a setting that it cannot use
                raise ConfigError(_refused(fields["name"], encoder, options, error)) from error
            if then is not None:
                then(model, encoder, options, job)
        return model

    return Method(kind="peft", build=build, **fields)


def _refused(method: str, encoder: LoadedEncoder, options: Options, error: Exception) -> str:
    """Return a message with PEFT's own and the options that it names, or all options."""
    message = first_line(error)
    values = options.model_dump(exclude={"learning_rate", "top_layers", "target_modules"})
    named = {name: value for name, value in values.items() if re.search(rf"\b{name}\b", message)} or values
    given = ", ".join(f"{name} = {value}" for name, value in named.items())
    return (
        f"Method '{method}' cannot be prepared on {encoder.id} with {given or 'its options'}: PEFT says: {message}. "
        f"Its options and what they default to: feathertune methods show {method} --base {encoder.id}."
    )


def check_rank(method: str, option: str, rank: int, encoder: LoadedEncoder, names: Sequence[str]) -> None:
    """Refuse a rank that a target layer cannot have.

    Raises:
        ConfigError: If the rank exceeds the narrowest of the named layers.
    """
    narrowest = min(zip(map(min, shapes_of(encoder, names)), names, strict=True))
    if rank > narrowest[0]:
        raise ConfigError(
            f"Option '{option}' of method '{method}' is {rank}, but {narrowest[1]} of {encoder.id} has a side of "
            f"{narrowest[0]}: its whole weight is of no higher rank. Give at most {narrowest[0]}."
        )


def scaled_rates(default: float) -> tuple[float, ...]:
    """Return learning rates to try around a default: a third, itself, three times."""
    return tuple(float(f"{default * factor:.1g}") for factor in (1 / 3, 1, 3))

"""Methods that PEFT implements: from a method's options to PEFT's configuration, by name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from feathertune.errors import ConfigError, first_line
from feathertune.methods.base import Job, Method, Options, Size
from feathertune.methods.targets import TargetedOptions, common_divisors, no_targets, shapes_of, target_names

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


# Up to the narrowest side; a layer of full rank has nothing left to save.
RANK = Size("r", lambda shapes: range(1, min(map(min, shapes)) + 1))
EVEN_RANK = Size("r", lambda shapes: range(2, min(map(min, shapes)) + 1, 2))


def adapter(
    *,
    config: str,
    fixed: Mapping[str, Any] | None = None,
    arguments: Arguments | None = None,
    then: Callable[[nn.Module, LoadedEncoder, Any, Job], None] | None = None,
    **fields: Any,  # noqa: ANN401 - those of Method
) -> Method:
    """Return a method that PEFT implements by the class `config`; `arguments` win over options and `fixed`."""

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
                if options.target_modules == "all-linear":
                    settings["target_modules"] = wide_enough(encoder, settings["target_modules"], options.r)
                check_rank(fields["name"], "r", options.r, encoder, settings["target_modules"])
        if arguments is not None:
            settings |= arguments(encoder, options, job)
        with quiet_transformers(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model: nn.Module = peft.get_peft_model(encoder.model, getattr(peft, config)(**settings))
            except (TypeError, ValueError, AttributeError) as error:  # PEFT's word for what it cannot use
                raise ConfigError(_refused(fields["name"], encoder, options, error)) from error
            if then is not None:
                then(model, encoder, options, job)
        return model

    if issubclass(fields["options"], TargetedOptions):
        fields["refusal"] = partial(no_targets, conv1d=fields.get("conv1d", True))
    return Method(build=build, peft_config=config, **fields)


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


def wide_enough(encoder: LoadedEncoder, names: list[str], rank: int) -> list[str]:
    """Return the layers without those narrower than the rank, such as an expert's gate; all of them if all are."""
    shapes = shapes_of(encoder, names)
    chosen = [name for name, shape in zip(names, shapes, strict=True) if min(shape) >= rank]
    return chosen or names


def check_rank(method: str, option: str, rank: int, encoder: LoadedEncoder, names: Sequence[str]) -> None:
    """Refuse a rank above the narrowest of the named layers, by a ConfigError."""
    narrowest = min(zip(map(min, shapes_of(encoder, names)), names, strict=True))
    if rank > narrowest[0]:
        raise ConfigError(
            f"Option '{option}' of method '{method}' is {rank}, but {narrowest[1]} of {encoder.id} has a side of "
            f"{narrowest[0]}: its whole weight is of no higher rank. Give at most {narrowest[0]}."
        )


def divisor(method: str, option: str, *, most: int, least: int = 1) -> Arguments:
    """Return arguments that set a divisor of all target layers' widths: the given one, or the largest up to `most`."""

    def arguments(encoder: LoadedEncoder, options: Any, _job: Job) -> Mapping[str, Any]:  # noqa: ANN401 - any Options
        widths = common_divisors(shapes_of(encoder, target_names(encoder, options)))
        allowed = [number for number in widths if number >= least]
        if not any(number <= most for number in allowed):
            raise ConfigError(
                f"Method '{method}' needs a width from {least} to {most} that divides those of all target layers, and "
                f"{encoder.id} has layers that share none. Give target_modules that leave the odd ones out."
            )
        value = getattr(options, option)
        if value is None:
            value = max(number for number in allowed if number <= most)
        elif value not in allowed:
            raise ConfigError(
                f"Option '{option}' of method '{method}' is {value}, which does not divide the widths of the target "
                f"layers of {encoder.id}. Give one of {', '.join(map(str, allowed))}, or null to have one chosen."
            )
        return {option: value}

    return arguments


def scaled_rates(default: float) -> tuple[float, ...]:
    """Return learning rates to try around a default: a third, itself, three times."""
    return tuple(float(f"{default * factor:.1g}") for factor in (1 / 3, 1, 3))

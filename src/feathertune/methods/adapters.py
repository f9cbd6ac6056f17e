"""Methods implemented by PEFT: a method's options become PEFT's configuration."""

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
    """Options of a method whose size is a rank.

    Attributes:
        r: Rank of each weight's update; at most the smallest width of the target layers.
    """

    r: int = Field(default=8, ge=1)


# Up to the smallest width: a full-rank update saves nothing.
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
    """Return a method implemented by PEFT's class `config`; `arguments` override `fixed`, which overrides options."""

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
            except (TypeError, ValueError, AttributeError) as error:  # PEFT refuses an option or a model
                raise ConfigError(_refused(fields["name"], encoder, options, error)) from error
            if then is not None:
                then(model, encoder, options, job)
        return model

    if issubclass(fields["options"], TargetedOptions):
        fields["refusal"] = partial(no_targets, conv1d=fields.get("conv1d", True))
    return Method(build=build, peft_config=config, **fields)


def _refused(method: str, encoder: LoadedEncoder, options: Options, error: Exception) -> str:
    """Return a message with PEFT's own, and the options that it mentions, or all options."""
    message = first_line(error)
    values = options.model_dump(exclude={"learning_rate", "top_layers", "target_modules"})
    named = {name: value for name, value in values.items() if re.search(rf"\b{name}\b", message)} or values
    given = ", ".join(f"{name} = {value}" for name, value in named.items())
    return (
        f"Method '{method}' cannot be prepared on {encoder.id} with {given or 'its options'}. PEFT says: {message}. "
        f"To list its options and defaults, run `feathertune methods show {method} --base {encoder.id}`."
    )


def wide_enough(encoder: LoadedEncoder, names: list[str], rank: int) -> list[str]:
    """Return the layers at least as wide as the rank, which excludes an expert's gate; all layers if none is."""
    shapes = shapes_of(encoder, names)
    chosen = [name for name, shape in zip(names, shapes, strict=True) if min(shape) >= rank]
    return chosen or names


def check_rank(method: str, option: str, rank: int, encoder: LoadedEncoder, names: Sequence[str]) -> None:
    """Raise a ConfigError for a rank above the smallest width of the named layers."""
    narrowest = min(zip(map(min, shapes_of(encoder, names)), names, strict=True))
    if rank > narrowest[0]:
        raise ConfigError(
            f"Option '{option}' of method '{method}' is {rank}, but {narrowest[1]} of {encoder.id} has a width of only "
            f"{narrowest[0]}. Set {option} to {narrowest[0]} or less."
        )


def divisor(method: str, option: str, *, most: int, least: int = 1) -> Arguments:
    """Return arguments that set a divisor of all target layers' widths: as given, or the largest up to `most`."""

    def arguments(encoder: LoadedEncoder, options: Any, _job: Job) -> Mapping[str, Any]:  # noqa: ANN401 - any Options
        widths = common_divisors(shapes_of(encoder, target_names(encoder, options)))
        allowed = [number for number in widths if number >= least]
        if not any(number <= most for number in allowed):
            raise ConfigError(
                f"Method '{method}' needs a number from {least} to {most} that divides the widths of all target "
                f"layers, but {encoder.id} has none. Exclude the odd layers with target_modules."
            )
        value = getattr(options, option)
        if value is None:
            value = max(number for number in allowed if number <= most)
        elif value not in allowed:
            raise ConfigError(
                f"Option '{option}' of method '{method}' is {value}, which does not divide the widths of all target "
                f"layers of {encoder.id}. Expected one of {', '.join(map(str, allowed))}, or null to choose one."
            )
        return {option: value}

    return arguments


def scaled_rates(default: float) -> tuple[float, ...]:
    """Return learning rates to try: a third of the default, the default, and three times the default."""
    return tuple(float(f"{default * factor:.1g}") for factor in (1 / 3, 1, 3))

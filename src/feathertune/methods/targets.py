"""Find the layers that a method adapts, from the encoder's structure instead of PEFT's tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from feathertune.errors import ConfigError, nearest
from feathertune.methods.base import Options, Shapes

if TYPE_CHECKING:
    from feathertune.encoders import LoadedEncoder


_WORDS = ("all-linear", "query-value")


def _no_other_word(value: object) -> object:
    if isinstance(value, str) and value not in _WORDS:
        raise ValueError(f"expected {', '.join(_WORDS)} or a list of module names, e.g. [query, value]")
    return value


class LayeredOptions(Options):
    """Options of a method that can adapt the last layers only.

    Attributes:
        top_layers: Number of last layers to adapt. Null means all; ``auto`` the fewest that a validation sweep accepts.
    """

    own: ClassVar[frozenset[str]] = Options.own | {"top_layers"}

    top_layers: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None


class TargetedOptions(LayeredOptions):
    """Options of a method that adapts linear layers.

    Attributes:
        target_modules: ``all-linear`` (all in the encoder's blocks), ``query-value``, or a list of names or suffixes.
    """

    own: ClassVar[frozenset[str]] = LayeredOptions.own | {"target_modules"}

    target_modules: Annotated[Literal["all-linear", "query-value"] | list[str], BeforeValidator(_no_other_word)] = (
        "all-linear"
    )


def target_names(encoder: LoadedEncoder, options: TargetedOptions) -> list[str]:
    """Return full names of the linear layers to adapt, in the model's order; ConfigError if a name matches none."""
    if why := no_targets(encoder):
        raise ConfigError(f"No layer of {encoder.id} can be adapted: {why}.")
    if options.target_modules == "all-linear":
        names = list(encoder.linear_names())
    elif options.target_modules == "query-value":
        names = list(encoder.query_value_names())
    else:
        names = _named_targets(encoder, options.target_modules)
    return in_top_layers(encoder, names, options)


def no_targets(encoder: LoadedEncoder, *, conv1d: bool = True) -> str:
    """Return why a method finds no layer to adapt, as a clause; empty if there is one."""
    from torch import nn

    family, names = encoder.spec.model_type, encoder.linear_names()
    if not names:
        return f"the blocks of {family} models have no linear layers"
    if not conv1d and not any(isinstance(encoder.model.get_submodule(name), nn.Linear) for name in names):
        return f"PEFT supports only nn.Linear here, but the linear layers of {family} models are Conv1D"
    return ""


def in_top_layers(encoder: LoadedEncoder, names: list[str], options: LayeredOptions) -> list[str]:
    """Return the names that are in the blocks to adapt; ConfigError if none is."""
    top_layers = options.top_layers
    if top_layers is None or top_layers == "auto":  # auto means all until the sweep has chosen
        return names
    prefixes = top_blocks(encoder, top_layers, option="top_layers")
    chosen = [name for name in names if name.startswith(prefixes)]
    if not chosen:
        raise ConfigError(f"None of target_modules is in the last {top_layers} layers of {encoder.id}.")
    return chosen


def top_blocks(encoder: LoadedEncoder, n: int, *, option: str) -> tuple[str, ...]:
    """Return the name prefixes of the last n blocks; ConfigError if there are fewer, or all share their weights."""
    n_blocks = len(encoder.blocks)
    if encoder.spec.shared_blocks:
        raise ConfigError(
            f"{option} is {n}, but all layers of {encoder.id} share their weights, so the last ones cannot be adapted "
            f"separately. Remove {option}."
        )
    if n > n_blocks:
        raise ConfigError(f"{option} is {n}, but {encoder.id} has {n_blocks} layers. Expected at most {n_blocks}.")
    return tuple(f"{encoder.spec.blocks}.{index}." for index in range(n_blocks - n, n_blocks))


def shapes_of(encoder: LoadedEncoder, names: Sequence[str]) -> Shapes:
    """Return the shape of each linear layer's weight, ``(out, in)`` except for GPT-2's layers."""
    weights = [encoder.model.get_submodule(name).weight for name in names]
    return [(int(weight.shape[0]), int(weight.shape[1])) for weight in weights]


def common_divisors(shapes: Shapes) -> list[int]:
    """Return the common divisors of all widths, ascending."""
    widest = math.gcd(*(width for shape in shapes for width in shape))
    return [number for number in range(1, widest + 1) if widest % number == 0]


def _named_targets(encoder: LoadedEncoder, wanted_names: list[str]) -> list[str]:
    linears = list(encoder.linear_names())
    chosen: set[str] = set()
    for wanted in wanted_names:
        found = {name for name in linears if name == wanted or name.endswith(f".{wanted}")}
        if not found:
            ends = sorted({name.rsplit(".", 1)[-1] for name in linears})
            raise ConfigError(
                f"target_modules: '{wanted}' matches no linear layer of {encoder.id}.{nearest(wanted, ends)} "
                f"Pass one of these suffixes, or a full name such as {linears[0]}."
            )
        chosen |= found
    return [name for name in linears if name in chosen]

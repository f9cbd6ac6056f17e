"""SHiRA: train a chosen few of the pretrained weights themselves. Bhardwaj et al. 2024, arXiv:2406.13175.

This is what "mask 80 % of the weights and update 20 %" means (docs/article.md); LoRA's rank has nothing to do with it.
Not for small adapters: at a density of 0.2 the file holds a fifth of the encoder, and the place of each weight.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from feathertune.errors import ConfigError
from feathertune.methods.base import Method, TargetedOptions, adapt, target_names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from feathertune.encoders import LoadedEncoder


class ShiraOptions(TargetedOptions):
    """SHiRA's settings.

    Attributes:
        density: Share of the target layers' weights that is trained, over all of them together.
    """

    learning_rate: float = Field(default=5e-4, gt=0)
    density: float = Field(default=0.05, gt=0, le=1)


def rank_for_density(shapes: Sequence[tuple[int, int]], density: float) -> int:
    """PEFT's ``r`` that comes nearest to a density.

    PEFT trains ``r (m + n)`` weights of an ``m x n`` matrix, with one ``r`` for all layers: its configuration has no
    other, and a bundle must load in plain PEFT. So the density holds over all layers together, not for each.

    Args:
        shapes: ``(m, n)`` of each target matrix.
        density: Share of weights to train, in (0, 1].

    Raises:
        ConfigError: If no whole ``r`` comes near.
    """
    n_weights = sum(m * n for m, n in shapes)
    per_rank = sum(m + n for m, n in shapes)
    largest = min(m * n // (m + n) for m, n in shapes)
    r = round(density * n_weights / per_rank)
    if r < 1:
        raise ConfigError(
            f"Option 'density' of method 'shira' is {density}, but one step of PEFT's r is already "
            f"{per_rank / n_weights:.4f} of these weights. Expected at least {0.5 * per_rank / n_weights:.4f}."
        )
    if r > largest:
        raise ConfigError(
            f"Option 'density' of method 'shira' is {density}, but PEFT gives each layer the same r and the smallest "
            f"allows no more than {largest * per_rank / n_weights:.2f}. Expected less, or method 'full'."
        )
    return r


def prepare(encoder: LoadedEncoder, options: ShiraOptions, seed: int) -> nn.Module:
    """Wrap the encoder by PEFT's SHiRA with a random mask drawn from the seed."""
    from peft import ShiraConfig, TaskType

    names = target_names(encoder, options)
    weights = [encoder.model.get_submodule(name).weight for name in names]
    config = ShiraConfig(
        task_type=TaskType.SEQ_CLS,
        r=rank_for_density([(w.shape[0], w.shape[1]) for w in weights], options.density),
        random_seed=seed,
        target_modules=names,
        modules_to_save=list(encoder.head_modules),
    )
    return adapt(encoder, config)


SHIRA = Method(
    name="shira",
    kind="peft",
    summary="Trains a random share of the pretrained weights (`density`) and keeps the rest.",
    source="Bhardwaj et al. 2024, arXiv:2406.13175",
    options=ShiraOptions,
    prepare=prepare,
)

"""An encoder made ready for one method, as every training of a study starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from feathertune.engine.dropout import turn_off_dropout
from feathertune.engine.head import fit_head

if TYPE_CHECKING:
    from torch import nn

    from feathertune.encoders import LoadedEncoder
    from feathertune.methods import Method, Options
    from feathertune.study.workbench import Workbench


def prepared_model(method: Method, options: Options, seed: int, bench: Workbench) -> tuple[LoadedEncoder, nn.Module]:
    """Load the encoder and let the method change it.

    Args:
        method: The method.
        options: Its options.
        seed: Of the head and the adapter.
        bench: Encoder, settings and machine.

    Returns:
        The encoder, and the model to train, on its device.
    """
    encoder = bench.load_encoder(seed)
    wanted = bench.config.train.dropout
    if wanted == "off" or (wanted == "auto" and method.kind != "full"):
        turn_off_dropout(encoder.backbone)  # before the method adds a dropout of its own
    return encoder, method.prepare(encoder, options, seed).to(bench.runtime.device)


def start_head(encoder: LoadedEncoder, seed: int, bench: Workbench) -> None:
    """Fit the head to the frozen encoder's features, which the probe uses too.

    Args:
        encoder: As a method has prepared it.
        seed: Of the order of the rows.
        bench: Features and labels.
    """
    features = bench.features("train", lambda _: None)
    fit_head(encoder, features.read, bench.split("train").labels, seed=seed)

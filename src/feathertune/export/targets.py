"""The forms that a bundle can be exported to, and the export itself: a folder written whole or not at all."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feathertune.errors import ConfigError, MissingExtraError
from feathertune.export.check import LEAST_ROWS, PARITY_FILE, Check, Parity
from feathertune.registry import Registry
from feathertune.storage import check_place, new_folder, write_atomic

if TYPE_CHECKING:
    from feathertune.bundle import Bundle
    from feathertune.export.parity import Asked


@dataclass(frozen=True)
class Target:
    """A form of export.

    Attributes:
        write: Fills a folder from a loaded bundle, which it may use up, and compares both.
        rounds: It changes numbers by more than the order of sums does, so only real texts show the loss.
        extra: The extra that it needs, with these `packages`.
    """

    name: str
    summary: str
    write: Callable[[Bundle, Path, Asked], Parity]
    rounds: bool = False
    extra: str | None = None
    packages: tuple[str, ...] = ()


def _merged(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    from feathertune.export.merged import write

    return write(bundle, folder, asked)


def _onnx(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    from feathertune.export.onnx import write

    return write(bundle, folder, asked)


def _onnx_int8(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    from feathertune.export.onnx_int8 import write

    return write(bundle, folder, asked)


_ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TARGETS: Registry[Target] = Registry(
    "export form",
    (
        Target("merged", "A plain model of transformers in fp32, with what was trained in its weights.", _merged),
        Target(
            "onnx",
            "That model as an ONNX graph in fp32, which onnxruntime runs without torch.",
            _onnx,
            extra="onnx",
            packages=_ONNX_PACKAGES,
        ),
        Target(
            "onnx-int8",
            "That graph with the matrix products in 8-bit integers; needs --data, to see what it loses.",
            _onnx_int8,
            rounds=True,
            extra="onnx",
            packages=_ONNX_PACKAGES,
        ),
    ),
)


def export_model(
    bundle: str | Path,
    out: str | Path,
    *,
    to: str = "merged",
    base: str | None = None,
    check: Check | None = None,
    overwrite: bool = False,
) -> Parity:
    """Export a bundle; keep the result only if it gives the bundle's answers.

    Args:
        bundle: The bundle's folder.
        out: Output folder.
        to: A name of `TARGETS`.
        base: Path of the base model, if it moved.
        check: Real texts to compare on, and the allowed loss.
        overwrite: Replace an older export once the new one is whole.

    Returns:
        The comparison, as in ``parity.json``.

    Raises:
        UnknownNameError: If no form has that name.
        MissingExtraError: If the form needs packages that are not installed.
        ConfigError: If the folder cannot be used, or the form needs real texts and has none.
        DataError: If the real texts cannot be read, or have labels that the bundle does not know.
        BundleError: If it is not a whole bundle, its method does not allow this form, or the result differs.
    """
    target, source, place, check = TARGETS[to], Path(bundle), Path(out), check or Check()
    if target.rounds and check.data is None:
        raise ConfigError(
            f"--to {to} rounds numbers, and what that loses can be seen on real texts alone. Name some with --data, "
            f"best labelled ones that the bundle was not trained on, {LEAST_ROWS} at least."
        )
    if target.extra is not None and not all(importlib.util.find_spec(package) for package in target.packages):
        raise MissingExtraError(target.extra, f"--to {to}")
    # A bundle is its files: one more in it would be damage, and none may be deleted with what is around it.
    ours, theirs = source.resolve(), place.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(f"The output {out} and the bundle {bundle} lie in each other. Give another --out.")
    check_place(place, marker=PARITY_FILE, overwrite=overwrite)
    from feathertune.bundle import load_bundle
    from feathertune.export.parity import ask

    loaded = load_bundle(source, base=base)
    asked = ask(loaded, check)
    with new_folder(place) as temporary:
        parity = target.write(loaded, temporary, asked)
        write_atomic(temporary / PARITY_FILE, parity.model_dump_json(indent=1) + "\n")
    return parity

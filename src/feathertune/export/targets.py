"""Export a bundle to one of several forms, as a folder that is written whole or not at all."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from feathertune.errors import ConfigError, MissingExtraError
from feathertune.export.check import LEAST_ROWS, PARITY_FILE, Check, Parity
from feathertune.output_folder import FolderKind, claimed
from feathertune.registry import Registry
from feathertune.storage import new_folder, write_atomic


@dataclass(frozen=True)
class Target:
    """Form of export; if it `rounds`, it is compared on real texts, since only they show the loss."""

    name: str
    summary: str
    rounds: bool = False
    packages: tuple[str, ...] = ()


EXPORT = FolderKind(PARITY_FILE, keys=("to", "label_flips", "files"))
_ONNX = ("onnx", "onnxscript", "onnxruntime")  # packages of the extra `onnx`
TARGETS: Registry[Target] = Registry(
    "export form",
    (
        Target("merged", "A plain transformers model in fp32, with the training merged into its weights."),
        Target("onnx", "The merged model as an ONNX graph in fp32, for onnxruntime without torch.", packages=_ONNX),
        Target(
            "onnx-int8",
            "The ONNX graph with matrix products in 8-bit integers; needs --data to measure the loss.",
            rounds=True,
            packages=_ONNX,
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
    """Export a bundle, and return the comparison; keep the result only if it gives the bundle's answers.

    Args:
        bundle: The bundle's folder.
        out: Output folder.
        to: ``merged``, ``onnx`` or ``onnx-int8``.
        base: Path of the base model, if it moved.
        check: Real texts to compare on, and the allowed loss.
        overwrite: Replace an older export once the new one is whole.

    Raises:
        FeathertuneError: If bundle, folder or real texts cannot be used, a package is missing, the method does not
            allow this form, or the result gives different answers.
    """
    target, source, place, check = TARGETS[to], Path(bundle), Path(out), check or Check()
    if target.rounds and check.data is None:
        raise ConfigError(
            f"--to {to} rounds numbers, and only real texts show the loss. Pass at least {LEAST_ROWS} texts with "
            "--data, ideally labelled ones that the bundle was not trained on."
        )
    if not all(importlib.util.find_spec(package) for package in target.packages):
        raise MissingExtraError("onnx", f"--to {to}")
    # An export inside a bundle would damage it, and replacing a folder around it would delete it.
    ours, theirs = source.resolve(), place.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(f"The output {out} and the bundle {bundle} overlap. Pass another --out.")
    with claimed(place, EXPORT, overwrite=overwrite):
        return _write(source, place, target, base, check)


def _write(source: Path, place: Path, target: Target, base: str | None, check: Check) -> Parity:
    from feathertune.bundle import load_bundle
    from feathertune.export.parity import ask

    loaded = load_bundle(source, base=base)
    asked = ask(loaded, check)
    write = importlib.import_module(f"feathertune.export.{target.name.replace('-', '_')}").write
    with new_folder(place) as temporary:
        parity: Parity = write(loaded, temporary, asked)
        files = sorted(path.relative_to(temporary).as_posix() for path in temporary.rglob("*") if path.is_file())
        parity = parity.model_copy(update={"files": files})
        write_atomic(temporary / PARITY_FILE, parity.model_dump_json(indent=1) + "\n")
    return parity

"""The forms that a bundle can be exported to, and the export itself: a folder written whole or not at all."""

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
    """A form of export; one that `rounds` is compared on real texts, as only they show the loss."""

    name: str
    summary: str
    rounds: bool = False
    packages: tuple[str, ...] = ()


EXPORT = FolderKind(PARITY_FILE, keys=("to", "label_flips", "files"))
_ONNX = ("onnx", "onnxscript", "onnxruntime")  # packages of the extra `onnx`
TARGETS: Registry[Target] = Registry(
    "export form",
    (
        Target("merged", "A plain model of transformers in fp32, with what was trained in its weights."),
        Target("onnx", "That model as an ONNX graph in fp32, which onnxruntime runs without torch.", packages=_ONNX),
        Target(
            "onnx-int8",
            "That graph with the matrix products in 8-bit integers; needs --data, to see what it loses.",
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
    """Export a bundle; keep the result, and return the comparison, only if it gives the bundle's answers.

    Args:
        bundle: The bundle's folder.
        out: Output folder.
        to: ``merged``, ``onnx`` or ``onnx-int8``.
        base: Path of the base model, if it moved.
        check: Real texts to compare on, and the allowed loss.
        overwrite: Replace an older export once the new one is whole.

    Raises:
        FeathertuneError: If bundle, folder or real texts cannot be used, a package is missing, the method does not
            allow this form, or the result gives other answers.
    """
    target, source, place, check = TARGETS[to], Path(bundle), Path(out), check or Check()
    if target.rounds and check.data is None:
        raise ConfigError(
            f"--to {to} rounds numbers, and what that loses can be seen on real texts alone. Name some with --data, "
            f"best labelled ones that the bundle was not trained on, {LEAST_ROWS} at least."
        )
    if not all(importlib.util.find_spec(package) for package in target.packages):
        raise MissingExtraError("onnx", f"--to {to}")
    # A bundle is its files: one more in it would be damage, and none may be deleted with what is around it.
    ours, theirs = source.resolve(), place.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(f"The output {out} and the bundle {bundle} lie in each other. Give another --out.")
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

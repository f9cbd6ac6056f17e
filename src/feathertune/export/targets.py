"""The forms that a bundle can be exported to, and what they have in common: a folder written whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feathertune.errors import ConfigError
from feathertune.records import Record
from feathertune.registry import Registry
from feathertune.storage import check_place, new_folder, write_atomic

if TYPE_CHECKING:
    from feathertune.bundle import Bundle

PARITY_FILE = "parity.json"


class Parity(Record):
    """How near the answers of an exported model are to those of its bundle; ``parity.json``.

    Attributes:
        to: Name of the form.
        method: That trained the bundle.
        n_texts: Texts that both were asked about.
        longest: Tokens of the longest of them; the bundle cuts there.
        largest_logit: Of the bundle, without its sign.
        max_abs_difference: Of a logit.
        label_flips: Texts that get another label.
        tolerance: Largest difference with which the folder is kept.
    """

    to: str
    method: str
    n_texts: int
    longest: int
    largest_logit: float
    max_abs_difference: float
    label_flips: int
    tolerance: float


@dataclass(frozen=True)
class Target:
    """A form.

    Attributes:
        name: The word after ``--to``.
        summary: What it is, in a sentence.
        write: Fills a folder from a loaded bundle, which it may use up, and compares what it wrote with it.
    """

    name: str
    summary: str
    write: Callable[[Bundle, Path], Parity]


def _merged(bundle: Bundle, folder: Path) -> Parity:
    from feathertune.export.merged import write

    return write(bundle, folder)


TARGETS: Registry[Target] = Registry(
    "export form",
    (
        Target(
            "merged",
            "A plain model of transformers in fp32, with what was trained in its weights.",
            _merged,
        ),
    ),
)


def export_model(
    bundle: str | Path, out: str | Path, *, to: str = "merged", base: str | None = None, overwrite: bool = False
) -> Parity:
    """Write a bundle in another form; what does not give the bundle's answers is not kept.

    Args:
        bundle: The bundle's folder.
        out: Where the new folder shall be.
        to: A name of `TARGETS`.
        base: Where the encoder lies, if not where the bundle says.
        overwrite: Replace an older export there; it stays until the new one is whole.

    Returns:
        What was compared, as in ``parity.json``.

    Raises:
        UnknownNameError: If there is no such form.
        ConfigError: If the folder cannot be used.
        BundleError: If it is not a whole bundle, or its method does not allow this form.
    """
    target, source, place = TARGETS[to], Path(bundle), Path(out)
    # A bundle is its files: one more in it would be damage, and none may be deleted with what is around it.
    ours, theirs = source.resolve(), place.resolve()
    if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
        raise ConfigError(f"The output {out} and the bundle {bundle} lie in each other. Give another --out.")
    check_place(place, marker=PARITY_FILE, overwrite=overwrite)
    from feathertune.bundle import load_bundle

    loaded = load_bundle(source, base=base)
    with new_folder(place) as temporary:
        parity = target.write(loaded, temporary)
        write_atomic(temporary / PARITY_FILE, parity.model_dump_json(indent=1) + "\n")
    return parity

"""The forms that a bundle can be exported to, and what they have in common: a folder written whole or not at all."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from feathertune.errors import ConfigError, MissingExtraError
from feathertune.records import Record
from feathertune.registry import Registry
from feathertune.storage import check_place, new_folder, write_atomic

if TYPE_CHECKING:
    from feathertune.bundle import Bundle
    from feathertune.export.parity import Asked

PARITY_FILE = "parity.json"
# A change of half a point of accuracy shows on no fewer rows than this: it is two or three of them.
LEAST_ROWS = 500
DEFAULT_ROWS = 1_000


@dataclass(frozen=True)
class Check:
    """What an exported model is compared on beside made texts, and what a form that rounds may lose.

    Attributes:
        data: Any data source, or a file of texts without labels. Of one with splits the validation rows are used, or
            else the test rows.
        text_column: Where the texts are, if not in the columns of the training or of a usual name; two with a comma
            between them for pairs.
        label_column: Likewise.
        rows: How many of them, the same each time. By default `DEFAULT_ROWS`, or all where there are fewer; then
            fewer than `LEAST_ROWS` are refused.
        max_flips: Share of the rows that may get another label; where labels are numbers, what the rank correlation of
            both models' numbers may be below 1.
        max_accuracy_loss: What may be lost of the accuracy, or of the rank correlation; 0.005 is half a point. Counts
            where labels are known.
    """

    data: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    rows: int | None = None
    max_flips: float = 0.02
    max_accuracy_loss: float = 0.005

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"{self.rows} rows to compare on were asked for. Expected 1 at least.")
        for option, share in (("--max-flips", self.max_flips), ("--max-accuracy-loss", self.max_accuracy_loss)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{option} is {share:g}. Expected a share from 0 to 1, such as 0.01 for one percent.")
        if self.data is None and (self.rows or self.text_column or self.label_column):
            raise ConfigError("Rows or columns of data were asked for, but no data: name it with --data.")


class Parity(Record):
    """How near the answers of an exported model are to those of its bundle; ``parity.json``.

    Attributes:
        to: Name of the form.
        method: That trained the bundle.
        n_texts: Texts that both were asked about.
        n_real: Those of them that came from data; the others were made of the vocabulary.
        data: Where the real ones came from.
        longest: Tokens of the longest of all; the bundle cuts there.
        largest_logit: Of the bundle, without its sign.
        max_abs_difference: Of a logit.
        label_flips: Texts that get another label.
        accuracy_before: Of the bundle on the real texts, in fp32; null where their labels are not known.
        accuracy_after: Of the exported model.
        tolerance: Largest difference of a logit with which the folder is kept; null for a form that rounds.
        max_flips: Largest share of texts that may get another label; null for a form that does not round.
        max_accuracy_loss: Likewise, of the accuracy.
        rounded: Matrix products in 8 bits; `kept_in_fp32`: those that would have lost too much. Null likewise.
    """

    to: str
    method: str
    n_texts: int
    n_real: int
    data: str | None
    longest: int
    largest_logit: float
    max_abs_difference: float
    label_flips: int
    accuracy_before: float | None
    accuracy_after: float | None
    tolerance: float | None
    max_flips: float | None
    max_accuracy_loss: float | None
    rounded: int | None = None
    kept_in_fp32: int | None = None

    @property
    def differs(self) -> str:
        """How near both are, as a clause."""
        return (
            f"the logits differ from those of the bundle by {self.max_abs_difference:.1e} at most, and\n"
            f"{self.label_flips} labels"
        )


class NumberParity(Parity):
    """Likewise where labels are numbers. No label can flip there, and the scores before and after are none.

    Attributes:
        tolerance: Of the numbers, in their unit.
        max_accuracy_loss: Of the rank correlation with the labels of the real texts.
        rank_agreement: Spearman's rank correlation of both models' numbers.
        least_agreement: Below that the folder is not kept; null for a form that does not round.
        rank_correlation_before: Of the bundle's numbers and the labels of the real texts, in fp32; null where those
            are not known.
        rank_correlation_after: Of the exported model.
    """

    rank_agreement: float
    least_agreement: float | None
    rank_correlation_before: float | None
    rank_correlation_after: float | None

    @property
    def differs(self) -> str:
        """As `Parity.differs`."""
        return f"the numbers differ from those of the bundle by {self.max_abs_difference:.1e} at most"


@dataclass(frozen=True)
class Target:
    """A form.

    Attributes:
        name: The word after ``--to``.
        summary: What it is, in a sentence.
        write: Fills a folder from a loaded bundle, which it may use up, and compares what it wrote with it.
        rounds: It changes numbers by more than the order of sums does, so that only real texts can tell what it costs.
        extra: What has to be installed for it.
        packages: Those of the extra.
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
        Target(
            "merged",
            "A plain model of transformers in fp32, with what was trained in its weights.",
            _merged,
        ),
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
    """Write a bundle in another form; what does not give the bundle's answers is not kept.

    Args:
        bundle: The bundle's folder.
        out: Where the new folder shall be.
        to: A name of `TARGETS`.
        base: Where the encoder lies, if not where the bundle says.
        check: Real texts to compare on, and what may be lost.
        overwrite: Replace an older export there; it stays until the new one is whole.

    Returns:
        What was compared, as in ``parity.json``.

    Raises:
        UnknownNameError: If there is no such form.
        MissingExtraError: If the form needs packages that are not installed.
        ConfigError: If the folder cannot be used, or the form needs real texts and there are none.
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

"""Settings and result of comparing an exported model with its bundle."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ConfigDict, Field

from feathertune.errors import ConfigError
from feathertune.records import Record

PARITY_FILE = "parity.json"
# Fewest rows on which a change of half a point of accuracy shows: it is two or three of them.
LEAST_ROWS = 500
DEFAULT_ROWS = 1_000
_KEEP_FP32 = "so nothing was written. Use `--to onnx`, which rounds nothing, or raise"


@dataclass(frozen=True)
class Check:
    """Real texts to compare on, and the loss allowed for a form that rounds.

    Attributes:
        data: Any data source, or a file of unlabelled texts. Validation rows are used if there are any, else test rows.
        rows: None means `DEFAULT_ROWS`, or all if there are fewer, but at least `LEAST_ROWS`.
        max_flips: Share of rows that may change label; for numbers, 1 minus the rank correlation with the bundle's.
        max_accuracy_loss: Largest loss of accuracy, or of rank correlation with the labels; 0.005 is half a point.
    """

    data: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    rows: int | None = None
    max_flips: float = 0.02
    max_accuracy_loss: float = 0.005

    def __post_init__(self) -> None:
        if self.rows is not None and self.rows < 1:
            raise ConfigError(f"--rows is {self.rows}. Expected at least 1.")
        for option, share in (("--max-flips", self.max_flips), ("--max-accuracy-loss", self.max_accuracy_loss)):
            if not 0 <= share <= 1:
                raise ConfigError(f"{option} is {share:g}. Expected a share from 0 to 1, such as 0.01 for 1%.")
        if self.data is None and (self.rows or self.text_column or self.label_column):
            raise ConfigError("--rows, --text-column and --label-column need --data. Pass a data source with --data.")


class Parity(Record):
    """Comparison of an exported model with its bundle; ``parity.json``.

    Attributes:
        n_real: Number of texts from data; the others were generated from the vocabulary.
        longest: Tokens of the longest text, as the bundle truncates it.
        accuracy_before: The bundle's accuracy on the real texts, in fp32; null without labels.
        tolerance: Largest allowed difference of a logit; null for a form that rounds.
        max_flips: Largest allowed share of flips; null for a form that does not round, as are all fields below.
        files: Names of the other files.
        rounded: Number of matrix products in 8 bits; those in `kept_in_fp32` would have lost too much.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # in a result that is not kept

    to: str
    method: str
    n_texts: int
    n_real: int
    data: str | None
    longest: int
    largest_logit: float
    max_abs_difference: float = Field(allow_inf_nan=True)  # `fault` refuses such values
    label_flips: int = 0
    accuracy_before: float | None = None
    accuracy_after: float | None = None
    tolerance: float | None
    max_flips: float | None = None
    max_accuracy_loss: float | None
    rounded: int | None = None
    kept_in_fp32: int | None = None
    files: list[str] = Field(default_factory=list)

    @property
    def differs(self) -> str:
        """The largest difference, as a clause."""
        return (
            f"the logits differ from the bundle's by at most {self.max_abs_difference:.1e}, and\n"
            f"{self.label_flips} labels differ"
        )

    @property
    def scores(self) -> str:
        """The scores on the real texts, as a line; empty without labels."""
        if self.accuracy_before is None or self.accuracy_after is None:
            return ""
        return (
            f"\nIts accuracy on those {self.n_real} texts is {self.accuracy_after:.2%}; the bundle's is "
            f"{self.accuracy_before:.2%}."
        )

    def fault(self) -> str:
        """Return why the model is not kept, as the end of a sentence; empty if it is."""
        if self.tolerance is None:
            if not math.isfinite(self.max_abs_difference):
                return "gives logits that are not numbers, so nothing was written. Use `--to onnx`."
            return self._fault_of_rounding()
        if self.max_abs_difference <= self.tolerance:
            return ""
        given, flips = self._given()
        return (
            f"gives different {given} (they differ from the bundle's by {self.max_abs_difference:.3g} on "
            f"{self.n_texts} texts, at most {self.tolerance:.3g} is allowed{flips}), so nothing was written. Ship the "
            f"bundle as it is, and report this as a bug with the method, '{self.method}'."
        )

    def _given(self) -> tuple[str, str]:
        return "logits", f"; {self.label_flips} labels change"

    def _fault_of_rounding(self) -> str:
        if self.max_flips is not None and self.label_flips > self.max_flips * self.n_texts:
            return (
                f"changes the label of {self.label_flips} of {self.n_texts} texts of {self.data} "
                f"({self.label_flips / self.n_texts:.2%}, at most {self.max_flips:.2%} is allowed), {_KEEP_FP32} "
                "--max-flips."
            )
        before, after = self.accuracy_before, self.accuracy_after
        if self.max_accuracy_loss is None or before is None or after is None:
            return ""
        # Counted in whole texts: 0.005 of 1,000 is 5, however 0.9 - 0.895 rounds in binary.
        if round((before - after) * self.n_real) <= self.max_accuracy_loss * self.n_real + 1e-9:
            return ""
        return (
            f"has an accuracy of {after:.2%} on {self.n_real} texts of {self.data}; the bundle's is {before:.2%} "
            f"(at most {100 * self.max_accuracy_loss:.2g} points of loss are allowed), {_KEEP_FP32} "
            "--max-accuracy-loss."
        )


class NumberParity(Parity):
    """Comparison for numbers, by Spearman's rank correlation: between the models, and of each with the labels."""

    rank_agreement: float
    least_agreement: float | None
    rank_correlation_before: float | None
    rank_correlation_after: float | None

    @property
    def differs(self) -> str:
        """The largest difference, as a clause."""
        return f"the numbers differ from the bundle's by at most {self.max_abs_difference:.1e}"

    @property
    def scores(self) -> str:
        """The scores on the real texts, as a line; empty without labels."""
        before, after = self.rank_correlation_before, self.rank_correlation_after
        if before is None or after is None:
            return ""
        return f"\nIts rank correlation on those {self.n_real} texts is {after:.3f}; the bundle's is {before:.3f}."

    def _given(self) -> tuple[str, str]:
        return "numbers", ""

    def _fault_of_rounding(self) -> str:
        if self.least_agreement is not None and self.rank_agreement < self.least_agreement:
            return (
                f"orders the {self.n_texts} texts of {self.data} differently (the rank correlation with the bundle's "
                f"numbers is {self.rank_agreement:.3f}, at least {self.least_agreement:.3f} is needed), {_KEEP_FP32} "
                "--max-flips."
            )
        before, after = self.rank_correlation_before, self.rank_correlation_after
        if self.max_accuracy_loss is None or before is None or after is None:
            return ""
        if before - after <= self.max_accuracy_loss:
            return ""
        return (
            f"has a rank correlation of {after:.3f} on {self.n_real} texts of {self.data}; the bundle's is "
            f"{before:.3f} (at most {self.max_accuracy_loss:.2g} of loss is allowed), {_KEEP_FP32} --max-accuracy-loss."
        )

"""Values used in the records of runs, trials and studies."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["baseline", "probe", "peft", "full"]
TRAINED_KINDS: tuple[Kind, ...] = ("peft", "full")  # those that go through the training loop
Status = Literal["complete", "partial", "failed"]
Long = Literal["head", "head-tail", "windows"]
TaskName = Literal["single_label", "multi_label", "regression"]
_FOUR_DIGITS = 9999.5


class Record(BaseModel):
    """Base class of records; unknown keys are refused, to catch typos."""

    # Before version 2.10, pydantic reserved names that start with "model_", and warned about `model_type`.
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class Metrics(Record):
    """Scores of `n` rows: log loss in nats, expected calibration error (`ece`); no balanced accuracy for label sets."""

    accuracy: float
    balanced_accuracy: float | None = None
    macro_f1: float
    mcc: float
    log_loss: float
    ece: float
    n: int

    @property
    def loss(self) -> float:
        """Tie-breaker between two epochs of equal score; lower is better."""
        return self.log_loss


class MultiLabelMetrics(Metrics):
    """Scores of `n` rows with sets of labels: `accuracy` of exact sets, `mcc`, losses and `micro_f1` of all decisions.

    Attributes:
        lrap: Label ranking average precision, 0 to 1: how well correct labels rank above others; needs no threshold.
        mean_average_precision: Mean of the labels' average precision, over labels that occur.
    """

    micro_f1: float
    lrap: float
    mean_average_precision: float


class NumberMetrics(Record):
    """Scores of `n` numbers, errors in the labels' unit; a correlation is 0 if all labels or all predictions are equal.

    Attributes:
        spearman: Correlation of the ranks; equal numbers share the mean of their ranks.
        r2: Explained share of the labels' variance; below 0 if predicting the labels' mean is better.
    """

    spearman: float
    pearson: float
    r2: float
    mae: float
    rmse: float
    n: int

    @property
    def loss(self) -> float:
        """Mean squared error."""
        return self.rmse**2


Scores = MultiLabelMetrics | Metrics | NumberMetrics


class Calibration(Record):
    """Calibration of the test rows' probabilities, with and without the temperature fitted on validation rows.

    Attributes:
        ece: Expected calibration error with the temperature, as is `log_loss`; `Metrics` has both without it.
        bins: Nonempty bins, of ten, of test rows (or decisions) by confidence: number, mean confidence, accuracy.
    """

    temperature: float
    ece: float
    log_loss: float
    bins: list[tuple[int, float, float]]


def in_unit(value: float) -> str:
    """Return a number in the labels' unit with four significant digits, or all digits before its decimal point."""
    return f"{value:.4g}" if abs(value) < _FOUR_DIGITS else f"{value:,.0f}"


class LabelSummary(Record):
    """Distribution of the numbers of one split, in the labels' unit; `sd` has N in the denominator."""

    mean: float
    sd: float
    low: float
    q25: float
    median: float
    q75: float
    high: float

    def in_words(self) -> str:
        """Return range, quartiles, mean and standard deviation, as a clause after "labels"."""
        quartiles = ", ".join(map(in_unit, (self.q25, self.median, self.q75)))
        return (
            f"from {in_unit(self.low)} to {in_unit(self.high)} (quartiles {quartiles}), mean {in_unit(self.mean)}, "
            f"standard deviation {in_unit(self.sd)}"
        )


class Seconds(Record):
    """Wall-clock seconds of one run, from the texts to the predictions of the test rows.

    Attributes:
        total: All parts except `ship`, plus loading and preparing the encoder.
        cache: Computing frozen features and hidden states, even if an earlier run computed them.
        train: Training steps, and validation after each epoch.
        ship: Writing the bundle and verifying it by reloading; not part of `total`.
    """

    total: float
    tokenize: float = 0.0
    cache: float = 0.0
    head: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    ship: float = 0.0


class Reading(Record):
    """Rule for reading texts of more than ``max_length`` tokens; part of a study's record and of a bundle.

    Attributes:
        long: ``head``: first tokens; ``head-tail``: first and last; ``windows``: pieces whose logits are averaged.
        stride: Minimum overlap of neighboring windows in tokens, as in transformers' tokenizers; 0 without windows.
        max_windows: Maximum windows per text; 1 without windows.
    """

    model_config = ConfigDict(frozen=True)

    long: Long = "head"
    stride: int = 0
    max_windows: int = 1

    def in_words(self, max_length: int) -> str:
        """Return how texts of more than `max_length` tokens are read, as a clause after its subject."""
        if self.long == "head":
            return f"are truncated to {max_length:,}"
        if self.long == "head-tail":
            return f"are read at both ends, {max_length:,} tokens in all"
        return f"are read in up to {self.max_windows:,} windows of {max_length:,}"


HEAD = Reading()

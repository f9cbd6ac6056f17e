"""What runs, trials and studies are described with; not for what only one of them has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Kind = Literal["baseline", "probe", "peft", "full"]
TRAINED_KINDS: tuple[Kind, ...] = ("peft", "full")  # those that go through the training loop
Status = Literal["complete", "partial", "failed"]
TaskName = Literal["single_label", "multi_label", "regression"]
_FOUR_DIGITS = 9999.5


class Record(BaseModel):
    """A piece of the record: unknown keys are refused, so that a typo cannot hide."""

    # Before 2.10 pydantic kept names that begin with "model_" for itself, and warned of `model_type`.
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Metrics(Record):
    """Scores of one set of predictions; `n` is the number of rows.

    Of several labels a text (`MultiLabelMetrics`), `accuracy` is the share of texts with all of their labels right and
    no other; `mcc`, `log_loss` and `ece` are of all decisions, one for each text and label.

    Attributes:
        balanced_accuracy: Mean recall of the classes that are present; null where a text can have several labels.
    """

    accuracy: float
    balanced_accuracy: float | None = None
    macro_f1: float
    mcc: float
    log_loss: float
    ece: float
    n: int

    @property
    def loss(self) -> float:
        """What decides between two epochs that are equally good: the lower is the better."""
        return self.log_loss


class MultiLabelMetrics(Metrics):
    """Scores where a text may have several labels.

    Attributes:
        micro_f1: F1 of all decisions together; `macro_f1` is the mean over the labels.
        lrap: Label ranking average precision: how far the right labels of a text stand before the others, 0 to 1; it
            depends on no threshold.
        mean_average_precision: Mean of the labels' average precision, those without a row left out.
    """

    micro_f1: float
    lrap: float
    mean_average_precision: float


class NumberMetrics(Record):
    """Scores where the label is a number; `n` is the number of rows.

    Attributes:
        spearman: Pearson's correlation of the ranks, equal numbers with the mean of their ranks; 0 where all labels or
            all predictions are equal. It asks for the order alone, whatever the unit and the distances.
        pearson: Likewise of the numbers themselves.
        r2: The share of the labels' variance that is explained; below 0 where the labels' mean would be nearer.
        mae: Mean absolute error, in the labels' unit.
        rmse: Root of the mean squared error, in the labels' unit.
    """

    spearman: float
    pearson: float
    r2: float
    mae: float
    rmse: float
    n: int

    @property
    def loss(self) -> float:
        """As of `Metrics`: the mean squared error."""
        return self.rmse**2


Scores = MultiLabelMetrics | Metrics | NumberMetrics


class Calibration(Record):
    """How far the probabilities of the test rows can be believed, and what one temperature mends.

    Attributes:
        temperature: Found on validation rows; above 1 the method was too sure.
        ece: Calibration error of the test rows with that temperature (`Metrics.ece` is the one without it).
        log_loss: Likewise.
        bins: Of test rows by their confidence, ten of equal width: rows, mean confidence, share of right answers.
            Bins without rows are left out. Of several labels a text they are of all decisions, one for each text and
            label, and the confidence is the probability of what was decided.
    """

    temperature: float
    ece: float
    log_loss: float
    bins: list[tuple[int, float, float]]


def in_unit(value: float) -> str:
    """A number in the unit of labels, which may have any size: with four digits, or all that stand before its point."""
    return f"{value:.4g}" if abs(value) < _FOUR_DIGITS else f"{value:,.0f}"


class LabelSummary(Record):
    """How the labels of one split lie, where they are numbers; all in the labels' unit.

    Attributes:
        sd: Standard deviation, with N in the denominator.
        low: The smallest; `high` is the largest.
        q25: First quartile, as NumPy interpolates it; `q75` is the third.
    """

    mean: float
    sd: float
    low: float
    q25: float
    median: float
    q75: float
    high: float

    def in_words(self) -> str:
        """Ends, quartiles, mean and standard deviation, to stand after "labels"."""
        quartiles = ", ".join(map(in_unit, (self.q25, self.median, self.q75)))
        return (
            f"from {in_unit(self.low)} to {in_unit(self.high)} (quartiles {quartiles}), mean {in_unit(self.mean)}, "
            f"standard deviation {in_unit(self.sd)}"
        )


class Seconds(Record):
    """Wall-clock seconds of one run, from the texts to the predictions of the test rows.

    Attributes:
        total: Of all parts but `ship`, and of loading and preparing the encoder.
        cache: Frozen features and hidden states, also where an earlier run made them.
        head: The head alone, before all else.
        train: Steps, and the scores on validation after each epoch.
        evaluate: The test rows.
        ship: Writing the bundle and proving it by a reload. Not in `total`: whether weights are kept is no property
            of a method.
    """

    total: float
    tokenize: float = 0.0
    cache: float = 0.0
    head: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0
    ship: float = 0.0

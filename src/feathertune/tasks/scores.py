"""Scores that can rank methods, as values: a new primary metric is one `Score` here, listed by the tasks it fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from feathertune.records import Caveat, DataRecord, Scores
from feathertune.statistics.confusion import macro_f1_contributions, mcc_contributions, one_error_per_class
from feathertune.statistics.measures import ACCURACY as IS_RIGHT
from feathertune.statistics.measures import BALANCED_ACCURACY as MEAN_RECALL
from feathertune.statistics.measures import SPEARMAN as RANKS
from feathertune.statistics.measures import Measure
from feathertune.statistics.wilson import wilson
from feathertune.tasks.formats import CORRELATION, SHARE, ScoreFormat

# A class that holds more than this share of the rows makes accuracy misleading.
IMBALANCED_SHARE = 0.7
# A recall with a larger margin of error than this is poorly known.
_BADLY_KNOWN = 0.1


def _class_counts(data: DataRecord) -> Sequence[int]:
    return data.class_counts.get("test", ())


def _dominant_class(data: DataRecord) -> list[Caveat]:
    counts = _class_counts(data)
    if not counts or max(counts) <= IMBALANCED_SHARE * sum(counts):
        return []
    label = data.labels[counts.index(max(counts))]
    return [Caveat.of("dominant_class", label=label, share=max(counts) / sum(counts))]


def _rare_classes(data: DataRecord) -> list[Caveat]:
    """Return caveats for classes with too few test rows to measure recall, and for classes without any."""
    rows = list(zip(data.labels, _class_counts(data), strict=False))
    few = sorted((n, label) for label, n in rows if n and recall_margin(n) > _BADLY_KNOWN)
    missing = [label for label, n in rows if not n]
    found = []
    if few:
        n, label = few[0]
        found.append(Caveat.of("few_rows_of_class", label=label, n=n, margin=recall_margin(n), n_classes=len(few)))
    if missing:
        found.append(Caveat.of("class_without_test_rows", label=missing[0], n_classes=len(missing)))
    return found


def recall_margin(n: int) -> float:
    """Return the half-width of the 95% interval of a recall of about one half on `n` rows."""
    low, high = wilson(n // 2, n)
    return (high - low) / 2


@dataclass(frozen=True)
class Score:
    """A score that can rank methods.

    Attributes:
        measure: The score as a mean over test rows; its name is the key in records and of ``--metric``.
        meaning: Continues "85.3%" on the report's first screen.
        explanation: One or two sentences for the report's section about it; empty if the title says enough.
        chance: Maps the number of classes to the score of a constant answer; None if it depends on the data.
        caveats: Maps the data to caveats about the score.
    """

    measure: Measure
    title: str
    format: ScoreFormat
    meaning: str
    explanation: str = ""
    chance: Callable[[int], float | None] = lambda n_classes: None
    caveats: Callable[[DataRecord], list[Caveat]] = lambda data: []

    @property
    def name(self) -> str:
        """Key in records and of ``--metric``."""
        return self.measure.name

    def of(self, scores: Scores) -> float:
        """Return this score from the scores of a run."""
        return float(getattr(scores, self.name))

    def compute(self, labels: NDArray[Any], predicted: NDArray[Any]) -> float:
        """Return the score of predictions, of the shape of the labels."""
        return self.measure.answers(labels, predicted[None]).score


ACCURACY = Score(
    IS_RIGHT,
    "accuracy",
    SHARE,
    "of the test rows are right",
    chance=lambda n_classes: 1 / n_classes,
    caveats=_dominant_class,
)
SUBSET_ACCURACY = Score(
    IS_RIGHT,
    "subset accuracy",
    SHARE,
    "of the test rows have exactly their labels",
    "A text counts as right if it gets all of its labels and no others. Each label's threshold was fitted on "
    "validation rows.",
)
BALANCED_ACCURACY = Score(
    MEAN_RECALL,
    "balanced accuracy",
    SHARE,
    "of a class's test rows are found, on average over the classes",
    "The mean recall over the classes: each class counts the same, however rare it is.",
    chance=lambda n_classes: 1 / n_classes,
    caveats=_rare_classes,
)
MACRO_F1 = Score(
    Measure("macro_f1", macro_f1_contributions, padding=one_error_per_class),
    "macro F1",
    SHARE,
    "is the mean F1 over the classes",
    "The mean over the classes of F1, the harmonic mean of precision and recall: each class counts the same, and false "
    "alarms count as much as misses.",
    caveats=_rare_classes,
)
MCC = Score(
    Measure("mcc", mcc_contributions, low=-1.0, least_rows=4, padding=one_error_per_class),
    "MCC",
    CORRELATION,
    "1 is every row right, 0 no better than a constant answer",
    "Matthews correlation of predictions and labels: 1 if every row is right, 0 if predictions are unrelated to the "
    "labels. With several labels per text, each pair of text and label is one decision.",
    chance=lambda n_classes: 0.0,
    caveats=_rare_classes,
)
SPEARMAN = Score(
    RANKS,
    "rank correlation",
    CORRELATION,
    "1 is the order of the labels, 0 no relation",
    "Spearman's rank correlation: 1 if a larger label always has a larger prediction, 0 if they are unrelated. It does "
    "not depend on the unit.",
    chance=lambda n_classes: 0.0,
)

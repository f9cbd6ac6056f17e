"""Which score leads a study, and why: accuracy, or balanced accuracy where one class holds most of the training rows.

Where 98 of 100 rows are of one class, always saying it is right in 98 %, and a method that finds half of the rest
gains a point of accuracy at most. Balanced accuracy is the mean of the recalls: of so many texts of a class, how many
are found. It counts each class alike, so it asks for more than one class even where false alarms are then frequent:
read it beside macro F1 and MCC.

It is chosen by the training rows alone, so that no test row has a say. Not for several labels a text: what is right
there is a set, and sets have no recall. Nor for numbers, of which none is right: Spearman's rank correlation leads,
which asks whether the larger label has the larger prediction, whatever the unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from feathertune.errors import ConfigError, isolated
from feathertune.records import DataRecord, MetricName, TaskName
from feathertune.statistics.wilson import wilson
from feathertune.study.verdict.wording import percent, points

# One class holds more than this share of the rows.
IMBALANCED_SHARE = 0.7
# A recall is known badly where it may be off by more than this.
KNOWN_TO = 0.1


def choose_metric(wanted: Literal["auto"] | MetricName, task: TaskName, counts: Sequence[int]) -> MetricName:
    """Settle the setting ``study.metric``.

    Args:
        wanted: As it was given.
        task: Of the data.
        counts: Training rows of each class; none of numbers.

    Raises:
        ConfigError: If balanced accuracy is asked for where a text may have several labels, or a score of classes where
            labels are numbers, or the other way round.
    """
    if task == "regression":
        if wanted not in ("auto", "spearman"):
            raise ConfigError(
                f"study.metric is {wanted}, a share of right answers, but here the labels are numbers, and no number "
                "is right. Expected auto, which is Spearman's rank correlation; the mean absolute error and R2 stand "
                "beside it. Are the numbers classes? Then --set data.task=single_label."
            )
        return "spearman"
    if wanted == "spearman":
        raise ConfigError(
            "study.metric is spearman, the rank correlation of numbers, but here the labels are classes. Expected "
            "accuracy, balanced_accuracy or auto."
        )
    if task == "multi_label":
        if wanted == "balanced_accuracy":
            raise ConfigError(
                "study.metric is balanced_accuracy, the mean of the classes' recalls, but here a text may have "
                "several labels, and a set of them is right or wrong as a whole. Expected accuracy or auto; micro and "
                "macro F1 stand beside it."
            )
        return "accuracy"
    if wanted == "auto":
        return "balanced_accuracy" if max(counts) > IMBALANCED_SHARE * sum(counts) else "accuracy"
    return wanted


def why_metric(metric: MetricName, data: DataRecord) -> list[str]:
    """What to know of the leading score where it is not accuracy, in a sentence."""
    if metric == "accuracy":
        return []
    if metric == "spearman":
        return ["The labels are numbers, so Spearman's rank correlation leads: 1 is their order, 0 none of it."]
    label, share = _largest(data, "train")
    n_classes = sum(count > 0 for count in data.class_counts["test"]) or len(data.labels)
    leads = f"(the mean of the classes' recalls): always the same answer gives {percent(1 / n_classes)}."
    if share > IMBALANCED_SHARE:
        return [f"{percent(share)} of the training rows are '{isolated(label)}', so balanced accuracy leads {leads}"]
    return [f"Balanced accuracy leads {leads}"]


def metric_caveats(metric: MetricName, data: DataRecord) -> list[str]:
    """What the leading score hides, or what it rests on.

    * Accuracy leads, and one class holds more than `IMBALANCED_SHARE` of the test rows.
    * Balanced accuracy leads, and of some class there are so few test rows that its recall, were it one half, has an
      interval of more than `KNOWN_TO` either way; or there are none.
    """
    counts = data.class_counts.get("test", [])
    if data.task != "single_label" or not any(counts):
        return []
    if metric == "accuracy":
        label, share = _largest(data, "test")
        if share <= IMBALANCED_SHARE:
            return []
        return [
            f"{percent(share)} of the test rows are '{isolated(label)}': accuracy alone says little here, look at "
            "macro F1 and MCC too, or rank by recalls (--metric balanced_accuracy)."
        ]
    few = sorted((n, label) for label, n in zip(data.labels, counts, strict=True) if n and _half(n) > KNOWN_TO)
    missing = [label for label, n in zip(data.labels, counts, strict=True) if not n]
    found = []
    if few:
        n, label = few[0]
        of = f"Only {n:,} of the {data.n_test:,} test rows are '{isolated(label)}'"
        if len(few) > 1:
            of = f"{len(few)} of {len(counts)} classes have few test rows, '{isolated(label)}' {n:,}"
        found.append(
            f"{of}: its recall, which counts as much as that of any other class, may be off by "
            f"{points(_half(n))} either way."
        )
    if missing:
        more = f" (nor have {len(missing) - 1} others)" if len(missing) > 1 else ""
        found.append(f"'{isolated(missing[0])}' has no test row{more}: the score is of the other classes.")
    return found


def _half(n: int) -> float:
    """Half of the interval of a recall of about one half, by `n` rows."""
    found = wilson(n // 2, n)
    return (found.high - found.low) / 2


def _largest(data: DataRecord, split: Literal["train", "test"]) -> tuple[str, float]:
    counts = data.class_counts[split]
    return data.labels[counts.index(max(counts))], max(counts) / sum(counts)

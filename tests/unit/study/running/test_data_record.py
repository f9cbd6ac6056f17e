"""What is said of labels before anything is trained."""

import numpy as np
import pytest

from feathertune.data.sources.collector import Collector
from feathertune.data.splitting.splits import make_splits
from feathertune.study.running.data_record import about_labels, class_counts, summary_of
from feathertune.tasks.labels.reader import LabelReader


def splits(labels, task="auto"):
    collector = Collector("data.csv", drop_invalid=False, labels=LabelReader(task=task))
    for row, label in enumerate(labels * 8):
        collector.add(f"text {row}", label, None, f"row {row}")
    return make_splits(collector.finish())


def test_numbers_and_whole_numbers_are_said_aloud():
    numbers = splits(["1.5", "2", "4.25", "3"])
    (sentence,) = about_labels(numbers, "auto")
    assert sentence.startswith("The label is a number, 'number' (data.task: regression): 1.5 to 4.25 in the training")
    assert class_counts(numbers) == {}
    whole = splits(["1", "2", "3"])
    (sentence,) = about_labels(whole, "auto")
    assert sentence == (
        "The labels are whole numbers, treated as 3 classes. Pass --set data.task=regression to predict numbers."
    )
    assert class_counts(whole)["test"] == [2, 2, 1]
    assert about_labels(whole, "single_label") == [], "it was said"
    assert about_labels(splits(["0", "1"]), "auto") == [], "nobody means a scale of two"
    assert about_labels(splits(["good", "bad", "3"]), "auto") == []
    assert splits(["1", "2", "3"], "regression").kind.numbers


def test_a_summary_is_numpys():
    numbers = np.random.default_rng(0).gamma(2.0, 3.0, 101)
    found = summary_of(numbers)
    assert (found.low, found.median, found.high) == (numbers.min(), np.median(numbers), numbers.max())
    assert (found.q25, found.q75) == pytest.approx(np.percentile(numbers, [25, 75]))
    assert (found.mean, found.sd) == pytest.approx((numbers.mean(), numbers.std()))

"""Templates of model cards and of code without feathertune, by task; `feathertune.bundle` fills the placeholders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from feathertune.statistics.wilson import wilson, z_of
from feathertune.tasks.formats import CORRELATION, SHARE

RunScores = Mapping[str, float | None]
# Rows below which a correlation has no standard error; and the largest correlation that has a z.
_LEAST_RANKS, _NEARLY_ONE = 4, 1 - 1e-9


@dataclass(frozen=True)
class CardText:
    """Sentences of a card; `moved` is the limit of a bundle whose thresholds divide the probabilities."""

    title: str
    answers: str
    limit: str
    interval: Callable[[RunScores, int], str]
    moved: str = ""


@dataclass(frozen=True)
class PlainCode:
    """Python that decides a text's answer; ``_moved`` if thresholds divide the probabilities.

    From ``{logits}``, `torch` prints it; from ``logits`` ``(C,)``, `numpy` makes ``p`` or ``number``, to be printed.
    """

    torch: str
    numpy: str
    numpy_label: str
    torch_moved: str | None = None
    names_problem: bool = False
    numpy_moved: str | None = None
    numpy_each: str = ', "probabilities": dict(zip(facts["labels"], p.tolist()))'


def _accuracy_interval(scores: RunScores, n: int) -> str:
    low, high = wilson(round((scores["accuracy"] or 0.0) * n), n)
    return f"95% CI of the share of right answers {SHARE.interval(low, high)} (Wilson)"


def _rank_interval(scores: RunScores, n: int) -> str:
    """Return the interval of Spearman's rank correlation of `n` rows.

    Source: Bonett & Wright 2000, Psychometrika 65, 23-28.
    """
    correlation, low, high = scores["spearman"] or 0.0, -1.0, 1.0
    if n >= _LEAST_RANKS:
        half = z_of() * math.sqrt((1 + correlation**2 / 2) / (n - 3))
        z = math.atanh(min(max(correlation, -_NEARLY_ONE), _NEARLY_ONE))
        low, high = math.tanh(z - half), math.tanh(z + half)
    return f"95% CI of the rank correlation {CORRELATION.interval(low, high)} (Fisher's z)"


LABEL_CARD = CardText(
    title="Text classification with {n} labels",
    answers="The labels, in the order of the logits: `{labels}`.",
    limit="Each text gets one of the {n} labels, even if none of them fits.",
    interval=_accuracy_interval,
    moved="The label is not always the most probable one: each probability is first divided by a threshold, found on "
    "the validation texts by the best macro F1. transformers' own pipeline does not do that.",
)
SET_CARD = replace(
    LABEL_CARD,
    limit="A text gets any number of the {n} labels, or none. The probability from which each is given "
    "{threshold_source}.",
    moved="",
)
NUMBER_CARD = CardText(
    title="A number for each text: {info.labels[0]}",
    answers="It gives a number, `{info.labels[0]}`. Those of the training texts range from {info.numbers.low:.6g} to "
    "{info.numbers.high:.6g}.",
    limit="Each text gets a number, even if it is unlike the training texts. The number may leave their range: mean "
    "{info.numbers.mean:.4g}, standard deviation {info.numbers.sd:.4g}, quartiles {info.numbers.q25:.4g} and "
    "{info.numbers.q75:.4g}.",
    interval=_rank_interval,
)

LABEL_CODE = PlainCode(
    torch="print(labels[{logits}.argmax().item()])\n",
    torch_moved="""\
threshold = {threshold}
moved = [p / t for p, t in zip({logits}.softmax(-1).tolist(), threshold)]
print(labels[moved.index(max(moved))])
""",
    numpy="p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
    numpy_label='"label": facts["labels"][p.argmax()]',
    numpy_moved='"label": facts["labels"][(p / facts["threshold"]).argmax()]',
)
SET_CODE = PlainCode(
    torch="""\
threshold = {threshold}
probabilities = {logits}.sigmoid().tolist()
print([label for label, p, least in zip(labels, probabilities, threshold) if p >= least])
""",
    names_problem=True,
    numpy="p = 1 / (1 + np.exp(-logits))",
    numpy_label='"labels": [facts["labels"][i] for i in np.flatnonzero(p >= facts["threshold"])]',
)
NUMBER_CODE = PlainCode(
    torch="print({logits}.item())\n",
    numpy="number = logits.item()",
    numpy_label='"label": number',
    numpy_each="",
)

"""Templates of model cards and of code without feathertune, by task; `feathertune.bundle` fills the placeholders."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from feathertune.statistics.wilson import wilson, z_of
from feathertune.tasks.formats import CORRELATION, SHARE

RunScores = Mapping[str, float | None]
# Fewest rows for which a correlation has a standard error, and the largest correlation with a finite z.
_LEAST_RANKS, _NEARLY_ONE = 4, 1 - 1e-9


@dataclass(frozen=True)
class CardText:
    """Sentences of a card; `moved` states the limit of bundles whose thresholds divide the probabilities."""

    title: str
    answers: str
    limit: str
    interval: Callable[[RunScores, int], str]
    moved: str = ""


@dataclass(frozen=True)
class PlainCode:
    """Python code for a text's answer; ``_moved`` is for thresholds that divide the probabilities.

    `torch` prints the answer from ``{logits}``; `numpy` computes ``p`` or ``number`` from ``logits`` ``(C,)``, and
    `numpy_label` prints the answer from it.
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
    return f"95% CI of the accuracy {SHARE.interval(low, high)} (Wilson)"


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
    moved="The label is not always the most probable one: each probability is first divided by a threshold, chosen "
    "for the best macro F1 on the validation texts. The pipeline of transformers does not do this.",
)
SET_CARD = replace(
    LABEL_CARD,
    limit="A text gets any number of the {n} labels, or none. The minimum probability of each label "
    "{threshold_source}.",
    moved="",
)
NUMBER_CARD = CardText(
    title="A number for each text: {info.labels[0]}",
    answers="It predicts a number, `{info.labels[0]}`, which ranges from {info.numbers.low:.6g} to "
    "{info.numbers.high:.6g} in the training texts.",
    limit="Each text gets a number, even if it is unlike the training texts. Predictions may be outside the training "
    "range. Training labels have mean {info.numbers.mean:.4g}, standard deviation {info.numbers.sd:.4g}, and quartiles "
    "{info.numbers.q25:.4g} and {info.numbers.q75:.4g}.",
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

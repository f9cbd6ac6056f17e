"""The model card of a bundle: front matter for a hub, scores, limits, and how to use the folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

from huggingface_hub import EvalResult, ModelCardData
from scipy.stats import binomtest

from feathertune.bundle.files import INFO_FILE, MANIFEST_FILE, BundleInfo, DataInfo
from feathertune.bundle.plain_use import plain_use
from feathertune.records import HEAD, TaskName
from feathertune.tasks import TASKS

# Rows below which a correlation has no standard error; and the largest one that has a z.
_LEAST_RANKS, _NEARLY_ONE = 4, 1 - 1e-9
# Each score's name in the table, and the hub's name for it.
_SCORES: dict[str, tuple[str, str | None]] = {
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("balanced accuracy", None),
    "macro_f1": ("macro F1", "f1"),
    "micro_f1": ("micro F1", None),
    "lrap": ("label ranking average precision", None),
    "mean_average_precision": ("mean average precision", None),
    "mcc": ("Matthews correlation", "matthews_correlation"),
    "spearman": ("Spearman's rank correlation", "spearmanr"),
    "pearson": ("Pearson's correlation", "pearsonr"),
    "r2": ("explained variance (R2)", "r_squared"),
    "mae": ("mean absolute error", "mae"),
    "rmse": ("root mean squared error", None),
    "log_loss": ("log loss", None),
    "ece": ("calibration error (ECE)", None),
    "n": ("texts", None),
}


def front_matter(info: BundleInfo, *, library: str) -> str:
    """Return the YAML at the head of a card for a library. The licence follows from base and data, so none is named."""
    results = _results(info)
    data = ModelCardData(
        # A folder's name would be taken for a hub id.
        base_model=info.base.id if info.base.local is None else None,
        datasets=[dataset[0]] if info.data is not None and (dataset := _of_hub(info.data.source)) else None,
        library_name=library,
        pipeline_tag="text-classification",
        metrics=sorted({result.metric_type for result in results}) or None,
        tags=["feathertune", info.method],
        model_name=f"{info.base.id.rpartition('/')[2]}-{info.method}" if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def _results(info: BundleInfo) -> list[EvalResult]:
    """Return the test scores for the hub; the validation set chose the best epoch, so its scores are no results."""
    scores = info.metrics.get("test")
    if info.data is None or scores is None:
        return []
    source = info.data.source
    name, config = _of_hub(source) or (source.rpartition(":")[2], None)
    return [
        EvalResult(
            task_type="text-classification",
            dataset_type=name,
            dataset_name=source,
            dataset_config=config,
            dataset_split="test",
            metric_type=kind,
            metric_name=said,
            metric_value=round(value, 4),
        )
        for key, (said, kind) in _SCORES.items()
        if kind is not None and (value := scores.get(key)) is not None
    ]


def _of_hub(source: str) -> tuple[str, str | None] | None:
    """Return name and configuration of a dataset of the hub; None for another source."""
    scheme, _, rest = source.partition(":")
    if scheme != "hub":
        return None
    name, _, config = rest.partition(":")
    return name, config or None


def title(info: BundleInfo) -> str:
    """Return the first heading of a card."""
    return _say(_TASKS[info.task].title, info)


def what_is_given(info: BundleInfo) -> str:
    """Return a sentence on the answers."""
    return _say(_TASKS[info.task].answers, info)


def what_is_read(info: BundleInfo) -> str:
    """Return a sentence on the texts, and on the treatment of long ones."""
    texts = "Texts"
    if info.reads_pairs:
        texts = f"It reads pairs of texts (`{info.text_columns[0]}`, `{info.text_columns[1]}`); those"
    return f"{texts} of more than {info.max_length:,} tokens {info.reading.in_words(info.max_length)}."


def model_card(info: BundleInfo) -> str:
    """Return a bundle's card: Markdown with YAML front matter."""
    needs = ""
    if info.kind != "full" and info.base.local is not None:
        needs = f"\nThe base is a local folder: put its path in the place of `{info.base.id}`.\n"
    scores = _table(info)
    table = f"\n## Scores\n\n{scores}" if scores else ""
    made = "Trained by feathertune with"
    if info.imported:
        made = "Trained with plain PEFT, brought here by `feathertune import`;"
    front = front_matter(info, library="peft" if info.kind == "peft" else "transformers")
    return f"""{front}
# {title(info)}

{made} the method `{info.method}` on `{info.base.id}`.
{what_is_given(info)} {what_is_read(info)}
`{INFO_FILE}` holds all settings, `{MANIFEST_FILE}` the SHA-256 of every file.
{table}
## Limits

{_limits(info)}
## Use

```
feathertune predict . --text "A text."{' --text-pair "Another."' if info.reads_pairs else ""}
```

Without feathertune:
{needs}
```python
{plain_use(info, info.kind)}```
"""


def _table(info: BundleInfo) -> str:
    """Return a table of scores, with a column for each split."""
    splits = info.metrics.values()
    keys = [key for key in _SCORES if any(scores.get(key) is not None for scores in splits)]
    if not keys:
        return ""
    names = {key: name for key, (name, _) in _SCORES.items()} | {"accuracy": TASKS[info.task].metric}
    head = f"| score | {' | '.join(info.metrics)} |\n| --- |{' --- |' * len(splits)}\n"
    return head + "".join(
        f"| {names[key]} | {' | '.join(_number(scores.get(key)) for scores in splits)} |\n" for key in keys
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _limits(info: BundleInfo) -> str:
    task = _TASKS[info.task]
    lines = [_say(task.limit, info), *of_rare_classes(info)]
    if info.data is not None:
        data, test = info.data, info.metrics.get("test")
        lines.append(
            f"Trained on {data.n_train:,} texts of `{data.source}`, "
            + (f"the best epoch chosen on {data.n_validation:,} others" if data.n_validation else "to a fixed end")
            + ": how it does on texts of another kind, language or time was not looked at."
        )
        if test is not None and data.n_test:
            interval = task.interval(test, data.n_test, TASKS[info.task].metric)
            lines.append(
                f"By {data.n_test:,} test texts {interval}; how far another draw of training texts would change it is "
                "not in that."
            )
        else:
            lines.append(
                "No texts were kept for a test. The validation scores are those of the epoch that was best on these "
                "very texts, so they are somewhat too good."
                if data.n_validation
                else "No texts were kept for a test or for validation: how well it does was not looked at."
            )
        if data.truncated_fraction:
            lines.append(_unread(info, data))
    lines.append("It is one training with one seed; `feathertune compare --seeds 5` says how far seeds lie apart.")
    lines.append("The licence follows from that of the encoder and of the texts; none is stated here.")
    return "".join(f"* {line}\n" for line in lines)


def of_rare_classes(info: BundleInfo) -> list[str]:
    """Return what training did for rare classes, and what that means for probabilities and labels."""
    settings, lines = info.hyperparameters, []
    tau = settings.get("logit_adjustment_tau")
    made_up = [
        words
        for key, value, words in (
            ("class_weights", "balanced", "weights that let all classes count the same"),
            ("sampling", "balanced", "texts drawn so that all classes are equally frequent"),
            ("loss", "logit-adjusted", f"logits adjusted by the classes' shares (tau {tau})"),
        )
        if settings.get(key) == value
    ]
    if made_up:
        lines.append(
            f"Trained with {made_up[0]}: its probabilities are those of a world in which they are, so a rare "
            "class gets more than its share."
        )
    if settings.get("loss") == "focal":
        lines.append(
            f"Trained with the focal loss (gamma {settings.get('focal_gamma')}): its probabilities tend to be less "
            "sure than its answers are right."
        )
    if (moved := _TASKS[info.task].moved) and info.threshold is not None:
        lines.append(moved)
    return lines


def _unread(info: BundleInfo, data: DataInfo) -> str:
    if info.reading == HEAD:
        cut = f"Of {data.truncated_fraction:.1%} of these texts the end was not read"
    else:
        cut = (
            f"{data.truncated_fraction:.1%} of these texts have more than {info.max_length:,} tokens and "
            f"{info.reading.in_words(info.max_length)}"
        )
    if data.unread_fraction is None:
        return f"{cut}."
    return f"{cut}; {data.unread_fraction:.1%} of all their tokens were never read."


def _interval_of_accuracy(scores: Mapping[str, float | None], n: int, name: str) -> str:
    found = binomtest(round((scores["accuracy"] or 0.0) * n), n).proportion_ci(method="wilson")
    return f"the {name} lies between {found.low:.1%} and {found.high:.1%} (95 %, Wilson)"


def _interval_of_ranks(scores: Mapping[str, float | None], n: int, name: str) -> str:
    """Return the interval of Spearman's rank correlation of `n` rows, in words.

    Source: Bonett & Wright 2000, Sample size requirements for estimating Pearson, Kendall and Spearman correlations,
    Psychometrika 65, 23-28.
    """
    correlation, low, high = scores["spearman"] or 0.0, -1.0, 1.0
    if n >= _LEAST_RANKS:
        half = NormalDist().inv_cdf(0.975) * math.sqrt((1 + correlation**2 / 2) / (n - 3))
        z = math.atanh(min(max(correlation, -_NEARLY_ONE), _NEARLY_ONE))
        low, high = math.tanh(z - half), math.tanh(z + half)
    return f"the {name} lies between {low:.3f} and {high:.3f} (95 %, Fisher's z)"


@dataclass(frozen=True)
class _TaskText:
    """The parts of a card that depend on the task; the sentences are templates, see `_say`.

    Attributes:
        interval: Returns the interval of the primary test score in words, from scores, rows and the score's name.
        moved: The limit of a bundle whose thresholds divide the probabilities; empty for other uses of thresholds.
    """

    title: str
    answers: str
    limit: str
    interval: Callable[[Mapping[str, float | None], int, str], str]
    moved: str = ""


_LABELS = _TaskText(
    title="Text classification with {n} labels",
    answers="The labels, in the order of the logits: `{labels}`.",
    limit="Each text gets one of the {n} labels, also one that none of them fits.",
    interval=_interval_of_accuracy,
    moved="The label is not always the most probable one: each probability is divided by a threshold first, found on "
    "the validation texts by the best macro F1. transformers' own pipeline does not do that.",
)
_TASKS: dict[TaskName, _TaskText] = {
    "single_label": _LABELS,
    "multi_label": replace(
        _LABELS,
        limit="A text gets any number of the {n} labels, or none; there are no others. The probability from which each "
        "is given {threshold_source}.",
        moved="",
    ),
    "regression": _TaskText(
        title="A number for each text: {info.labels[0]}",
        answers="It gives a number, `{info.labels[0]}`; those of the training texts lie between {info.numbers.low:.6g} "
        "and {info.numbers.high:.6g}.",
        limit="Each text gets a number, also one that has nothing to do with the texts it was trained on. Nothing "
        "keeps it within theirs: mean {info.numbers.mean:.4g}, standard deviation {info.numbers.sd:.4g}, half of them "
        "between {info.numbers.q25:.4g} and {info.numbers.q75:.4g}.",
        interval=_interval_of_ranks,
    ),
}


def _say(template: str, info: BundleInfo) -> str:
    source = "was found on the validation texts"
    if info.imported:
        source = "was set at the import, not found on validation texts"
    elif info.data is not None and not info.data.n_validation:
        source = "was not fitted to any"
    labels = json.dumps(info.labels, ensure_ascii=False)
    return template.format(info=info, n=len(info.labels), labels=labels, threshold_source=source)

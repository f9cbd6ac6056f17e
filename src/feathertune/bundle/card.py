"""The model card of a bundle: front matter for a hub, and how to use the folder with and without feathertune.

Not for studies: those have a report.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from scipy.stats import binomtest

from feathertune.bundle.files import INFO_FILE, MANIFEST_FILE, WEIGHTS, BundleInfo, BundleKind, DataInfo
from feathertune.bundle.plain_reading import plain_reading
from feathertune.records import HEAD, METRIC_TITLES, TaskName
from feathertune.tasks import TASKS

_PEFT_USE = """\
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder, or its id on a hub
labels = {labels}
base = AutoModelForSequenceClassification.from_pretrained(
    {base}{revision}, num_labels=len(labels), ignore_mismatched_sizes=True, dtype="{dtype}"{problem}
)  # its own head, if it has one, gives way to the one here
model = PeftModel.from_pretrained(base, folder).eval()
"""
_PART_USE = """\
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder
labels = {labels}
model = AutoModelForSequenceClassification.from_pretrained(
    {base}{revision}, num_labels=len(labels), ignore_mismatched_sizes=True, dtype="{dtype}"{problem}
)  # its own head, if it has one, gives way to the one here
model.load_state_dict(load_file(f"{{folder}}/{weights}"), strict=False)
model.eval()
"""
_FULL_USE = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder, or its id on a hub
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="{dtype}").eval()
labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
"""
_USE: dict[BundleKind, str] = {"peft": _PEFT_USE, "part": _PART_USE, "full": _FULL_USE}
_PREDICT = """\
tokenizer = AutoTokenizer.from_pretrained(folder)
batch = tokenizer({texts}, truncation=True, max_length={max_length}, return_tensors="pt")
"""
_PREDICT_LONG = """\
tokenizer = AutoTokenizer.from_pretrained(folder)


{sequences}

whole = tokenizer("A text.", return_special_tokens_mask=True)
ids = torch.tensor(sequences(whole["input_ids"], whole["special_tokens_mask"]))
"""
_LOGITS = ("model(**batch).logits[0]", "model(input_ids=ids).logits.mean(dim=0)")
_DECIDE_MOVED = """\
threshold = {threshold}
moved = [p / t for p, t in zip({logits}.softmax(-1).tolist(), threshold)]
print(labels[moved.index(max(moved))])
"""
_DECIDE: dict[TaskName, str] = {
    "regression": "print({logits}.item())\n",
    "single_label": "print(labels[{logits}.argmax().item()])\n",
    "multi_label": """\
threshold = {threshold}
probabilities = {logits}.sigmoid().tolist()
print([label for label, p, least in zip(labels, probabilities, threshold) if p >= least])
""",
}


# Rows below which a correlation has no standard error; and the largest one that has a z.
_LEAST_RANKS, _NEARLY_ONE = 4, 1 - 1e-9
# What a score is called: in the table, and by the hub where it knows it.
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
    """The YAML between the lines at the head of a card. The licence is left out: it follows from base and data.

    Args:
        info: Of the bundle.
        library: What loads the folder.
    """
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
    """The scores of the test texts, as the hub wants them; none for validation, which chose the best epoch."""
    scores = info.metrics.get("test")
    if info.data is None or not isinstance(scores, Mapping):
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
            metric_value=round(scores[key], 4),
        )
        for key, (said, kind) in _SCORES.items()
        if kind is not None and key in scores
    ]


def _of_hub(source: str) -> tuple[str, str | None] | None:
    """Name and configuration of a dataset of the hub; None for another source."""
    scheme, _, rest = source.partition(":")
    if scheme != "hub":
        return None
    name, _, config = rest.partition(":")
    return name, config or None


def plain_use(info: BundleInfo, kind: BundleKind) -> str:
    """Python that loads a folder of this kind without feathertune, and labels a text."""
    several, is_long = info.task == "multi_label", info.reading != HEAD
    imports, predict = ("import torch\n", _PREDICT_LONG) if is_long else ("", _PREDICT)
    decide = _DECIDE[info.task] if several or info.threshold is None else _DECIDE_MOVED
    return (imports + _USE[kind] + predict + decide).format(
        logits=_LOGITS[is_long],
        sequences=plain_reading(info.reading, info.max_length),
        problem=f',\n    problem_type="{TASKS[info.task].problem_type}"' if several else "",
        threshold=info.threshold or [0.5] * len(info.labels),
        labels=label_list(info),
        base=json.dumps(info.base.id, ensure_ascii=False),
        revision=f", revision={json.dumps(info.base.revision)}" if info.base.revision else "",
        dtype=info.dtype,
        max_length=info.max_length,
        texts='["A text."], ["Another."]' if info.reads_pairs else '["A text."]',
        weights=WEIGHTS[kind],
    )


def what_is_read(info: BundleInfo) -> str:
    """What a text is, and what becomes of long ones, in a sentence."""
    texts = "Texts"
    if info.reads_pairs:
        texts = f"It reads pairs of texts (`{info.text_columns[0]}`, `{info.text_columns[1]}`); those"
    return f"{texts} of more than {info.max_length:,} tokens {info.reading.in_words(info.max_length)}."


def title(info: BundleInfo) -> str:
    """The first line of a card."""
    if info.numbers is not None:
        return f"A number for each text: {info.labels[0]}"
    return f"Text classification with {len(info.labels)} labels"


def what_is_given(info: BundleInfo) -> str:
    """What an answer is, in a sentence."""
    if info.numbers is None:
        return f"The labels, in the order of the logits: `{label_list(info)}`."
    low, high = info.numbers.low, info.numbers.high
    return f"It gives a number, `{info.labels[0]}`; those of the training texts lie between {low:.6g} and {high:.6g}."


def label_list(info: BundleInfo) -> str:
    """The labels, in the order of the logits, as JSON."""
    return json.dumps(info.labels, ensure_ascii=False)


def model_card(info: BundleInfo) -> str:
    """Write the card.

    Returns:
        Markdown with YAML front matter.
    """
    needs = ""
    if info.kind != "full" and info.base.local is not None:
        needs = f"\nThe base is a local folder: put its path in the place of `{info.base.id}`.\n"
    scores = _table(info.metrics)
    table = f"\n## Scores\n\n{scores}" if scores else ""
    imported = "imported_from" in info.hyperparameters
    made = (
        "Trained with plain PEFT, brought here by `feathertune import`;" if imported else "Trained by feathertune with"
    )
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


def _table(metrics: Mapping[str, Any]) -> str:
    """Scores by the texts that they are of, one column each; or those of one unnamed set."""
    sets = {name: scores for name, scores in metrics.items() if isinstance(scores, Mapping)} or {"value": metrics}
    keys = [key for key in dict.fromkeys((*_SCORES, *metrics)) if any(_is_number(of.get(key)) for of in sets.values())]
    if not keys:
        return ""
    head = f"| score | {' | '.join(sets)} |\n| --- |{' --- |' * len(sets)}\n"
    cells = ((_SCORES.get(key, (key, None))[0], [of.get(key) for of in sets.values()]) for key in keys)
    if "micro_f1" in keys:
        cells = ((METRIC_TITLES["multi_label", "accuracy"] if said == "accuracy" else said, v) for said, v in cells)
    return head + "".join(f"| {said} | {' | '.join(map(_said, values))} |\n" for said, values in cells)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _said(value: object) -> str:
    if not _is_number(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _limits(info: BundleInfo) -> str:
    """What the scores do not say, in plain words."""
    lines = [f"Each text gets one of the {len(info.labels)} labels, also one that none of them fits."]
    if info.task == "multi_label":
        found = "was found on the validation texts"
        if "imported_from" in info.hyperparameters:
            found = "was set at the import, not found on validation texts"
        elif info.data is not None and not info.data.n_validation:
            found = "was not fitted to any"
        lines = [
            f"A text gets any number of the {len(info.labels)} labels, or none; there are no others. The probability "
            f"from which each is given {found}."
        ]
    if info.numbers is not None:
        lines = [
            "Each text gets a number, also one that has nothing to do with the texts it was trained on. Nothing keeps "
            f"it within theirs: mean {info.numbers.mean:.4g}, standard deviation {info.numbers.sd:.4g}, half of them "
            f"between {info.numbers.q25:.4g} and {info.numbers.q75:.4g}."
        ]
    lines += of_rare_classes(info)
    if info.data is not None:
        data, test = info.data, info.metrics.get("test")
        lines.append(
            f"Trained on {data.n_train:,} texts of `{data.source}`, "
            + (f"the best epoch chosen on {data.n_validation:,} others" if data.n_validation else "to a fixed end")
            + ": how it does on texts of another kind, language or time was not looked at."
        )
        if isinstance(test, Mapping) and data.n_test and info.numbers is not None:
            low, high = _interval_of_ranks(test["spearman"], data.n_test)
            lines.append(
                f"By {data.n_test:,} test texts the {METRIC_TITLES['regression', 'spearman']} lies between "
                f"{low:.3f} and {high:.3f} (95 %, Fisher's z); how far another draw of training texts would change it "
                "is not in that."
            )
        elif isinstance(test, Mapping) and data.n_test:
            low, high = _interval(test["accuracy"], data.n_test)
            lines.append(
                f"By {data.n_test:,} test texts the {METRIC_TITLES[info.task, 'accuracy']} lies between {low:.1%} and "
                f"{high:.1%} (95 %, Wilson); how far another draw of training texts would change it is not in that."
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
    """What was done for them, and what that means for whoever reads probabilities and labels."""
    settings, lines = info.hyperparameters, []
    if settings.get("class_weights") == "balanced":
        lines.append(
            "Trained with weights that let all classes count the same: its probabilities are those of a world in which "
            "they are, so a rare class gets more than its share."
        )
    if info.task == "single_label" and info.threshold is not None:
        lines.append(
            "The label is not always the most probable one: each probability is divided by a threshold first, found on "
            "the validation texts by the best macro F1. transformers' own pipeline does not do that."
        )
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


def _interval(accuracy: float, n: int) -> tuple[float, float]:
    found = binomtest(round(accuracy * n), n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _interval_of_ranks(correlation: float, n: int) -> tuple[float, float]:
    """Of Spearman's rank correlation of `n` rows.

    Source: Bonett & Wright 2000, Sample size requirements for estimating Pearson, Kendall and Spearman correlations,
    Psychometrika 65, 23-28.
    """
    if n < _LEAST_RANKS:
        return -1.0, 1.0
    half = NormalDist().inv_cdf(0.975) * math.sqrt((1 + correlation**2 / 2) / (n - 3))
    z = math.atanh(min(max(correlation, -_NEARLY_ONE), _NEARLY_ONE))
    return math.tanh(z - half), math.tanh(z + half)

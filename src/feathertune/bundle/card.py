"""The model card of a bundle: front matter for a hub, scores, limits, and how to use the folder."""

from __future__ import annotations

import json

from huggingface_hub import EvalResult, ModelCardData

from feathertune.bundle.files import INFO_FILE, MANIFEST_FILE, BundleInfo, DataInfo
from feathertune.bundle.plain_use import plain_use, plain_words
from feathertune.records import HEAD
from feathertune.tasks import TASKS

_TRAINED_HERE = "Trained by feathertune with"
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


def _front_matter(info: BundleInfo, library: str) -> str:
    results = _results(info)
    data = ModelCardData(  # the licence follows from base and data, so none is named
        # A folder's name would be taken for a hub id.
        base_model=info.base.repository if info.base.local is None else None,
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


def opening(info: BundleInfo, *, library: str, origin: str = _TRAINED_HERE, form: str = ".") -> str:
    """Return front matter, heading, and sentences on training, answers and texts; `form` ends the first sentence."""
    card, texts = TASKS[info.task].card, "Texts"
    if info.reads_pairs:
        texts = f"It reads pairs of texts (`{info.text_columns[0]}`, `{info.text_columns[1]}`); those"
    return f"""{_front_matter(info, library)}
# {_say(card.title, info)}

{origin} the method `{info.method}` on `{info.base.id}`{form}
{_say(card.answers, info)} {texts} of more than {info.max_length:,} tokens {info.reading.in_words(info.max_length)}.
"""


def model_card(info: BundleInfo) -> str:
    """Return a bundle's card: Markdown with YAML front matter."""
    needs = ""
    if info.kind != "full" and info.base.local is not None:
        needs = f"\nThe base is in a local folder: put its path in the place of `{info.base.repository}`.\n"
    scores = _table(info)
    table = f"\n## Scores\n\n{scores}" if scores else ""
    library = "peft" if info.kind == "peft" else "transformers"
    origin = "Trained with plain PEFT, brought here by `feathertune import`;" if info.imported else _TRAINED_HERE
    return f"""{opening(info, library=library, origin=origin)}\
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
{_word_model(info)}"""


def _word_model(info: BundleInfo) -> str:
    if info.fusion is None:
        return ""
    return f"""
## The word model

This folder holds two models, each usable by itself. The scores above are those of their sum, which
`feathertune predict` computes: {info.fusion.model:.6g} times the logits of the model above, plus
{info.fusion.words:.6g} times the logits of this one:

```python
{plain_words(info)}```
"""


def _table(info: BundleInfo) -> str:
    splits = info.metrics.values()
    keys = [key for key in _SCORES if any(scores.get(key) is not None for scores in splits)]
    if not keys:
        return ""
    names = {key: name for key, (name, _) in _SCORES.items()} | {"accuracy": TASKS[info.task].primary.title}
    head = f"| score | {' | '.join(info.metrics)} |\n| --- |{' --- |' * len(splits)}\n"
    return head + "".join(
        f"| {names[key]} | {' | '.join(_number(scores.get(key)) for scores in splits)} |\n" for key in keys
    )


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _limits(info: BundleInfo) -> str:
    text = TASKS[info.task].card
    lines = [_say(text.limit, info), *of_rare_classes(info)]
    if info.data is not None:
        data, test = info.data, info.metrics.get("test")
        lines.append(
            f"Trained on {data.n_train:,} texts of `{data.source}`, "
            + (f"the best epoch chosen on {data.n_validation:,} others" if data.n_validation else "to a fixed end")
            + ": how it does on texts of another kind, language or time was not looked at."
        )
        if test is not None and data.n_test:
            lines.append(
                f"By {data.n_test:,} test texts: {text.interval(test, data.n_test)}. The spread over other training "
                "texts is not included."
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
    if settings.get("class_weights") == "balanced":
        lines.append(
            "Trained with weights that let all classes count the same, so its probabilities favour rare classes."
        )
    if (moved := TASKS[info.task].card.moved) and info.threshold is not None:
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


def _say(template: str, info: BundleInfo) -> str:
    source = "was found on the validation texts"
    if info.imported:
        source = "was set at the import, not found on validation texts"
    elif info.data is not None and not info.data.n_validation:
        source = "was not fitted to any"
    labels = json.dumps(info.labels, ensure_ascii=False)
    return template.format(info=info, n=len(info.labels), labels=labels, threshold_source=source)

"""Model card of a bundle: front matter for the hub, scores, limitations, and usage."""

from __future__ import annotations

import json

from huggingface_hub import EvalResult, ModelCardData

from feathertune.bundle.files import INFO_FILE, MANIFEST_FILE, BundleInfo, DataInfo
from feathertune.bundle.plain_use import plain_use, plain_words
from feathertune.records import HEAD
from feathertune.tasks import TASKS

_TRAINED_HERE = "Trained by feathertune with"
# Each score's name in the table and on the hub.
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
    "n": ("number of texts", None),
}


def _front_matter(info: BundleInfo, library: str) -> str:
    results = _results(info)
    data = ModelCardData(  # no licence, because it follows from base model and data
        # The hub would read a folder's name as a model id.
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
    """Return the test scores for the hub; validation scores are optimistic, since they chose the best epoch."""
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
    """Return name and configuration of a hub dataset; None for other sources."""
    scheme, _, rest = source.partition(":")
    if scheme != "hub":
        return None
    name, _, config = rest.partition(":")
    return name, config or None


def opening(info: BundleInfo, *, library: str, origin: str = _TRAINED_HERE, form: str = ".") -> str:
    """Return front matter, heading and introduction; `form` ends the first sentence."""
    card, texts = TASKS[info.task].card, "Texts"
    if info.reads_pairs:
        texts = f"It classifies pairs of texts (`{info.text_columns[0]}`, `{info.text_columns[1]}`). Pairs"
    return f"""{_front_matter(info, library)}
# {_say(card.title, info)}

{origin} the method `{info.method}` on `{info.base.id}`{form}
{_say(card.answers, info)} {texts} longer than {info.max_length:,} tokens {info.reading.in_words(info.max_length)}.
"""


def model_card(info: BundleInfo) -> str:
    """Return a bundle's model card: Markdown with YAML front matter."""
    needs = ""
    if info.kind != "full" and info.base.local is not None:
        needs = f"\nThe base model is a local folder. Replace `{info.base.repository}` with its path.\n"
    scores = _table(info)
    table = f"\n## Scores\n\n{scores}" if scores else ""
    library = "peft" if info.kind == "peft" else "transformers"
    origin = "Trained with plain PEFT and imported by `feathertune import`:" if info.imported else _TRAINED_HERE
    return f"""{opening(info, library=library, origin=origin)}\
`{INFO_FILE}` holds all settings, and `{MANIFEST_FILE}` the SHA-256 of every file.
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

This folder holds two models that also work separately. The scores above belong to their weighted sum, which
`feathertune predict` computes: {info.fusion.model:.6g} times the logits of the model above, plus
{info.fusion.words:.6g} times the logits of this word model:

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
            + (f"with the best epoch chosen on {data.n_validation:,} others" if data.n_validation else "to a fixed end")
            + ". Other kinds of text, languages and periods were not tested."
        )
        if test is not None and data.n_test:
            lines.append(
                f"On {data.n_test:,} test texts: {text.interval(test, data.n_test)}. The interval does not cover "
                "variation from other training texts."
            )
        else:
            lines.append(
                "There was no test set. The validation scores are optimistic, because they chose the best epoch."
                if data.n_validation
                else "There was no test or validation set, so its scores are unknown."
            )
        if data.truncated_fraction:
            lines.append(_unread(info, data))
    lines.append("Trained with one seed only. `feathertune compare --seeds 5` measures the variation between seeds.")
    lines.append("No licence is stated here. It follows from the licences of the base model and the texts.")
    return "".join(f"* {line}\n" for line in lines)


def of_rare_classes(info: BundleInfo) -> list[str]:
    """Return sentences on how training treated rare classes, and the effect on probabilities and labels."""
    settings, lines = info.hyperparameters, []
    if settings.get("class_weights") == "balanced":
        lines.append(
            "Trained with class weights that make all classes count equally, so its probabilities favour rare classes."
        )
    if (moved := TASKS[info.task].card.moved) and info.threshold is not None:
        lines.append(moved)
    return lines


def _unread(info: BundleInfo, data: DataInfo) -> str:
    if info.reading == HEAD:
        cut = f"{data.truncated_fraction:.1%} of these texts were truncated"
    else:
        cut = (
            f"{data.truncated_fraction:.1%} of these texts exceed {info.max_length:,} tokens and "
            f"{info.reading.in_words(info.max_length)}"
        )
    if data.unread_fraction is None:
        return f"{cut}."
    return f"{cut}; {data.unread_fraction:.1%} of all tokens were never read."


def _say(template: str, info: BundleInfo) -> str:
    source = "was found on the validation texts"
    if info.imported:
        source = "was set at import, not tuned on validation texts"
    elif info.data is not None and not info.data.n_validation:
        source = "was not fitted to any"
    labels = json.dumps(info.labels, ensure_ascii=False)
    return template.format(info=info, n=len(info.labels), labels=labels, threshold_source=source)

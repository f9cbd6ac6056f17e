"""The model card of a bundle: front matter for a hub, and how to use the folder with and without feathertune.

Not for studies: those have a report.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from feathertune.bundle.files import INFO_FILE, MANIFEST_FILE, WEIGHTS, BundleInfo, BundleKind

_PEFT_USE = """\
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder, or its id on a hub
labels = {labels}
base = AutoModelForSequenceClassification.from_pretrained(
    {base}{revision}, num_labels=len(labels), ignore_mismatched_sizes=True, dtype="{dtype}"
)  # its own head, if it has one, gives way to the one here
model = PeftModel.from_pretrained(base, folder).eval()
"""
_PART_USE = """\
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder
labels = {labels}
model = AutoModelForSequenceClassification.from_pretrained(
    {base}{revision}, num_labels=len(labels), ignore_mismatched_sizes=True, dtype="{dtype}"
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
batch = tokenizer(["A text."], truncation=True, max_length={max_length}, return_tensors="pt")
print(labels[model(**batch).logits.argmax(dim=-1).item()])
"""


def front_matter(info: BundleInfo, *, library: str) -> str:
    """The YAML between the lines at the head of a card. The licence is left out: it follows from base and data.

    Args:
        info: Of the bundle.
        library: What loads the folder.
    """
    front: dict[str, Any] = {"pipeline_tag": "text-classification", "library_name": library}
    if info.base.local is None:  # a folder's name would be taken for a hub id
        front["base_model"] = info.base.id
    front["tags"] = ["feathertune", info.method]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def plain_use(info: BundleInfo, kind: BundleKind) -> str:
    """Python that loads a folder of this kind without feathertune, and labels a text."""
    return (_USE[kind] + _PREDICT).format(
        labels=label_list(info),
        base=json.dumps(info.base.id, ensure_ascii=False),
        revision=f", revision={json.dumps(info.base.revision)}" if info.base.revision else "",
        dtype=info.dtype,
        max_length=info.max_length,
        weights=WEIGHTS[kind],
    )


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
    numbers = {name: value for name, value in info.metrics.items() if isinstance(value, (int, float))}
    scores = "".join(f"| {name} | {value:.4g} |\n" for name, value in numbers.items())
    table = f"\n## Scores\n\n| score | value |\n| --- | --- |\n{scores}" if scores else ""
    front = front_matter(info, library="peft" if info.kind == "peft" else "transformers")
    return f"""{front}
# Text classification with {len(info.labels)} labels

Trained by feathertune with the method `{info.method}` on `{info.base.id}`.
The labels, in the order of the logits: `{label_list(info)}`. Texts are cut at {info.max_length} tokens.
`{INFO_FILE}` holds all settings, `{MANIFEST_FILE}` the SHA-256 of every file.
{table}
## Use

```
feathertune predict . --text "A text."
```

Without feathertune:
{needs}
```python
{plain_use(info, info.kind)}```
"""

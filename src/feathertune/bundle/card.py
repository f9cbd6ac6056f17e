"""The model card of a bundle: front matter for a hub, and how to use the folder with and without feathertune.

Not for studies: those have a report.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from feathertune.bundle.files import INFO_FILE, MANIFEST_FILE, BundleInfo

_PEFT_USE = """\
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder, or its id on a hub
labels = {labels}
base = AutoModelForSequenceClassification.from_pretrained(
    {base}{revision}, num_labels=len(labels), dtype="{dtype}"
)
model = PeftModel.from_pretrained(base, folder).eval()
"""
_FULL_USE = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder, or its id on a hub
model = AutoModelForSequenceClassification.from_pretrained(folder, dtype="{dtype}").eval()
labels = [model.config.id2label[index] for index in range(model.config.num_labels)]
"""
_PREDICT = """\
tokenizer = AutoTokenizer.from_pretrained(folder)
batch = tokenizer(["A text."], truncation=True, max_length={max_length}, return_tensors="pt")
print(labels[model(**batch).logits.argmax(dim=-1).item()])
"""


def model_card(info: BundleInfo) -> str:
    """Write the card.

    Returns:
        Markdown with YAML front matter. The licence is left out: it follows from the base and the data.
    """
    adapter, local = info.kind == "peft", info.base.local is not None
    front: dict[str, Any] = {
        "pipeline_tag": "text-classification",
        "library_name": "peft" if adapter else "transformers",
    }
    if not local:  # a folder's name would be taken for a hub id
        front["base_model"] = info.base.id
    front["tags"] = ["feathertune", info.method]
    labels = json.dumps(info.labels, ensure_ascii=False)
    use = ((_PEFT_USE if adapter else _FULL_USE) + _PREDICT).format(
        labels=labels,
        base=json.dumps(info.base.id, ensure_ascii=False),
        revision=f", revision={json.dumps(info.base.revision)}" if info.base.revision else "",
        dtype=info.dtype,
        max_length=info.max_length,
    )
    needs = ""
    if adapter and local:
        needs = f"\nThe base is a local folder: put its path in the place of `{info.base.id}`.\n"
    numbers = {name: value for name, value in info.metrics.items() if isinstance(value, (int, float))}
    scores = "".join(f"| {name} | {value:.4g} |\n" for name, value in numbers.items())
    table = f"\n## Scores\n\n| score | value |\n| --- | --- |\n{scores}" if scores else ""
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---

# Text classification with {len(info.labels)} labels

Trained by feathertune with the method `{info.method}` on `{info.base.id}`.
The labels, in the order of the logits: `{labels}`. Texts are cut at {info.max_length} tokens.
`{INFO_FILE}` holds all settings, `{MANIFEST_FILE}` the SHA-256 of every file.
{table}
## Use

```
feathertune predict . --text "A text."
```

Without feathertune:
{needs}
```python
{use}```
"""

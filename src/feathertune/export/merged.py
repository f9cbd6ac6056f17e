"""``--to merged``: a folder in fp32 that ``AutoModelForSequenceClassification`` loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from feathertune.bundle import Bundle, BundleInfo, merged_model
from feathertune.bundle.card import of_rare_classes, opening
from feathertune.bundle.plain_use import plain_use
from feathertune.data.tokens.encode import encode
from feathertune.encoders import quiet_transformers
from feathertune.export.check import PARITY_FILE, Parity
from feathertune.export.parity import Asked, compare, fp32_logits, require
from feathertune.storage import system_errors, write_atomic
from feathertune.tasks import TASKS


def write(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    """Merge, write, reload with transformers alone, and compare with the bundle, which is unusable afterwards."""
    info = bundle.info
    expected = fp32_logits(bundle.model.float(), asked.tokens)
    model = merged_model(bundle)
    merged = compare(expected, fp32_logits(model, asked.tokens), asked, bundle, to="merged")
    require(merged, bundle, "The merged model")

    attention = model.config._attn_implementation
    # transformers' pipeline chooses between softmax and sigmoid by this.
    model.config.problem_type = TASKS[info.task].problem_type
    with quiet_transformers(), system_errors():
        model.save_pretrained(folder)
        bundle.tokenizer.save_pretrained(folder)
        reloaded = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = encode(tokenizer, asked.texts, max_length=info.max_length, reading=info.reading)
    again = replace(asked, tokens=tokens)
    found = fp32_logits(reloaded, again.tokens)
    parity = compare(expected, found, again, bundle, to="merged")
    require(parity, bundle, "The reloaded merged model")
    write_atomic(folder / "README.md", _card(info, parity))
    return parity


def _card(info: BundleInfo, parity: Parity) -> str:
    plain = info.model_copy(update={"dtype": "float32"})
    form = ". The training is merged into the weights, so\nno adapter and no other base model is needed."
    return f"""{opening(info, library="transformers", form=form)}\
On {parity.n_texts} texts {parity.differs}: `{PARITY_FILE}`.
{"".join(f"{line}{chr(10)}" for line in of_rare_classes(info))}
## Use

```python
{plain_use(plain, "full")}```
"""

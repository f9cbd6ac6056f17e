"""``--to merged``: a folder that ``AutoModelForSequenceClassification`` loads.

It is in fp32 for every bundle: the sum of a weight and its update has more digits than bf16 keeps.
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from feathertune.bundle import Bundle, BundleInfo, merged_model
from feathertune.bundle.card import front_matter, of_rare_classes, title, what_is_given, what_is_read
from feathertune.bundle.plain_use import plain_use
from feathertune.data.tokens.encode import encode
from feathertune.encoders import quiet_transformers
from feathertune.export.check import PARITY_FILE, Parity
from feathertune.export.parity import Asked, compare, fp32_logits, require
from feathertune.storage import system_errors, write_atomic
from feathertune.tasks import TASKS


def write(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    """Merge, write, load again with transformers alone, and compare with the bundle, which is used up.

    Raises:
        BundleError: If the bundle cannot be merged, or the merged model gives other answers.
    """
    info = bundle.info
    expected = fp32_logits(bundle.model.float(), asked.tokens)
    model = merged_model(bundle)
    merged = compare(expected, fp32_logits(model, asked.tokens), asked, bundle, to="merged")
    require(merged, bundle, "The merged model")

    attention = model.config._attn_implementation
    # transformers' pipeline chooses its probabilities by this.
    model.config.problem_type = TASKS[info.task].problem_type
    with quiet_transformers(), system_errors():
        model.save_pretrained(folder)
        bundle.tokenizer.save_pretrained(folder)
        reloaded = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation=attention, dtype=torch.float32, local_files_only=True
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokens = encode(tokenizer, asked.texts, max_length=bundle.max_length, reading=bundle.reading)
    again = asked.tokenised(tokens)
    found = fp32_logits(reloaded, again.tokens)
    parity = compare(expected, found, again, bundle, to="merged")
    require(parity, bundle, "What transformers loads from the written model")
    write_atomic(folder / "README.md", _card(info, parity))
    return parity


def _card(info: BundleInfo, parity: Parity) -> str:
    plain = info.model_copy(update={"dtype": "float32"})
    return f"""{front_matter(info, library="transformers")}
# {title(info)}

Trained by feathertune with the method `{info.method}` on `{info.base.id}`; what was trained is in the weights, so that
no adapter and no other encoder is needed.
{what_is_given(info)} {what_is_read(info)}
On {parity.n_texts} texts {parity.differs}: `{PARITY_FILE}`.
{"".join(f"{line}{chr(10)}" for line in of_rare_classes(info))}
## Use

```python
{plain_use(plain, "full")}```
"""

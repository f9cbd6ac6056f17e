"""Load a bundle and label a text without feathertune: as Python code for the card, and in process to verify it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification

from feathertune.baselines.word_model import WEIGHTS_FILE, WORDS_FILE
from feathertune.bundle.files import WEIGHTS, BundleInfo, BundleKind
from feathertune.encoders import quiet_transformers
from feathertune.records import HEAD, Long, Reading
from feathertune.runtime import kept_random_state
from feathertune.tasks import TASKS

_HEAD_TAIL = """\
def sequences(ids, special):  # keep the first and last tokens of texts over {length} tokens, as in training
    if len(ids) <= {length}:
        return [ids]
    first = special.index(0) + max(1, round(({length} - sum(special)) * 128 / 510))
    return [ids[:first] + ids[first - {length} :]]
"""
_WINDOWS = """\
def sequences(ids, special):  # split texts over {length} tokens into windows, as in training
    if (more := len(ids) - {length}) <= 0:
        return [ids]
    at, room = special.index(0), {length} - sum(special)
    n = min(1 - -more // (room - {stride}), {max_windows})
    starts = [at + i * more // max(1, n - 1) for i in range(n)]
    return [ids[:at] + ids[start : start + room] + ids[at + room + more :] for start in starts]
"""
_PLAIN: dict[Long, str] = {"head": "", "head-tail": _HEAD_TAIL, "windows": _WINDOWS}

_ON_BASE = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer{gguf_import}

labels = {labels}
base = AutoModelForSequenceClassification.from_pretrained(
    {base}{gguf}{revision}, num_labels=len(labels), ignore_mismatched_sizes=True, dtype="{dtype}"{problem}
)  # the head comes from this folder; the checkpoint's own head, if any, is replaced
{settings}"""
_PEFT_USE = f"""\
from peft import PeftModel
{_ON_BASE}folder = "."  # this folder, or its id on the hub
model = PeftModel.from_pretrained(base, folder).eval()
"""
_PART_USE = f"""\
from safetensors.torch import load_file
{_ON_BASE}folder = "."  # this folder
base.load_state_dict(load_file(folder + "/{{weights}}"), strict=False)
model = base.eval()
"""
_GGUF = ",\n    gguf_file={name},\n    quantization_config=GgufConfig(dequantize=True)"
_FULL_USE = """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "."  # this folder, or its id on the hub
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
_WORDS_USE = """\
import json
import re

from safetensors.numpy import load_file
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer


def words_and_pairs(text):  # for scripts with spaces between words
    words = re.findall(r"\\w+", text.lower())
    return [*words, *map(" ".join, zip(words, words[1:]))]


tensors = load_file("{weights}")
counted = []
for i, vocabulary in enumerate(json.load(open("{words}", encoding="utf-8"))):
    vectorizer = TfidfVectorizer(analyzer=words_and_pairs, sublinear_tf=True, vocabulary=vocabulary)
    vectorizer.idf_ = tensors[f"idf.{{i}}"]
    counted.append(vectorizer.transform({columns}[i]))
logits_of_words = sparse.hstack(counted) @ tensors["weights"] + tensors["intercept"]
print(logits_of_words)
"""
_LOGITS = ("model(**batch).logits[0]", "model(input_ids=ids).logits.mean(dim=0)")


def plain_use(info: BundleInfo, kind: BundleKind) -> str:
    """Return Python code that loads a bundle of this kind and labels a text."""
    code, is_long = TASKS[info.task].code, info.reading != HEAD
    imports, predict = ("import torch\n", _PREDICT_LONG) if is_long else ("", _PREDICT)
    decide = code.torch_moved if code.torch_moved and info.threshold is not None else code.torch
    return (imports + _USE[kind] + predict + decide).format(
        logits=_LOGITS[is_long],
        sequences=plain_reading(info.reading, info.max_length),
        problem=f',\n    problem_type="{TASKS[info.task].problem_type}"' if code.names_problem else "",
        threshold=info.threshold or TASKS[info.task].default_thresholds(len(info.labels)),
        settings="".join(f"base.config.get_text_config().{n} = {v}\n" for n, v in info.base.settings.items()),
        labels=json.dumps(info.labels, ensure_ascii=False),
        base=json.dumps(info.base.repository, ensure_ascii=False),
        gguf=_GGUF.format(name=json.dumps(info.base.gguf, ensure_ascii=False)) if info.base.gguf else "",
        gguf_import=", GgufConfig" if info.base.gguf else "",
        revision=f", revision={json.dumps(info.base.revision)}" if info.base.revision else "",
        dtype=info.dtype,
        max_length=info.max_length,
        texts='["A text."], ["Another."]' if info.reads_pairs else '["A text."]',
        weights=WEIGHTS[kind],
    )


def plain_words(info: BundleInfo) -> str:
    """Return Python code that loads a bundle's word model and prints its logits; empty without a word model."""
    if info.fusion is None:
        return ""
    columns = '[["A text."], ["Another."]]' if info.reads_pairs else '[["A text."]]'
    return _WORDS_USE.format(words=WORDS_FILE, weights=WEIGHTS_FILE, columns=columns)


def plain_model(folder: Path, info: BundleInfo, base: Path, attention: str) -> nn.Module:
    """Load a bundle in the same way as the code from `plain_use`; `base` is the base model's folder."""
    with quiet_transformers(), kept_random_state():
        settings: dict[str, Any] = {"dtype": info.dtype, "attn_implementation": attention, "local_files_only": True}
        if info.kind == "full":
            return cast(nn.Module, AutoModelForSequenceClassification.from_pretrained(folder, **settings)).eval()
        model = AutoModelForSequenceClassification.from_pretrained(
            base, num_labels=len(info.labels), ignore_mismatched_sizes=True, **settings
        )
        for name, value in info.base.settings.items():
            setattr(model.config.get_text_config(), name, value)
        if info.kind == "peft":
            return cast(nn.Module, PeftModel.from_pretrained(model, folder)).eval()
        model.load_state_dict(load_file(folder / WEIGHTS["part"]), strict=False)
        return cast(nn.Module, model).eval()


def plain_reading(reading: Reading, max_length: int) -> str:
    """Return Python code of ``sequences(ids, special)``, which splits a text as in training; empty for ``head``."""
    return _PLAIN[reading.long].format(length=max_length, stride=reading.stride, max_windows=reading.max_windows)

"""A folder with an ONNX graph: its files, its model card with a script, and inference as in that script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from tokenizers import Tokenizer
from torch import Tensor

from feathertune.bundle import BundleInfo
from feathertune.bundle.card import opening
from feathertune.bundle.plain_use import plain_reading
from feathertune.data.reading.texts import Text, are_pairs
from feathertune.data.tokens.encode import EncodedTexts, Gathered, Padding, pad_batch
from feathertune.engine.predict import run_passes
from feathertune.export.check import PARITY_FILE, Parity
from feathertune.export.parity import TOKEN_BUDGET
from feathertune.records import HEAD, Reading, Record, TaskName
from feathertune.runtime import FP32
from feathertune.tasks import TASKS

GRAPH_FILE = "model.onnx"
FACTS_FILE = "model.json"
TOKENIZER_FILE = "tokenizer.json"
OUTPUT = "logits"
_CPU = torch.device("cpu")
_ERRORS = 3  # onnxruntime's log level for errors

_SCRIPT = """\
import json, sys

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

facts = json.load(open("{facts}", encoding="utf-8"))
tokenizer = Tokenizer.from_file("{tokenizer}"){comment}
session = InferenceSession("{graph}")
{sequences}{each}
    {ids}
    given = {{"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": {types}}}
    logits = session.run(None, {{name: given[name] for name in facts["inputs"]}})[0].mean(axis=0)
    {probabilities}
    print(json.dumps({{{label}{each_label}}}, ensure_ascii=False))
"""
_ONE = 'for text in sys.argv[1:] or ["A text."]:'
_PAIR = """\
texts = sys.argv[1:] or ["A text.", "Another."]  # both texts of a pair, then both of the next, ...
for pair in zip(texts[::2], texts[1::2]):"""
_CUT_ALREADY = "ids = np.array([tokenizer.encode(text).ids], np.int64)"
_PAIR_CUT_ALREADY = """\
tokens = tokenizer.encode(*pair)
    ids = np.array([tokens.ids], np.int64)"""
_CUT_HERE = """\
tokens = tokenizer.encode(text)
    ids = np.array(sequences(tokens.ids, tokens.special_tokens_mask), np.int64)"""


class OnnxFacts(Record):
    """Facts that graph and tokenizer do not contain; ``model.json``.

    Attributes:
        labels: Label names in the order of the logits; one name for numbers.
        threshold: Minimum probability of each label, or (single_label) its divisor before the largest is chosen.
        inputs: Names of the graph's inputs, each ``(B, T)`` int64.
    """

    labels: list[str]
    task: TaskName
    threshold: list[float] | None = None
    max_length: int
    reading: Reading = HEAD
    inputs: list[str]
    pad_token_id: int
    text_columns: list[str] = Field(default_factory=lambda: ["text"])


class OnnxFolder:
    """A folder with graph, tokenizer and facts, as onnxruntime and tokenizers read it."""

    def __init__(self, folder: Path) -> None:
        self.facts = OnnxFacts.model_validate_json((folder / FACTS_FILE).read_bytes())
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._session = session(folder / GRAPH_FILE)

    def encode(self, texts: Sequence[Text]) -> EncodedTexts:
        """Tokenize N texts with the folder's own tokenizer."""
        facts = self.facts
        has_types = are_pairs(texts) and "token_type_ids" in facts.inputs
        gathered = Gathered(facts.max_length, facts.reading, padding=Padding(facts.pad_token_id), has_types=has_types)
        for encoding in self._tokenizer.encode_batch([t if isinstance(t, str) else tuple(t) for t in texts]):
            gathered.add(encoding)
        return gathered.texts()

    def logits(self, texts: EncodedTexts, *, token_budget: int = TOKEN_BUDGET) -> np.ndarray:
        """Return logits ``(N, C)`` float32, from batches of similar length."""

        def forward(batch: dict[str, Tensor]) -> tuple[Tensor]:
            return (torch.from_numpy(self._run({name: tensor.numpy() for name, tensor in batch.items()})),)

        return run_passes(forward, texts, token_budget=token_budget, runtime=FP32)[0]

    def logits_alone(self, texts: EncodedTexts) -> np.ndarray:
        """Return logits ``(N, C)``, one text at a time: the step of 8-bit activations depends on the whole batch."""
        return texts.pooled(np.concatenate([self._run(one) for one in each_alone(texts)]))

    def _run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = self._session.run([OUTPUT], given(self.facts, batch))[0]
        return found


def each_alone(texts: EncodedTexts) -> Iterator[dict[str, np.ndarray]]:
    """Yield a batch ``(1, T)`` int64 of each sequence, without padding."""
    types = [None] * texts.n_sequences if texts.types is None else np.split(texts.types, texts.offsets[1:-1])
    for ids, kinds in zip(np.split(texts.ids, texts.offsets[1:-1]), types, strict=True):
        given = pad_batch([ids], width=len(ids), padding=Padding(), device=_CPU, types=[kinds])
        yield {name: tensor.numpy() for name, tensor in given.items()}


def session(graph: Path) -> Any:  # noqa: ANN401 - onnxruntime's
    """Load a graph in onnxruntime, with torch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _ERRORS
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def given(facts: OnnxFacts, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the graph's inputs from a batch ``(B, T)`` int64; a missing mask is all 1, missing types are 0."""
    ids = batch["input_ids"]
    every = {"attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids), **batch}
    return {name: every[name] for name in facts.inputs}


def script(facts: OnnxFacts) -> str:
    """Return Python that labels texts with onnxruntime, tokenizers and numpy alone."""
    cuts, pairs, code = facts.reading == HEAD, len(facts.text_columns) == 2, TASKS[facts.task].code
    sequences = plain_reading(facts.reading, facts.max_length)
    return _SCRIPT.format(
        facts=FACTS_FILE,
        tokenizer=TOKENIZER_FILE,
        graph=GRAPH_FILE,
        comment='  # truncates at facts["max_length"] tokens' if cuts else "",
        sequences=f"\n\n{sequences}\n\n" if sequences else "",
        each=_PAIR if pairs else _ONE,
        ids=_PAIR_CUT_ALREADY if pairs else _CUT_ALREADY if cuts else _CUT_HERE,
        types="np.array([tokens.type_ids], np.int64)" if pairs else "np.zeros_like(ids)",
        probabilities=code.numpy,
        label=code.numpy_moved if code.numpy_moved and facts.threshold is not None else code.numpy_label,
        each_label=code.numpy_each,
    )


def card(info: BundleInfo, facts: OnnxFacts, parity: Parity) -> str:
    """Return the folder's README.md."""
    rounded = ""
    if parity.max_flips is not None:
        rounded = (
            "\nThe matrix products use 8-bit integers. The rounding step depends on the largest number in a batch, so\n"
            "a text's logits may change slightly with the other texts in its batch. These figures are for each text\n"
            "alone.\n"
        )
    real = f", {parity.n_real} of them from {parity.data}," if parity.n_real else ""
    figures = f"On {parity.n_texts} texts{real} {parity.differs}: `{PARITY_FILE}`.{parity.scores}"
    return f"""{opening(info, library="onnx", form=". This ONNX graph needs no adapter and no base model.")}\
{figures}
{rounded}
## Use

With `pip install onnxruntime tokenizers`, in this folder:

```python
{script(facts)}```
"""

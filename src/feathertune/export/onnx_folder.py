"""A folder with an ONNX graph: what lies in it, the script on its card, and asking it as that script does.

Of the packages that run it only onnxruntime and tokenizers are used here, as by whoever gets the folder. Not for
serving: see `feathertune.predictor` for what this project predicts with.
"""

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
from feathertune.bundle.card import front_matter, title, what_is_given, what_is_read
from feathertune.bundle.plain_reading import plain_reading
from feathertune.data.reading.texts import Text, are_pairs
from feathertune.data.tokens.encode import EncodedTexts, Gathered, pad_batch
from feathertune.engine.predict import run_passes
from feathertune.export.parity import TOKEN_BUDGET
from feathertune.export.targets import PARITY_FILE, NumberParity, Parity
from feathertune.records import HEAD, Reading, Record, TaskName
from feathertune.runtime import FP32

GRAPH_FILE = "model.onnx"
FACTS_FILE = "model.json"
TOKENIZER_FILE = "tokenizer.json"
OUTPUT = "logits"
_CPU = torch.device("cpu")
_ERRORS = 3  # of onnxruntime's levels of messages

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
texts = sys.argv[1:] or ["A text.", "Another."]  # the two of a pair, the two of the next one, ...
for pair in zip(texts[::2], texts[1::2]):"""
_CUT_ALREADY = "ids = np.array([tokenizer.encode(text).ids], np.int64)"
_PAIR_CUT_ALREADY = """\
tokens = tokenizer.encode(*pair)
    ids = np.array([tokens.ids], np.int64)"""
_CUT_HERE = """\
tokens = tokenizer.encode(text)
    ids = np.array(sequences(tokens.ids, tokens.special_tokens_mask), np.int64)"""
_EACH = ', "probabilities": dict(zip(facts["labels"], p.tolist()))'
_TASKS = {
    "single_label": {
        "probabilities": "p = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()",
        "label": '"label": facts["labels"][p.argmax()]',
        "each_label": _EACH,
    },
    "multi_label": {
        "probabilities": "p = 1 / (1 + np.exp(-logits))",
        "label": '"labels": [facts["labels"][i] for i in np.flatnonzero(p >= facts["threshold"])]',
        "each_label": _EACH,
    },
    "regression": {"probabilities": "number = logits.item()", "label": '"label": number', "each_label": ""},
}
_MOVED = {"label": '"label": facts["labels"][(p / facts["threshold"]).argmax()]'}


class OnnxFacts(Record):
    """What a graph and a tokenizer do not say; ``model.json``.

    Attributes:
        labels: In the order of the logits; of numbers what they are called, one name.
        task: Whether a text has one label (softmax), any number of them (a sigmoid each), or a number, which is the
            one logit as it is.
        threshold: Of any number of labels, the probability from which each is given; of one, what each probability is
            divided by before the largest is taken, null where it is taken as it is.
        max_length: Tokens that are read at once; where longer texts are cut there, the tokenizer's file says so, too.
        reading: What becomes of a longer text; the script on the card does it.
        inputs: Of the graph, each ``(batch, length)`` int64.
        pad_token_id: Fills up the shorter texts of a batch, where ``attention_mask`` is 0.
        text_columns: Where the texts stood in the data; two where each is a pair.
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
    """A folder as onnxruntime and tokenizers read it.

    Args:
        folder: Holds the graph, the tokenizer and the facts.
    """

    def __init__(self, folder: Path) -> None:
        self.facts = OnnxFacts.model_validate_json((folder / FACTS_FILE).read_bytes())
        self._tokenizer: Any = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        self._session = session(folder / GRAPH_FILE)

    def encode(self, texts: Sequence[Text]) -> EncodedTexts:
        """Tokens of N texts by the folder's own tokenizer."""
        facts = self.facts
        has_types = are_pairs(texts) and "token_type_ids" in facts.inputs
        gathered = Gathered(facts.max_length, facts.reading, pad_id=facts.pad_token_id, has_types=has_types)
        for encoding in self._tokenizer.encode_batch([t if isinstance(t, str) else tuple(t) for t in texts]):
            gathered.add(encoding)
        return gathered.texts()

    def logits(self, texts: EncodedTexts, *, token_budget: int = TOKEN_BUDGET) -> np.ndarray:
        """Logits ``(N, C)`` float32, texts of similar length together."""

        def forward(batch: dict[str, Tensor]) -> tuple[Tensor]:
            return (torch.from_numpy(self._run({name: tensor.numpy() for name, tensor in batch.items()})),)

        return run_passes(forward, texts, token_budget=token_budget, runtime=FP32)[0]

    def logits_alone(self, texts: EncodedTexts) -> np.ndarray:
        """Logits ``(N, C)`` float32, each text by itself and without padding, as the card's script runs it.

        Where activations are quantised, the step of a batch follows from its largest number: what a text gets would
        depend on its neighbours.
        """
        return texts.pooled(np.concatenate([self._run(one) for one in each_alone(texts)]))

    def _run(self, batch: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = self._session.run([OUTPUT], given(self.facts, batch))[0]
        return found


def each_alone(texts: EncodedTexts) -> Iterator[dict[str, np.ndarray]]:
    """A batch ``(1, T)`` int64 of each sequence, without padding."""
    types = [None] * texts.n_sequences if texts.types is None else np.split(texts.types, texts.offsets[1:-1])
    for ids, kinds in zip(np.split(texts.ids, texts.offsets[1:-1]), types, strict=True):
        given = pad_batch([ids], width=len(ids), pad_id=0, device=_CPU, types=[kinds])
        yield {name: tensor.numpy() for name, tensor in given.items()}


def session(graph: Path) -> Any:  # noqa: ANN401 - onnxruntime's
    """A graph as onnxruntime runs it here, on as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = _ERRORS
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def given(facts: OnnxFacts, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs of a graph.

    Args:
        facts: Which it has.
        batch: As `EncodedTexts.collate` makes it, each ``(B, T)`` int64; where there is no mask, nothing is filled up,
            and where there are no types, all are 0.
    """
    ids = batch["input_ids"]
    every = {"attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids), **batch}
    return {name: every[name] for name in facts.inputs}


def script(facts: OnnxFacts) -> str:
    """Python that labels texts with the folder, by onnxruntime, tokenizers and numpy alone."""
    cuts, pairs = facts.reading == HEAD, len(facts.text_columns) == 2
    moved = facts.task == "single_label" and facts.threshold is not None
    sequences = plain_reading(facts.reading, facts.max_length)
    return _SCRIPT.format(
        facts=FACTS_FILE,
        tokenizer=TOKENIZER_FILE,
        graph=GRAPH_FILE,
        comment='  # cuts at facts["max_length"] by itself' if cuts else "",
        sequences=f"\n\n{sequences}\n\n" if sequences else "",
        each=_PAIR if pairs else _ONE,
        ids=_PAIR_CUT_ALREADY if pairs else _CUT_ALREADY if cuts else _CUT_HERE,
        types="np.array([tokens.type_ids], np.int64)" if pairs else "np.zeros_like(ids)",
        **(_TASKS[facts.task] | (_MOVED if moved else {})),
    )


def card(info: BundleInfo, facts: OnnxFacts, parity: Parity) -> str:
    """The README.md of the folder."""
    rounded = ""
    if parity.max_flips is not None:
        rounded = (
            "\nThe matrix products are in 8-bit integers. A batch is rounded by a step that follows from its largest\n"
            "number, so a text may get slightly other logits beside other texts. The figures are of each text alone.\n"
        )
    return f"""{front_matter(info, library="onnx")}
# {title(info)}

Trained by feathertune with the method `{info.method}` on `{info.base.id}`; an ONNX graph that needs neither.
{what_is_given(info)} {what_is_read(info)}
{_figures(parity)}
{rounded}
## Use

With `pip install onnxruntime tokenizers`, in this folder:

```python
{script(facts)}```
"""


def _figures(parity: Parity) -> str:
    real = f", {parity.n_real} of them of {parity.data}," if parity.n_real else ""
    scores = ""
    if parity.accuracy_before is not None and parity.accuracy_after is not None:
        scores = (
            f"\nThe accuracy on those {parity.n_real} is {parity.accuracy_after:.2%}, that of the bundle "
            f"{parity.accuracy_before:.2%}."
        )
    if isinstance(parity, NumberParity):
        before, after = parity.rank_correlation_before, parity.rank_correlation_after
        if before is not None and after is not None:
            scores = f"\nThe rank correlation on those {parity.n_real} is {after:.3f}, that of the bundle {before:.3f}."
    return f"On {parity.n_texts} texts{real} {parity.differs}: `{PARITY_FILE}`.{scores}"

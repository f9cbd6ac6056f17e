"""``--to onnx``: the merged model as an ONNX graph in fp32, with dynamic batch size and length."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from feathertune.bundle import Bundle, merged_model
from feathertune.errors import BundleError, first_line
from feathertune.export.check import Parity
from feathertune.export.onnx_folder import (
    FACTS_FILE,
    GRAPH_FILE,
    OUTPUT,
    TOKENIZER_FILE,
    OnnxFacts,
    OnnxFolder,
    card,
)
from feathertune.export.parity import Asked, compare, fp32_logits, require
from feathertune.records import HEAD
from feathertune.storage import write_atomic
from feathertune.tasks import TASKS

# Sizes of the example that the graph is traced with; torch would treat a size of 1 as fixed.
_BATCH, _LENGTH = 2, 16


def write(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    """Merge, export, and compare the folder with the bundle, which is unusable afterwards."""
    expected = fp32_logits(bundle.model.float(), asked.tokens)
    facts = write_graph(bundle, folder)
    parity = check_graph(bundle, folder, asked, expected)
    write_atomic(folder / "README.md", card(bundle.info, facts, parity))
    return parity


def write_graph(bundle: Bundle, folder: Path) -> OnnxFacts:
    """Write graph, tokenizer and facts of a bundle in fp32 without comparing; the bundle is unusable afterwards."""
    model, info = merged_model(bundle), bundle.info
    taken = inspect.signature(model.forward).parameters
    inputs = tuple(name for name in bundle.tokenizer.model_input_names if name in taken)
    try:
        _export(model, inputs, folder / GRAPH_FILE)
    except OSError:  # a full disk
        raise
    except Exception as error:  # torch's exporter may raise any error
        raise BundleError(
            f"The bundle {bundle.folder} cannot be exported to ONNX: torch.onnx fails on {type(model).__name__} "
            f"({first_line(error)}). Use `--to merged`, or ship the bundle as it is."
        ) from error
    tokenizer = bundle.tokenizer.backend_tokenizer
    tokenizer.no_padding()
    if info.reading == HEAD:
        tokenizer.enable_truncation(info.max_length, direction=bundle.tokenizer.truncation_side)
    else:
        tokenizer.no_truncation()
    write_atomic(folder / TOKENIZER_FILE, tokenizer.to_str())
    facts = OnnxFacts(
        labels=info.labels,
        task=info.task,
        threshold=info.threshold or TASKS[info.task].default_thresholds(len(info.labels)),
        max_length=info.max_length,
        reading=info.reading,
        inputs=list(inputs),
        pad_token_id=int(bundle.tokenizer.pad_token_id or 0),
        text_columns=info.text_columns,
    )
    write_atomic(folder / FACTS_FILE, facts.model_dump_json(indent=1) + "\n")
    return facts


def check_graph(bundle: Bundle, folder: Path, asked: Asked, expected: np.ndarray) -> Parity:
    """Require that a written graph, in padded batches, gives the bundle's logits `expected`."""
    written = OnnxFolder(folder)
    again = replace(asked, tokens=written.encode(asked.texts))
    parity = compare(expected, written.logits(again.tokens), again, bundle, to="onnx")
    require(parity, bundle, "The ONNX graph")
    return parity


class _Logits(nn.Module):
    """A classifier as a function from input tensors, by position, to logits."""

    def __init__(self, model: PreTrainedModel, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs = model, inputs

    def forward(self, *tensors: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.inputs, tensors, strict=True))).logits
        return logits


def _export(model: PreTrainedModel, inputs: tuple[str, ...], path: Path) -> None:
    example = {name: torch.ones(_BATCH, _LENGTH, dtype=torch.int64) for name in inputs}
    if "token_type_ids" in example:
        example["token_type_ids"].zero_()
    axes = {0: "batch", 1: "length"}
    with _quiet_exporter():
        torch.onnx.export(
            _Logits(model, inputs).eval(),
            tuple(example.values()),
            path,
            input_names=list(inputs),
            output_names=[OUTPUT],
            dynamic_shapes=(tuple(axes for _ in inputs),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)  # it warns that torchvision is not installed
    try:
        with warnings.catch_warnings():
            # It warns that ids and mask share the axes batch and length.
            warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
            # The exporter uses a deprecated class.
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            yield
    finally:
        registry.setLevel(level)

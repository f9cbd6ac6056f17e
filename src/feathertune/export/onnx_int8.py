"""``--to onnx-int8``: the graph of ``--to onnx`` with its products of weights in 8-bit integers.

Weights are rounded once, activations as they come (dynamic quantisation), by onnxruntime. Embeddings, norms, softmax,
products of two activations and the head stay in fp32. Not where the last digit counts: see ``parity.json``.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from feathertune.bundle import Bundle
from feathertune.export.onnx import check_graph, write_graph
from feathertune.export.onnx_folder import GRAPH_FILE, OnnxFolder, card
from feathertune.export.parity import Asked, compare, fp32_logits, require
from feathertune.export.targets import Parity
from feathertune.storage import write_atomic


def write(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    """Write the graph in fp32, see that it is right, round it, and ask it the real texts.

    Args:
        bundle: Loaded; it is used up.
        folder: Empty.
        asked: What to compare on, real texts among it.

    Raises:
        BundleError: If the bundle cannot be exported, or loses more than it may.
    """
    real = asked.only_real()
    expected = fp32_logits(bundle.model.float(), asked.tokens)
    facts = write_graph(bundle, folder)
    check_graph(bundle, folder, asked.only_made(), expected[: asked.n_made])
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        rounded = Path(scratch) / GRAPH_FILE
        quantise(folder / GRAPH_FILE, rounded)
        rounded.replace(folder / GRAPH_FILE)
    (folder / f"{GRAPH_FILE}.data").unlink(missing_ok=True)  # where torch puts weights that are too large for one file
    written = OnnxFolder(folder)
    tokens = written.encode(real.texts)
    found = written.logits_alone(tokens)
    parity = compare(expected[asked.n_made :], found, real.tokenised(tokens), bundle, to="onnx-int8", rounds=True)
    require(parity, bundle, "The graph in 8-bit integers")
    write_atomic(folder / "README.md", card(bundle.info, facts, parity))
    return parity


def quantise(source: Path, target: Path, *, per_channel: bool = True, reduce_range: bool = True) -> None:
    """Round the weights of a graph's matrix products, and have their other sides rounded as they come.

    Args:
        source: A graph in fp32.
        target: Where the rounded one goes.
        per_channel: A step for each column of a weight, instead of one for all of it.
        reduce_range: Seven bits instead of eight: without the instructions of VNNI (AVX2 and older AVX512 processors)
            two products of eight bits overflow the sixteen that they are added up in.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    # torch writes sizes as formulas of batch and length, which onnx's own inference takes for contradictions.
    del graph.graph.value_info[:]
    # The head reads one row a text, so it is a Gemm: in eight bits it would save nothing, and cost the last digits.
    products = [node.name for node in graph.graph.node if node.op_type == "MatMul"]
    with _quiet_quantiser():
        quantize_dynamic(
            graph,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=products,
            per_channel=per_channel,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )


@contextlib.contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """Leave out onnxruntime's advice to optimise the graph first: torch has done that, as it exported it."""

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()  # which it says it to
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)

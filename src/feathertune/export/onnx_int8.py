"""``--to onnx-int8``: the graph of ``--to onnx`` with weight products in 8-bit integers (dynamic quantisation)."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import onnx

from feathertune.bundle import Bundle
from feathertune.data.tokens.encode import EncodedTexts
from feathertune.errors import BundleError
from feathertune.export.check import Parity
from feathertune.export.onnx import check_graph, write_graph
from feathertune.export.onnx_folder import GRAPH_FILE, OnnxFacts, OnnxFolder, card
from feathertune.export.parity import Asked, compare, fp32_logits, require
from feathertune.export.rounding import MAX_NOISE, product_noise
from feathertune.storage import write_atomic

# Steps from zero to the largest number in a weight's column.
_SEVEN_BITS, _EIGHT_BITS = 64, 127


def write(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    """Write the graph in fp32, check it, round it, and compare it on real texts; the bundle is unusable afterwards."""
    made, real = asked.part(0, asked.n_made), asked.part(asked.n_made, len(asked.texts))
    expected = fp32_logits(bundle.model.float(), asked.tokens)
    facts = write_graph(bundle, folder)
    check_graph(bundle, folder, made, expected[: asked.n_made])
    exact = OnnxFolder(folder)
    tokens = exact.encode(real.texts)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        rounded = Path(scratch) / GRAPH_FILE
        kept = quantise(folder / GRAPH_FILE, rounded, exact.facts, tokens)
        rounded.replace(folder / GRAPH_FILE)
    (folder / f"{GRAPH_FILE}.data").unlink(missing_ok=True)  # torch puts weights there that are too large for one file
    found = OnnxFolder(folder).logits_alone(tokens)
    parity = compare(expected[asked.n_made :], found, replace(real, tokens=tokens), bundle, to="onnx-int8", rounds=True)
    parity.kept_in_fp32, parity.rounded = kept
    require(parity, bundle, "The 8-bit graph")
    write_atomic(folder / "README.md", card(bundle.info, facts, parity))
    return parity


def quantise(
    source: Path,
    target: Path,
    facts: OnnxFacts,
    texts: EncodedTexts,
    *,
    max_noise: float = MAX_NOISE,
    per_channel: bool = True,
    reduce_range: bool = True,
) -> tuple[int, int]:
    """Round a graph's weight products that lose at most `max_noise` of their output on real texts.

    `reduce_range` uses seven bits: without VNNI instructions (AVX2), the sum of two 8-bit products overflows 16 bits.

    Returns:
        Number of products in fp32, and number of rounded products.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    # torch writes sizes as formulas of batch and length, which onnx's own inference mistakes for contradictions.
    del graph.graph.value_info[:]
    noise = product_noise(graph, facts, texts, weight_steps=_SEVEN_BITS if reduce_range else _EIGHT_BITS)
    rounded = [name for name, share in noise.items() if share <= max_noise]
    if not rounded:  # onnxruntime takes an empty list to mean all of them
        raise BundleError(
            f"In 8 bits, each of the {len(noise)} matrix products would lose over {max_noise:.0%} of its output, so "
            "none can be rounded. Export in fp32 with --to onnx."
        )
    with _quiet_quantiser():
        quantize_dynamic(
            graph,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=rounded,
            per_channel=per_channel,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
        )
    return len(noise) - len(rounded), len(rounded)


@contextlib.contextmanager
def _quiet_quantiser() -> Iterator[None]:
    def keep(record: logging.LogRecord) -> bool:
        # advice to optimise the graph first, which torch did at the export
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)

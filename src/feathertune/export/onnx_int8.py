"""``--to onnx-int8``: the graph of ``--to onnx`` with weight products in 8-bit integers (dynamic quantisation).

Embeddings, norms, softmax, products of two activations and the head stay in fp32, and so do products that would lose
too much (`feathertune.export.rounding`).
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator
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

# From zero to the largest number of a weight's column.
_SEVEN_BITS, _EIGHT_BITS = 64, 127


def write(bundle: Bundle, folder: Path, asked: Asked) -> Parity:
    """Write the graph in fp32, check it, round it, and compare it on real texts; the bundle is used up.

    Raises:
        BundleError: If the bundle cannot be exported, or loses more than it may.
    """
    real = asked.only_real()
    expected = fp32_logits(bundle.model.float(), asked.tokens)
    facts = write_graph(bundle, folder)
    check_graph(bundle, folder, asked.only_made(), expected[: asked.n_made])
    exact = OnnxFolder(folder)
    tokens = exact.encode(real.texts)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        rounded = Path(scratch) / GRAPH_FILE
        kept = quantise(folder / GRAPH_FILE, rounded, exact.facts, tokens)
        rounded.replace(folder / GRAPH_FILE)
    (folder / f"{GRAPH_FILE}.data").unlink(missing_ok=True)  # torch's place for weights that are too large for one file
    found = OnnxFolder(folder).logits_alone(tokens)
    parity = compare(expected[asked.n_made :], found, real.tokenised(tokens), bundle, to="onnx-int8", rounds=True)
    parity.kept_in_fp32, parity.rounded = kept
    require(parity, bundle, "The graph in 8-bit integers")
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
    """Round the weights of a graph's matrix products; activations are rounded at run time.

    Args:
        source: Path of a graph in fp32.
        target: Path of the rounded graph.
        facts: Of the graph.
        texts: Real texts, to measure each product's loss on.
        max_noise: A product that loses a larger share of its output stays in fp32.
        per_channel: One step for each column of a weight, not one for the whole weight.
        reduce_range: Seven bits, not eight: without VNNI instructions (AVX2 and older AVX512 processors) the sum of two
            8-bit products overflows 16 bits.

    Returns:
        Number of products in fp32, and number of rounded products.

    Raises:
        BundleError: If every product would lose more than that.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = onnx.load(source)
    # torch writes sizes as formulas of batch and length, which onnx's own inference takes for contradictions.
    del graph.graph.value_info[:]
    noise = product_noise(graph, facts, texts, weight_steps=_SEVEN_BITS if reduce_range else _EIGHT_BITS)
    rounded = [name for name, share in noise.items() if share <= max_noise]
    if not rounded:  # which onnxruntime would take for all of them
        raise BundleError(
            f"In 8 bits each of the {len(noise)} matrix products would lose over {max_noise:.0%} of its output: "
            "there is nothing to round. Export it in fp32: --to onnx."
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
    """Silence onnxruntime's advice to optimise the graph first, which torch did at the export."""

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)

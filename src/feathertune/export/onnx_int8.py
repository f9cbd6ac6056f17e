"""``--to onnx-int8``: the graph of ``--to onnx`` with its products of weights in 8-bit integers.

Weights are rounded once, activations as they come (dynamic quantisation), by onnxruntime. Embeddings, norms, softmax,
products of two activations and the head stay in fp32, and so do products that would lose too much
(`feathertune.export.rounding`). Not where the last digit counts: see ``parity.json``.
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
from feathertune.export.onnx import check_graph, write_graph
from feathertune.export.onnx_folder import GRAPH_FILE, OnnxFacts, OnnxFolder, card
from feathertune.export.parity import Asked, compare, fp32_logits, require
from feathertune.export.rounding import MAX_NOISE, product_noise
from feathertune.export.targets import Parity
from feathertune.storage import write_atomic

# From zero to the largest number of a weight's column.
_SEVEN_BITS, _EIGHT_BITS = 64, 127


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
    exact = OnnxFolder(folder)
    tokens = exact.encode(real.texts)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        rounded = Path(scratch) / GRAPH_FILE
        kept = quantise(folder / GRAPH_FILE, rounded, exact.facts, tokens)
        rounded.replace(folder / GRAPH_FILE)
    (folder / f"{GRAPH_FILE}.data").unlink(missing_ok=True)  # where torch puts weights that are too large for one file
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
    """Round the weights of a graph's matrix products, and have their other sides rounded as they come.

    Args:
        source: A graph in fp32.
        target: Where the rounded one goes.
        facts: Of the graph.
        texts: Tokens of real texts, on which it is seen what a product would lose.
        max_noise: A product that loses a larger share of its output stays in fp32.
        per_channel: A step for each column of a weight, instead of one for all of it.
        reduce_range: Seven bits instead of eight: without the instructions of VNNI (AVX2 and older AVX512 processors)
            two products of eight bits overflow the sixteen that they are added up in.

    Returns:
        How many products stayed in fp32, and how many were rounded.

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
    """Leave out onnxruntime's advice to optimise the graph first: torch has done that, as it exported it."""

    def keep(record: logging.LogRecord) -> bool:
        return "pre-processing before quantization" not in record.getMessage()

    root = logging.getLogger()  # which it says it to
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)

"""What 8-bit rounding takes from each matrix product of a graph, found on real texts: the worst stay in fp32.

The step of an activation follows from its largest number. Where a few numbers are far larger than the rest, as in the
wide layer of an MLP, most of the rest is lost (outliers: Bondarenko et al. 2021, "Understanding and overcoming the
challenges of efficient transformer quantization"; Dettmers et al. 2022, "LLM.int8()"). Which layers have such numbers
is a matter of the encoder, so it is measured. Not for judging the rounded model: that takes all of it, see `parity`.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from feathertune.data.tokens.encode import EncodedTexts
from feathertune.export.onnx_folder import OnnxFacts, each_alone, given, session

# The share of a product's output by which rounding may move it; above that it stays in fp32. Chosen on IMDB reviews
# that were neither trained nor tested on (benchmarks/LOG.md).
MAX_NOISE = 0.04
# As many texts are looked at, the first ones.
_TEXTS = 24
_ACTIVATION_STEPS = 255


def products(graph: ModelProto) -> dict[str, str]:
    """Products of an activation with a weight: name of the node to name of the weight.

    A Gemm is none of them: the head reads one row a text, so 8 bits would save nothing there, and cost the last digits.
    """
    weights = {weight.name for weight in graph.graph.initializer}
    return {n.name: n.input[1] for n in graph.graph.node if n.op_type == "MatMul" and n.input[1] in weights}


def product_noise(graph: ModelProto, facts: OnnxFacts, texts: EncodedTexts, *, weight_steps: int) -> dict[str, float]:
    """How far rounding moves each product, as a share of its output, in the mean over some texts.

    Args:
        graph: In fp32.
        facts: Its inputs.
        texts: Tokens of real texts.
        weight_steps: From zero to the largest number of a weight's column.

    Returns:
        ``|Q(x) Q(W) - x W| / |x W|`` by name of the node, 0 where the output is 0.
    """
    found = products(graph)
    used = set(found.values())
    weights = {w.name: numpy_helper.to_array(w) for w in graph.graph.initializer if w.name in used}
    rounded = {name: _rounded_weight(weights[weight], weight_steps) for name, weight in found.items()}
    inputs = {node.name: node.input[0] for node in graph.graph.node if node.name in found}
    asked = sorted(set(inputs.values()))
    noise: dict[str, list[float]] = {name: [] for name in found}
    with tempfile.TemporaryDirectory() as folder:
        probe = session(_with_outputs(graph, asked, Path(folder) / "probe.onnx"))
        for one in itertools.islice(each_alone(texts), _TEXTS):
            values = dict(zip(asked, probe.run(asked, given(facts, one)), strict=True))
            for name, weight in found.items():
                x = values[inputs[name]]
                exact = x @ weights[weight]
                moved = _rounded_activation(x) @ rounded[name] - exact
                noise[name].append(float(np.linalg.norm(moved) / max(np.linalg.norm(exact), np.finfo(np.float32).tiny)))
    return {name: float(np.mean(one)) for name, one in noise.items()}


def _with_outputs(graph: ModelProto, names: list[str], path: Path) -> Path:
    """Write a graph that also gives these values."""
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    there = {output.name for output in probe.graph.output}
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in there
    )
    onnx.save(probe, path, save_as_external_data=probe.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF)
    return path


def _rounded_activation(x: np.ndarray) -> np.ndarray:
    """As ``DynamicQuantizeLinear`` does: one step for all of it, zero among the values."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if high == low:
        return x
    step = (high - low) / _ACTIVATION_STEPS
    zero = np.round(-low / step)
    found: np.ndarray = (np.clip(np.round(x / step) + zero, 0, _ACTIVATION_STEPS) - zero) * step
    return found


def _rounded_weight(weight: np.ndarray, steps: int) -> np.ndarray:
    """One step a column, the same up and down."""
    step = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny) / steps
    found: np.ndarray = np.round(weight / step) * step
    return found

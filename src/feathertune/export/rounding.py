"""The noise that 8-bit rounding adds to each matrix product of a graph, measured on real texts.

Source: Bondarenko et al. 2021, Understanding and overcoming the challenges of efficient transformer quantization;
Dettmers et al. 2022, LLM.int8().
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

# Largest noise, as a share of a product's output; above it, the product stays in fp32. Chosen on IMDB reviews outside
# the training and test sets (benchmarks/LOG.md).
MAX_NOISE = 0.04
_TEXTS = 24  # number of texts to measure
_ACTIVATION_STEPS = 255


def products(graph: ModelProto) -> dict[str, str]:
    """Return the products of an activation with a weight, except the head's: node name to weight name."""
    weights = {weight.name for weight in graph.graph.initializer}
    return {n.name: n.input[1] for n in graph.graph.node if n.op_type == "MatMul" and n.input[1] in weights}


def product_noise(graph: ModelProto, facts: OnnxFacts, texts: EncodedTexts, *, weight_steps: int) -> dict[str, float]:
    """Return each node's noise ``|Q(x) Q(W) - x W| / |x W|``, averaged over texts.

    `weight_steps` is the number of steps from zero to the largest number in a weight's column.
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
    probe = onnx.ModelProto()
    probe.CopyFrom(graph)
    there = {output.name for output in probe.graph.output}
    probe.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in there
    )
    onnx.save(probe, path, save_as_external_data=probe.ByteSize() > onnx.checker.MAXIMUM_PROTOBUF)
    return path


def _rounded_activation(x: np.ndarray) -> np.ndarray:
    """Round like ``DynamicQuantizeLinear``: one step for the whole tensor, with an exact zero."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    if high == low:
        return x
    step = (high - low) / _ACTIVATION_STEPS
    zero = np.round(-low / step)
    found: np.ndarray = (np.clip(np.round(x / step) + zero, 0, _ACTIVATION_STEPS) - zero) * step
    return found


def _rounded_weight(weight: np.ndarray, steps: int) -> np.ndarray:
    """Round with one symmetric step per column."""
    step = np.maximum(np.abs(weight).max(axis=0), np.finfo(np.float32).tiny) / steps
    found: np.ndarray = np.round(weight / step) * step
    return found

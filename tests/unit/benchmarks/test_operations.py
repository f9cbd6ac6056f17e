"""The formulas of operations against torch's own counter, over the engine's passes."""

import numpy as np
import pytest
import torch
from operations import Sizes, Work, prefix_operations, step_operations
from torch.utils.flop_counter import FlopCounterMode

from feathertune.config import EngineConfig
from feathertune.encoders import load_encoder
from feathertune.engine.fast_path import fast_parts
from feathertune.methods import METHODS, Job
from feathertune.runtime import Runtime
from tiny import save_tiny_encoder

CPU = Runtime(torch.device("cpu"), "fp32", "eager", "test", {})
# Wide enough that pooler, head and LoRA's joined factors are small beside the blocks.
SIZES = {"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512, "num_hidden_layers": 4}
B, T, R = 4, 32, 2
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_encoder(tmp_path_factory.mktemp("operations"), "bert", **SIZES)


def counted(folder, method, *, backward=True, **options):
    """Operations of one pass, as torch counts them, by the last block's form."""
    found = {}
    for form in ("off", "keys", "auto"):
        encoder = load_encoder(str(folder), labels=("no", "yes"), seed=0, attention="eager")
        sizes = Sizes.of(encoder)
        chosen = METHODS[method]
        model = chosen.prepare(encoder, chosen.options(**options), Job(0))
        batch = {"input_ids": torch.from_numpy(np.full((B, T), 7))}
        with fast_parts(encoder, EngineConfig(dtype="fp32", packed="off", last_layer=form), CPU):
            counter = FlopCounterMode(display=False)
            with counter:
                loss = model(**batch).logits.sum()
                if backward:
                    loss.backward()
        found[form] = counter.get_total_flops()
    return sizes, found


@pytest.mark.parametrize(("form", "last_block"), [("off", "whole"), ("keys", "keys"), ("auto", "one query")])
def test_operations_are_those_that_torch_counts(folder, form, last_block):
    d, f = SIZES["hidden_size"], SIZES["intermediate_size"]
    query_value = ((d, d),) * 2
    for method, options, work in (
        ("full", {}, Work(True, last_block=last_block)),
        (
            "lora",
            {"r": R, "target_modules": "query-value"},
            Work(False, R, query_value, query_value, last_block=last_block),
        ),
        (
            "lora",
            {"r": R},
            Work(False, R, (*((d, d),) * 4, (d, f), (f, d)), ((d, d),) * 3, last_block=last_block),
        ),
        (
            "lora",
            {"r": R, "target_modules": "query-value", "top_layers": 2},
            Work(False, R, query_value, query_value, first_trained=2, last_block=last_block),
        ),
    ):
        sizes, by_form = counted(folder, method, **options)
        assert step_operations([(B, T, B * T)], sizes, work) == pytest.approx(by_form[form], rel=TOLERANCE), (
            method,
            options,
        )


def test_what_is_kept_is_counted_once(folder):
    sizes = Sizes(128, 128, 2, 196608, 16384, 32768, 4)
    whole = Work(False, first_trained=2)
    kept = Work(False, first_trained=2, first_run=2)
    shapes = [(B, T, B * T), (1, 8, 6)]
    both = step_operations(shapes, sizes, kept) + prefix_operations(shapes, sizes, kept)
    assert both == step_operations(shapes, sizes, whole)
    assert prefix_operations(shapes, sizes, whole) == 0

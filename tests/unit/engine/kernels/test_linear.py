"""Joined linear layers against PEFT's own forward: outputs and the gradient of every trained parameter."""

import peft
import pytest
import torch
from peft import IA3Config, LoraConfig, ShiraConfig, inject_adapter_in_model
from torch import nn

from feathertune.engine.kernels.layer import Called, run
from feathertune.engine.kernels.linear import Arithmetic, LoraProduct, TrainedProduct, read_parts
from gradients import assert_same, check_gradients, grads

N, N_IN = 5, 6
# Different, so that rows of one layer cannot pass for those of another.
WIDTHS = {"query": 4, "key": 7, "value": 3}
RANKS = {"query": 2, "key": 1, "value": 3}
ALPHAS = {"query": 3, "key": 5, "value": 1}
SOME = [("query",), ("value",), ("key", "value"), ("query", "value"), ("query", "key", "value")]


def layers(dtype=torch.float64, *, bias=True):
    torch.manual_seed(0)
    return nn.ModuleDict({name: nn.Linear(N_IN, n_out, bias=bias, dtype=dtype) for name, n_out in WIDTHS.items()})


def freeze(holder):
    return holder.requires_grad_(False)


def adapt(holder, config, adapter="default"):
    """Let PEFT wrap layers, and move every adapter from where it begins: there it often does nothing."""
    dtype = next(holder.parameters()).dtype
    freeze(holder)
    inject_adapter_in_model(config, holder, adapter_name=adapter)
    with torch.no_grad():
        for parameter in holder.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 2)
    return holder.to(dtype)


def lora(targets, **settings):
    ranks, alphas = ({name: values[name] for name in targets} for values in (RANKS, ALPHAS))
    patterns = {"rank_pattern": ranks, "alpha_pattern": alphas, "init_lora_weights": False}
    return LoraConfig(target_modules=list(targets), **{**patterns, **settings})


def trained(holder):
    return [parameter for parameter in holder.parameters() if parameter.requires_grad]


def own_forward(modules, x):
    return torch.cat([module(x) for module in modules], dim=-1)


def compare(layer, holder, modules, dtype=torch.float64):
    """Under one seed, since some layers draw."""
    torch.manual_seed(1)
    x = torch.randn(N, N_IN, dtype=dtype, requires_grad=True)
    width = sum(WIDTHS[name] for name, module in holder.items() if module in modules)
    gradient = torch.randn(N, width, dtype=dtype)
    torch.manual_seed(2)
    found = run(layer, x)
    torch.manual_seed(2)
    expected = own_forward(modules, x)
    assert_same(found, expected, (x, *trained(holder)), gradient)


def check(layer):
    """By differences, where the gradient is written by hand."""
    torch.manual_seed(1)
    x = torch.randn(N, N_IN, dtype=torch.float64, requires_grad=True)
    check_gradients(lambda x, *_: run(layer, x), (x, *layer.parameters))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("names", [("key",), tuple(WIDTHS)])
def test_frozen(names, bias, dtype):
    holder = freeze(layers(dtype, bias=bias))
    modules = [holder[name] for name in names]
    layer = Arithmetic(dtype).join(modules)
    assert isinstance(layer, LoraProduct)
    assert layer.parameters == ()
    compare(layer, holder, modules, dtype)
    assert layer.forward(torch.randn(N, N_IN, dtype=dtype))[1] == (), "nothing asks for the input"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("targets", SOME)
def test_lora_beside_frozen_layers(targets, dtype):
    holder = adapt(layers(dtype), lora(targets))
    modules = list(holder.values())
    layer = Arithmetic(dtype).join(modules)
    assert isinstance(layer, LoraProduct)
    assert {id(p) for p in layer.parameters} == {id(p) for p in trained(holder)}
    scalings = {name: part.update.scaling for name, part in parts_of(holder).items() if part.update is not None}
    assert scalings == {name: ALPHAS[name] / RANKS[name] for name in targets}
    compare(layer, holder, modules, dtype)


def parts_of(holder):
    return {name: read_parts(module) for name, module in holder.items()}


@pytest.mark.parametrize("name", WIDTHS)
def test_lora_of_one_layer(name):
    holder = adapt(layers(), lora([name]))
    layer = Arithmetic(torch.float64).join([holder[name]])
    assert isinstance(layer, LoraProduct)
    compare(layer, holder, [holder[name]])
    check(layer)


@pytest.mark.parametrize("targets", SOME)
def test_gradient_of_lora_is_that_of_the_output(targets):
    check(Arithmetic(torch.float64).join(list(adapt(layers(), lora(targets)).values())))


@pytest.mark.parametrize("wants_x", [True, False])
@pytest.mark.parametrize("targets", SOME)
def test_a_that_stays_needs_no_input(targets, wants_x):
    """LoRA-FA: the wide input is not kept, and no gradient of A is computed."""
    holder = adapt(layers(), lora(targets))
    stay = [parameter for name, parameter in holder.named_parameters() if "lora_A" in name]
    for parameter in stay:
        parameter.requires_grad_(False)
    modules = list(holder.values())
    layer = Arithmetic(torch.float64).join(modules)
    compare(layer, holder, modules)
    x = torch.randn(N, N_IN, dtype=torch.float64)
    output, saved = layer.forward(x)
    assert all(tensor is not x for tensor in saved)
    assert sum(tensor.numel() for tensor in saved if tensor is not None) == sum(
        RANKS[name] * (N + N_IN + sum(WIDTHS.values())) for name in targets
    ), "what is kept is the thin product and the factors"
    grad_x, grads_found = layer.backward(torch.randn_like(output), saved, wants_x=wants_x)
    assert (grad_x is not None) == wants_x
    found = {id(p): gradient for p, gradient in zip(layer.parameters, grads_found, strict=True)}
    assert {id(p) for p in stay} == {number for number, gradient in found.items() if gradient is None}


def test_one_a_that_is_trained_needs_the_input():
    holder = adapt(layers(), lora(["query", "value"]))
    holder["query"].lora_A.requires_grad_(False)
    modules = list(holder.values())
    layer = Arithmetic(torch.float64).join(modules)
    compare(layer, holder, modules)
    x = torch.randn(N, N_IN, dtype=torch.float64)
    assert layer.forward(x)[1][0] is x


@pytest.mark.parametrize("bias", ["all", "lora_only"])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}], ids=["", "rslora"])
def test_lora_with_trained_biases(bias, settings):
    holder = adapt(layers(), lora(["query", "value"], **settings))
    for name, module in holder.items():
        base = getattr(module, "base_layer", module)
        base.bias.requires_grad_(bias == "all" or name != "key")
    modules = list(holder.values())
    layer = Arithmetic(torch.float64).join(modules)
    assert isinstance(layer, LoraProduct)
    assert len(layer.parameters) == 4 + (3 if bias == "all" else 2)
    compare(layer, holder, modules)
    check(layer)


@pytest.mark.parametrize("with_bias", [("query", "key", "value"), ("key",)])
def test_biases_alone_are_trained(with_bias):
    """BitFit; where a layer has no bias, its place stays empty."""
    holder = freeze(layers())
    for name, module in holder.items():
        if name in with_bias:
            module.bias.requires_grad_()
        else:
            module.bias = None
    modules = list(holder.values())
    layer = Arithmetic(torch.float64).join(modules)
    assert isinstance(layer, LoraProduct)
    assert len(layer.parameters) == len(with_bias)
    compare(layer, holder, modules)
    check(layer)


@pytest.mark.parametrize("bias", ["trained", "frozen", "none"])
@pytest.mark.parametrize("names", [("value",), tuple(WIDTHS)])
def test_trained(names, bias):
    holder = layers(bias=bias != "none")
    for module in holder.values():
        if module.bias is not None:
            module.bias.requires_grad_(bias == "trained")
    modules = [holder[name] for name in names]
    layer = Arithmetic(torch.float64).join(modules)
    assert isinstance(layer, TrainedProduct)
    assert len(layer.parameters) == len(names) * (2 if bias == "trained" else 1)
    compare(layer, holder, modules)
    check(layer)


def dora():
    return adapt(layers(), lora(WIDTHS, use_dora=True))


def dora_in_one():
    holder = adapt(layers(), lora(["query"], use_dora=True))
    return adapt_beside(holder, lora(["value"]))


def adapt_beside(holder, config):
    """Another kind of adapter in other layers, all of them trained."""
    before = trained(holder)
    holder = adapt(holder, config)
    for parameter in before:
        parameter.requires_grad_()
    return holder


def dropout_before_a():
    return adapt(layers(), lora(WIDTHS, lora_dropout=0.5)).train()


def bias_in_b():
    return adapt(layers(), lora(WIDTHS, lora_bias=True))


def several_adapters(active):
    def make():
        holder = adapt(adapt(layers(), lora(WIDTHS)), lora(WIDTHS, alpha_pattern={}), adapter="other")
        for module in holder.values():
            module.set_adapter(active)
        return holder

    return make


def merged():
    holder = adapt(layers(), lora(WIDTHS))
    for module in holder.values():
        module.merge()
    return holder


def disabled():
    holder = adapt(layers(), lora(WIDTHS))
    for module in holder.values():
        module.enable_adapters(False)
    return holder


def ia3():
    return adapt(layers(), IA3Config(target_modules=list(WIDTHS), feedforward_modules=["key"]))


def shira():
    return adapt(layers(), ShiraConfig(target_modules=list(WIDTHS), r=1))


def one_trained_of_three():
    holder = freeze(layers())
    holder["key"].requires_grad_()
    return holder


def lora_beside_a_trained_weight():
    holder = adapt(layers(), lora(["query"]))
    for module in holder.values():
        getattr(module, "base_layer", module).weight.requires_grad_()
    return holder


class Doubled(nn.Linear):
    """A linear layer that is none."""

    def forward(self, x):
        return 2 * super().forward(x)


def subclass():
    holder = layers()
    holder["key"] = Doubled(N_IN, WIDTHS["key"], dtype=torch.float64)
    return freeze(holder)


def wrapped_subclass():
    return adapt(subclass(), lora(["key"]))


OTHERS = {
    "dora": (dora, 9),
    "dora in one": (dora_in_one, 5),
    "dropout": (dropout_before_a, 6),
    "bias in B": (bias_in_b, 9),
    "two adapters active": (several_adapters(["default", "other"]), 12),
    "one adapter of two active": (several_adapters("other"), 6),
    "merged": (merged, 6),
    "disabled": (disabled, 0),
    "IA3": (ia3, 3),
    "SHiRA": (shira, 3),
    "one trained": (one_trained_of_three, 2),
    "LoRA beside a trained weight": (lora_beside_a_trained_weight, 5),
    "subclass": (subclass, 0),
    "wrapped subclass": (wrapped_subclass, 2),
}


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
@pytest.mark.parametrize(("make", "n_trained"), OTHERS.values(), ids=OTHERS.keys())
def test_whatever_is_more_runs_its_own_forward(make, n_trained):
    holder = make()
    modules = list(holder.values())
    layer = Arithmetic(torch.float64).join(modules)
    assert isinstance(layer, Called)
    assert len(layer.parameters) == n_trained
    compare(layer, holder, modules)


def test_an_adapter_that_is_merged_or_off_is_not_read():
    """The same layer before and after: what `join` reads is the state at that time."""
    holder = adapt(layers(), lora(WIDTHS))
    modules = list(holder.values())
    x = torch.randn(N, N_IN, dtype=torch.float64)
    adapted = run(Arithmetic(torch.float64).join(modules), x)
    for module in modules:
        module.enable_adapters(False)
    plain = run(Arithmetic(torch.float64).join(modules), x)
    assert (adapted - plain).abs().max() > 0.1
    for module in modules:
        module.enable_adapters(True)
    again = Arithmetic(torch.float64).join(modules)
    assert isinstance(again, LoraProduct)
    assert torch.equal(run(again, x), adapted)


def plain_lora():
    return adapt(layers(torch.float32), lora(WIDTHS))


def lora_and_biases():
    holder = adapt(layers(torch.float32), lora(["query", "value"]))
    for module in holder.values():
        getattr(module, "base_layer", module).bias.requires_grad_()
    return holder


def all_trained():
    return layers(torch.float32)


def of_fp32(make):
    return lambda: make().float()


STEPPING = {
    "LoRA": (plain_lora, LoraProduct),
    "LoRA and biases": (lora_and_biases, LoraProduct),
    "trained": (all_trained, TrainedProduct),
    "DoRA": (of_fp32(dora), Called),
    "SHiRA": (of_fp32(shira), Called),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("make", "kind"), STEPPING.values(), ids=STEPPING.keys())
def test_a_step_of_the_optimizer_is_seen(make, kind, fused):
    """Fused optimizers do not count a parameter's version up."""
    holder = make()
    modules = list(holder.values())
    layer = Arithmetic(torch.float32).join(modules)
    assert isinstance(layer, kind)
    optimizer = torch.optim.AdamW(trained(holder), lr=0.1, fused=fused)
    torch.manual_seed(0)
    x = torch.randn(N, N_IN)
    last = run(layer, x)
    for _ in range(2):
        run(layer, x).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        now = run(layer, x)
        assert (now - last).abs().max() > 1e-2
        assert_same(now, own_forward(modules, x), trained(holder), torch.randn(N, sum(WIDTHS.values())))
        last = now.detach()


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("make", "kind"), STEPPING.values(), ids=STEPPING.keys())
def test_bf16_is_near_fp32(make, kind, packed):
    holder = make()
    modules = list(holder.values())
    layer = Arithmetic(torch.bfloat16, packed=packed).join(modules)
    assert isinstance(layer, kind)
    torch.manual_seed(0)
    x = torch.randn(N, N_IN)
    rounded = x.bfloat16().requires_grad_()
    x.requires_grad_()
    found, expected = run(layer, rounded), own_forward(modules, x)
    assert found.dtype == torch.bfloat16
    gradient = torch.randn_like(expected)
    ours = [found, *grads(found, (rounded, *trained(holder)), gradient)]
    theirs = [expected, *grads(expected, (x, *trained(holder)), gradient)]
    assert [tensor.dtype for tensor in ours] == 2 * [torch.bfloat16] + len(trained(holder)) * [torch.float32]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.float(), other, rtol=2e-2, atol=2e-2 * other.abs().max().item())


def test_the_switch_calls_each_layer():
    holder = adapt(layers(), lora(WIDTHS))
    modules = list(holder.values())
    layer = Arithmetic(torch.float64, fused=False).join(modules)
    assert isinstance(layer, Called)
    compare(layer, holder, modules)


def test_reads_the_classes_that_peft_makes():
    """The types are compared exactly: were PEFT to make others, all would quietly fall back."""
    holder = adapt(layers(), lora(WIDTHS))
    assert {type(module) for module in holder.values()} == {peft.tuners.lora.layer.Linear}

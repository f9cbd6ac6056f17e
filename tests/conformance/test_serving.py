"""Bundles of every method on one encoder in memory, in passes with all others: the answers are the offline ones.

Parametrised from the registry alone.
"""

import functools
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from feathertune.config import EngineConfig
from feathertune.methods import METHODS
from feathertune.predictor import load
from feathertune.runtime import give_memory_back
from feathertune.serve.models import Models
from trained import ALL, one_thread, refused, shipped
from whole import BF16, CPU

pytestmark = pytest.mark.usefixtures(one_thread.__name__)
FP32 = EngineConfig(dtype="fp32", device="cpu", memory="return")
TEXTS = [
    "a great film",
    "the plot is bad, very bad",
    "it was great fun " * 4,
    "no",
    "cold and dull but not bad",
    "very",
]
# Of a probability. In fp32 a text's answer depends on its neighbours by rounding alone, some 1e-6 here.
ATOL = 1e-5
BIG = 1 << 12


def able(family):
    return [method for method in METHODS if not refused(family, method)]


def serve(family, methods, n_workers=1):
    models = Models(FP32, CPU, n_workers=n_workers)
    for method in methods:
        place, _ = shipped(family, method)
        models.add(method.name, models.read(place))
    return models


@functools.cache
def all_served(family):
    """Every method at once; tests only ask them."""
    return serve(family, able(family))


def by_lane(models):
    lanes = {}
    for model in models.all():
        lanes.setdefault(model.lane, []).append(model)
    return list(lanes.values())


def answers_of_passes(models, texts, **pass_):
    """Each bundle's texts, in one pass a lane, the bundles' texts in turn."""
    found = {}
    for lane in by_lane(models):
        rows = [(model, row) for model in lane for row in models.encode(model, texts)]
        order = np.random.default_rng(0).permutation(len(rows))
        answers = models.run([rows[i] for i in order], **pass_)
        placed = dict(zip(order.tolist(), answers, strict=True))
        for i, (model, _) in enumerate(rows):
            found.setdefault(model.name, []).append(placed[i])
    return found


def assert_offline_answers(found, family, methods):
    for method in methods:
        predictor = load(shipped(family, method)[0], engine=FP32)
        for (label, probabilities), (expected, offline) in zip(
            found[method.name], predictor.predict(TEXTS), strict=True
        ):
            assert probabilities == pytest.approx(offline, rel=0, abs=ATOL), method.name
            close = abs(min(offline.values()) - max(offline.values())) < 2 * ATOL
            assert label == expected or close, method.name


@pytest.mark.slow  # trains every method; parity/test_mixed_batches.py has one of each kind
@pytest.mark.parametrize("family", ALL)
def test_every_method_beside_all_others(family):
    methods = able(family)
    found = answers_of_passes(all_served(family), TEXTS)
    assert_offline_answers(found, family, methods)
    differ = {tuple(round(p, 4) for _, row in answers for p in row.values()) for answers in found.values()}
    assert len(differ) > len(methods) / 2, "bundles differ, so that mixing them up would be seen"


def test_two_threads_at_once_answer_as_one():
    """A pass changes what modules hold while it runs, so each thread has modules of its own on the same tensors."""
    family, methods = ALL[0], able(ALL[0])[:4]
    models = serve(family, methods, n_workers=2)
    for model in models.all():
        one, two = (dict(one.bundle.model.named_parameters()) for one in model.predictors)
        assert one.keys() == two.keys()
        assert all(one[name] is two[name] for name in one)
        first, second = ({*map(id, each.bundle.model.modules())} for each in model.predictors)
        assert not first & second

    def ask(worker):
        return [answers_of_passes(models, TEXTS, worker=worker, alone=False) for _ in range(20)]

    with ThreadPoolExecutor(2) as threads:
        found = [answers for of_thread in threads.map(ask, range(2)) for answers in of_thread]
    assert len(found) == 40
    assert_offline_answers(found[0], family, methods)
    for answers in found[1:]:
        for method in methods:
            for (_, ours), (_, first) in zip(answers[method.name], found[0][method.name], strict=True):
                assert ours == pytest.approx(first, rel=0, abs=ATOL), method.name


def test_bf16_answers_are_as_near_as_its_digits():
    """With the rows that fill a pass up to one of few shapes."""
    family = ALL[0]
    methods = able(family)[:3]
    models = Models(FP32, BF16)
    for method in methods:
        models.add(method.name, models.read(shipped(family, method)[0]))
    assert {row.width for model in models.all() for row in models.encode(model, ["it was great fun " * 3])} == {16}
    for n in (1, 3, 5):
        found = answers_of_passes(models, TEXTS[:n])
        for method in methods:
            offline = load(shipped(family, method)[0], engine=FP32).predict(TEXTS[:n])
            for (_, probabilities), (_, expected) in zip(found[method.name], offline, strict=True):
                assert probabilities == pytest.approx(expected, rel=0, abs=0.03), method.name


@pytest.mark.slow  # likewise
def test_the_engine_runs_nearly_all_of_them_together():
    family = ALL[0]
    models = all_served(family)
    largest = max(by_lane(models), key=len)
    alone = {model.name: model.note for model in models.all() if not model.members}
    whole = {method.name for method in METHODS if method.kind == "full"}
    inputs = {method.name for method in METHODS if method.changes_input}
    assert not whole & {model.name for model in largest}
    assert inputs & set(alone) == inputs - {method.name for method in METHODS if refused(family, method)}
    assert len(largest) >= len(models) - len(whole | set(alone)) > len(models) / 2
    assert all(alone.values()), "each says why"


@pytest.mark.parametrize("n_methods", [6, pytest.param(None, marks=pytest.mark.slow)])
def test_tensors_are_held_once(n_methods):
    """Beside the first bundle each brings what it has trained, and nothing that it left as it was."""
    family = ALL[0]
    methods = [method for method in able(family) if method.mergeable and method.kind != "full"][:n_methods]
    models = all_served(family) if n_methods is None else serve(family, methods)
    first, *rest = (models[method.name] for method in methods)
    words = first.predictor.bundle.base.model.get_input_embeddings().weight
    encoder = sum(p.nbytes for p in first.predictor.bundle.base.backbone.parameters())
    for model in rest:
        bundle = model.predictor.bundle
        assert bundle.base.model.get_input_embeddings().weight is words, model.name
        whole = sum(tensor.nbytes for tensor in (*bundle.model.parameters(), *bundle.model.buffers()))
        assert model.own_bytes <= whole - words.nbytes, model.name
    assert sorted(model.own_bytes for model in rest)[len(rest) // 2] < encoder / 3
    assert len({id(model.predictor.bundle.tokenizer) for model in models.all()}) == 1


@pytest.mark.parametrize("name", ["lora", "shira"])  # PEFT keeps SHiRA's layers
def test_what_is_removed_is_let_go(name):
    family = ALL[0]
    one, other = METHODS[name], able(family)[0 if name != able(family)[0].name else 1]
    models = serve(family, [one, other])
    answers_of_passes(models, TEXTS)
    modules = [weakref.ref(module) for module in models.remove(one.name).predictor.bundle.model.modules()]
    head = weakref.ref(models[other.name].predictor.bundle.model)
    give_memory_back()
    assert not [module() for module in modules if module() is not None]
    assert head() is not None
    assert_offline_answers(answers_of_passes(models, TEXTS), family, [other])


def test_encoders_that_differ_stay_apart():
    models = Models(FP32, CPU)
    method = able(ALL[0])[0]
    for family in ALL[:2]:
        models.add(family, models.read(shipped(family, method)[0]))
    one, other = models.all()
    assert one.lane != other.lane
    assert one.predictor.bundle.base.model.get_input_embeddings().weight is not (
        other.predictor.bundle.base.model.get_input_embeddings().weight
    )
    found = answers_of_passes(models, TEXTS)
    for family in ALL[:2]:
        assert_offline_answers({method.name: found[family]}, family, [method])


def test_a_pass_that_mixes_up_is_noticed_when_a_bundle_is_loaded(monkeypatch):
    family = ALL[0]
    one, other = able(family)[:2]

    def wrong(members, batch, sizes):
        return [torch.zeros(n, 2) for n in sizes]

    monkeypatch.setattr("feathertune.engine.multi_adapter.mixed_batches.mixed_logits", wrong)
    models = serve(family, [one, other])
    assert not any(model.members for model in models.all())
    assert all("its logits differ" in model.note for model in models.all())
    assert_offline_answers(answers_of_passes(models, TEXTS), family, [one, other])

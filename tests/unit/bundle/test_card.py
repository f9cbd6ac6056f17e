"""The model card as the hub reads it, and as a person does."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import EvalResult, ModelCard

from feathertune.bundle import BaseInfo, BundleInfo, DataInfo
from feathertune.bundle.card import model_card
from feathertune.bundle.plain_use import plain_use
from feathertune.records import LabelSummary

TEST = {"accuracy": 0.85, "macro_f1": 0.8499, "mcc": 0.7, "log_loss": 0.35, "ece": 0.02, "n": 1_000}


def info(**changes) -> BundleInfo:
    fields = {
        "schema_version": 1,
        "kind": "peft",
        "method": "lora",
        "task": "single_label",
        "labels": ["negative", "positive"],
        "max_length": 128,
        "text_columns": ["text"],
        "base": BaseInfo(id="google-bert/bert-base-cased", revision="main", fingerprint="0", local=None),
        "data": DataInfo(
            source="hub:nyu-mll/glue:sst2", n_train=5000, n_validation=500, n_test=1_000, truncated_fraction=0.031
        ),
        "dtype": "float32",
        "threshold": None,
        "metrics": {"test": TEST, "validation": TEST | {"accuracy": 0.9, "n": 500}},
        "hyperparameters": {},
        "versions": {},
    }
    return BundleInfo(**fields | changes)


def limits(card: str) -> list[str]:
    """The items of the card's limits."""
    return re.findall(r"^\* (.*)$", card.partition("## Limits")[2].partition("## Use")[0], re.MULTILINE)


def figures(sentence: str) -> list[str]:
    return re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", sentence)


def test_the_hub_reads_base_data_and_results():
    card = ModelCard(model_card(info()), ignore_metadata_errors=False)
    data = card.data
    assert (data.base_model, data.library_name) == ("google-bert/bert-base-cased", "peft")
    assert (data.pipeline_tag, data.datasets) == ("text-classification", ["nyu-mll/glue"])
    assert data.tags == ["feathertune", "lora"]
    assert data.metrics == ["accuracy", "f1", "matthews_correlation"]
    assert (data.license, data.model_name) == (None, "bert-base-cased-lora")
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("accuracy", 0.85),
        ("f1", 0.8499),
        ("matthews_correlation", 0.7),
    ]
    first = EvalResult("text-classification", "nyu-mll/glue", "hub:nyu-mll/glue:sst2", "accuracy", 0.85)
    first.dataset_config, first.dataset_split, first.metric_name = "sst2", "test", "accuracy"
    assert data.eval_results[0] == first


def test_a_person_reads_scores_and_what_they_do_not_say():
    card = model_card(info())
    assert "| score | test | validation |\n| --- | --- | --- |\n| accuracy | 0.85 | 0.9 |\n" in card
    assert "| number of texts | 1,000 | 500 |" in card
    trained, tested, unread = limits(card)[1:4]
    assert figures(trained) == ["5,000", "2", "500"]
    assert "`hub:nyu-mll/glue:sst2`" in trained
    # Wilson's interval of 850 of 1,000 texts.
    assert figures(tested) == ["1,000", "95", "82.7", "87.1"]
    assert figures(unread) == ["3.1"]
    decisions = [limits(model_card(info(task=task)))[0] for task in ("single_label", "multi_label")]
    assert [figures(decision) for decision in decisions] == [["2"], ["2"]]
    assert decisions[0] != decisions[1]


@pytest.mark.parametrize("source", ["sample:imdb", "reviews.csv"])
def test_no_dataset_of_the_hub_is_claimed_for_another_source(source):
    data = ModelCard(model_card(info(data=info().data.model_copy(update={"source": source})))).data
    assert data.datasets is None
    assert data.eval_results[0].dataset_type == source.removeprefix("sample:")


def test_without_a_test_nothing_is_claimed_by_validation():
    data = info().data.model_copy(update={"n_test": 0, "truncated_fraction": 0.0})
    card = model_card(info(data=data, metrics={"validation": TEST}))
    assert ModelCard(card).data.get("eval_results") is None
    assert "| accuracy | 0.85 |" in card
    assert "There was no test set." in card
    assert "were truncated" not in card
    bare = model_card(info(data=None, metrics={}))
    assert "## Scores" not in bare
    assert "## Limits" in bare


def test_a_local_base_is_no_model_of_the_hub():
    local = BaseInfo(id="my-encoder", revision=None, fingerprint="0", local="../my-encoder")
    card = model_card(info(base=local))
    assert ModelCard(card).data.base_model is None
    assert "Replace `my-encoder` with its path" in card


def test_it_says_what_was_done_for_rare_classes_and_decides_likewise(capsys):
    plain = model_card(info())
    assert "threshold" not in plain
    moved = info(threshold=[0.9, 0.1], hyperparameters={"decision": "moved"})
    card = model_card(moved)
    weighted = model_card(info(hyperparameters={"class_weights": "balanced"}))
    caveats = [set(limits(other)) - set(limits(plain)) for other in (card, weighted)]
    assert [len(caveat) for caveat in caveats] == [1, 1]
    assert caveats[0] != caveats[1]
    assert "threshold" in caveats[0].pop()
    sure_of_the_first = SimpleNamespace(logits=torch.tensor([[1.0, 0.0]]))  # 73 % and 27 %
    for chosen, said in ((info(), "negative"), (moved, "positive")):
        decided = plain_use(chosen, "peft").partition('return_tensors="pt")\n')[2]
        exec(decided, {"labels": chosen.labels, "batch": {}, "model": lambda: sure_of_the_first})
        assert capsys.readouterr().out.strip() == said


YEARS = LabelSummary(mean=1987.3, sd=8.2, low=1960.0, q25=1982.0, median=1988.0, q75=1993.5, high=2003.0)


def of_numbers(**changes) -> BundleInfo:
    scores = {"spearman": 0.8, "pearson": 0.81, "r2": 0.64, "mae": 3.2, "rmse": 4.9, "n": 103}
    data = info().data.model_copy(update={"n_test": 103})
    fields = {"task": "regression", "labels": ["year"], "numbers": YEARS, "metrics": {"test": scores}, "data": data}
    return info(**fields | changes)


def test_of_numbers_it_says_what_they_are_and_how_they_lie(capsys):
    card = model_card(of_numbers())
    assert "# A number for each text: year\n" in card
    answers = next(line for line in card.splitlines() if "`year`" in line)
    assert figures(answers.partition("`year`")[2])[:2] == ["1960", "2003"]
    assert "| Spearman's rank correlation | 0.8 |" in card
    assert "| mean absolute error | 3.2 |" in card
    assert figures(limits(card)[0]) == ["1987", "8.2", "1982", "1994"]
    # tanh(atanh(0.8) -+ 1.95996 sqrt((1 + 0.32) / 100))
    assert figures(limits(card)[2]) == ["103", "95", "0.703", "0.868"]
    assert "accuracy" not in card
    results = ModelCard(card).data.eval_results
    assert [result.metric_type for result in results] == ["spearmanr", "pearsonr", "r_squared", "mae"]
    decided = plain_use(of_numbers(), "peft").partition('return_tensors="pt")\n')[2]
    exec(decided, {"batch": {}, "model": lambda: SimpleNamespace(logits=torch.tensor([[1987.5]]))})
    assert capsys.readouterr().out.strip() == "1987.5"


def test_numbers_have_one_name_and_classes_two():
    for wrong in ({"labels": ["year", "month"]}, {"numbers": None}, {"task": "single_label"}):
        with pytest.raises(ValueError, match="the task is"):
            of_numbers(**wrong)

"""Golden sentences of the verdict: one per code and form, in both number formats."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from evidence import BALANCED, make_data, spam
from feathertune import study, tasks
from feathertune.records import Caveat, Reading, Reason
from feathertune.report.context import Context
from feathertune.report.wording import (
    _SHORT,
    _WORDS,
    MOST_NAMED,
    caveat_texts,
    headline,
    in_short,
    in_words,
    listed,
    short_caveats,
    verdict_text,
)
from feathertune.tasks import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from study_factory import METHODS, write_study

CLASSES = Context(SINGLE_LABEL, make_data())
RECALLS = Context(BALANCED, spam())
SETS = Context(MULTI_LABEL, make_data(task="multi_label"))
NUMBERS = Context(REGRESSION, make_data(task="regression", labels=[], class_counts={}))

SHARES = {"score": 0.853, "low": 0.831, "high": 0.875, "n_test": 1000}
RANKS = {"score": 0.8434, "low": 0.82, "high": 0.861, "n_test": 400}
LORA = {"method": "lora", "kind": "peft", **SHARES, "trained": 443_906, "trained_share": 0.0196}
FULL = {"full": 0.859, "margin": 0.01}


BY_BASE = "(from small to big with lora: +4.0 points, 95% CI [+2.0, +6.0], corrected p < 0.001)"
BY_METHOD = "(from full to lora on big: +1.0 points, 95% CI [0.0, +2.0], corrected p = 0.25)"


def gains(*, base, method):
    """Parameters of `base_or_method`; `base` and `method` say which gain is clear."""
    return {
        "base": {"from": "lora@small", "gain": 0.04, "low": 0.02, "high": 0.06, "p": 0.0001, "clear": base},
        "method": {"from": "full@big", "gain": 0.01, "low": 0.0, "high": 0.02, "p": 0.25, "clear": method},
    }


REASONS = [
    ("nothing_complete", {}, CLASSES, "No method can be recommended yet: no suitable run is complete."),
    (
        "recommended",
        {**LORA, **FULL, "against_full": "not_clear"},
        CLASSES,
        "Use lora: 85.3% accuracy (95% CI [83.1, 87.5]) on 1,000 test rows, not clearly different from full "
        "fine-tuning (85.9%). It trains 2.0% of the parameters.",
    ),
    (
        "recommended",
        {**LORA, **FULL, "against_full": "within_margin", "trained_share": 0.00042},
        RECALLS,
        "Use lora: 85.3% balanced accuracy (95% CI [83.1, 87.5]) on 1,000 test rows, at most 1.0 points below full "
        "fine-tuning (85.9%). It trains 0.042% of the parameters.",
    ),
    (
        "recommended",
        {**LORA, "trained_share": None},
        SETS,
        "Use lora: 85.3% subset accuracy (95% CI [83.1, 87.5]) on 1,000 test rows. It trains 443,906 parameters.",
    ),
    (
        "recommended",
        {"method": "lora", "kind": "peft", **RANKS, "trained": 900, "trained_share": 0.009, "full": 0.8512}
        | {"margin": 0.01, "against_full": "equivalent", "p": 0.012},
        NUMBERS,
        "Use lora: 0.843 rank correlation (95% CI [0.820, 0.861]) on 400 test rows, equivalent to full fine-tuning "
        "(0.851) within 0.010 (TOST, p = 0.012). It trains 0.9% of the parameters.",
    ),
    (
        "recommended",
        {"method": "tfidf", "kind": "baseline", **SHARES, **FULL, "against_full": "equivalent", "p": 0.0004},
        CLASSES,
        "You need no transformer: tf-idf with logistic regression reaches 85.3% accuracy (95% CI [83.1, 87.5]) on "
        "1,000 test rows, equivalent to full fine-tuning (85.9%) within 1.0 points (TOST, p < 0.001).",
    ),
    (
        "recommended",
        {"method": "tfidf", "kind": "baseline", **RANKS, "score": -0.01, "low": -0.1, "high": 0.08},
        NUMBERS,
        "You need no transformer: tf-idf with ridge regression reaches −0.010 rank correlation (95% CI [−0.100, "
        "0.080]) on 400 test rows.",
    ),
    (
        "recommended",
        {"method": "probe", "kind": "probe", **SHARES},
        CLASSES,
        "Frozen features with logistic regression (probe) are enough: they reach 85.3% accuracy (95% CI [83.1, "
        "87.5]) on 1,000 test rows.",
    ),
    (
        "recommended",
        {"method": "probe", "kind": "probe", **RANKS},
        NUMBERS,
        "Frozen features with ridge regression (probe) are enough: they reach 0.843 rank correlation (95% CI [0.820, "
        "0.861]) on 400 test rows.",
    ),
    (
        "recommended",
        {"method": "full", "kind": "full", **SHARES},
        CLASSES,
        "Use full fine-tuning: 85.3% accuracy (95% CI [83.1, 87.5]) on 1,000 test rows.",
    ),
    (
        "recommended",
        {"method": "full:read=mean", "kind": "full", **SHARES, "full": 0.82, "margin": 0.01, "against_full": "better"},
        CLASSES,
        "Use full:read=mean: 85.3% accuracy (95% CI [83.1, 87.5]) on 1,000 test rows, clearly better than full "
        "fine-tuning (82.0%).",
    ),
    (
        "not_worth_training",
        {"method": "tfidf", "kind": "baseline", **SHARES, "majority": 0.86},
        CLASSES,
        "Nothing here is clearly worth training: tfidf reaches 85.3% accuracy on 1,000 test rows, and always answering "
        "the most frequent class reaches 86.0%.",
    ),
    (
        "not_worth_training",
        {"method": "lora", "kind": "peft", **RANKS, "score": -0.0312, "majority": 0.0},
        NUMBERS,
        "Nothing here is clearly worth training: lora reaches −0.031 rank correlation on 400 test rows, and always "
        "answering the mean of the training labels reaches 0.000.",
    ),
    ("nothing_cheaper_close", {"margin": 0.01}, CLASSES, "No cheaper method came within 1.0 points of it."),
    ("nothing_cheaper_close", {"margin": 0.01}, NUMBERS, "No cheaper method came within 0.010 of it."),
    (
        "scored_highest",
        {"method": "lora", "score": 0.86, "margin": 0.01},
        CLASSES,
        "lora scored highest (86.0%), but by no more than the margin of 1.0 points, and it costs more.",
    ),
    (
        "scored_highest",
        {"method": "lora", "score": 0.86, "margin": 0.005},
        NUMBERS,
        "lora scored highest (0.860), but by no more than the margin of 0.005, and it costs more.",
    ),
    (
        "cheaper_not_clearly_worse",
        {"method": "probe", "score": 0.839},
        CLASSES,
        "probe (83.9%) costs less and is not clearly worse on these rows.",
    ),
    (
        "cheaper_not_clearly_worse",
        {"method": "probe", "score": 0.839},
        NUMBERS,
        "probe (0.839) costs less and is not clearly worse on these rows.",
    ),
    (
        "untrained",
        {"score": 0.503, "chance": 0.5},
        CLASSES,
        "Before any training, the base model with a new head scores 50.3% (chance: 50.0%).",
    ),
    (
        "untrained",
        {"score": 0.02, "chance": None},
        SETS,
        "Before any training, the base model with a new head scores 2.0%.",
    ),
    (
        "untrained",
        {"score": -0.012, "chance": 0.0},
        NUMBERS,
        "Before any training, the base model with a new head scores −0.012 (chance: 0.000).",
    ),
    (
        "untrained",
        {"scores": {"minilm": 0.533, "tiny": 0.499}, "chance": 0.5},
        CLASSES,
        "Before any training, the base models with a new head score: minilm 53.3%, tiny 49.9% (chance: 50.0%).",
    ),
    (
        "base_or_method",
        {"best": "lora@big", "more": "base", **gains(base=True, method=True)},
        CLASSES,
        f"A better base helps more {BY_BASE} than a better method {BY_METHOD}.",
    ),
    (
        "base_or_method",
        {"best": "lora@big", "more": "method", **gains(base=True, method=True)},
        CLASSES,
        f"A better method helps more {BY_METHOD} than a better base {BY_BASE}.",
    ),
    (
        "base_or_method",
        {"best": "lora@big", "more": None, **gains(base=True, method=True)},
        CLASSES,
        f"A better base {BY_BASE} and a better method {BY_METHOD} both help; it is not clear which helps more.",
    ),
    (
        "base_or_method",
        {"best": "lora@big", "more": None, **gains(base=True, method=False)},
        CLASSES,
        f"A better base helps {BY_BASE}; a better method does not clearly help {BY_METHOD}.",
    ),
    (
        "base_or_method",
        {"best": "lora@big", "more": None, **gains(base=False, method=True)},
        CLASSES,
        f"A better method helps {BY_METHOD}; a better base does not clearly help {BY_BASE}.",
    ),
    (
        "base_or_method",
        {"best": "lora@big", "more": None, **gains(base=False, method=False)},
        CLASSES,
        f"Neither a better base {BY_BASE} nor a better method {BY_METHOD} clearly helps.",
    ),
    (
        "recommended",
        {
            **{"method": "lora@big", "kind": "peft", "score": 0.9, "low": 0.88, "high": 0.92, "n_test": 1000},
            **{"trained": 1000, "trained_share": 0.01},
        },
        CLASSES,
        "Use lora on big: 90.0% accuracy (95% CI [88.0, 92.0]) on 1,000 test rows. It trains 1.0% of the parameters.",
    ),
    (
        "ranked_by",
        {"metric": "balanced_accuracy", "chance": 0.5, "label": "ham", "share": 0.93},
        RECALLS,
        "Methods are ranked by balanced accuracy because 93.0% of the training rows are 'ham'. A constant answer "
        "scores 50.0%.",
    ),
    (
        "ranked_by",
        {"metric": "balanced_accuracy", "chance": 0.25},
        RECALLS,
        "Methods are ranked by balanced accuracy. A constant answer scores 25.0%.",
    ),
    ("ranked_by", {"metric": "spearman", "chance": None}, NUMBERS, "Methods are ranked by rank correlation."),
]

TOO_CLOSE = {"method": "lora", "rival": "ia3", "difference": 0.006, "half_width": 0.04, "half_width_of_rows": 0.03}
TOO_CLOSE |= {"margin": 0.01, "n_test": 1000}
LOSSES = {"from_epoch": 2, "validation_losses": [0.4, 0.6], "train_losses": [0.4, 0.1]}
LONG = make_data(reading=Reading(long="windows", stride=32, max_windows=4))

CAVEATS = [
    (
        "learned_nothing",
        {"methods": ["lora", "ia3"], "n": 3, "total": 4},
        CLASSES,
        "lora, ia3 learned nothing in 3 of 4 runs: every text got the same answer. Try another learning rate or more "
        "epochs.",
    ),
    (
        "not_above_majority",
        {"methods": {"lora": 0.6}, "majority": 0.6},
        CLASSES,
        "lora (60.0%) does not beat always answering the most frequent class (60.0%).",
    ),
    (
        "not_above_majority",
        {"methods": {"probe": -0.02, "lora": 0.0}, "majority": 0.0},
        NUMBERS,
        "probe (−0.020), lora (0.000) do not beat always answering the mean of the training labels (0.000).",
    ),
    (
        "one_seed",
        {"methods": ["lora", "full"]},
        CLASSES,
        "One seed only (lora, full): the variation between seeds is unknown. Run three or more (`--seeds 3`).",
    ),
    (
        "too_few_seeds",
        {**TOO_CLOSE, "difference": -0.006, "half_width_of_rows": 0.009},
        CLASSES,
        "More seeds (`--seeds`) are needed to separate lora from ia3 (difference −0.6 points, 95% CI ±4.0 points). "
        "The 1,000 test rows account for only ±0.9 points of that.",
    ),
    (
        "too_few_seeds",
        {**TOO_CLOSE, "half_width_of_rows": 0.009},
        NUMBERS,
        "More seeds (`--seeds`) are needed to separate lora from ia3 (difference +0.006, 95% CI ±0.040). The 1,000 "
        "test rows account for only ±0.009 of that.",
    ),
    (
        "too_few_test_rows",
        {**TOO_CLOSE, "n_needed": 9000, "seeds_first": False},
        CLASSES,
        "1,000 test rows are too few to separate lora from ia3 (difference +0.6 points, 95% CI ±4.0 points). About "
        "9,000 rows would reveal a difference of 1.0 points.",
    ),
    (
        "too_few_test_rows",
        {**TOO_CLOSE, "n_needed": 1700, "seeds_first": True},
        NUMBERS,
        "1,000 test rows are too few to separate lora from ia3 (difference +0.006, 95% CI ±0.040). Add seeds first "
        "(`--seeds`): their variation is most of that. About 1,700 rows would reveal a difference of 0.010.",
    ),
    (
        "truncated",
        {"share": 0.43, "unread": 0.3},
        CLASSES,
        "43.0% of texts exceed 128 tokens and were truncated; 30.0% of all tokens were never read. Pass "
        "`--max-length` or `--long` to read more of each text.",
    ),
    (
        "truncated",
        {"share": 0.43, "unread": None},
        Context(SINGLE_LABEL, LONG),
        "43.0% of texts exceed 128 tokens and were read in up to 4 windows of 128. Pass `--max-length` to read more "
        "of each text.",
    ),
    (
        "still_improving",
        {"method": "lora", "n": 1, "total": 1, "epoch": 5},
        CLASSES,
        "lora was still improving in its last epoch (5) in 1 of 1 run. More epochs may help (`--epochs`).",
    ),
    (
        "overconfident",
        {"method": "lora", "n": 2, "total": 3, "epoch": 5, **LOSSES},
        RECALLS,
        "lora became overconfident in 2 of 3 runs: from epoch 2 to 5 the validation loss rose from 0.40 to 0.60 "
        "while the training loss fell from 0.40 to 0.10, though its balanced accuracy still improved. More epochs "
        "may raise the score, but not the quality of its probabilities.",
    ),
    (
        "overfits",
        {"method": "lora", "n": 2, "total": 3, "epoch": 5, **LOSSES},
        CLASSES,
        "lora overfits in 2 of 3 runs: from epoch 2 to 5 the validation loss rose from 0.40 to 0.60 while the training "
        "loss fell from 0.40 to 0.10. Fewer epochs or more training rows may help.",
    ),
    (
        "dominant_class",
        {"label": "ham", "share": 0.95},
        CLASSES,
        "95.0% of the test rows are 'ham', so accuracy says little. Look at macro F1 and MCC, or rank by another score "
        "(`--metric balanced_accuracy`).",
    ),
    (
        "few_rows_of_class",
        {"label": "spam", "n": 40, "margin": 0.1483, "n_classes": 1},
        RECALLS,
        "Only 40 of the 800 test rows are 'spam'. Its recall is known only to ±14.8 points and weighs as much as any "
        "other class's.",
    ),
    (
        "few_rows_of_class",
        {"label": "b", "n": 5, "margin": 0.326, "n_classes": 2},
        Context(BALANCED, make_data(labels=list("abcd"))),
        "2 of 4 classes have few test rows; 'b' has only 5. Its recall is known only to ±32.6 points and weighs as "
        "much as any other class's.",
    ),
    (
        "class_without_test_rows",
        {"label": "d", "n_classes": 1},
        RECALLS,
        "'d' has no test rows, so the score covers only the other classes.",
    ),
    (
        "class_without_test_rows",
        {"label": "d", "n_classes": 3},
        RECALLS,
        "'d' and 2 others have no test rows, so the score covers only the other classes.",
    ),
    (
        "far_off",
        {"method": "lora", "r2": -0.25},
        NUMBERS,
        "lora predicts worse than the mean of the test labels would (R2 −0.250). Trust the order of its predictions, "
        "not their size.",
    ),
    (
        "mislabelled",
        {"n": 1019},
        CLASSES,
        "1,019 test rows look mislabelled: every trained model confidently disagrees. Check some of them in "
        "mislabelled.csv.",
    ),
    (
        "mislabelled",
        {"n": 6},
        SETS,
        "6 labels of test rows look wrong, given or missing: every trained model confidently disagrees. Check some of "
        "them in mislabelled.csv.",
    ),
    (
        "repeated_texts",
        {"n": 1011},
        CLASSES,
        "1,011 training or validation texts also occurred in a later split and were removed. Near-duplicates "
        "probably remain, so scores may be optimistic.",
    ),
    (
        "failed_runs",
        {"runs": ["lora-0", "lora-1"], "total": 3},
        CLASSES,
        "2 of 3 runs failed and are missing: lora-0, lora-1.",
    ),
    (
        "failed_runs",
        {"runs": ["lora-0"], "total": 1},
        CLASSES,
        "1 of 1 run failed and is missing: lora-0.",
    ),
    (
        "selected_on_test",
        {"method": "lora"},
        CLASSES,
        "lora was selected on these test rows, so its score is slightly optimistic. Check it on rows that no method "
        "has seen.",
    ),
]


@pytest.mark.parametrize(("code", "parameters", "context", "sentence"), REASONS)
def test_a_reason_in_words(code, parameters, context, sentence):
    assert in_words(Reason.of(code, **parameters), context) == sentence


@pytest.mark.parametrize(("code", "parameters", "context", "sentence"), CAVEATS)
def test_a_caveat_in_words(code, parameters, context, sentence):
    assert in_words(Caveat.of(code, **parameters), context) == sentence


HEADLINES = [
    ({**LORA, **FULL, "against_full": "not_clear"}, "Use lora: it is not clearly different from full fine-tuning."),
    ({**LORA, **FULL, "against_full": "better"}, "Use lora: it is clearly better than full fine-tuning."),
    (
        {**LORA, **FULL, "against_full": "equivalent", "p": 0.01},
        "Use lora: it is as good as full fine-tuning, within 1.0 points.",
    ),
    (
        {**LORA, **FULL, "against_full": "within_margin", "method": "lora@big"},
        "Use lora on big: it is at most 1.0 points below full fine-tuning.",
    ),
    (
        {**LORA, **FULL, "method": "tfidf", "kind": "baseline", "against_full": "not_clear"},
        "Use tfidf, no transformer needed: it is not clearly different from full fine-tuning.",
    ),
    ({"method": "probe", "kind": "probe", **SHARES}, "Use probe (frozen features)."),
    ({"method": "full", "kind": "full", **SHARES}, "Use full fine-tuning."),
]
SHORT = [
    ("learned_nothing", "lora, ia3 learned nothing in 3 of 4 runs."),
    ("not_above_majority", "lora (60.0%) does not beat always answering the most frequent class (60.0%)."),
    ("one_seed", "One seed only (lora, full): the variation between seeds is unknown."),
    ("too_few_seeds", "More seeds are needed to separate lora from ia3."),
    ("too_few_test_rows", "1,000 test rows are too few to separate lora from ia3."),
    ("truncated", "43.0% of texts exceed 128 tokens and were truncated."),
    ("still_improving", "lora was still improving in its last epoch in 1 of 1 run."),
    ("overconfident", "lora became overconfident in 2 of 3 runs."),
    ("overfits", "lora overfits in 2 of 3 runs."),
    ("dominant_class", "95.0% of the test rows are 'ham', so accuracy says little."),
    ("few_rows_of_class", "Only 40 of the 800 test rows are 'spam'."),
    ("class_without_test_rows", "'d' has no test rows, so the score covers only the other classes."),
    ("far_off", "lora predicts worse than the mean of the test labels would (R2 −0.250)."),
    ("mislabelled", "1,019 test rows look mislabelled."),
    ("repeated_texts", "1,011 texts also occurred in a later split and were removed."),
    ("failed_runs", "2 of 3 runs failed."),
    ("selected_on_test", "lora was selected on these test rows, so its score is slightly optimistic."),
]


def _judged(folder, *reasons):
    found = write_study(folder, methods=METHODS, n_test=60, side_files=False)
    return found.model_copy(update={"verdict": found.verdict.model_copy(update={"reasons": list(reasons)})})


@pytest.mark.parametrize(("parameters", "sentence"), HEADLINES)
def test_a_headline(tmp_path, parameters, sentence):
    assert headline(_judged(tmp_path, Reason.of("recommended", **parameters))) == sentence


def test_other_headlines(tmp_path):
    full = Reason.of("recommended", method="full", kind="full", **SHARES)
    cheaper = Reason.of("nothing_cheaper_close", margin=0.01)
    nothing = Reason.of("not_worth_training", method="lora", kind="peft", **SHARES, majority=0.86)
    assert headline(_judged(tmp_path / "a", full, cheaper)) == (
        "Use full fine-tuning: no cheaper method came within 1.0 points."
    )
    assert headline(_judged(tmp_path / "b", nothing)) == (
        "Nothing here is clearly worth training: no method clearly beats always answering the most frequent class."
    )
    assert headline(_judged(tmp_path / "c", Reason.of("nothing_complete"))) == "No method can be recommended yet."


@pytest.mark.parametrize(("code", "sentence"), SHORT)
def test_a_short_caveat(code, sentence):
    _, parameters, context, _ = next(caveat for caveat in CAVEATS if caveat[0] == code)
    assert in_short(Caveat.of(code, **parameters), context) == sentence


def test_every_caveat_has_a_short_form():
    assert {code for code, _ in SHORT} == set(_SHORT) == {code for code, *_ in CAVEATS}


def test_every_code_has_a_golden_sentence():
    assert {code for code, *_ in (*REASONS, *CAVEATS)} == set(_WORDS)


def emitted(kind: str) -> set[str]:
    """Codes that the rules of the verdict and the tasks can state, as their source spells them."""
    found = set()
    folders = [Path(study.__file__).parent / "verdict", Path(tasks.__file__).parent]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="of"), args=[ast.Constant(value=code)]):
                    found |= {code} if name == kind else set()
                case ast.FunctionDef(name="training_state", body=body) if kind == "Caveat":
                    returned = [n for line in body for n in ast.walk(line) if isinstance(n, ast.Return)]
                    constants = [n.value for one in returned for n in ast.walk(one) if isinstance(n, ast.Constant)]
                    found |= {code for code in constants if isinstance(code, str)}
    return found


def test_every_code_that_is_stated_has_words():
    assert emitted("Reason") == {code for code, *_ in REASONS}
    assert emitted("Caveat") == {code for code, *_ in CAVEATS}


def test_a_label_that_runs_to_the_left_turns_nothing_next_to_it():
    parameters = {"label": "مزعج", "share": 0.95}
    assert "'\u2068مزعج\u2069'" in in_words(Caveat.of("dominant_class", **parameters), CLASSES)
    reason = Reason.of("ranked_by", metric="balanced_accuracy", chance=0.5, **parameters)
    assert "'\u2068مزعج\u2069'" in in_words(reason, RECALLS)


def test_very_many_names_are_cut_short():
    names = [f"m{number}" for number in range(MOST_NAMED + 3)]
    assert listed(names[:MOST_NAMED]) == ", ".join(names[:MOST_NAMED])
    assert listed(names).endswith("m11 and 3 more")
    failed = Caveat.of("failed_runs", runs=names, total=20)
    assert in_words(failed, CLASSES).startswith(f"{len(names)} of 20 runs failed")


def test_the_verdict_of_a_study_in_words(tmp_path):
    found = write_study(tmp_path, methods=METHODS, n_test=60, side_files=False)
    reasons = [Reason.of("nothing_cheaper_close", margin=0.01), Reason.of("untrained", score=0.5, chance=None)]
    verdict = found.verdict.model_copy(update={"reasons": reasons, "caveats": [Caveat.of("mislabelled", n=3)] * 2})
    found = found.model_copy(update={"verdict": verdict})
    assert verdict_text(found) == (
        "No cheaper method came within 1.0 points of it. Before any training, the base model with a new head scores "
        "50.0%."
    )
    assert caveat_texts(found) == [in_words(Caveat.of("mislabelled", n=3), CLASSES)] * 2
    assert short_caveats(found) == ["3 test rows look mislabelled."] * 2

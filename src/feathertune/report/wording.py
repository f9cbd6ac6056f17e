"""Sentences of the verdict and its caveats, by code, in full and in short."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from feathertune.errors import isolated
from feathertune.records import HEAD, MISLABELLED_FILE, Caveat, DataRecord, Reason, StudyRecord
from feathertune.records.row_names import base_of_row, method_of_row
from feathertune.report.context import Context, context_of
from feathertune.report.format import units
from feathertune.tasks.formats import SHARE, decimal

MOST_NAMED = 12
# Caveats on a report's first screen and in a terminal; the most important come first.
MOST_CAVEATS = 3


def verdict_text(study: StudyRecord) -> str:
    """Return the verdict in a few sentences."""
    return " ".join(_sentences(study.verdict.reasons, study))


def headline(study: StudyRecord) -> str:
    """Return what to do, in one sentence without scores."""
    reasons, context = study.verdict.reasons, context_of(study)
    if not reasons or reasons[0].code not in _HEADLINES:
        return verdict_text(study)
    return _HEADLINES[reasons[0].code]({**reasons[0].parameters, **_nothing_cheaper(reasons)}, context)


def caveat_texts(study: StudyRecord) -> list[str]:
    """Return one text per caveat."""
    return _sentences(study.verdict.caveats, study)


def short_caveats(study: StudyRecord) -> list[str]:
    """Return one short sentence per caveat."""
    context = context_of(study)
    return [in_short(caveat, context) for caveat in study.verdict.caveats]


def _sentences(statements: Sequence[Reason | Caveat], study: StudyRecord) -> list[str]:
    context = context_of(study)
    return [in_words(stated, context) for stated in statements]


def in_words(stated: Reason | Caveat, context: Context) -> str:
    """Return one reason or caveat in a few sentences."""
    return _WORDS[stated.code](stated.parameters, context)


def in_short(caveat: Caveat, context: Context) -> str:
    """Return a caveat in one short sentence."""
    return _SHORT[caveat.code](caveat.parameters, context)


def listed(names: Iterable[str]) -> str:
    """Return names for a sentence; a long list ends in ``and 3 more``."""
    every = list(names)
    more = len(every) - MOST_NAMED
    return ", ".join(every) if more <= 0 else f"{', '.join(every[:MOST_NAMED])} and {more} more"


Parameters = Mapping[str, Any]


# -- reasons -------------------------------------------------------------------


def _recommended(p: Parameters, c: Context) -> str:
    score = f"{c.score(p['score'])} {c.task.primary.title} ({c.interval(p['low'], p['high'])}) on {_test_rows(p)}"
    against = _against_full(p, c)
    method, on_base = method_of_row(p["method"]), _on_base(p["method"])
    if p["kind"] == "baseline":
        name = f"tf-idf with {c.task.words.linear_model}" if method == "tfidf" else method
        return f"You need no transformer: {name} reaches {score}{against}."
    if p["kind"] == "probe":
        model = "ridge regression and tf-idf" if method == "stack" else c.task.words.linear_model
        return f"Frozen features{on_base} with {model} ({method}) are enough: they reach {score}{against}."
    if p["kind"] == "full":
        return f"Use {_full_name(method)}{on_base}: {score}{against}."
    return f"Use {method}{on_base}: {score}{against}. It trains {_trained(p)}."


def _against_full(p: Parameters, c: Context) -> str:
    if "against_full" not in p:
        return ""
    full, margin = f"full fine-tuning ({c.score(p['full'])})", c.margin(p["margin"])
    return {
        "better": f", clearly better than {full}",
        "equivalent": f", equivalent to {full} within {margin} (TOST, {units.probability(p.get('p'))})",
        "not_clear": f", not clearly different from {full}",
        "within_margin": f", at most {margin} below {full}",
    }[p["against_full"]]


def _headline(p: Parameters, c: Context) -> str:
    method, on_base = method_of_row(p["method"]), _on_base(p["method"])
    if p["kind"] == "baseline":
        return f"Use {method}, no transformer needed{_relation(p, c)}."
    if p["kind"] == "probe":
        return f"Use {method} (frozen features){on_base}{_relation(p, c)}."
    name = _full_name(method) if p["kind"] == "full" else method
    return f"Use {name}{on_base}{_relation(p, c)}."


def _relation(p: Parameters, c: Context) -> str:
    """Return the clause that compares a recommended method with full fine-tuning, or full with cheaper methods."""
    if "against_full" in p:
        margin = c.margin(p["margin"])
        return {
            "better": ": it is clearly better than full fine-tuning",
            "equivalent": f": it is as good as full fine-tuning, within {margin}",
            "not_clear": ": it is not clearly different from full fine-tuning",
            "within_margin": f": it is at most {margin} below full fine-tuning",
        }[p["against_full"]]
    return f": no cheaper method came within {c.margin(p['nothing_within'])}" if "nothing_within" in p else ""


def _nothing_cheaper(reasons: Sequence[Reason]) -> Parameters:
    found = next((reason for reason in reasons if reason.code == "nothing_cheaper_close"), None)
    return {} if found is None else {"nothing_within": found.parameters["margin"]}


def _full_name(method: str) -> str:
    return "full fine-tuning" if method == "full" else method


def _test_rows(p: Parameters) -> str:
    return f"{p['n_test']:,} test rows"


def _trained(p: Parameters) -> str:
    share = p["trained_share"]
    if share is None:
        return f"{p['trained']:,} parameters"
    return f"{100 * share:.1f}% of the parameters" if share >= 0.001 else f"{100 * share:.2g}% of the parameters"


def _on_base(row: str) -> str:
    base = base_of_row(row)
    return "" if base is None else f" on {base}"


def _base_or_method(p: Parameters, c: Context) -> str:
    method, base = method_of_row(p["best"]), base_of_row(p["best"])
    by_base = f"from {base_of_row(p['base']['from'])} to {base} with {method}: {_gain(p['base'], c)}"
    by_method = f"from {method_of_row(p['method']['from'])} to {method} on {base}: {_gain(p['method'], c)}"
    if p["more"] == "base":
        return f"A better base helps more ({by_base}) than a better method ({by_method})."
    if p["more"] == "method":
        return f"A better method helps more ({by_method}) than a better base ({by_base})."
    return {
        (False, False): f"Neither a better base ({by_base}) nor a better method ({by_method}) clearly helps.",
        (True, False): f"A better base helps ({by_base}); a better method does not clearly help ({by_method}).",
        (False, True): f"A better method helps ({by_method}); a better base does not clearly help ({by_base}).",
        (True, True): f"A better base ({by_base}) and a better method ({by_method}) both help; it is not clear which "
        "helps more.",
    }[p["base"]["clear"], p["method"]["clear"]]


def _gain(p: Parameters, c: Context) -> str:
    return f"{c.difference(p['gain'], p['low'], p['high'])}, corrected {units.probability(p['p'])}"


def _ranked_by(p: Parameters, c: Context) -> str:
    score = c.task.score_named(p["metric"])
    why = f" because {SHARE.score(p['share'])} of the training rows are {_label(p)}" if "label" in p else ""
    chance = "" if p["chance"] is None else f". A constant answer scores {score.format.score(p['chance'])}"
    return f"Methods are ranked by {score.title}{why}{chance}."


def _untrained(p: Parameters, c: Context) -> str:
    chance = "" if p["chance"] is None else f" (chance: {c.score(p['chance'])})"
    if "score" in p:
        return f"Before any training, the base model with a new head scores {c.score(p['score'])}{chance}."
    scores = listed(f"{base} {c.score(score)}" for base, score in p["scores"].items())
    return f"Before any training, the base models with a new head score: {scores}{chance}."


# -- caveats -------------------------------------------------------------------


def _label(p: Parameters) -> str:
    return f"'{isolated(p['label'])}'"


def _in_runs(p: Parameters) -> str:
    return f"in {p['n']} of {p['total']} {'run' if p['total'] == 1 else 'runs'}"


def _not_above_majority(p: Parameters, c: Context) -> str:
    methods = listed(f"{method} ({c.score(score)})" for method, score in p["methods"].items())
    verb = "does" if len(p["methods"]) == 1 else "do"
    return f"{methods} {verb} not beat always answering {c.task.words.constant} ({c.score(p['majority'])})."


def _difference(p: Parameters, c: Context) -> str:
    return f"difference {c.format.difference(p['difference'])}{c.format.unit}, 95% CI ±{c.margin(p['half_width'])}"


def _too_few_test_rows(p: Parameters, c: Context) -> str:
    seeds = " Add seeds first (`--seeds`): their variation is most of that." if p["seeds_first"] else ""
    return (
        f"{_test_rows(p)} are too few to separate {p['method']} from {p['rival']} ({_difference(p, c)})."
        f"{seeds} About {p['n_needed']:,} rows would reveal a difference of {c.margin(p['margin'])}."
    )


def _too_few_seeds(p: Parameters, c: Context) -> str:
    return (
        f"More seeds (`--seeds`) are needed to separate {p['method']} from {p['rival']} ({_difference(p, c)}). "
        f"The {_test_rows(p)} account for only ±{c.margin(p['half_width_of_rows'])} of that."
    )


def _truncated(p: Parameters, c: Context) -> str:
    unread = "" if p["unread"] is None else f"; {SHARE.score(p['unread'])} of all tokens were never read"
    option = "`--max-length`" + (" or `--long`" if c.data.reading == HEAD else "")
    of_base = f" of {p['base']}" if "base" in p else ""
    return (
        f"{SHARE.score(p['share'])} of texts exceed {c.data.max_length:,} tokens{of_base} and {_reading(c.data)}"
        f"{unread}. Pass {option} to read more of each text."
    )


def _reading(data: DataRecord) -> str:
    reading = data.reading
    return {
        "head": "were truncated",
        "head-tail": "were read at both ends only",
        "windows": f"were read in up to {reading.max_windows:,} windows of {data.max_length:,}",
    }[reading.long]


def _losses(p: Parameters) -> str:
    (v_from, v_to), (t_from, t_to) = p["validation_losses"], p["train_losses"]
    return (
        f"from epoch {p['from_epoch']} to {p['epoch']} the validation loss rose from {v_from:.2f} to {v_to:.2f} while "
        f"the training loss fell from {t_from:.2f} to {t_to:.2f}"
    )


def _few_rows(p: Parameters, c: Context) -> str:
    if p["n_classes"] > 1:
        return f"{p['n_classes']} of {len(c.data.labels)} classes have few test rows; {_label(p)} has only {p['n']:,}."
    return f"Only {p['n']:,} of the {c.data.n_test:,} test rows are {_label(p)}."


def _few_rows_of_class(p: Parameters, c: Context) -> str:
    margin = SHARE.within(p["margin"])
    return f"{_few_rows(p, c)} Its recall is known only to ±{margin} and weighs as much as any other class's."


def _class_without_test_rows(p: Parameters, c: Context) -> str:
    others = p["n_classes"] - 1
    have = f"and {others} {'other' if others == 1 else 'others'} have" if others else "has"
    return f"{_label(p)} {have} no test rows, so the score covers only the other classes."


def _failed_runs(p: Parameters, c: Context) -> str:
    n, total = len(p["runs"]), p["total"]
    runs, verb = "run" if total == 1 else "runs", "is" if n == 1 else "are"
    return f"{n} of {total} {runs} failed and {verb} missing: {listed(p['runs'])}."


def _no_seed_spread(p: Parameters, c: Context) -> str:
    return f"One seed only ({listed(p['methods'])}): the variation between seeds is unknown."


def _dominant_class(p: Parameters, c: Context) -> str:
    return f"{SHARE.score(p['share'])} of the test rows are {_label(p)}, so accuracy says little."


def _far_off(p: Parameters, c: Context) -> str:
    return f"{p['method']} predicts worse than the mean of the test labels would (R2 {decimal(p['r2'])})."


def _mislabelled(p: Parameters, c: Context) -> str:
    return f"{p['n']:,} {c.task.words.mislabelled}"


def _selected_on_test(p: Parameters, c: Context) -> str:
    return f"{p['method']} was selected on these test rows, so its score is slightly optimistic."


_HEADLINES: dict[str, Callable[[Parameters, Context], str]] = {
    "nothing_complete": lambda p, c: "No method can be recommended yet.",
    "recommended": _headline,
    "not_worth_training": lambda p, c: (
        f"Nothing here is clearly worth training: no method clearly beats always answering {c.task.words.constant}."
    ),
}
_WORDS: dict[str, Callable[[Parameters, Context], str]] = {
    "nothing_complete": lambda p, c: "No method can be recommended yet: no suitable run is complete.",
    "recommended": _recommended,
    "not_worth_training": lambda p, c: (
        f"Nothing here is clearly worth training: {p['method']} reaches {c.score(p['score'])} "
        f"{c.task.primary.title} on {_test_rows(p)}, and always answering {c.task.words.constant} reaches "
        f"{c.score(p['majority'])}."
    ),
    "nothing_cheaper_close": lambda p, c: f"No cheaper method came within {c.margin(p['margin'])} of it.",
    "scored_highest": lambda p, c: (
        f"{p['method']} scored highest ({c.score(p['score'])}), but by no more than the margin of "
        f"{c.margin(p['margin'])}, and it costs more."
    ),
    "cheaper_not_clearly_worse": lambda p, c: (
        f"{p['method']} ({c.score(p['score'])}) costs less and is not clearly worse on these rows."
    ),
    "base_or_method": _base_or_method,
    "untrained": _untrained,
    "ranked_by": _ranked_by,
    "learned_nothing": lambda p, c: (
        f"{listed(p['methods'])} learned nothing {_in_runs(p)}: every text got the same answer. Try another learning "
        "rate or more epochs."
    ),
    "not_above_majority": _not_above_majority,
    "one_seed": lambda p, c: f"{_no_seed_spread(p, c)} Run three or more (`--seeds 3`).",
    "too_few_seeds": _too_few_seeds,
    "too_few_test_rows": _too_few_test_rows,
    "truncated": _truncated,
    "still_improving": lambda p, c: (
        f"{p['method']} was still improving in its last epoch ({p['epoch']}) {_in_runs(p)}. More epochs may help "
        "(`--epochs`)."
    ),
    "overconfident": lambda p, c: (
        f"{p['method']} became overconfident {_in_runs(p)}: {_losses(p)}, though its {c.task.primary.title} still "
        "improved. More epochs may raise the score, but not the quality of its probabilities."
    ),
    "overfits": lambda p, c: (
        f"{p['method']} overfits {_in_runs(p)}: {_losses(p)}. Fewer epochs or more training rows may help."
    ),
    "dominant_class": lambda p, c: (
        f"{_dominant_class(p, c)} Look at macro F1 and MCC, or rank by another score (`--metric balanced_accuracy`)."
    ),
    "few_rows_of_class": _few_rows_of_class,
    "class_without_test_rows": _class_without_test_rows,
    "far_off": lambda p, c: f"{_far_off(p, c)} Trust the order of its predictions, not their size.",
    "mislabelled": lambda p, c: (
        f"{_mislabelled(p, c)}: every trained model confidently disagrees. Check some of them in {MISLABELLED_FILE}."
    ),
    "repeated_texts": lambda p, c: (
        f"{p['n']:,} training or validation texts also occurred in a later split and were removed. Near-duplicates "
        "probably remain, so scores may be optimistic."
    ),
    "failed_runs": _failed_runs,
    "selected_on_test": lambda p, c: f"{_selected_on_test(p, c)} Check it on rows that no method has seen.",
}
_SHORT: dict[str, Callable[[Parameters, Context], str]] = {
    "learned_nothing": lambda p, c: f"{listed(p['methods'])} learned nothing {_in_runs(p)}.",
    "not_above_majority": _not_above_majority,
    "one_seed": _no_seed_spread,
    "too_few_seeds": lambda p, c: f"More seeds are needed to separate {p['method']} from {p['rival']}.",
    "too_few_test_rows": lambda p, c: f"{_test_rows(p)} are too few to separate {p['method']} from {p['rival']}.",
    "truncated": lambda p, c: (
        f"{SHARE.score(p['share'])} of texts exceed {c.data.max_length:,} tokens and {_reading(c.data)}."
    ),
    "still_improving": lambda p, c: f"{p['method']} was still improving in its last epoch {_in_runs(p)}.",
    "overconfident": lambda p, c: f"{p['method']} became overconfident {_in_runs(p)}.",
    "overfits": lambda p, c: f"{p['method']} overfits {_in_runs(p)}.",
    "dominant_class": _dominant_class,
    "few_rows_of_class": _few_rows,
    "class_without_test_rows": _class_without_test_rows,
    "far_off": _far_off,
    "mislabelled": lambda p, c: f"{_mislabelled(p, c)}.",
    "repeated_texts": lambda p, c: f"{p['n']:,} texts also occurred in a later split and were removed.",
    "failed_runs": lambda p, c: f"{len(p['runs'])} of {p['total']} {'run' if p['total'] == 1 else 'runs'} failed.",
    "selected_on_test": _selected_on_test,
}

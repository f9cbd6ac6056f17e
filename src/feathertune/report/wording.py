"""Verdict and caveats in words: the only place where their codes become sentences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from feathertune.errors import isolated
from feathertune.records import HEAD, MISLABELLED_FILE, Caveat, DataRecord, Reason, StudyRecord
from feathertune.records.row_names import base_of_row, method_of_row
from feathertune.report.format import units
from feathertune.tasks import Task, task_of_study
from feathertune.tasks.formats import SHARE, ScoreFormat, decimal

MOST_NAMED = 12


@dataclass(frozen=True)
class Context:
    """Facts that sentences need besides a code's parameters."""

    task: Task
    data: DataRecord

    @property
    def format(self) -> ScoreFormat:
        """Text of scores in the primary metric."""
        return self.task.primary.format

    def score(self, value: float) -> str:
        """Return a score of the primary metric."""
        return self.format.score(value)

    def margin(self, value: float) -> str:
        """Return a difference without its sign, with its unit."""
        return self.format.within(value)


def verdict_text(study: StudyRecord) -> str:
    """Return the verdict in a few sentences."""
    return " ".join(_sentences(study.verdict.reasons, study))


def caveat_texts(study: StudyRecord) -> list[str]:
    """Return one text per caveat."""
    return _sentences(study.verdict.caveats, study)


def _sentences(statements: Sequence[Reason | Caveat], study: StudyRecord) -> list[str]:
    context = Context(task_of_study(study), study.data)
    return [in_words(stated, context) for stated in statements]


def in_words(stated: Reason | Caveat, context: Context) -> str:
    """Return one reason or caveat in a few sentences."""
    return _WORDS[stated.code](stated.parameters, context)


def listed(names: Iterable[str]) -> str:
    """Return names in a sentence; of very many, the first."""
    every = list(names)
    more = len(every) - MOST_NAMED
    return ", ".join(every) if more <= 0 else f"{', '.join(every[:MOST_NAMED])} and {more} more"


Parameters = Mapping[str, Any]


# -- reasons -------------------------------------------------------------------


def _recommended(p: Parameters, c: Context) -> str:
    low, high = (c.score(p[end]).removesuffix(c.format.suffix) for end in ("low", "high"))
    score = f"{c.score(p['score'])} {c.task.primary.title} (95% CI [{low}, {high}]) on {p['n_test']:,} test rows"
    against = _against_full(p, c)
    method, on_base = method_of_row(p["method"]), _on_base(p["method"])
    if p["kind"] == "baseline":
        name = f"tf-idf with {c.task.words.linear_model}" if method == "tfidf" else method
        return f"You need no transformer: {name} reaches {score}{against}."
    if p["kind"] == "probe":
        model = "ridge regression and tf-idf" if method == "stack" else c.task.words.linear_model
        return f"Frozen features{on_base} with {model} ({method}) are enough: they reach {score}{against}."
    if p["kind"] == "full":
        name = "full fine-tuning" if method == "full" else method
        return f"Take {name}{on_base}: {score}{against}."
    return f"Take {method}{on_base}: {score}{against}. It trains {_trained(p)}."


def _against_full(p: Parameters, c: Context) -> str:
    if "against_full" not in p:
        return ""
    full, margin = f"full fine-tuning ({c.score(p['full'])})", c.margin(p["margin"])
    return {
        "better": f", clearly better than {full}",
        "equivalent": f", as good as {full} within {margin} (TOST, {units.probability(p.get('p'))})",
        "not_clear": f", not clearly different from {full}",
        "within_margin": f", below {full} by no more than the margin of {margin}",
    }[p["against_full"]]


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
        return f"A better base buys more ({by_base}) than a better method ({by_method})."
    if p["more"] == "method":
        return f"A better method buys more ({by_method}) than a better base ({by_base})."
    return {
        (False, False): f"Neither a better base ({by_base}) nor a better method ({by_method}) clearly helps.",
        (True, False): f"A better base helps ({by_base}); a better method does not clearly help ({by_method}).",
        (False, True): f"A better method helps ({by_method}); a better base does not clearly help ({by_base}).",
        (True, True): f"A better base ({by_base}) and a better method ({by_method}) both help; which buys more is not "
        "clear.",
    }[p["base"]["clear"], p["method"]["clear"]]


def _gain(p: Parameters, c: Context) -> str:
    span = c.format.span(p["low"], p["high"])
    return f"{c.format.difference(p['gain'])}{c.format.unit}, 95% CI {span}, corrected {units.probability(p['p'])}"


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
    verb = "is" if len(p["methods"]) == 1 else "are"
    return f"{methods} {verb} not above always answering {c.task.words.constant} ({c.score(p['majority'])})."


def _difference(p: Parameters, c: Context) -> str:
    return f"difference {c.format.difference(p['difference'])}{c.format.unit}, 95% CI ±{c.margin(p['half_width'])}"


def _too_few_test_rows(p: Parameters, c: Context) -> str:
    seeds = " Add seeds first (`--seeds`): most of that is their spread." if p["seeds_first"] else ""
    return (
        f"{p['n_test']:,} test rows are too few to separate {p['method']} from {p['rival']} ({_difference(p, c)})."
        f"{seeds} About {p['n_needed']:,} rows would show a difference of {c.margin(p['margin'])}."
    )


def _truncated(p: Parameters, c: Context) -> str:
    unread = "" if p["unread"] is None else f"; {SHARE.score(p['unread'])} of all tokens were never read"
    option = "`--max-length`" + (" or `--long`" if c.data.reading == HEAD else "")
    base = f"In the tokens of {p['base']}, " if "base" in p else ""
    return (
        f"{base}{SHARE.score(p['share'])} of the texts have more than {c.data.max_length:,} tokens and "
        f"{c.data.reading.in_words(c.data.max_length)}{unread}. Pass {option} to read more of them."
    )


def _losses(p: Parameters) -> str:
    (v_from, v_to), (t_from, t_to) = p["validation_losses"], p["train_losses"]
    return (
        f"from epoch {p['from_epoch']} to {p['epoch']} the validation loss rose from {v_from:.2f} to {v_to:.2f} while "
        f"the training loss fell from {t_from:.2f} to {t_to:.2f}"
    )


def _few_rows_of_class(p: Parameters, c: Context) -> str:
    rows = f"Only {p['n']:,} of the {c.data.n_test:,} test rows are {_label(p)}"
    if p["n_classes"] > 1:
        rows = f"{p['n_classes']} of {len(c.data.labels)} classes have few test rows; {_label(p)} has {p['n']:,}"
    return f"{rows}. Its recall may be off by ±{SHARE.within(p['margin'])} and counts as much as any other class's."


def _class_without_test_rows(p: Parameters, c: Context) -> str:
    more = f" (nor do {p['n_classes'] - 1} others)" if p["n_classes"] > 1 else ""
    return f"{_label(p)} has no test rows{more}: the score is that of the other classes."


def _failed_runs(p: Parameters, c: Context) -> str:
    n, total = len(p["runs"]), p["total"]
    runs, verb = "run" if total == 1 else "runs", "is" if n == 1 else "are"
    return f"{n} of {total} {runs} failed and {verb} missing: {listed(p['runs'])}."


_WORDS: dict[str, Callable[[Parameters, Context], str]] = {
    "nothing_complete": lambda p, c: "No run that could be recommended is complete.",
    "recommended": _recommended,
    "not_worth_training": lambda p, c: (
        f"Nothing here is clearly worth training: {p['method']} reaches {c.score(p['score'])} "
        f"{c.task.primary.title} on {p['n_test']:,} test rows, and always answering {c.task.words.constant} reaches "
        f"{c.score(p['majority'])}."
    ),
    "nothing_cheaper_close": lambda p, c: f"Nothing cheaper came within {c.margin(p['margin'])} of it.",
    "scored_highest": lambda p, c: (
        f"{p['method']} scored highest ({c.score(p['score'])}), by no more than the margin of {c.margin(p['margin'])}, "
        "and costs more."
    ),
    "cheaper_not_clearly_worse": lambda p, c: (
        f"{p['method']} ({c.score(p['score'])}) costs less and is not clearly worse on these rows."
    ),
    "base_or_method": _base_or_method,
    "untrained": _untrained,
    "ranked_by": _ranked_by,
    "learned_nothing": lambda p, c: (
        f"{listed(p['methods'])} gave the same answer to every text {_in_runs(p)} and learned nothing. Try another "
        "learning rate or more epochs."
    ),
    "not_above_majority": _not_above_majority,
    "one_seed": lambda p, c: (
        f"One seed only ({listed(p['methods'])}): the spread from seed to seed is unknown. Run three or more "
        "(`--seeds 3`)."
    ),
    "too_few_seeds": lambda p, c: (
        f"More seeds (`--seeds`) are needed to separate {p['method']} from {p['rival']} ({_difference(p, c)}): the "
        f"{p['n_test']:,} test rows account for ±{c.margin(p['half_width_of_rows'])} of that."
    ),
    "too_few_test_rows": _too_few_test_rows,
    "truncated": _truncated,
    "still_improving": lambda p, c: (
        f"{p['method']} was still improving in its last epoch ({p['epoch']}) {_in_runs(p)}. More epochs may help "
        "(`--epochs`)."
    ),
    "overconfident": lambda p, c: (
        f"{p['method']} became overconfident {_in_runs(p)}: {_losses(p)}, though its {c.task.primary.title} still "
        "improved. More epochs may raise the score, not the quality of its probabilities."
    ),
    "overfits": lambda p, c: (
        f"{p['method']} overfits {_in_runs(p)}: {_losses(p)}. Fewer epochs or more training rows may help."
    ),
    "dominant_class": lambda p, c: (
        f"{SHARE.score(p['share'])} of the test rows are {_label(p)}, so accuracy says little. Look at macro F1 and "
        "MCC, or rank by another score (`--metric balanced_accuracy`)."
    ),
    "few_rows_of_class": _few_rows_of_class,
    "class_without_test_rows": _class_without_test_rows,
    "far_off": lambda p, c: (
        f"The numbers of {p['method']} are further off than the mean of the test labels (R2 {decimal(p['r2'])}). Trust "
        "their order, not their size."
    ),
    "mislabelled": lambda p, c: (
        f"{p['n']:,} {c.task.words.mislabelled}: every trained model confidently disagrees. Check some of them in "
        f"{MISLABELLED_FILE}."
    ),
    "repeated_texts": lambda p, c: (
        f"{p['n']:,} training or validation texts also occurred in a later split and were removed. This source repeats "
        "itself; near-duplicates remain, so scores may be too good."
    ),
    "failed_runs": _failed_runs,
    "selected_on_test": lambda p, c: (
        f"{p['method']} was selected on these test rows, so its score is slightly optimistic. Check it on rows that no "
        "method has seen."
    ),
}

"""Writes ``docs/methods.md`` from the registry and the two committed studies of all methods. Run by ``make docs``."""

from __future__ import annotations

from pathlib import Path

from feathertune.baselines import BASELINES
from feathertune.methods import METHODS, Method
from feathertune.methods.describe import traits
from feathertune.records import StudyRecord, SummaryRow
from feathertune.report.format import units
from feathertune.tasks.formats import SHARE

ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_name("methods.md")
RESULTS = ROOT / "benchmarks" / "results"
AT_DEFAULTS, MATCHED = RESULTS / "methods-defaults.json", RESULTS / "methods-matched.json"
HEAD = """# Methods

Made by `make docs` from the registry and two committed studies; do not edit.

`feathertune compare --methods NAME,NAME` runs any of them side by side, `--methods all` all that can serve the encoder;
`--match-parameters 0.3%` gives each the size by which it trains nearest to that share of the encoder's parameters.
`feathertune methods show NAME --base ENCODER` says which modules a method adapts there and how much it trains. Options
and their defaults are in the [reference](reference.md#methods).
"""
_REFUSALS = """## Base models that a method cannot serve

A method that does not fit a base model is refused before training, with the reason; `--methods all` leaves it out. All
other methods serve decoders and encoder-decoders as they serve encoders.

| methods | cannot serve | why |
|---|---|---|
| `prompt`, `p-tuning` | decoders | A decoder's head reads the last token. Transformers finds it by token ids; if \
embedded tokens stand before a text, it takes the last place of a batch, which may be padding. |
| `prompt`, `p-tuning` | encoder-decoders (T5, BART) and others | Their classifiers fail on embedded inputs, or need \
padding on the left, where PEFT's tokens would stand before it (XLNet). This is tried on each model. |
| `prefix` | all, from transformers 5.24 on | PEFT hands keys and values over by a name that models no longer take. |
| {linear_only} | GPT-2 and GPT-1 | PEFT adapts `nn.Linear` alone by these, and their layers are `Conv1D`. |
| `bitfit` | Llama, Mistral, Gemma, T5 and others | Their blocks have no biases. |
| `ln-tuning` | OLMo, XLM, FlauBERT | Their blocks have no norms with weights. |
| all {targeted} that adapt linear layers | I-BERT, SqueezeBERT | Their blocks have none. |
| `top-layers`, `--top-layers` | ALBERT | All layers share their weights. |
| `full:read=mean` | all but BERT's form | It adds a block of that form. |
"""


def page(defaults: StudyRecord | None = None) -> str:
    """The whole page, with the study at the defaults; a method that it lacks is named as not measured."""
    defaults, matched = defaults or _study(AT_DEFAULTS), _study(MATCHED)
    parts = [HEAD, _traits(), _refusals(), _results(defaults, matched)]
    parts += [_section(method, defaults, matched) for method in METHODS]
    return "\n".join(parts)


def _study(path: Path) -> StudyRecord:
    return StudyRecord.model_validate_json(path.read_text(encoding="utf-8"))


def _traits() -> str:
    lines = [
        "## What to know of each",
        "",
        "*Merges*: what was learned can be added into the encoder's weights (`feathertune export --to merged`), so "
        "that it costs nothing in prediction. *Starts at zero*: the prepared encoder answers as before, so its head "
        "can be fitted first. *Last layers*: it can be kept to them (`--top-layers`), and what comes before is "
        "computed once. *Size*: the option that makes it larger or smaller. *Rate*: the learning rate by default.",
        "",
        "| method | merges | starts at zero | last layers | size | rate |",
        "|---|---|---|---|---|---|",
    ]
    for m in METHODS:
        t = traits(m)
        size = "one size" if t.size_option is None else f"`{t.size_option}`"
        words = (_yes(value) for value in (t.mergeable, t.zero_init, t.last_layers))
        cells = (f"[{m.name}](#{m.name})", *words, size, f"{t.learning_rate:g}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def _refusals() -> str:
    linear_only = ", ".join(f"`{method.name}`" for method in METHODS if not method.conv1d)
    targeted = sum("target_modules" in method.options.model_fields for method in METHODS)
    return _REFUSALS.format(linear_only=linear_only, targeted=targeted)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _results(defaults: StudyRecord, matched: StudyRecord) -> str:
    data, hardware = defaults.data, defaults.hardware
    studies = (("at the defaults", defaults, AT_DEFAULTS), ("at a common budget", matched, MATCHED))
    lines = [
        "## What they cost and gave here",
        "",
        f"{data.source} and {defaults.base_ids()}: {data.n_train:,} rows to train on, {data.n_test:,} to test on, "
        f"{_seeds(defaults)} seeds, accuracy with its 95% interval; on {hardware['cores']} cores "
        f"({hardware['processor']}, {hardware['dtype']}). One small data set and one small encoder: differences of a "
        "point or two are noise, and a method that needs a large encoder or many steps does badly here. The two "
        "studies ran at once, a core each: times compare methods with each other, not with other pages. At the budget "
        "each keeps its default rate, which is too low for one that became much smaller "
        "([what was tried](../benchmarks/LOG.md)).",
        "",
        *(
            f"* {name}: `{_command(study)}` ([record](../benchmarks/results/{path.name}))"
            for name, study, path in studies
        ),
        "",
        "| method | accuracy | against full | trained | ships | time a run | at the budget: accuracy | trained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    at_budget = _rows(matched)
    for row in sorted(defaults.summary, key=lambda row: -row.score_mean):
        known = row.method in METHODS
        other = at_budget.get(row.method) if known else None
        cells = (
            f"[{row.method}](#{row.method})" if known else row.method,
            _accuracy(row),
            SHARE.difference(row.delta_vs_full),
            units.count(row.trainable_parameters),
            units.size(row.adapter_bytes),
            units.seconds(row.seconds_mean),
            units.DASH if other is None else _accuracy(other),
            units.DASH if other is None else units.count(other.trainable_parameters),
        )
        lines.append("| " + " | ".join(cells) + " |")
    for record in (defaults, matched):
        lines += [f"\nFailed: `{run.id}`: {run.error}." for run in record.runs if run.status == "failed"]
    lines += [f"\nLeft out: [{name}](#{name}), since {why}" for name, why in defaults.left_out.items()]
    found = _rows(defaults).keys() | defaults.left_out.keys()
    if unknown := [f"[{name}](#{name})" for name in METHODS.names() if name not in found]:
        lines.append(f"\nNot measured yet: {', '.join(unknown)}.")
    baselines = ", ".join(f"`{b.name}`" for b in BASELINES)
    return "\n".join([*lines, "", f"{baselines} are the baselines that every study has.", ""])


def _command(study: StudyRecord) -> str:
    words = study.command[1:] if study.command and study.command[0].endswith("feathertune") else study.command
    return "feathertune " + " ".join(words)


def _seeds(study: StudyRecord) -> int:
    return max(row.n_seeds for row in study.summary if row.method in METHODS)


def _rows(study: StudyRecord) -> dict[str, SummaryRow]:
    return {row.method: row for row in study.summary}


def _accuracy(row: SummaryRow) -> str:
    return f"{SHARE.score(row.score_mean)} ({SHARE.interval(row.score_low, row.score_high)})"


def _section(method: Method, defaults: StudyRecord, matched: StudyRecord) -> str:
    lines = [f"## {method.name}", "", f"{method.summary} {method.when}", "", f"Source: {method.source}."]
    said = [
        f"{_accuracy(row)} with {units.count(row.trainable_parameters)} trained parameters {when}"
        for study, when in ((defaults, "at its defaults"), (matched, "at the common budget"))
        if (row := _rows(study).get(method.name)) is not None
    ]
    if said:
        lines.append(f"Here: {', '.join(said)}.")
    if method.search_space:
        space = (
            f"`{key}` {', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in values)}"
            for key, values in method.search_space.items()
        )
        lines.append(f"Worth trying: {'; '.join(space)}.")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

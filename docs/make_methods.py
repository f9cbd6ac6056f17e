"""Write the tables of ``docs/methods.md`` and the page ``docs/methods-table.md``. Run by ``make docs``.

Sources are the registry and two committed studies of all methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from make_figures import filled, read_study

from feathertune.baselines import BASELINES
from feathertune.methods import METHODS, Method
from feathertune.methods.describe import traits
from feathertune.records import StudyRecord, SummaryRow
from feathertune.report.format import units
from feathertune.tasks.formats import SHARE

ROOT = Path(__file__).parents[1]
PAGE, TABLE = (Path(__file__).with_name(name) for name in ("methods.md", "methods-table.md"))
RESULTS = ROOT / "benchmarks" / "results"
AT_DEFAULTS, MATCHED = RESULTS / "methods-defaults.json", RESULTS / "methods-matched.json"
MAKER = "docs/make_methods.py"
_TABLE_HEAD = """# Properties of each method

Made by `make docs` from the registry; do not edit.

`feathertune methods show NAME --base BASE` lists the modules that a method adapts in a base model, and its number of
trained parameters. For advice and measurements, see [Methods](methods.md); for all options, the
[reference](reference.md#methods).

* **Merging.** `feathertune export --to merged` adds what was trained to the base model's weights, so predictions cost
  nothing extra. Not possible for {not_mergeable}.
* **Unchanged start.** The prepared model answers like the base model, so its head can be trained first. Not true for
  {not_zero_init}.
* **Last layers.** `--top-layers` restricts a method to the last layers. Not available for {not_last_layers}.
* **Size** is the option that sets how many parameters are trained. `--match-parameters` uses it.
* **Values to try** are the values that `--search` draws from.

"""
_REFUSALS = """\
| method | cannot serve | reason |
|---|---|---|
| `prompt`, `p-tuning` | decoders | A decoder's head reads the last token, which transformers finds by token id. With \
embedded tokens before a text, it takes the batch's last position, which may be padding. |
| `prompt`, `p-tuning` | encoder-decoders (T5, BART) and others | Their classifiers fail on embedded inputs, or need \
padding on the left, where PEFT's tokens would precede it (XLNet). Each model is tried. |
| `prefix` | all, from transformers 5.24 on | PEFT passes keys and values under a name that models no longer accept. |
| {linear_only} | GPT-2 and GPT-1 | PEFT adapts only `nn.Linear` with these methods, and their layers are `Conv1D`. |
| `bitfit` | Llama, Mistral, Gemma, T5 and others | Their blocks have no biases. |
| `ln-tuning` | OLMo, XLM, FlauBERT | Their blocks have no norms with weights. |
| all {targeted} that adapt linear layers | I-BERT, SqueezeBERT | Their blocks have no linear layers. |
| `top-layers`, `--top-layers` | ALBERT | All layers share their weights. |
| `full:read=mean` | all but BERT's form | It adds a block of that form. |
"""


def with_tables(page: str, defaults: StudyRecord | None = None) -> str:
    """Return the page on methods with its tables; methods missing from the study are listed as not measured."""
    studies = defaults or read_study(AT_DEFAULTS), read_study(MATCHED)
    return filled(page, MAKER, {"results": lambda: _results(*studies), "refusals": _refusals})


def table() -> str:
    """Return the page with the properties of each method."""
    known = {method.name: traits(method) for method in METHODS}
    head = _TABLE_HEAD.format(
        not_mergeable=_listed(name for name, one in known.items() if not one.mergeable),
        not_zero_init=_listed(name for name, one in known.items() if not one.zero_init),
        not_last_layers=_listed(name for name, one in known.items() if not one.last_layers),
    )
    return head + "\n".join(map(_section, METHODS))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _refusals() -> str:
    linear_only = _listed(method.name for method in METHODS if not method.conv1d)
    targeted = sum("target_modules" in method.options.model_fields for method in METHODS)
    return _REFUSALS.format(linear_only=linear_only, targeted=targeted)


def _results(defaults: StudyRecord, matched: StudyRecord) -> str:
    data, hardware = defaults.data, defaults.hardware
    studies = (("Defaults", defaults, AT_DEFAULTS), ("Budget", matched, MATCHED))
    lines = [
        f"{data.source} and {defaults.base_ids()}: {data.n_train:,} training rows, {data.n_test:,} test rows, "
        f"{_seeds(defaults)} seeds, on {hardware['cores']} cores ({hardware['processor']}, {hardware['dtype']}).",
        "",
        *(
            f"* {name}: `{_command(study)}` ([record](../benchmarks/results/{path.name}))"
            for name, study, path in studies
        ),
        "",
        "| method | accuracy, 95% CI | gain over full | trained | ships | time per run | budget: accuracy, 95% CI "
        "| budget: trained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    at_budget = _rows(matched)
    for row in sorted(defaults.summary, key=lambda row: -row.score_mean):
        known = row.method in METHODS
        other = at_budget.get(row.method) if known else None
        cells = (
            _linked(row.method) if known else row.method,
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
    lines += [f"\nSkipped: {_linked(name)}. Reason: {why}" for name, why in defaults.left_out.items()]
    found = _rows(defaults).keys() | defaults.left_out.keys()
    if unknown := [_linked(name) for name in METHODS.names() if name not in found]:
        lines.append(f"\nNot measured yet: {', '.join(unknown)}.")
    return "\n".join([*lines, "", f"{_listed(b.name for b in BASELINES)} are the baselines of every study.", ""])


def _linked(name: str) -> str:
    return f"[{name}]({TABLE.name}#{name})"


def _command(study: StudyRecord) -> str:
    words = study.command[1:] if study.command and study.command[0].endswith("feathertune") else study.command
    return "feathertune " + " ".join(words)


def _seeds(study: StudyRecord) -> int:
    return max(row.n_seeds for row in study.summary if row.method in METHODS)


def _rows(study: StudyRecord) -> dict[str, SummaryRow]:
    return {row.method: row for row in study.summary}


def _accuracy(row: SummaryRow) -> str:
    low, high = (SHARE.score(end).removesuffix(SHARE.suffix) for end in (row.score_low, row.score_high))
    return f"{SHARE.score(row.score_mean)} [{low}, {high}]"


def _section(method: Method) -> str:
    known = traits(method)
    source = re.sub(r"arXiv:(\d+\.\d+)", r"[arXiv:\1](https://arxiv.org/abs/\1)", method.source)
    size = "fixed" if known.size_option is None else f"`{known.size_option}`"
    if (scaled := known.scaled_rate) is None:
        rate = f"{known.learning_rate:g}"
    else:
        rate = (
            f"{scaled['highest']:g} in short trainings on narrow base models, down to {scaled['lowest']:g} "
            f"({scaled['hidden_size']} / hidden size * sqrt({scaled['n_steps']} / steps) times the highest)"
        )
    facts = [f"**Size:** {size}.", f"**Learning rate:** {rate}."]
    if method.search_space:
        values = (
            f"`{key}` {', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in found)}"
            for key, found in method.search_space.items()
        )
        facts.append(f"**Values to try:** {'; '.join(values)}.")
    text = [method.summary, f"**When to use it:** {method.when}", *facts, f"**Source:** {source}."]
    return f"## {method.name}\n{' '.join(text)}\n"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    TABLE.write_text(table(), encoding="utf-8")

"""Puts the numbers of our own studies into ``docs/concepts.md``, from their committed records. Run by ``make docs``.

What stands between ``<!-- NAME: ... -->`` and ``<!-- /NAME -->`` is made here; the rest of the page is written by hand.
"""

from __future__ import annotations

from pathlib import Path

from make_figures import (
    ENGINE,
    METHODS,
    RESULTS,
    SENTENCES,
    STANDING,
    filled,
    methods_of,
    read_json,
    read_study,
    with_interval,
)

from feathertune.report.format import units
from feathertune.report.wording import caveat_texts, verdict_text

PAGE = Path(__file__).with_name("concepts.md")
SIMULATED = RESULTS / "simulated-studies.json"
UNBALANCED = RESULTS / "simulated-unbalanced.json"
CONFUSION = RESULTS / "simulated-confusion.json"
NUMBERS = RESULTS / "simulated-numbers.json"
_NEARLY_ALL = 0.9
_TRAINED = (
    ("trainer-lora-tuned", "Trainer and PEFT's LoRA, tuned"),
    ("trainer-lora-tuned-no-dropout", "the same without dropout"),
    ("lora", "feathertune, LoRA in all layers"),
    ("lora-top-half-cached", "the last half of them, the rest cached"),
    ("lora-top-quarter-cached", "the last quarter, the rest cached"),
)


def with_numbers(page: str) -> str:
    """The page with every part as the records have it.

    Raises:
        KeyError: If the page has a part that is not made here.
    """
    parts = {
        "baselines": baselines,
        "reviews": reviews,
        "seeds": seeds,
        "intervals": intervals,
        "balanced": balanced,
        "confusion": confusion,
        "numbers": numbers,
        "verdict": verdict,
        "caveats": caveats,
        "frontier": frontier,
        "sizes": sizes,
    }
    return filled(page, "docs/make_concepts.py", parts)


def baselines() -> str:
    """What stands beside the trained methods in the study of sentences."""
    study = read_study(SENTENCES)
    rows = {row.method: row for row in study.summary}
    heads = sorted(run.test.accuracy for run in study.runs if run.method == "foundation" and run.test is not None)
    lines = [
        f"On {study.data.source} ({study.data.n_train:,} sentences to train on, {study.data.n_test:,} to test on):",
        "",
        "| row | what it is | accuracy | time |",
        "|---|---|---|---|",
        *(
            f"| `{name}` | {what} | {with_interval(rows[name])} | {units.seconds(rows[name].seconds_mean)} |"
            for name, what in (
                ("majority", "always the commonest class"),
                ("foundation", f"the encoder with an untrained head; five heads, {_span(heads)}"),
                ("probe", "logistic regression on its frozen features"),
                ("tfidf", "logistic regression on words and word pairs, no network"),
                ("lora", "an adapter"),
                ("full", "every weight trained"),
            )
        ),
        "",
    ]
    return "\n".join(lines)


def reviews() -> str:
    """The same rows where texts are long and there are more of them."""
    study = read_study(STANDING)
    rows = {row.method: row for row in study.summary}
    found = ", ".join(f"`{name}` {with_interval(rows[name])}" for name in ("probe", "tfidf", "lora", "full"))
    return (
        f"On {study.data.source} ({study.data.n_train:,} reviews to train on, {study.data.n_test:,} to test on, of "
        f"which the encoders read {study.data.max_length} tokens and tf-idf every word) they come out otherwise: "
        f"{found}. The verdict there: *{verdict_text(study)}*\n"
    )


def seeds() -> str:
    """How far one method lies from itself."""
    methods = {m.row.method: m for m in methods_of(read_study(METHODS))}
    full, lora = (sorted(methods[name].scores) for name in ("full", "lora"))
    return (
        f"On {read_study(METHODS).data.n_train:,} training rows, three seeds of full fine-tuning gave "
        f"{_listed(full)}, three of LoRA {_listed(lora)}. Whoever runs each once may find full fine-tuning up to "
        f"{100 * (full[-1] - lora[0]):.1f} points ahead, or LoRA up to {100 * (lora[-1] - full[0]):.1f}.\n"
    )


def intervals() -> str:
    """How often intervals hold the truth, where the truth is known."""
    cases = read_json(SIMULATED)["coverage"]
    single, difference = ([case[f"covered_{kind}"] for case in cases] for kind in ("single", "difference"))
    return (
        f"Whether 95% means 95% was tried on simulated studies, whose truth is known: {len(cases)} cases of "
        f"{min(c['rows'] for c in cases):,} to {max(c['rows'] for c in cases):,} test rows and "
        f"{min(c['seeds'] for c in cases)} or {max(c['seeds'] for c in cases)} seeds, {cases[0]['studies']:,} studies "
        "each. "
        f"The interval of one method held its true accuracy in {_span(sorted(single))} of the studies, that of a "
        f"difference in {_span(sorted(difference))}.\n"
    )


def confusion() -> str:
    """The same of macro F1 and Matthews correlation."""
    cells = read_json(CONFUSION)["cells"]
    found = []
    for metric, title in (("macro_f1", "macro F1"), ("mcc", "MCC")):
        cases = [case for case in cells if case["metric"] == metric]
        single, difference = (sorted(case[f"covered_{kind}"] for case in cases) for kind in ("single", "difference"))
        found.append(f"for {title} {_span(single)} and {_span(difference)}")
    return (
        f"Tried on simulated studies ({len(cells)} cases of {cells[0]['studies']:,} studies each, 2 to 10 classes, "
        f"{min(c['rows'] for c in cells):,} to {max(c['rows'] for c in cells):,} test rows, the smallest class "
        f"{100 * min(c['smallest_share'] for c in cells):.0f}% of them or more), the intervals of one method and of a "
        f"difference held the truth {'; '.join(found)} of the time. The highest are of classes with ten rows.\n"
    )


def balanced() -> str:
    """The same of balanced accuracy, where one class is rare."""
    cases = [case for case in read_json(UNBALANCED)["cells"] if case["classes"] == 2]
    single, difference = (sorted(case[f"covered_{kind}"] for case in cases) for kind in ("single", "difference"))
    hard = [case for case in cases if case["recalls"][1] < _NEARLY_ALL and case["seeds"] == 3 and case["gap"] == 0]
    halves = [
        f"{100 * case['half_width_difference']:.1f} points with {case['rows']:,} rows"
        for case in sorted(hard, key=lambda case: case["rows"])
    ]
    gaps = [f"{100 * gap:.0f}" for gap in sorted({case["gap"] for case in cases})]
    return (
        f"Tested the same way, with {100 * cases[0]['smallest_share']:.0f}% of the rows of one class, differences of "
        f"{', '.join(gaps[:-1])} and {gaps[-1]} points and one or three seeds, {len(cases)} cases of "
        f"{cases[0]['studies']:,} studies each: the interval of one method held its true balanced accuracy in "
        f"{_span(single)} of the studies, that of a difference in {_span(difference)}; the high ones are of ten rows "
        "of a class, or of one of which nearly all are found, where intervals are too wide. Where a recall is 70%, a "
        f"difference is known to {', '.join(halves)} (three seeds).\n"
    )


def numbers() -> str:
    """The same of rank correlations."""
    record = read_json(NUMBERS)
    cases = sorted(record["cells"], key=lambda case: case["rows"])
    single, difference = (sorted(case[f"covered_{kind}"] for case in cases) for kind in ("single", "difference"))
    false = max(case["clear"] for case in cases if case["difference"] == 0)
    alike = max(case["as_good"] for case in cases)
    reached = sorted(case["correlation"] for case in cases)
    halves = [
        f"{case['half_width_difference']:.3f} with {case['rows']:,} rows"
        for case in cases
        if (case["correlation"], case["seeds"], case["difference"]) == (reached[-1], 3, 0)
    ]
    return (
        f"Tested the same way, with labels without ties and with five ratings, correlations of {reached[0]:.2f} to "
        f"{reached[-1]:.2f}, {cases[0]['rows']:,} to {cases[-1]['rows']:,} test rows and one or three seeds, "
        f"{len(cases)} cases of {cases[0]['studies']:,} studies each: the interval of one method held its true "
        f"correlation in {_span(single)} of the studies, that of a difference in {_span(difference)}; of two methods "
        f"that are equally good, one was called better in at most {units.percent(false)}, and two that differ by the "
        f"margin were called equally good in at most {units.percent(alike)}. Where the correlation is "
        f"{reached[-1]:.2f}, a difference is known to {', '.join(halves)} (three seeds whose own spread is "
        f"{record['spread']:g}).\n"
    )


def verdict() -> str:
    """The same study's, word for word."""
    return f"> {verdict_text(read_study(SENTENCES))}\n"


def caveats() -> str:
    """Likewise."""
    return "".join(f"> * {caveat}\n" for caveat in caveat_texts(read_study(SENTENCES)))


def frontier() -> str:
    """Seconds an epoch with and without the cached prefix."""
    record = read_json(ENGINE)
    measured = {row["name"]: row for row in record["table"]}
    lines = [
        f"{record['title']}, {record['rows']} rows, on {record['hardware']['cores']} cores "
        f"({record['hardware']['processor']}):",
        "",
        "| training | seconds an epoch | peak memory |",
        "|---|---|---|",
        *(
            f"| {what} | {row['seconds_per_epoch']:.2f} | {units.size(row['peak_memory_bytes'])} |"
            for name, what in _TRAINED
            for row in [measured[name]]
        ),
        "",
    ]
    return "\n".join(lines)


def sizes() -> str:
    """What is shipped."""
    rows = {row.method: row for row in read_study(SENTENCES).summary}
    return (
        f"In the study above, `lora` ships {units.size(rows['lora'].adapter_bytes)}, `full` "
        f"{units.size(rows['full'].adapter_bytes)}.\n"
    )


def _listed(shares: list[float]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in shares[:-1]) + f" and {units.percent(shares[-1])}"


def _span(shares: list[float]) -> str:
    return f"{100 * shares[0]:.1f} to {units.percent(shares[-1])}"


if __name__ == "__main__":
    PAGE.write_text(with_numbers(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

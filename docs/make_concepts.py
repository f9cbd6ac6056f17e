"""Write numbers into ``docs/concepts.md`` and ``docs/statistics.md``, from the committed records. Run by ``make docs``.

Text between ``<!-- NAME: ... -->`` and ``<!-- /NAME -->`` is generated; the rest of each page is written by hand.
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

PAGES = tuple(Path(__file__).with_name(name) for name in ("concepts.md", "statistics.md"))
SIMULATED = RESULTS / "simulated-studies.json"
UNBALANCED = RESULTS / "simulated-unbalanced.json"
CONFUSION = RESULTS / "simulated-confusion.json"
NUMBERS = RESULTS / "simulated-numbers.json"
_NEARLY_ALL = 0.9
_TRAINED = (
    ("trainer-lora-tuned", "`Trainer` with PEFT's LoRA, tuned"),
    ("trainer-lora-tuned-no-dropout", "the same without dropout"),
    ("lora", "feathertune, LoRA in all layers"),
    ("lora-top-half-cached", "LoRA in the last half, the rest cached"),
    ("lora-top-quarter-cached", "LoRA in the last quarter, the rest cached"),
)


def with_numbers(page: str) -> str:
    """Return a page with the numbers of the records.

    Raises:
        KeyError: If the page has an unknown part.
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
    """Return the baselines and two trained methods of the study of sentences."""
    study = read_study(SENTENCES)
    rows = {row.method: row for row in study.summary}
    heads = sorted(run.test.accuracy for run in study.runs if run.method == "foundation" and run.test is not None)
    lines = [
        f"On {study.data.source} ({study.data.n_train:,} training and {study.data.n_test:,} test sentences):",
        "",
        "| row | model | accuracy, 95% CI | time |",
        "|---|---|---|---|",
        *(
            f"| `{name}` | {what} | {with_interval(rows[name])} | {units.seconds(rows[name].seconds_mean)} |"
            for name, what in (
                ("majority", "always the largest class"),
                ("foundation", f"the base model with an untrained head; five heads, {_span(heads)}"),
                ("probe", "logistic regression on the frozen base model's features"),
                ("tfidf", "logistic regression on words and word pairs"),
                ("lora", "a LoRA adapter"),
                ("full", "full fine-tuning"),
            )
        ),
        "",
    ]
    return "\n".join(lines)


def reviews() -> str:
    """Return the same rows on long reviews."""
    study = read_study(STANDING)
    rows = {row.method: row for row in study.summary}
    found = ", ".join(f"`{name}` {with_interval(rows[name])}" for name in ("probe", "tfidf", "lora", "full"))
    return (
        f"On {study.data.source} the order changes: {study.data.n_train:,} training and {study.data.n_test:,} test "
        f"reviews, of which encoders read {study.data.max_length} tokens and `tfidf` reads every word. {found}. The "
        f"verdict: *{verdict_text(study)}*\n"
    )


def seeds() -> str:
    """Return the scores of three seeds of two methods."""
    methods = {m.row.method: m for m in methods_of(read_study(METHODS))}
    full, lora = (sorted(methods[name].scores) for name in ("full", "lora"))
    return (
        f"On {read_study(METHODS).data.n_train:,} training rows, three seeds of full fine-tuning reach "
        f"{_listed(full)}, and three seeds of LoRA {_listed(lora)}. With one seed each, full fine-tuning can appear "
        f"{100 * (full[-1] - lora[0]):.1f} points better than LoRA, or LoRA {100 * (lora[-1] - full[0]):.1f} points "
        "better than full fine-tuning.\n"
    )


def intervals() -> str:
    """Return the intervals' coverage of accuracy in simulated studies."""
    cases = read_json(SIMULATED)["coverage"]
    single, difference = ([case[f"covered_{kind}"] for case in cases] for kind in ("single", "difference"))
    return (
        f"Coverage in simulated studies with known accuracy: {len(cases)} cases of "
        f"{min(c['rows'] for c in cases):,} to {max(c['rows'] for c in cases):,} test rows and "
        f"{min(c['seeds'] for c in cases)} or {max(c['seeds'] for c in cases)} seeds, {cases[0]['studies']:,} studies "
        f"each. Intervals covered one method's true accuracy in {_span(sorted(single))} of the studies, and a true "
        f"difference in {_span(sorted(difference))}.\n"
    )


def confusion() -> str:
    """Return the coverage of macro F1 and the Matthews correlation."""
    cells = read_json(CONFUSION)["cells"]
    found = []
    for metric, title in (("macro_f1", "macro F1"), ("mcc", "MCC")):
        cases = [case for case in cells if case["metric"] == metric]
        single, difference = (sorted(case[f"covered_{kind}"] for case in cases) for kind in ("single", "difference"))
        found.append(f"{title} {_span(single)} and {_span(difference)}")
    return (
        f"Coverage in simulated studies ({len(cells)} cases of {cells[0]['studies']:,} studies each, 2 to 10 classes, "
        f"{min(c['rows'] for c in cells):,} to {max(c['rows'] for c in cells):,} test rows, the smallest class at "
        f"least {100 * min(c['smallest_share'] for c in cells):.0f}% of them), of one method and of a difference: "
        f"{'; '.join(found)}. The highest values are from classes with ten rows.\n"
    )


def balanced() -> str:
    """Return the coverage of balanced accuracy with a rare class."""
    cases = [case for case in read_json(UNBALANCED)["cells"] if case["classes"] == 2]
    single, difference = (sorted(case[f"covered_{kind}"] for case in cases) for kind in ("single", "difference"))
    hard = [case for case in cases if case["recalls"][1] < _NEARLY_ALL and case["seeds"] == 3 and case["gap"] == 0]
    halves = [
        f"±{100 * case['half_width_difference']:.1f} points with {case['rows']:,} rows"
        for case in sorted(hard, key=lambda case: case["rows"])
    ]
    gaps = [f"{100 * gap:.0f}" for gap in sorted({case["gap"] for case in cases})]
    return (
        f"Coverage in simulated studies with {100 * cases[0]['smallest_share']:.0f}% of the rows in one class, "
        f"differences of {', '.join(gaps[:-1])} and {gaps[-1]} points, and one or three seeds ({len(cases)} cases of "
        f"{cases[0]['studies']:,} studies each): intervals covered one method's true balanced accuracy in "
        f"{_span(single)} of the studies, and a true difference in {_span(difference)}. The high values are from "
        "classes with ten rows or a recall near 100%, where intervals are too wide. At a recall of 70% and three "
        f"seeds, the 95% CI of a difference is {', '.join(halves)}.\n"
    )


def numbers() -> str:
    """Return the coverage of rank correlations."""
    record = read_json(NUMBERS)
    cases = sorted(record["cells"], key=lambda case: case["rows"])
    single, difference = (sorted(case[f"covered_{kind}"] for case in cases) for kind in ("single", "difference"))
    false = max(case["clear"] for case in cases if case["difference"] == 0)
    alike = max(case["as_good"] for case in cases)
    reached = sorted(case["correlation"] for case in cases)
    halves = [
        f"±{case['half_width_difference']:.3f} with {case['rows']:,} rows"
        for case in cases
        if (case["correlation"], case["seeds"], case["difference"]) == (reached[-1], 3, 0)
    ]
    return (
        f"Coverage in simulated studies with continuous labels and with five ratings, correlations of {reached[0]:.2f} "
        f"to {reached[-1]:.2f}, {cases[0]['rows']:,} to {cases[-1]['rows']:,} test rows, and one or three seeds "
        f"({len(cases)} cases of {cases[0]['studies']:,} studies each): intervals covered one method's true "
        f"correlation in {_span(single)} of the studies, and a true difference in {_span(difference)}. Of two equally "
        f"good methods, one was called better in at most {units.percent(false)}. Two methods that differ by the margin "
        f"were called equally good in at most {units.percent(alike)}. At a correlation of {reached[-1]:.2f} and three "
        f"seeds with a spread of {record['spread']:g}, the 95% CI of a difference is {', '.join(halves)}.\n"
    )


def verdict() -> str:
    """Return the verdict of the study of sentences."""
    return f"> {verdict_text(read_study(SENTENCES))}\n"


def caveats() -> str:
    """Return the caveats of the study of sentences."""
    return "".join(f"> * {caveat}\n" for caveat in caveat_texts(read_study(SENTENCES)))


def frontier() -> str:
    """Return seconds per epoch with and without the cached prefix."""
    record = read_json(ENGINE)
    measured = {row["name"]: row for row in record["table"]}
    lines = [
        f"{record['title']}, {record['rows']} rows, {record['hardware']['cores']} cores "
        f"({record['hardware']['processor']}):",
        "",
        "| training | seconds per epoch | peak memory |",
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
    """Return the sizes of two bundles."""
    rows = {row.method: row for row in read_study(SENTENCES).summary}
    return (
        f"In the study above, the bundle of `lora` takes {units.size(rows['lora'].adapter_bytes)}, that of `full` "
        f"{units.size(rows['full'].adapter_bytes)}.\n"
    )


def _listed(shares: list[float]) -> str:
    return ", ".join(f"{100 * share:.1f}" for share in shares[:-1]) + f" and {units.percent(shares[-1])}"


def _span(shares: list[float]) -> str:
    return f"{100 * shares[0]:.1f} to {units.percent(shares[-1])}"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_numbers(path.read_text(encoding="utf-8")), encoding="utf-8")

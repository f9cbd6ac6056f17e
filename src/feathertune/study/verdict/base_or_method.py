"""Compare the gain from a better base model with the gain from a better method, in a study of several base models.

Both gains end at the best row with a base model. One starts at the lowest row of the same method on another base model,
the other at the lowest row of another method on the same base model. The difference between the gains is the difference
between their starting rows, so the study's pairs test all three. A gain is clear if its interval is above 0 and its
p-value, times the number of pairs examined, is below `CLEAR_P` (Bonferroni).
"""

from __future__ import annotations

from feathertune.records import Reason
from feathertune.records.row_names import base_of_row, method_of_row
from feathertune.study.verdict.evidence import CLEAR_P, Evidence
from feathertune.study.verdict.summary import find_pair


def base_or_method(evidence: Evidence) -> list[Reason]:
    """Return which gain is larger; empty with a single base model, or if the best row has no row to compare with."""
    rows = sorted((row for row in evidence.candidates if base_of_row(row.method)), key=lambda row: row.score_mean)
    if not rows:
        return []
    best = rows[-1]
    method, base = method_of_row(best.method), base_of_row(best.method)
    other_bases = [row for row in rows[:-1] if method_of_row(row.method) == method]
    other_methods = [row for row in rows[:-1] if base_of_row(row.method) == base]
    if not other_bases or not other_methods:
        return []
    n = len(other_bases) + len(other_methods) + 1
    starts = {"base": other_bases[0].method, "method": other_methods[0].method}
    gains = {name: _gain(start, best.method, evidence, n) for name, start in starts.items()}
    ahead = {
        "base": _gain(starts["base"], starts["method"], evidence, n),
        "method": _gain(starts["method"], starts["base"], evidence, n),
    }
    more = [name for name, gain in gains.items() if gain["clear"] and ahead[name]["clear"]]
    return [Reason.of("base_or_method", best=best.method, more=more[0] if more else None, **gains)]


def _gain(before: str, after: str, evidence: Evidence, n: int) -> dict[str, object]:
    """Return the gain from one row to another with its interval; p is corrected for `n` pairs examined."""
    pair = find_pair(evidence.pairs, before, after)
    assert pair is not None, "a study compares all of its rows"
    sign = 1 if pair.a == after else -1
    low, high = sorted((sign * pair.low, sign * pair.high))
    p = min(1.0, n * pair.p)
    clear = low > 0 and p < CLEAR_P
    return {"from": before, "gain": sign * pair.delta, "low": low, "high": high, "p": p, "clear": clear}

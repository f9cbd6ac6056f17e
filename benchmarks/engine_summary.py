"""Summarise a case's rounds: a row per contestant, ratios, and checks that the contestants trained equally.

Ratios compare contestants within a round, which run minutes apart; each is reported as a median with its range.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from contestants import RATIOS, Contestant

from feathertune.report.format import units

# Largest difference between first losses: both sides start from the same weights, and bf16 keeps three digits.
FIRST_LOSS_TOLERANCE = 2e-2
SAME_START = ("trainer-lora-tuned-no-dropout", "lora")
# Largest difference between epoch losses with different batches and dropout masks: a warning, not a proof of equality.
LOOSELY = 0.1

Rounds = Mapping[str, Sequence[Mapping[str, Any]]]


def row(contestant: Contestant, rounds: Sequence[Mapping[str, Any]], *, tokens: int, peak: float) -> dict[str, Any]:
    """Return one contestant's row of the table.

    Args:
        contestant: The contestant.
        rounds: Results of its children, without failed ones.
        tokens: Tokens of the training rows, without padding.
        peak: Speed of the machine's fastest matrix product, in FLOP/s.
    """
    seconds = [epoch_seconds(found) for found in rounds]
    middle = statistics.median(seconds)
    epochs = contestant.epochs
    return {
        "name": contestant.name,
        "seconds_per_epoch": middle,
        "seconds_min": min(seconds),
        "seconds_max": max(seconds),
        "tokens_per_second": tokens / middle,
        "peak_memory_bytes": max(found["peak_memory_bytes"] for found in rounds),
        "share_of_peak": rounds[0]["operations"] / epochs / middle / peak,
        "padding_share": 1 - tokens * epochs / rounds[0]["padded_tokens"],
        "loss": statistics.median(found["losses"][-1] for found in rounds),
        "dtype": rounds[0]["dtype"],
        "trained_parameters": rounds[0]["trained_parameters"],
    }


def epoch_seconds(found: Mapping[str, Any]) -> float:
    """Return the seconds per epoch of one measurement, including its share of the cache's cost."""
    total: float = found["cache_seconds"] + sum(found["seconds"])
    return total / len(found["seconds"])


def ratios(rounds: Rounds, pairs: Sequence[tuple[str, str]] = RATIOS) -> list[dict[str, Any]]:
    """Return how many times faster the second of each pair is, for pairs with both measured."""
    found = []
    for slower, faster in pairs:
        both = [
            epoch_seconds(a) / epoch_seconds(b)
            for a, b in zip(rounds.get(slower, ()), rounds.get(faster, ()), strict=False)
            if "error" not in a and "error" not in b
        ]
        if both:
            middle = statistics.median(both)
            found.append(
                {"of": faster, "against": slower, "ratio": middle, "low": min(both), "high": max(both), "rounds": both}
            )
    return found


def checks(contestants: Sequence[Contestant], rounds: Rounds) -> list[dict[str, Any]]:
    """Return checks that the contestants learned the same."""
    whole = {name: good for name, found in rounds.items() if (good := [f for f in found if "error" not in f])}
    found = []
    for name, measured in whole.items():
        if "logits_difference" not in measured[0]:
            continue
        difference = max(one["logits_difference"] for one in measured)
        # In a deep model, the number format alone may change the logits by more.
        limit = max(measured[0]["logits_tolerance"], 2 * max(one["logits_difference_of_plain"] for one in measured))
        found.append(_check(f"{name}: logits after training against plain transformers in fp32", difference, limit))
    if all(name in whole for name in SAME_START):
        first = [whole[name][0]["first_loss"] for name in SAME_START]
        found.append(_check(" and ".join(SAME_START) + ": first loss", abs(first[0] - first[1]), FIRST_LOSS_TOLERANCE))
    for method in ("full", "lora"):
        # Otherwise the tuned Trainer is not the faster one, and comparing with it would be misleading.
        for one in ratios(rounds, [(f"trainer-{method}-tuned", f"trainer-{method}-tutorial")]):
            found.append(_check(f"{one['against']}: share of the tutorial's time", one["ratio"], 1.0))
    groups: dict[tuple[str, bool], dict[str, float]] = {}
    for one in contestants:
        if one.name in whole and one.top_share is None:
            losses = [measured["losses"][-1] for measured in whole[one.name]]
            groups.setdefault((one.method, one.dropout), {})[one.name] = statistics.median(losses)
    for losses in groups.values():
        if len(losses) > 1:
            spread = max(losses.values()) - min(losses.values())
            found.append(_check(f"{', '.join(losses)}: mean training loss", spread, LOOSELY))
    return found


def _check(what: str, difference: float, limit: float) -> dict[str, Any]:
    return {"what": what, "difference": difference, "limit": limit, "holds": difference <= limit}


def text(result: Mapping[str, Any]) -> str:
    """Return a case's result as text for a terminal."""
    peak = result["peak_flop_per_s"]
    lines = [
        f"{result['title']}: {result['rows']} rows, {result['tokens']:,} tokens, batch {result['batch_size']}, "
        f"peak {peak / 1e9:.0f} GFLOP/s",
        f"{'':32}{'s/epoch':>9}{'min':>8}{'max':>8}{'tokens/s':>10}{'memory':>10}"
        f"{'of peak':>9}{'padding':>9}{'loss':>7}",
    ]
    for one in result["table"]:
        memory = units.size(one["peak_memory_bytes"])
        lines.append(
            f"{one['name']:32}{one['seconds_per_epoch']:9.2f}{one['seconds_min']:8.2f}{one['seconds_max']:8.2f}"
            f"{one['tokens_per_second']:10,.0f}{memory:>10}{one['share_of_peak']:9.1%}{one['padding_share']:9.1%}"
            f"{one['loss']:7.3f}"
        )
    lines += [
        f"{one['of']} is {one['ratio']:.2f} times as fast as {one['against']} "
        f"({one['low']:.2f} to {one['high']:.2f}, {len(one['rounds'])} rounds)"
        for one in result["ratios"]
    ]
    lines += [
        f"{'holds' if one['holds'] else 'FAILS'}: {one['what']}: {one['difference']:.2g}, at most {one['limit']:g}"
        for one in result["checks"]
    ]
    lines += [f"failed: {name}: {error}" for name, error in result["failed"]]
    return "\n".join(lines) + "\n"

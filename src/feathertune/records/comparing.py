"""Differences between two JSON values, and the fields that may differ between two runs of one command."""

from __future__ import annotations

from typing import Any

# Fields that may differ between two runs of the same command on one machine: times, dates, memory, and values derived
# from them. Everything else must be equal bit for bit on CPU.
VOLATILE_FIELDS = frozenset(
    {
        "created",
        "seconds",
        "seconds_mean",
        "tokens_per_second",
        "examples_per_second",
        "peak_memory_bytes",
        "memory_mean_bytes",
        "mfu",
        "speedup_vs_full",
        "memory_vs_full",
        "predicted_seconds",
        "predicted_memory_bytes",
        "pareto",
        "measured",
        "command",
    }
)


def comparable(record: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value without its volatile fields, at every depth."""
    if isinstance(record, dict):
        return {k: comparable(v) for k, v in record.items() if k not in VOLATILE_FIELDS}
    if isinstance(record, list):
        return [comparable(v) for v in record]
    return record


def differences(there: Any, now: Any) -> list[tuple[str, Any, Any]]:  # noqa: ANN401 - any JSON value
    """Return all differences between two JSON values: dotted key, value there, value now; None for a missing value."""
    old, new = flat(there), flat(now)
    return [(key, old.get(key), new.get(key)) for key in sorted(old | new) if old.get(key) != new.get(key)]


def first_differences(there: Any, now: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return the first settings in which two JSON values differ, for a message; empty if they are equal."""
    return "; ".join(f"{key}: {old} there, {new} now" for key, old, new in differences(there, now)[:3])


def flat(value: object, prefix: str = "") -> dict[str, object]:
    """Return the leaves of nested mappings by their dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, item in value.items() for k, v in flat(item, f"{prefix}.{key}".lstrip(".")).items()}

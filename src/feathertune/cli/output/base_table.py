"""Terminal output of a ranking of base models."""

from __future__ import annotations

from rich.text import Text

from feathertune.cli.output.tables import Column, render, table_of
from feathertune.records.base_ranking import BaseRanking, RankedBase
from feathertune.report.format import units


def ranking_text(ranking: BaseRanking) -> str:
    """Return the table, the recommended base, and the bases that the rows cannot separate from it."""
    names = Column("base", left=True, whole=True)
    table = table_of(names, "score", "95% CI", "behind the best", "parameters", "per 1,000 texts", "unread tokens")
    for row in ranking.bases:
        if row.error is None:
            table.add_row(
                Text(row.base),
                units.decimal(row.score),
                f"{units.decimal(row.low)} to {units.decimal(row.high)}",
                units.DASH if row is ranking.bases[0] else _behind(row),
                units.count(row.n_parameters),
                units.seconds(row.seconds_per_1000),
                units.percent(row.unread),
            )
    failed = [Text(f"failed: {row.base}: {row.error}") for row in ranking.failed]
    facts = (
        f"{ranking.source}: {ranking.n_rows:,} training rows, up to {ranking.max_length} tokens per text. Score: R2 of "
        "a linear probe on held-out rows."
    )
    return render("", table, facts, *failed, *_advice(ranking))


def _behind(row: RankedBase) -> str:
    return f"{units.decimal(row.behind)} ({units.decimal(row.behind_low)} to {units.decimal(row.behind_high)})"


def _advice(ranking: BaseRanking) -> list[Text]:
    if not ranking.tied:
        return []
    best, *others = (row.base for row in ranking.tied)
    told = f"{ranking.n_rows:,} rows separate it from every other base."
    if others:
        told = f"{ranking.n_rows:,} rows cannot separate it from {', '.join(others)}: train these to decide."
    return [Text(f"\nTake {best}, which has the highest score. {told}")]

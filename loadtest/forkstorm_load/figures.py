"""Core times and work counts of a Locust run, for the console and for the web UI."""

from __future__ import annotations

from typing import Any

from forkstorm import Recovery

from forkstorm_load.recorder import (
    CORE,
    FAULT_WIRE,
    IDLE_WIRE,
    UNDO,
    WIRE,
    WORK_COUNTS,
    FaultKey,
    ForkKey,
    Recorder,
)
from forkstorm_load.seed import MEASURED
from forkstorm_load.stats import merged


def fork_figures(recorder: Recorder) -> list[dict[str, Any]]:
    """One row per strategy, layout and level: times in µs, work per VMA."""
    rows = []
    for text in sorted(recorder.work):
        key, work = ForkKey.parse(text), recorder.work[text]
        core, wire = (merged(recorder.slices(what, [text])[0]) for what in (CORE, WIRE))
        rows.append(
            {
                "layout": key.layout,
                "level": key.level,
                "strategy": key.strategy,
                "forks": work.forks,
                "became_other": work.became_other,
                "core_us_p50": core.quantile(0.5) / 1e3,
                "core_us_p99": core.quantile(0.99) / 1e3,
                "wire_us_p50": wire.quantile(0.5) / 1e3,
                "work_per_vma": {name: work.per_vma(name) for name in WORK_COUNTS},
            }
        )
    return sorted(rows, key=lambda row: (row["layout"], row["level"], row["strategy"]))


def console_table(recorder: Recorder) -> str:
    """The rows as text, for the end of a run."""
    lines = [
        f"{'layout':<20}{'level':>6}  {'strategy':<12}{'forks':>8}"
        f"{'core p50':>10}{'core p99':>10}{'wire p50':>10}  in µs"
    ]
    for row in fork_figures(recorder):
        lines.append(
            f"{row['layout'][:20]:<20}{row['level']:>6}  {row['strategy']:<12}{row['forks']:>8,}"
            f"{row['core_us_p50']:>10.1f}{row['core_us_p99']:>10.1f}{row['wire_us_p50']:>10.0f}"
            + (f"  {row['became_other']:,} became another" if row["became_other"] else "")
        )
    return "\n".join(lines)


def fault_figures(recorder: Recorder) -> list[dict[str, Any]]:
    """One row per recovery and strategy of forks that were made to fail; times in µs."""
    rows = []
    for recovery in Recovery:
        for strategy in MEASURED:
            text = FaultKey(strategy, recovery.name).text()
            wire, undo, idle = (
                merged(recorder.slices(what, [text])[0]) for what in (FAULT_WIRE, UNDO, IDLE_WIRE)
            )
            if not wire.total + idle.total:
                continue
            rows.append(
                {
                    "recovery": recovery.name,
                    "strategy": strategy,
                    "failed": wire.total,
                    "not_a_step": idle.total,
                    "wire_us_p50": wire.quantile(0.5) / 1e3 if wire.total else None,
                    "wire_us_p99": wire.quantile(0.99) / 1e3 if wire.total else None,
                    "undo_us_p50": undo.quantile(0.5) / 1e3 if undo.total else None,
                    "undo_us_p99": undo.quantile(0.99) / 1e3 if undo.total else None,
                }
            )
    return rows


def fault_table(recorder: Recorder) -> str:
    """The rows as text; empty when no fork had a fault."""
    rows = fault_figures(recorder)
    if not rows:
        return ""
    lines = [
        f"{'undone by':<11}{'strategy':<13}{'failed':>8}{'not a step':>12}"
        f"{'wire p50':>10}{'wire p99':>10}{'undo p50':>10}{'undo p99':>10}  in µs"
    ]
    for row in rows:
        times = (row[name] for name in ("wire_us_p50", "wire_us_p99", "undo_us_p50", "undo_us_p99"))
        shown = "".join(f"{'-' if time is None else f'{time:.1f}':>10}" for time in times)
        lines.append(
            f"{row['recovery']:<11}{row['strategy']:<13}{row['failed']:>8,}"
            f"{row['not_a_step']:>12,}{shown}"
        )
    return "\n".join(lines)

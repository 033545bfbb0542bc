"""The storm's report: at most 40 lines, readable at 100 columns, every figure from the outcome."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from forkstorm_load.measure import CONTROL_TOLERANCE, STEAL_MAX
from forkstorm_load.outcome import LayoutOutcome, Outcome, Side
from forkstorm_load.recorder import CLIENT_CPU_MAX
from forkstorm_load.seed import (
    BOUNDS,
    BULK_INSERT,
    KERNEL_C_NS_PER_VMA,
    KERNEL_LEVELS_CLIMBED,
    KERNEL_SPLITS,
    SAVED_NS_PER_VMA,
    STRATEGIES,
    TREE_DUP,
    seed_fit,
)
from forkstorm_load.stats import Difference, Interval

_COLUMNS = 100

LIMIT = (
    "This is the VMA tree and its records, not a whole fork: page tables, rmap, task are not in it."
)


def report_lines(outcome: Outcome) -> list[str]:
    """The whole report, plain text."""
    return [
        textwrap.shorten(f"Forkstorm: {outcome.server}", _COLUMNS, placeholder=" …"),
        *_control_lines(outcome),
        "",
        *_size_lines(outcome.sizes),
        "",
        *_fit_lines(outcome),
        LIMIT,
        "",
        *_layout_lines(outcome.layouts, outcome.storm.strategies),
        "",
        _storm_line(outcome),
        *_fault_lines(outcome),
        *verdict_lines(outcome),
    ]


def verdict_lines(outcome: Outcome) -> list[str]:
    """The verdict, wrapped."""
    return textwrap.wrap(f"Verdict: {verdict(outcome)}", _COLUMNS)


def _control_lines(outcome: Outcome) -> list[str]:
    steal = max(outcome.control.steal, outcome.steal)
    state = "NOT CLEAN" if outcome.too_noisy else "clean"
    return [
        "A/A control (one strategy twice): differences within "
        f"±{outcome.control.reach:.1%} (95 % CI), steal {steal:.1%}: {state}"
    ]


def _size_lines(sizes: Sequence[LayoutOutcome]) -> list[str]:
    head = [
        "Core time of a fork, p50 [95 % CI], µs            saved, ns/VMA  work per VMA, BULK/TREE",
        f"{'VMAs':>6}  {BULK_INSERT:<20}  {TREE_DUP:<20}"
        f"{'ours':>7}{'kernel':>8}  {'climbed':>9} {'splits':>9} {'slots':>9}",
    ]
    rows = []
    for size in sizes:
        old, new = (size.sides[strategy] for strategy in STRATEGIES)
        kernel = SAVED_NS_PER_VMA[size.vma_count]
        work = " ".join(
            f"{old.work.per_vma(name):>4.2f}/{new.work.per_vma(name):.2f}"
            for name in ("levels_climbed", "splits", "slots_written")
        )
        rows.append(
            f"{size.vma_count:>6}  {_time_us(old.core):<20}  {_time_us(new.core):<20}"
            f"{size.saved.value:>7.1f}{kernel:>8.0f}  {work}"
        )
    climbed = ", ".join(f"{levels:g} at {n:,}" for n, levels in KERNEL_LEVELS_CLIMBED.items())
    foot = f"  the kernel's C, BULK: climbed {climbed}; splits {KERNEL_SPLITS:.2f}"
    return [*head, *rows, foot]


def _time_us(interval: Interval) -> str:
    """Three significant digits, as digits of the median."""
    value = interval.value / 1e3
    digits = 2 if value < 10 else 1 if value < 100 else 0
    low, high = interval.low / 1e3, interval.high / 1e3
    return f"{value:>7.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _fit_lines(outcome: Outcome) -> list[str]:
    lines = [
        f"{'T(n) = a + b·n':<16}{'ours (largest residual)':<32}"
        f"{'÷ kernel C at 421, 6,421':<26}the seed's whole fork"
    ]
    for strategy in STRATEGIES:
        fit, seed = outcome.fit(strategy), seed_fit(strategy)
        ours = f"{fit.a / 1e3:.2f} µs + {fit.b:.1f} ns·n ({fit.residual_max:.1%})"
        factors = ", ".join(f"{factor:.2f}" for factor in fidelity(outcome, strategy).values())
        lines.append(
            f"  {strategy:<14}{ours:<32}{factors:<26}"
            f"{seed.a / 1e3:.1f} µs + {seed.b:.0f} ns·n ({seed.residual_max:.1%})"
        )
    for strategy in BOUNDS:
        fit = outcome.fit(strategy)
        ours = f"{fit.a / 1e3:.2f} µs + {fit.b:.1f} ns·n ({fit.residual_max:.1%})"
        lines.append(f"  {strategy:<14}{ours:<32}no kernel has it: a lower bound, not a proposal")
    return lines


def fidelity(outcome: Outcome, strategy: str) -> dict[int, float]:
    """Our median over the kernel C's best, per VMA, at the sizes for which both are known."""
    anchors = KERNEL_C_NS_PER_VMA[strategy]
    return {
        size.vma_count: size.sides[strategy].core.value / size.vma_count / anchors[size.vma_count]
        for size in outcome.sizes
        if size.vma_count in anchors
    }


def _layout_lines(layouts: Sequence[LayoutOutcome], stormed: Sequence[str]) -> list[str]:
    if tuple(stormed) == STRATEGIES:
        return _pair_lines(layouts)
    head = [
        "Real layouts             wire latency of a fork, p50/p90/p99 ms",
        f"{'':<18}{'VMAs':>5}" + "".join(f"  {strategy:<16}" for strategy in stormed).rstrip(),
    ]
    rows = [
        f"{layout.name[:18]:<18}{layout.vma_count:>5}"
        + "".join(f"  {_wire(layout.sides[strategy]):<16}" for strategy in stormed).rstrip()
        for layout in layouts
    ]
    return head + rows


def _pair_lines(layouts: Sequence[LayoutOutcome]) -> list[str]:
    """The kernel's two strategies, and their difference."""
    head = [
        "Real layouts             wire latency of a fork, p50/p90/p99 ms"
        "  core p50, µs  wire p50 BULK - TREE",
        f"{'':<18}{'VMAs':>5}  {BULK_INSERT:<17}{TREE_DUP:<17}"
        f"{'BULK':>7}{'TREE':>8}  (minimum detectable), ms",
    ]
    rows = []
    for layout in layouts:
        old, new = (layout.sides[strategy] for strategy in STRATEGIES)
        rows.append(
            f"{layout.name[:18]:<18}{layout.vma_count:>5}  {_wire(old):<17}{_wire(new):<17}"
            f"{old.core.value / 1e3:>7.2f}{new.core.value / 1e3:>8.2f}"
            f"  {_difference(layout.wire_difference)}"
        )
    return head + rows


def _wire(side: Side) -> str:
    return "/".join(_three_digits(side.wire_ms(q)) for q in (0.5, 0.9, 0.99))


def _three_digits(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "too few samples"
    detectable = f"±{difference.minimum_detectable / 1e6:.2g}"
    if difference.detected:
        return f"{difference.value / 1e6:+.3g} ({detectable})"
    return f"none detectable ({detectable})"


def _storm_line(outcome: Outcome) -> str:
    storm = outcome.storm
    rate = storm.requests / storm.seconds if storm.seconds else 0.0
    failures = f"{storm.failures:,}" if storm.failures else "none"
    busy = f" > {CLIENT_CPU_MAX:g}: INVALID" if outcome.client_too_busy else ""
    return (
        f"Ping p50 {storm.ping.quantile(0.5) / 1e6:.2f} ms · {rate:,.0f} requests/s "
        f"({storm.requests:,} in {storm.seconds:.0f} s) · failures: {failures} · "
        f"client CPU {storm.client_cpu:.2f}{busy}"
    )


def _fault_lines(outcome: Outcome) -> list[str]:
    """A line for all and one per recovery; nothing without a fault rate."""
    storm = outcome.storm
    if not storm.faults:
        return []
    failed, idle = storm.faulted("failed"), storm.faulted("not_a_step")
    audit = "no audit: other calls ran"
    if outcome.leaks is not None:
        audit = "audit: LEAKS" if outcome.leaks else "audit: no leak"
    lines = [f"Faults: {failed:,} forks failed as planned, for {idle:,} it was no step · {audit}"]
    for recovery in dict.fromkeys(row["recovery"] for row in storm.faults):
        rows = [row for row in storm.faults if row["recovery"] == recovery]
        times = ", ".join(_undo_times(row) for row in rows if row["undo_us_p50"] is not None)
        lines.append(f"  undo by {recovery}, p50/p99: {f'{times} µs' if times else 'none'}")
    return lines


def _undo_times(row: Mapping[str, Any]) -> str:
    times = "/".join(_three_digits(row[f"undo_us_{q}"]) for q in ("p50", "p99"))
    return f"{row['strategy'].split('_')[0]} {times}"


def verdict(outcome: Outcome) -> str:
    """One or two sentences, computed from the figures above them."""
    if outcome.storm.failures:
        first = outcome.storm.errors[0] if outcome.storm.errors else "unknown"
        return f"none, because {outcome.storm.failures:,} requests failed; the first: {first[:200]}"
    if outcome.leaks:
        left = ", ".join(f"{count:,} {kind}" for kind, count in outcome.leaks.items())
        return f"none, because forks that failed left something behind: {left}."
    if outcome.too_noisy:
        return (
            "none, because the machine was too noisy: an A/A difference must lie within "
            f"±{CONTROL_TOLERANCE:.0%} and steal below {STEAL_MAX:.0%}, also after sampling longer."
        )
    return f"{_core_verdict(outcome.sizes)} {_wire_verdict(outcome)}"


def _core_verdict(sizes: Sequence[LayoutOutcome]) -> str:
    faster = [size for size in sizes if size.saved.low > 0]
    slower = [size for size in sizes if size.saved.high < 0]
    if not faster:
        what = f"slower at {len(slower)} of {len(sizes)} sizes" if slower else "no faster"
        return f"TREE_DUP is {what} than BULK_INSERT."
    where = "at all" if len(faster) == len(sizes) else f"at {len(faster)} of"
    saved = [size.saved.value for size in faster]
    times = [
        size.sides[BULK_INSERT].core.value / size.sides[TREE_DUP].core.value for size in faster
    ]
    kernel = [SAVED_NS_PER_VMA[size.vma_count] for size in faster]
    worse = f"; it is slower at {len(slower)}" if slower else ""
    return (
        f"TREE_DUP is faster {where} {len(sizes)} sizes, "
        f"{min(times):.1f} to {max(times):.1f} times, "
        f"and saves {min(saved):.0f} to {max(saved):.0f} ns per VMA "
        f"(the kernel: {min(kernel):.0f} to {max(kernel):.0f}){worse}."
    )


def _wire_verdict(outcome: Outcome) -> str:
    if outcome.client_too_busy:
        return "Over the wire nothing is said: the load client was too busy to measure latencies."
    stormed = outcome.storm.strategies
    if len(stormed) == 1:
        return f"Over the wire there was nothing to compare {stormed[0]} with."
    between = "" if tuple(stormed) == STRATEGIES else f" between {stormed[0]} and {stormed[1]}"
    known = [layout for layout in outcome.layouts if layout.wire_difference is not None]
    seen = [x.name for x in known if x.wire_difference is not None and x.wire_difference.detected]
    if not known:
        return "Over the wire there were too few samples to compare."
    if not seen:
        where = f"any of {len(known)} real layouts"
        return f"Over the wire no difference{between} is detectable on {where}."
    where = f"all {len(known)} real layouts" if len(seen) == len(known) else ", ".join(seen)
    return f"Over the wire the difference{between} shows on {where}."

"""Everything a storm found out, as data: what report, summary and picture are made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forkstorm import AuditReport

from forkstorm_load.figures import fault_figures
from forkstorm_load.measure import STEAL_MAX, Control, Series
from forkstorm_load.recorder import CLIENT_CPU_MAX, PING_WIRE, WIRE, ForkKey, Recorder, WorkSum
from forkstorm_load.seed import MEASURED, SHARE, STRATEGIES
from forkstorm_load.stats import (
    Difference,
    Interval,
    LineFit,
    LogHistogram,
    fit_line,
    median_difference,
    merged,
)


@dataclass(frozen=True)
class Side:
    """One strategy on one layout."""

    # Of single forks inside the server, in ns; the median with its 95 % confidence interval.
    core: Interval
    core_p99_ns: float
    # Of a fork's RPC under the storm, seen by the client, in ns; empty when Locust did not use it.
    wire: LogHistogram
    work: WorkSum

    def wire_ms(self, q: float) -> float:
        return self.wire.quantile(q) / 1e6


@dataclass(frozen=True)
class LayoutOutcome:
    """All strategies on one layout."""

    name: str
    vma_count: int
    sides: Mapping[str, Side]
    # Core time saved by TREE_DUP, in ns per VMA.
    saved: Interval
    # The median wire latency of the storm's first strategy minus its second's, in ns; None with
    # too few samples, or one strategy.
    wire_difference: Difference | None


@dataclass(frozen=True)
class StormOutcome:
    """What Locust counted."""

    requests: int
    failures: int
    seconds: float
    errors: Sequence[str]
    client_cpu: float
    ping: LogHistogram
    # What Locust's users forked with; wire latencies are known of these.
    strategies: Sequence[str] = STRATEGIES
    # Per recovery and strategy (figures.fault_figures); empty without a fault rate.
    faults: Sequence[Mapping[str, Any]] = ()

    def faulted(self, what: str) -> int:
        """Forks with a fault: that "failed", or whose fault was "not_a_step"."""
        return sum(row[what] for row in self.faults)


@dataclass(frozen=True)
class Outcome:
    """One storm from control to Locust."""

    server: str
    control: Control
    # Stolen CPU time while the blocks were measured.
    steal: float
    sizes: Sequence[LayoutOutcome]
    layouts: Sequence[LayoutOutcome]
    storm: StormOutcome
    # What the audit after a storm with faults found allocated and not reachable, by kind; empty
    # when there is nothing, None when there was no audit or other calls ran.
    leaks: Mapping[str, int] | None = None

    @property
    def too_noisy(self) -> bool:
        """The core times cannot be trusted."""
        return not self.control.clean or self.steal > STEAL_MAX

    @property
    def client_too_busy(self) -> bool:
        """The wire latencies cannot be trusted."""
        return self.storm.client_cpu > CLIENT_CPU_MAX

    @property
    def valid(self) -> bool:
        return not (self.too_noisy or self.client_too_busy or self.storm.failures or self.leaks)

    def fit(self, strategy: str) -> LineFit:
        """T(n) over the seed's sizes."""
        return fit_line(
            [size.vma_count for size in self.sizes],
            [size.sides[strategy].core.value for size in self.sizes],
        )


def layout_outcome(
    name: str, series: Series, recorder: Recorder, stormed: Sequence[str] = STRATEGIES
) -> LayoutOutcome:
    """Joins what the blocks and what the storm say of one layout (its level 1 forks)."""
    estimates = series.estimates()
    keys = [ForkKey(strategy, name, 1).text() for strategy in series.strategies]
    slices = dict(zip(series.strategies, recorder.slices(WIRE, keys), strict=True))
    sides = {
        strategy: Side(
            estimates.p50[side],
            series.quantile(side, 0.99),
            merged(slices[strategy]),
            series.work[side],
        )
        for side, strategy in enumerate(series.strategies)
    }
    difference = None
    if len(stormed) > 1:
        difference = median_difference(slices[stormed[0]], slices[stormed[1]])
    return LayoutOutcome(
        name,
        series.vma_count,
        sides,
        estimates.difference.scaled(1 / series.vma_count),
        difference,
    )


def storm_outcome(
    result: Mapping[str, object], recorder: Recorder, strategies: Sequence[str]
) -> StormOutcome:
    """From the result that Locust's process wrote (run.Storm.result)."""
    requests, failures, seconds = result["requests"], result["failures"], result["seconds"]
    errors = result["errors"]
    assert isinstance(requests, int)
    assert isinstance(failures, int)
    assert isinstance(seconds, float)
    assert isinstance(errors, list)
    ping = merged(recorder.slices(PING_WIRE, [PING_WIRE])[0])
    return StormOutcome(
        requests,
        failures,
        seconds,
        errors,
        recorder.client_cpu,
        ping,
        strategies,
        fault_figures(recorder),
    )


def leaks_of(audit: AuditReport) -> dict[str, int] | None:
    """What is allocated and not reachable, by kind; None while other calls ran."""
    if not audit.quiescent:
        return None
    found = {
        "nodes": audit.allocated_node_count - audit.reachable_node_count,
        "records": audit.allocated_record_count - audit.reachable_record_count,
        "page tables": audit.page_table_count - audit.reachable_page_table_count,
        "objects": audit.object_count - audit.reachable_object_count,
        "extent blocks": audit.extent_block_count - audit.reachable_extent_block_count,
    }
    return {kind: count for kind, count in found.items() if count}


def summary(outcome: Outcome) -> dict[str, object]:
    """The content of summary.json. Units are in the names; `work` counts one fork."""
    fits = {strategy: outcome.fit(strategy) for strategy in MEASURED}
    return {
        "sizes": [_layout_summary(size) for size in outcome.sizes],
        "valid": outcome.valid,
        "fit": {
            strategy: {"a_ns": fit.a, "b_ns": fit.b, "residual_max": fit.residual_max}
            for strategy, fit in fits.items()
        },
        "layouts": [
            {
                "name": layout.name,
                **_layout_summary(layout),
                "wire_difference_ms": _ms(layout.wire_difference, "value"),
                "wire_detectable_ms": _ms(layout.wire_difference, "minimum_detectable"),
            }
            for layout in outcome.layouts
        ],
        "stormed": list(outcome.storm.strategies),
        "requests": outcome.storm.requests,
        "failures": outcome.storm.failures,
        "client_cpu": outcome.storm.client_cpu,
        "faults": [dict(row) for row in outcome.storm.faults],
        "leaks": None if outcome.leaks is None else dict(outcome.leaks),
    }


def _layout_summary(layout: LayoutOutcome) -> dict[str, object]:
    return {
        "vma_count": layout.vma_count,
        "strategies": {strategy: _side_summary(side) for strategy, side in layout.sides.items()},
        # Under SHARE nothing is copied, unless too much is special.
        "shared": not layout.sides[SHARE].work.counts["records_copied"],
        "saved_ns_per_vma": layout.saved.value,
    }


def _side_summary(side: Side) -> dict[str, object]:
    return {
        "core_ns_p50": side.core.value,
        "core_ns_p99": side.core_p99_ns,
        "core_ns_ci": [side.core.low, side.core.high],
        "wire_ms_p50": _number(side.wire_ms(0.5)),
        "wire_ms_p90": _number(side.wire_ms(0.9)),
        "wire_ms_p99": _number(side.wire_ms(0.99)),
        "work": {name: count / side.work.forks for name, count in side.work.counts.items()},
    }


def _ms(difference: Difference | None, name: str) -> float | None:
    return None if difference is None else getattr(difference, name) / 1e6


def _number(value: float) -> float | None:
    """JSON has no nan."""
    return value if math.isfinite(value) else None

"""Outcomes made of known numbers, for the tests of report, summary and measurement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from forkstorm import ForkBlock, ForkStrategy, Recovery, WorkCounts
from forkstorm_load.figures import fault_figures
from forkstorm_load.measure import Control, Series, control_of
from forkstorm_load.outcome import Outcome, StormOutcome, layout_outcome
from forkstorm_load.recorder import WORK_COUNTS, FaultKey, ForkKey, Recorder
from forkstorm_load.seed import (
    BULK_INSERT,
    EXTENT_COPY,
    MEASURED,
    SHARE,
    STRATEGIES,
    TREE_DUP,
    VMA_COUNTS,
)
from forkstorm_load.stats import LogHistogram

# T(n) = a + b·n in ns, per strategy.
LINES = {
    BULK_INSERT: (1200.0, 100.0),
    TREE_DUP: (500.0, 25.0),
    EXTENT_COPY: (150.0, 4.0),
    SHARE: (90.0, 0.0),
}
REAL = {
    "bash": 42,
    "chromium_renderer": 764,
    "java17": 209,
    "node": 90,
    "python3": 192,
    "self": 300,
}


class FakeSpace:
    """repeat_fork with durations drawn around LINES; drift is per block."""

    def __init__(self, vma_count: int, noise: float = 0.02, drift: float = 0.0) -> None:
        self._rng = np.random.default_rng(1)
        self._n, self._noise, self._drift = vma_count, noise, drift
        self._blocks_done = 0

    def repeat_fork(
        self,
        strategies: Sequence[str],
        forks_per_strategy: int,
        *,
        block_fork_count: int,
        warmup_fork_count: int,
        timeout: float,
    ) -> Iterator[ForkBlock]:
        left = [forks_per_strategy] * len(strategies)
        number = 0
        there = range(len(strategies))
        while any(left):
            for side in (*there, *reversed(there)):
                count = min(block_fork_count, left[side])
                if not count:
                    continue
                left[side] -= count
                a, b = LINES[strategies[side]]
                centre = (a + b * self._n) * (1 + self._drift) ** self._blocks_done
                values = centre * self._rng.lognormal(0, self._noise, count)
                yield ForkBlock(
                    strategy_index=side,
                    strategy=ForkStrategy.parse(strategies[side]),
                    block=number,
                    core_ns=values.astype(int).tolist(),
                    work=WorkCounts(**work(strategies[side], self._n)),
                    exit_ns=0,
                    worker=0,
                )
                number += 1
                self._blocks_done += 1


def work(strategy: str, n: int) -> dict[str, int]:
    counts: dict[str, int] = dict.fromkeys(WORK_COUNTS, 0)
    if strategy == SHARE:
        return counts
    counts |= {"records_copied": n, "slots_written": n}
    if strategy == BULK_INSERT:
        counts |= {"levels_climbed": 2 * n, "splits": n // 10, "slots_written": 3 * n}
    return counts


def sampled(n: int, strategies: Sequence[str] = STRATEGIES, noise: float = 0.02) -> Series:
    series = Series(FakeSpace(n, noise), n, strategies)
    for _ in range(5):
        series.sample()
    return series


def wire_recorder(
    labels: dict[str, int], extra_ns: float = 0.0, strategies: Sequence[str] = STRATEGIES
) -> Recorder:
    """A storm in which BULK_INSERT's forks take `extra_ns` longer on the wire."""
    rng = np.random.default_rng(2)
    recorder = Recorder()
    for label, n in labels.items():
        for strategy in strategies:
            key = ForkKey(strategy, label, 1)
            base = 600_000 + (extra_ns if strategy == BULK_INSERT else 0)
            wires = base * rng.lognormal(0, 0.2, 300)
            for wire in wires:
                recorder.fork(key, int(wire), 1000 + n, 0, n, work(strategy, n))
            # Spread over 30 slices of time, as a run of 30 s would be.
            by_slice = recorder.histograms["wire"][key.text()]
            by_slice.clear()
            for part in range(30):
                by_slice[part] = LogHistogram()
                for wire in wires[part * 10 : part * 10 + 10]:
                    by_slice[part].add(wire)
    return recorder


def faulty_recorder(count: int, strategies: Sequence[str] = STRATEGIES) -> Recorder:
    """So many forks that failed of every strategy and recovery, and half as many that did not."""
    recorder = Recorder()
    for strategy in strategies:
        for recovery in Recovery:
            key = FaultKey(strategy, recovery.name)
            for i in range(count):
                recorder.fault(key, 1_000_000 + i, 20_000)
                if i % 2:
                    recorder.idle_fault(key, 2_000_000)
    return recorder


def outcome(
    control: Control | None = None,
    failures: int = 0,
    client_cpu: float = 0.3,
    steal: float = 0.001,
    extra_ns: float = 0.0,
    faults: int = 0,
    leaks: dict[str, int] | None = None,
    strategies: Sequence[str] = STRATEGIES,
) -> Outcome:
    labels = {f"seed:{n}": n for n in VMA_COUNTS} | REAL
    recorder = wire_recorder(labels, extra_ns, strategies)
    ping = LogHistogram()
    for value in (300_000, 310_000, 320_000):
        ping.add(value)
    made = {
        label: layout_outcome(label, sampled(n, MEASURED), recorder, strategies)
        for label, n in labels.items()
    }
    return Outcome(
        server="0.1.0, release core, 2 workers; some CPU, 2 CPUs, Linux 6.18",
        control=control or control_of([sampled(421, (TREE_DUP, TREE_DUP))], 0.0),
        steal=steal,
        sizes=[made[f"seed:{n}"] for n in VMA_COUNTS],
        layouts=[made[name] for name in REAL],
        storm=StormOutcome(
            12_345,
            failures,
            33.0,
            ["fork TREE_DUP bash: RESOURCE_EXHAUSTED"] if failures else [],
            client_cpu,
            ping,
            strategies,
            fault_figures(faulty_recorder(faults, strategies)),
        ),
        leaks=leaks,
    )

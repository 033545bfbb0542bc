"""Core time of all strategies, measured without a wire: blocks of forks, A B C D D C B A.

The server forks and exits in a loop (RepeatFork) and sends one duration per fork. Every call holds
whole groups, there and back, and all sizes take turns in rounds, so that whatever drifts, drifts
for all of them alike. Medians get their confidence interval by resampling groups.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from forkstorm import ForkBlock
from numpy.typing import NDArray

from forkstorm_load.recorder import WorkSum, work_of
from forkstorm_load.seed import STRATEGIES
from forkstorm_load.stats import Interval, block_weights, percentile_interval, resampled_medians

# Blocks long enough to warm up in, short enough to sit beside the others' within a tick.
_BLOCK_FORKS = (4, 50)
_BLOCK_S = 1e-3
_GROUPS_PER_CALL = 4
_RESAMPLES = 1000

# An A/A difference must be shown to lie within this share of the time itself.
CONTROL_TOLERANCE = 0.05
# Above this share of stolen CPU time nothing is believed.
STEAL_MAX = 0.05


# One call's forks take some 50 ms; a server that does not answer is noticed.
_CALL_S = 20.0

Durations = NDArray[np.uint32]


class Forkable(Protocol):
    """What is asked of forkstorm.AddressSpace."""

    def repeat_fork(
        self,
        strategies: Sequence[str],
        forks_per_strategy: int,
        *,
        block_fork_count: int,
        warmup_fork_count: int,
        timeout: float,
    ) -> Iterable[ForkBlock]: ...


@dataclass
class Series:
    """Some strategies on one layout: groups of blocks in the order in which they ran.

    The first two are the ones that are compared.
    """

    space: Forkable
    vma_count: int
    strategies: Sequence[str] = STRATEGIES
    # Per group and side, the durations in ns.
    groups: list[tuple[Durations, ...]] = field(default_factory=list)
    block_forks: int = 0

    def __post_init__(self) -> None:
        self.work = tuple(WorkSum() for _ in self.strategies)

    def sample(self) -> None:
        """One call: several groups, each of them there and back."""
        if not self.block_forks:
            self.block_forks = self._calibrate()
        sides = len(self.strategies)
        groups: dict[int, list[list[Durations]]] = {}
        for block in self._call(2 * _GROUPS_PER_CALL, self.block_forks):
            durations = np.array(block.core_ns, dtype=np.uint32)
            group = groups.setdefault(block.block // (2 * sides), [[] for _ in range(sides)])
            group[block.strategy_index].append(durations)
            forks = len(durations)
            sums = {name: count * forks for name, count in work_of(block.work).items()}
            self.work[block.strategy_index].add(self.vma_count * forks, sums, forks)
        self.groups += [tuple(np.concatenate(side) for side in one) for one in groups.values()]

    def _call(self, blocks_per_strategy: int, block_forks: int) -> Iterable[ForkBlock]:
        return self.space.repeat_fork(
            self.strategies,
            blocks_per_strategy * block_forks,
            block_fork_count=block_forks,
            warmup_fork_count=block_forks,
            timeout=_CALL_S,
        )

    def _calibrate(self) -> int:
        """Forks per block, from a few forks of each strategy."""
        least, most = _BLOCK_FORKS
        trial = np.concatenate([np.array(block.core_ns) for block in self._call(2, least)])
        return max(least, min(most, round(_BLOCK_S * 1e9 / max(float(np.median(trial)), 1.0))))

    def quantile(self, side: int, q: float) -> float:
        """Of all durations of one side, in ns."""
        return float(np.quantile(np.concatenate([group[side] for group in self.groups]), q))

    def estimates(self, seed: int = 1) -> Estimates:
        """Medians of all sides, and how the first two differ; the sides are resampled together."""
        weights = block_weights(len(self.groups), _RESAMPLES, seed)
        sides = range(len(self.strategies))
        resampled = [resampled_medians([g[side] for g in self.groups], weights) for side in sides]
        medians = [self.quantile(side, 0.5) for side in sides]
        (median_a, median_b), (a, b) = medians[:2], resampled[:2]
        return Estimates(
            tuple(map(percentile_interval, medians, resampled)),
            percentile_interval(median_a - median_b, a - b),
            percentile_interval(median_a / median_b - 1, a / b - 1),
        )


@dataclass(frozen=True)
class Estimates:
    """What a series says, with 95 % confidence intervals; times in ns."""

    p50: tuple[Interval, ...]
    # The first side minus the second.
    difference: Interval
    # The first side over the second, minus one.
    relative: Interval


@dataclass(frozen=True)
class Control:
    """The A/A control: one strategy named twice, so that every difference is the machine's."""

    # The relative difference that lies farthest out, over sizes and strategies.
    worst: Interval
    steal: float

    @property
    def reach(self) -> float:
        """How far from zero the worst difference may truly lie."""
        return max(abs(self.worst.low), abs(self.worst.high))

    @property
    def clean(self) -> bool:
        return self.reach <= CONTROL_TOLERANCE and self.steal <= STEAL_MAX


def control_of(series: Iterable[Series], steal: float) -> Control:
    """The control's outcome from its A/A series."""
    relative = [s.estimates().relative for s in series]
    return Control(max(relative, key=lambda i: max(abs(i.low), abs(i.high))), steal)


def sample_rounds(
    series: Sequence[Series], seconds: float, progress: Callable[[float], None]
) -> None:
    """Samples all series in turn until the time is over; each at least twice."""
    started = time.monotonic()
    rounds = 0
    while rounds < 2 or time.monotonic() - started < seconds:
        for one in series:
            one.sample()
            progress(min(1.0, (time.monotonic() - started) / max(seconds, 1e-9)))
        rounds += 1


class StealClock:
    """The share of the machine's CPU time that the hypervisor gave to others."""

    def __init__(self) -> None:
        self._start = _cpu_ticks()

    def share(self) -> float:
        steal, total = (now - then for now, then in zip(_cpu_ticks(), self._start, strict=True))
        return steal / total if total else 0.0


def _cpu_ticks() -> tuple[int, int]:
    """Stolen and all ticks since boot; proc(5), first line of /proc/stat."""
    with open("/proc/stat", encoding="ascii") as file:
        # Guest time, the last two columns, is already part of user and nice.
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return ticks[7], sum(ticks)

"""What a load process measures beside Locust's own statistics, and how it is merged.

Locust's request is a fork's wire latency. Core time, lock wait and work counts travel here: fired
as requests of their own they would double the request rate and halve the failure rate. Every
process records histograms; workers send what is new with each report, and the master merges.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forkstorm import WorkCounts

from forkstorm_load.stats import LogHistogram

WORK_COUNTS = (
    "nodes_allocated",
    "slots_written",
    "levels_climbed",
    "gap_updates",
    "splits",
    "records_copied",
    "entries_erased",
)


def work_of(counts: WorkCounts) -> dict[str, int]:
    """A fork's work counts as plain data."""
    return {name: getattr(counts, name) for name in WORK_COUNTS}


# What is measured of a fork (and of a ping: its wire latency), in nanoseconds.
WIRE, CORE, LOCK_WAIT = "wire", "core", "lock_wait"
PING_WIRE = "ping"

# Of forks that were made to fail: their wire latency, and the undo inside the server. Of those
# whose fault found no such step, and which succeeded: their wire latency.
FAULT_WIRE, UNDO, IDLE_WIRE = "fault_wire", "undo", "idle_fault_wire"

# Above half a core a client measures its own queue (docs/storm.md).
CLIENT_CPU_MAX = 0.5

# Slices of a run: samples of one slice are resampled together (stats.median_difference).
SLICE_S = 1.0


@dataclass(frozen=True)
class ForkKey:
    """Forks that may be counted together: level 1 is a child of the layout itself."""

    strategy: str
    layout: str
    level: int

    def text(self) -> str:
        return f"{self.strategy}|{self.layout}|{self.level}"

    @classmethod
    def parse(cls, text: str) -> ForkKey:
        strategy, layout, level = text.split("|")
        return cls(strategy, layout, int(level))


@dataclass(frozen=True)
class FaultKey:
    """Forks with a fault that may be counted together; the recovery by its name."""

    strategy: str
    recovery: str

    def text(self) -> str:
        return f"{self.strategy}|{self.recovery}"


@dataclass
class WorkSum:
    """Work counts of several forks, and the VMAs those forks copied."""

    forks: int = 0
    vma_count: int = 0
    # Forks that became another strategy (ForkResponse.strategy).
    became_other: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WORK_COUNTS, 0))

    def add(
        self, vma_count: int, counts: Mapping[str, int], forks: int = 1, became_other: int = 0
    ) -> None:
        """Adds the sums of `forks` forks."""
        self.forks += forks
        self.vma_count += vma_count
        self.became_other += became_other
        for name in WORK_COUNTS:
            self.counts[name] += counts[name]

    def per_vma(self, name: str) -> float:
        return self.counts[name] / self.vma_count if self.vma_count else 0.0


class Recorder:
    """The measurements of one run, in this process or merged from all. Not for threads."""

    def __init__(self) -> None:
        # By what is measured, by the text of a ForkKey or FaultKey, by slice of time.
        self.histograms: dict[str, dict[str, dict[int, LogHistogram]]] = {}
        self.work: dict[str, WorkSum] = {}
        self.cpu: dict[str, float] = {}
        self._started = time.monotonic()

    def fork(
        self,
        key: ForkKey,
        wire_ns: int,
        core_ns: int,
        lock_wait_ns: int,
        vma_count: int,
        work: Mapping[str, int],
        became_other: bool = False,
    ) -> None:
        """One fork that succeeded, under the strategy that was asked for or another."""
        text = key.text()
        for what, value in ((WIRE, wire_ns), (CORE, core_ns), (LOCK_WAIT, lock_wait_ns)):
            self._histogram(what, text, self._slice()).add(value)
        self.work.setdefault(text, WorkSum()).add(vma_count, work, 1, int(became_other))

    def fault(self, key: FaultKey, wire_ns: int, undo_ns: int) -> None:
        """One fork that failed as it was told to; undo_ns 0: before there was anything to undo."""
        self._histogram(FAULT_WIRE, key.text(), self._slice()).add(wire_ns)
        if undo_ns:
            self._histogram(UNDO, key.text(), self._slice()).add(undo_ns)

    def idle_fault(self, key: FaultKey, wire_ns: int) -> None:
        """One fork that was told to fail at a step which it does not take."""
        self._histogram(IDLE_WIRE, key.text(), self._slice()).add(wire_ns)

    def ping(self, wire_ns: int) -> None:
        self._histogram(PING_WIRE, PING_WIRE, self._slice()).add(wire_ns)

    def _slice(self) -> int:
        return int((time.monotonic() - self._started) / SLICE_S)

    def _histogram(self, what: str, text: str, part: int) -> LogHistogram:
        parts = self.histograms.setdefault(what, {}).setdefault(text, {})
        return parts.setdefault(part, LogHistogram())

    def take(self) -> dict[str, Any]:
        """Everything since the last take, as plain data; what is taken is forgotten here."""
        data = self.to_data()
        self.histograms, self.work = {}, {}
        return data

    def to_data(self) -> dict[str, Any]:
        """Plain data for JSON and msgpack, as `merge` reads it; counts are lists of pairs."""
        return {
            "histograms": {
                what: {
                    text: {str(part): sorted(h.counts.items()) for part, h in parts.items()}
                    for text, parts in by_text.items()
                }
                for what, by_text in self.histograms.items()
            },
            "work": {
                text: {
                    "forks": w.forks,
                    "vma_count": w.vma_count,
                    "became_other": w.became_other,
                    "counts": w.counts,
                }
                for text, w in self.work.items()
            },
            "cpu": self.cpu,
        }

    def merge(self, data: Mapping[str, Any]) -> None:
        """Adds another process's measurements; its latest CPU share replaces the one before."""
        for what, by_text in data["histograms"].items():
            for text, parts in by_text.items():
                for part, counts in parts.items():
                    self._histogram(what, text, int(part)).merge(dict(counts))
        for text, w in data["work"].items():
            sums = self.work.setdefault(text, WorkSum())
            sums.add(w["vma_count"], w["counts"], w["forks"], w["became_other"])
        self.cpu.update(data["cpu"])

    def slices(self, what: str, texts: Iterable[str]) -> list[list[LogHistogram]]:
        """For each key the histograms of all slices of the run, aligned; empty where none was."""
        by_text = self.histograms.get(what, {})
        rows = [by_text.get(text, {}) for text in texts]
        parts = sorted({part for row in rows for part in row})
        return [[row.get(part, LogHistogram()) for part in parts] for row in rows]

    @property
    def client_cpu(self) -> float:
        """The busiest load process, in cores."""
        return max(self.cpu.values(), default=0.0)


class CpuClock:
    """The share of one core this process has used since the clock was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def share(self) -> float:
        wall = time.monotonic() - self._wall
        return (time.process_time() - self._cpu) / wall if wall > 0 else 0.0

"""Who the workers are at this moment: a few shared counters of the arena.

The supervisor writes them, every worker reads them, and they outlive both. Two counters per
worker, from 0: its pid, and how often it was started again.
"""

from __future__ import annotations

from typing import Protocol

WORKERS_MAX = 64
_PER_WORKER = 2


class Counters(Protocol):
    """What Arena offers: 256 shared unsigned 64-bit counters."""

    def counter(self, i: int, /) -> int: ...

    def add_counter(self, i: int, n: int, /) -> None: ...


def set_pid(counters: Counters, worker: int, pid: int) -> None:
    """Write a worker's pid. The supervisor only: reading and adding is not one step."""
    at = worker * _PER_WORKER
    counters.add_counter(at, pid - counters.counter(at))


def count_restart(counters: Counters, worker: int) -> None:
    """One more restart of a worker."""
    counters.add_counter(worker * _PER_WORKER + 1, 1)


def pid(counters: Counters, worker: int) -> int:
    """A worker's pid; 0 before its first start."""
    return counters.counter(worker * _PER_WORKER)


def restart_count(counters: Counters, worker: int) -> int:
    """How often a worker was started again."""
    return counters.counter(worker * _PER_WORKER + 1)

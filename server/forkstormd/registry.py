"""Who the workers are at this moment: a few shared counters of the arena.

The supervisor writes them, every worker reads them, and they outlive both. Two counters per
worker, from 0: its pid, and how often it was started again.
"""

from __future__ import annotations

from forkstormd.core.arena import Arena

WORKERS_MAX = 64
_PER_WORKER = 2


def set_pid(arena: Arena, worker: int, pid: int) -> None:
    """Write a worker's pid. The supervisor only: reading and adding is not one step."""
    at = worker * _PER_WORKER
    arena.add_counter(at, pid - arena.counter(at))


def count_restart(arena: Arena, worker: int) -> None:
    """One more restart of a worker."""
    arena.add_counter(worker * _PER_WORKER + 1, 1)


def pid(arena: Arena, worker: int) -> int:
    """A worker's pid; 0 before its first start."""
    return arena.counter(worker * _PER_WORKER)


def restart_count(arena: Arena, worker: int) -> int:
    """How often a worker was started again."""
    return arena.counter(worker * _PER_WORKER + 1)

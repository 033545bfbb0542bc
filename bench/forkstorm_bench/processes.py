"""Two processes on one arena against one: each forks and exits a space of its own."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

from forkstormd.core.arena import Arena
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy
from forkstormd.core.yardstick import memcpy_ns

from forkstorm_bench.core import Figures, own_arena, runs_of_five

SECONDS = 0.7
ROUNDS = 5
VMAS = 421
spawn = multiprocessing.get_context("spawn")


def fork_and_exit(path: str) -> Callable[[], int]:
    """A piece of work that forks and exits a space of its own, and the number it does."""
    mm = MemoryManager(Arena.attach(path), 1)
    mm_id = mm.create(SpaceParams(), runs_of_five(VMAS)).value

    def piece() -> int:
        for _ in range(200):
            mm.exit(mm.fork(mm_id, Strategy.TREE_DUP).child)
        return 200

    return piece


def copy(path: str) -> Callable[[], int]:
    """A piece of work that copies as many bytes as such a fork, from private memory."""
    del path

    def piece() -> int:
        memcpy_ns(VMAS * 64 + 50 * 256, 2000)
        return 2000

    return piece


def worker(make: Callable[[str], Callable[[], int]], path: str, cpu: int, pipe: Any) -> None:
    """Does pieces for SECONDS at each word, and answers pieces per second."""
    os.sched_setaffinity(0, {cpu})
    piece = make(path)
    piece()
    pipe.send(0.0)
    while pipe.recv():
        done, began = 0, time.monotonic()
        while time.monotonic() - began < SECONDS:
            done += piece()
        pipe.send(done / (time.monotonic() - began))


def scaling(make: Callable[[str], Callable[[], int]]) -> tuple[float, float]:
    """(rate of two over rate of one, rate of one), medians of rounds taken in turn."""
    cpus = sorted(os.sched_getaffinity(0))
    with own_arena(lanes=1) as (arena, _):
        pipes, processes = [], []
        for i in range(2):
            here, there = spawn.Pipe()
            process = spawn.Process(
                target=worker, args=(make, arena.path, cpus[i % len(cpus)], there), daemon=True
            )
            process.start()
            pipes.append(here)
            processes.append(process)
        for pipe in pipes:
            pipe.recv()
        ratios, alone = [], []
        for _ in range(ROUNDS):
            singles = []
            for pipe in pipes:
                pipe.send(True)
                singles.append(pipe.recv())
            for pipe in pipes:
                pipe.send(True)
            together = sum(pipe.recv() for pipe in pipes)
            ratios.append(together / (sum(singles) / 2))
            alone.extend(singles)
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.send(False)
            process.join(10)
    return statistics.median(ratios), statistics.median(alone)


def two_processes() -> Figures:
    """Scaling of fork + exit, and of a plain memcpy in the same minute: what the machine allows."""
    forks, rate = scaling(fork_and_exit)
    copies, _ = scaling(copy)
    return {
        "two_process_scaling": forks,
        "fork_exit_per_s.one_process": rate,
        "memcpy_two_process_scaling": copies,
    }

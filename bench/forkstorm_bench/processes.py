"""Two processes against one: each has a CPU, and spaces or buffers of its own, on one arena.

The same machinery drives the clients of the RPC figures (rpc.py).
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from forkstormd.core.arena import Arena
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy
from forkstormd.core.yardstick import memcpy_ns

from forkstorm_bench.figures import Effort, Figures
from forkstorm_bench.spaces import (
    NODE_BYTES,
    RECORD_BYTES,
    SMALL,
    own_arena,
    runs_of_five,
)

# A piece of work; what it answers is how much it did.
Piece = Callable[[], int]
# Sizes whose bytes are copied: they lie in a core's own cache. Larger ones: parallel.py.
COPY_SIZES = (SMALL,)
NODES_PER_VMA = 0.1167
# Forks between two looks at the clock.
FORKS = 200
COPIED_AT_ONCE = 100 << 20
spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Load:
    """What a process did: how much, in what time, with how much CPU time of its own."""

    done: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        return self.done / self.wall_s

    @property
    def cpu(self) -> float:
        return self.cpu_s / self.wall_s


@dataclass
class Rounds:
    """Rates of one process (the mean of both, one after the other) and of both together, and the
    CPU of the busiest, by round."""

    one: list[float] = field(default_factory=list)
    two: list[float] = field(default_factory=list)
    cpu_one: list[float] = field(default_factory=list)
    cpu_two: list[float] = field(default_factory=list)

    @property
    def scaling(self) -> float:
        return statistics.median(b / a for a, b in zip(self.one, self.two, strict=True))


def process_main(
    make: Callable[..., dict[str, Piece]], arguments: tuple[Any, ...], cpu: int | None, pipe: Any
) -> None:
    """Does pieces of the named work for as long as it is told, again and again; None ends it."""
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})
    pieces = make(*arguments)
    for piece in pieces.values():
        piece()
    pipe.send(list(pieces))
    while (wanted := pipe.recv()) is not None:
        name, seconds = wanted
        done, began, cpu_began = 0, time.monotonic(), time.process_time()
        while time.monotonic() - began < seconds:
            done += pieces[name]()
        pipe.send(Load(done, time.monotonic() - began, time.process_time() - cpu_began))


class Processes:
    """Started processes that wait to be told what to do."""

    def __init__(self, pipes: Sequence[Any], names: Sequence[str]) -> None:
        self._pipes = pipes
        # The work they know.
        self.names = names

    def together(self, name: str, seconds: float, which: Sequence[int]) -> list[Load]:
        """These processes do the same at the same time."""
        for i in which:
            self._pipes[i].send((name, seconds))
        return [self._pipes[i].recv() for i in which]

    def rounds(self, names: Sequence[str], effort: Effort) -> dict[str, Rounds]:
        """Each kind of work by one process, by the other, by both; kinds in turn, round by
        round."""
        found = {name: Rounds() for name in names}
        for _ in range(effort.load_rounds):
            for name, taken in found.items():
                alone = [self.together(name, effort.load_s / 2, [i])[0] for i in range(2)]
                both = self.together(name, effort.load_s, [0, 1])
                taken.one.append(sum(load.rate for load in alone) / 2)
                taken.two.append(sum(load.rate for load in both))
                taken.cpu_one.append(max(load.cpu for load in alone))
                taken.cpu_two.append(max(load.cpu for load in both))
        return found


@contextmanager
def processes(
    make: Callable[..., dict[str, Piece]], arguments: Sequence[tuple[Any, ...]], pinned: bool
) -> Iterator[Processes]:
    """A process for each tuple of arguments, whose `make` prepares its work; ended afterwards."""
    cpus = sorted(os.sched_getaffinity(0))
    pipes, started = [], []
    try:
        for i, one in enumerate(arguments):
            here, there = spawn.Pipe()
            cpu = cpus[i % len(cpus)] if pinned else None
            process = spawn.Process(target=process_main, args=(make, one, cpu, there), daemon=True)
            process.start()
            there.close()
            pipes.append(here)
            started.append(process)
        names = [pipe.recv() for pipe in pipes]
        yield Processes(pipes, names[0])
        for pipe in pipes:
            pipe.send(None)
    finally:
        for pipe in pipes:
            pipe.close()
        for process in started:
            process.join(10)
            if process.is_alive():
                process.kill()
                process.join()


def core_work(path: str, copy_sizes: Sequence[int]) -> dict[str, Piece]:
    """Fork and exit of a space of its own by each strategy, and copies of its own memory."""
    mm = MemoryManager(Arena.attach(path), 1)
    mm_id = mm.create(SpaceParams(), runs_of_five(SMALL)).value

    def fork_and_exit(strategy: Strategy) -> Piece:
        def piece() -> int:
            for _ in range(FORKS):
                mm.exit(mm.fork(mm_id, strategy).child)
            return FORKS

        return piece

    def copy(vma_count: int) -> Piece:
        nbytes = int(vma_count * (RECORD_BYTES + NODES_PER_VMA * NODE_BYTES))
        copies = max(1, COPIED_AT_ONCE // nbytes)

        def piece() -> int:
            memcpy_ns(nbytes, copies)
            return copies

        return piece

    found = {strategy.name: fork_and_exit(strategy) for strategy in Strategy}
    return found | {f"memcpy.{n}": copy(n) for n in copy_sizes}


def two_processes(effort: Effort, copy_sizes: Sequence[int] = COPY_SIZES) -> Figures:
    """Scaling of fork + exit, and of a plain memcpy in the same rounds: what the machine allows."""
    with own_arena(lanes=1) as (arena, _):
        one = (arena.path, tuple(copy_sizes))
        with processes(core_work, [one, one], pinned=True) as pair:
            taken = pair.rounds(pair.names, effort)
    found: Figures = {"two_process_scaling": taken["TREE_DUP"].scaling}
    for name, rounds in taken.items():
        if name.startswith("memcpy."):
            found[f"memcpy_two_process_scaling.{name.removeprefix('memcpy.')}"] = rounds.scaling
        else:
            found[f"two_process_scaling_of.{name}"] = rounds.scaling
            found[f"fork_exit_per_s_of.{name}"] = statistics.median(rounds.one)
    found["fork_exit_per_s.one_process"] = statistics.median(taken["TREE_DUP"].one)
    return found

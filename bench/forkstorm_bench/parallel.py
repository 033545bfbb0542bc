"""One duplication by two processes: how much faster than by one, and from how many VMAs on.

Beside it a plain memcpy of as many bytes by the same two processes, each between buffers of its
own, in the same rounds: no copy that two processes share can be expected to gain more. Figures of
two processes are of pinned ones.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from forkstormd.core.arena import Arena
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import Strategy

from forkstorm_bench.duplication import forks
from forkstorm_bench.figures import Effort, Figures, race, ratio
from forkstorm_bench.processes import Piece, Rounds, processes
from forkstorm_bench.spaces import (
    Sources,
    capacity_for,
    does_not_fit,
    own_arena,
    runs_of_five,
    sources,
)

# One that lies in the cache, one that lies in none.
LARGE = (65_536, 1_000_000)
# Where the break-even is looked for: half octaves.
SIZES = (4096, 6144, 8192, 12_288, 16_384, 24_576, 32_768, 49_152)
# Sources and strategies; the first is what the plain keys are of.
KINDS = (
    ("fresh", Strategy.EXTENT_COPY),
    ("compact", Strategy.EXTENT_COPY),
    ("fresh", Strategy.TREE_DUP),
)
# Rounds of what takes long, and of each size of the break-even.
LARGE_ROUNDS, SMALL_ROUNDS = 5, 5


@dataclass(frozen=True)
class Gain:
    """A fork by two processes: its median time, and how many times faster it is than by one."""

    two_ns: float
    times: float


Gains = dict[tuple[str, Strategy], Gain]


def copy_and_help(path: str, nbytes: int, helps: bool) -> dict[str, Piece]:
    """Copies memory when told to; `helps` with all forks from now on, in a thread of its own."""
    if helps:
        mm = MemoryManager(Arena.attach(path), 1)
        threading.Thread(target=mm.help, daemon=True).start()
    source, target = (ctypes.create_string_buffer(b"x" * nbytes, nbytes) for _ in range(2))

    def copy() -> int:
        ctypes.memmove(target, source, nbytes)
        return 1

    return {"memcpy": copy}


@contextmanager
def on_the_first_cpu() -> Iterator[None]:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def gains(place: Sources, effort: Effort) -> Gains:
    """What two processes gain, by source and strategy."""
    found = {}
    for source, strategy in KINDS:
        mm_id = place.of(source)
        place.mm.set_parallel_vmas(strategy, 1)
        taken = race(
            {
                "one": forks(place, mm_id, strategy),
                "two": forks(place, mm_id, strategy, alone=False),
            },
            effort,
        )
        one, two = taken["one"], taken["two"]
        found[source, strategy] = Gain(two.typical, ratio(one.median, two.median))
    return found


def beside_memcpy(place: Sources, effort: Effort) -> Figures:
    """One size, with the memcpy of two processes in between, round by round."""
    n = place.vma_count
    nbytes = place.bytes_of(place.fresh())
    rounds: list[Gains] = []
    copies: list[Rounds] = []
    one_each = replace(effort, rounds=1, load_rounds=1)
    arguments = [(place.arena.path, nbytes, helps) for helps in (False, True)]
    with processes(copy_and_help, arguments, pinned=True) as pair, on_the_first_cpu():
        gains(place, one_each)  # The helper maps the arena's memory when it first comes to it.
        for _ in range(min(LARGE_ROUNDS, effort.load_rounds)):
            rounds.append(gains(place, one_each))
            copies.append(pair.rounds(["memcpy"], one_each)["memcpy"])
    found: Figures = {
        f"memcpy_two_process_scaling.{n}": statistics.median(one.scaling for one in copies),
        # Copies of as many bytes by two processes in the time of one duplication by two.
        f"parallel_dup_speed_over_memcpy.{n}": statistics.median(
            1e9 / (taken[KINDS[0]].two_ns * one.two[0])
            for taken, one in zip(rounds, copies, strict=True)
        ),
    }
    for source, strategy in KINDS:
        gain = statistics.median(taken[source, strategy].times for taken in rounds)
        found[f"parallel_dup_scaling_of.{strategy.name}_{source}.{n}"] = gain
    source, strategy = KINDS[0]
    found[f"parallel_dup_scaling.{n}"] = found[
        f"parallel_dup_scaling_of.{strategy.name}_{source}.{n}"
    ]
    return found


def break_even(effort: Effort) -> Figures:
    """The least of SIZES from which on two processes are faster, all larger ones included."""
    taken: dict[int, Gains] = {}
    with (
        own_arena(capacity_for(max(SIZES))) as (arena, mm),
        processes(copy_and_help, [(arena.path, 1, False), (arena.path, 1, True)], True),
        on_the_first_cpu(),
    ):
        for n in SIZES:
            place = Sources(arena, mm, runs_of_five(n))
            gains(place, effort.fewer(1))
            taken[n] = gains(place, effort.fewer(SMALL_ROUNDS))
            for mm_id in place.ids.values():
                mm.exit(mm_id)
    found: Figures = {}
    for source, strategy in KINDS:
        least: int | None = None
        slower = False
        for n in reversed(SIZES):
            gain = taken[n][source, strategy].times
            found[f"parallel_dup_scaling_of.{strategy.name}_{source}.{n}"] = gain
            slower = slower or gain <= 1
            if not slower:
                least = n
        if least is not None:
            found[f"parallel_break_even_of.{strategy.name}_{source}"] = least
            if (source, strategy) == KINDS[0]:
                found["parallel_break_even"] = least
    return found


def parallel(effort: Effort, large: Sequence[int] = LARGE) -> Figures:
    """All of it."""
    found = break_even(effort)
    for n in large:
        reason = does_not_fit(n)
        if reason is not None:
            found[f"skipped.{n}_VMAs_by_two"] = reason
            continue
        with sources(n) as place:
            found |= beside_memcpy(place, effort)
    return found

"""What a fork costs by strategy, size and state of its source, against memcpy of as many bytes."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from forkstorm_load.seed import KERNEL_C_NS_PER_VMA, KERNEL_LEVELS_CLIMBED, KERNEL_SPLITS
from forkstorm_load.stats import fit_line
from forkstormd.core import yardstick
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec

from forkstorm_bench.figures import Contender, Effort, Figures, Times, number, race, ratio
from forkstorm_bench.spaces import (
    SIZES,
    SMALL,
    Sources,
    capacity_for,
    own_arena,
    params_for,
    runs_of_five,
    sources,
)

WORK_SIZES = (121, 421, 1621, 6421)
# Old over new of the kernel's own C, by VMA count.
KERNEL_OLD_OVER_NEW = {121: 3.7, 421: 3.9, 1621: 4.6, 6421: 4.8}
# Nanoseconds per VMA of the kernel's new way, of which EXTENT_COPY is to be a fraction.
KERNEL_NEW_NS_PER_VMA = 25.0
MEMCPY, NULL = "MEMCPY", "NULL"


def forks(place: Sources, mm_id: int, strategy: Strategy, alone: bool = True) -> Contender:
    """Core times of forks that are not published, each exited before the next."""

    def run(count: int) -> Sequence[float]:
        times: Sequence[float] = place.mm.repeat_fork(mm_id, strategy, count, alone=alone)[0]
        return times

    return run


def limit(place: Sources, mm_id: int) -> Contender:
    """Copies of as many bytes as a source has, from extent to extent as EXTENT_COPY takes and
    gives them: memory's speed."""
    return lambda count: yardstick.copy_ns(place.mm, mm_id, count)[1]


def field(
    place: Sources, mm_id: int, effort: Effort, strategies: Sequence[Strategy]
) -> dict[str, Times]:
    """Strategies and the memcpy, round by round next to each other."""
    contenders = {strategy.name: forks(place, mm_id, strategy) for strategy in strategies}
    contenders[MEMCPY] = limit(place, mm_id)
    return race(contenders, effort)


def copies(place: Sources, source: str, effort: Effort) -> Figures:
    """What EXTENT_COPY copies, nodes and records, against a memcpy of as many bytes: each copy is
    followed by a memcpy to where the next copy would go."""
    mm, mm_id, n = place.mm, place.of(source), place.vma_count
    rounds: list[tuple[Sequence[int], Sequence[int]]] = []

    def pairs(count: int) -> Sequence[int]:
        rounds.append(yardstick.copy_ns(mm, mm_id, count))
        return rounds[-1][0]

    taken = race({"copy": pairs}, effort)["copy"]
    memcpies = Times()
    for _, durations in rounds[-effort.rounds :]:
        memcpies.add(durations)
    return {
        f"extent_copy_ns_per_vma.{source}.{n}": taken.least / n,
        f"extent_memcpy_ns_per_vma.{source}.{n}": memcpies.least / n,
        f"extent_copy_over_memcpy.{source}.{n}": ratio(taken.best, memcpies.best),
    }


def from_fresh(place: Sources, effort: Effort) -> Figures:
    """All strategies from a fresh source."""
    mm_id, n = place.fresh(), place.vma_count
    times = field(place, mm_id, effort, list(Strategy))
    found: Figures = {f"bytes.{n}": place.bytes_of(mm_id)}
    for name, taken in times.items():
        found[f"ns_per_vma.{name}.{n}"] = taken.least / n
        found[f"ns_per_vma_p50.{name}.{n}"] = taken.typical / n
    found[f"tree_dup_over_memcpy.{n}"] = ratio(times["TREE_DUP"].best, times[MEMCPY].best)
    found[f"old_over_new.{n}"] = ratio(times["BULK_INSERT"].median, times["TREE_DUP"].median)
    for strategy, anchors in KERNEL_C_NS_PER_VMA.items():
        if n in anchors:
            found[f"fidelity.{strategy}.{n}"] = times[strategy].least / n / anchors[n]
    return found | copies(place, "fresh", effort)


def from_compact(place: Sources, effort: Effort) -> Figures:
    """EXTENT_COPY from a source that it made itself."""
    n = place.vma_count
    name = Strategy.EXTENT_COPY.name
    per_vma = field(place, place.compact(), effort, [Strategy.EXTENT_COPY])[name].least / n
    return {
        f"ns_per_vma_compact.{name}.{n}": per_vma,
        f"kernel_over_extent_copy.{n}": KERNEL_NEW_NS_PER_VMA / per_vma,
    } | copies(place, "compact", effort)


def from_aged(place: Sources, effort: Effort) -> Figures:
    """All strategies from an aged source; and what EXTENT_COPY copies from it and from the fresh
    one in turn, since the arena's memory has aged for both."""
    mm, fresh, aged, n = place.mm, place.fresh(), place.aged(), place.vma_count
    times = field(place, aged, effort, list(Strategy))
    found: Figures = {
        f"ns_per_vma_aged.{strategy.name}.{n}": times[strategy.name].least / n
        for strategy in Strategy
    }
    both = race(
        {
            "fresh": lambda count: yardstick.copy_ns(mm, fresh, count)[0],
            "aged": lambda count: yardstick.copy_ns(mm, aged, count)[0],
        },
        effort,
    )
    found[f"extent_copy_aged_over_fresh.{n}"] = ratio(both["aged"].best, both["fresh"].best)
    return found | copies(place, "aged", effort)


def work(vma_count: int) -> Figures:
    """What one fork does, per VMA, beside the kernel's own counts."""
    found: Figures = {}
    with sources(vma_count) as place:
        for strategy in Strategy:
            counts = place.mm.repeat_fork(place.fresh(), strategy, 1)[2]
            for name in (
                "nodes_allocated",
                "slots_written",
                "levels_climbed",
                "gap_updates",
                "splits",
            ):
                found[f"work_per_vma.{strategy.name}.{name}.{vma_count}"] = (
                    getattr(counts, name) / vma_count
                )
    found[f"kernel.levels_climbed_per_vma.{vma_count}"] = KERNEL_LEVELS_CLIMBED[vma_count]
    found[f"kernel.splits_per_vma.{vma_count}"] = KERNEL_SPLITS
    found[f"kernel.old_over_new.{vma_count}"] = KERNEL_OLD_OVER_NEW[vma_count]
    return found


def fixed(effort: Effort) -> Figures:
    """What is paid before the first VMA: two readings of the clock, a fork of an empty space."""
    with own_arena(64 << 20) as (_, mm):
        mm_id = mm.create(SpaceParams()).value
        contenders: dict[str, Contender] = {NULL: lambda count: yardstick.memcpy_ns(0, count)}
        contenders["fork"] = lambda count: mm.repeat_fork(mm_id, Strategy.EXTENT_COPY, count)[0]
        times = race(contenders, effort)
    return {"null_loop_ns": times[NULL].typical, "fork_fixed_ns": times["fork"].typical}


def cold(specs: Sequence[VmaSpec], effort: Effort) -> Figures:
    """The first fork in an arena that was just made, whose memory nobody has touched yet, and one
    of the same arena when the memory is hot; medians over arenas, by EXTENT_COPY."""
    n = len(specs)
    first, later = [], []
    for _ in range(effort.rounds if n <= SMALL else 2):
        with own_arena(capacity_for(n), 1) as (_, mm):
            mm_id = mm.create(params_for(n), specs).value
            forked = mm.fork(mm_id, Strategy.EXTENT_COPY)
            first.append(forked.core_ns)
            mm.exit(forked.child)
            later.append(statistics.median(mm.repeat_fork(mm_id, Strategy.EXTENT_COPY, 5)[0]))
    return {
        f"cold_fork_ns.{n}": statistics.median(first),
        f"warm_fork_ns.{n}": statistics.median(later),
    }


def touched(effort: Effort, vma_count: int = SMALL) -> Figures:
    """A fork of a space whose writable VMAs were written to: core time, and beside it the copying
    of page tables. Best of several forks."""
    specs = runs_of_five(vma_count)
    found: Figures = {}
    with own_arena(64 << 20) as (_, mm):
        mm_id = mm.create(SpaceParams(), specs).value
        for vma in specs:
            if vma.vm_flags & 2:
                mm.touch(mm_id, vma.start, 1, 1)
        results: dict[str, list[Any]] = {strategy.name: [] for strategy in Strategy}
        for _ in range(effort.rounds * 5):
            for strategy in Strategy:
                results[strategy.name].append(mm.fork(mm_id, strategy))
                mm.exit(results[strategy.name][-1].child)
    for name, forked in results.items():
        found[f"touched.core_ns.{name}.{vma_count}"] = min(fork.core_ns for fork in forked)
        found[f"touched.pages_ns.{name}.{vma_count}"] = min(fork.pages_ns for fork in forked)
    return found


def fits(found: Figures) -> Figures:
    """T(n) = a + b·n of every strategy and of the memcpy, over the sizes up to 6,421, where caches
    do not yet decide."""
    fitted: Figures = {}
    for name in (*(strategy.name for strategy in Strategy), MEMCPY):
        sizes = [
            n
            for n in SIZES
            if n <= 6421 and number(found, f"ns_per_vma_p50.{name}.{n}") is not None
        ]
        if len(sizes) < 3:
            continue
        times = [n * (number(found, f"ns_per_vma_p50.{name}.{n}") or 0.0) for n in sizes]
        line = fit_line(sizes, times)
        fitted[f"fit.{name}.a_ns"] = line.a
        fitted[f"fit.{name}.b_ns"] = line.b
        fitted[f"fit.{name}.residual_max"] = line.residual_max
    return fitted


def shared(place: Sources, effort: Effort) -> Figures:
    """SHARE's fork up to a visible id, and such a fork with its exit, without a write."""
    forked, ended = Times(), Times()
    for _ in range(effort.rounds):
        forks_ns, _, exits_ns = yardstick.life_ns(place.mm, place.fresh(), Strategy.SHARE, 0, 200)
        forked.add(forks_ns)
        ended.add([a + b for a, b in zip(forks_ns, exits_ns, strict=True)])
    n = place.vma_count
    return {
        f"share_ns.{n}": forked.least,
        f"share_ns_p50.{n}": forked.typical,
        f"share_fork_exit_ns.{n}": ended.least,
    }

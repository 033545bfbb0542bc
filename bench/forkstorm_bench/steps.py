"""Single steps on a tree at rest: a lookup, a store, one call of each kind; memory of a space."""

from __future__ import annotations

import random
import statistics
from typing import Any

from forkstormd.core import yardstick
from forkstormd.core.types import SpaceParams, Strategy

from forkstorm_bench.figures import Effort, Figures
from forkstorm_bench.spaces import MEDIUM, PAGE, SMALL, own_arena, runs_of_five

PRIVATE_ANONYMOUS, MAP_FIXED = 0x22, 0x10
FINDS, STORES, CALLS = 200_000, 50_000, 3000


def steps(effort: Effort) -> Figures:
    """A lookup and a path-copying store in a published tree of 6,421 VMAs; then single calls."""
    with own_arena() as (_, mm):
        mm_id = mm.create(SpaceParams(), runs_of_five(MEDIUM)).value
        finds = [
            yardstick.find_ns(mm, mm_id, int(FINDS * effort.part)) for _ in range(effort.rounds)
        ]
        stores = [
            yardstick.store_ns(mm, mm_id, int(STORES * effort.part)) for _ in range(effort.rounds)
        ]
        return {
            f"find_ns.{MEDIUM}": statistics.median(finds),
            f"find_ns_best.{MEDIUM}": min(finds),
            f"store_ns.{MEDIUM}": statistics.median(stores),
            f"store_ns_best.{MEDIUM}": min(stores),
        } | calls(mm, MEDIUM, max(10, int(CALLS * effort.part)))


def calls(mm: Any, vma_count: int, rounds: int) -> Figures:
    """Core time of single calls at random places of a large space, median, two readings of the
    clock included. Each is taken back, so that all of them meet the same space."""
    rng = random.Random(vma_count)
    specs = runs_of_five(vma_count, pages=3)
    mm_id = mm.create(SpaceParams(), specs).value
    times: dict[str, list[int]] = {"map": [], "unmap": [], "protect_split": [], "find_vma": []}
    for _ in range(rounds):
        vma = rng.choice(specs)
        size, prot = vma.end - vma.start, vma.vm_flags & 7
        mapped = mm.map(mm_id, 0, PAGE, 1, PRIVATE_ANONYMOUS)
        times["map"].append(mapped.core_ns)
        mm.unmap(mm_id, mapped.value, PAGE)
        times["unmap"].append(mm.unmap(mm_id, vma.start, size).core_ns)
        mm.map(mm_id, vma.start, size, prot, PRIVATE_ANONYMOUS | MAP_FIXED)
        times["protect_split"].append(mm.protect(mm_id, vma.start + PAGE, PAGE, 5).core_ns)
        mm.protect(mm_id, vma.start + PAGE, PAGE, prot)
        times["find_vma"].append(mm.find_vma(mm_id, vma.start)[1].core_ns)
    if mm.info(mm_id).vma_count != vma_count:
        raise AssertionError("the calls have left another space behind")
    mm.exit(mm_id)
    return {f"{name}_ns.{vma_count}": statistics.median(found) for name, found in times.items()}


def footprint() -> Figures:
    """Arena memory per space of 421 VMAs, from a hundred of them."""
    with own_arena(64 << 20, 1) as (arena, mm):
        mm.create(SpaceParams(), runs_of_five(SMALL))
        before = arena.usage()["free_bytes"]
        for _ in range(100):
            mm.fork(mm.ids()[0], Strategy.BULK_INSERT)
        used = before - arena.usage()["free_bytes"]
        # The slot and the reference counts (4 bytes per 64) belong to a space too.
        return {f"arena_kib_per_space.{SMALL}": (used / 100 * 68 / 64 + 768) / 1024}

"""The core by itself: nanoseconds per VMA, against memcpy; work counts; single steps."""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import forkstormd.core
from forkstorm_load.seed import KERNEL_C_NS_PER_VMA, KERNEL_LEVELS_CLIMBED, KERNEL_SPLITS
from forkstormd.core import yardstick
from forkstormd.core.arena import Arena
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec

from forkstorm_bench.figures import ratio

SIZES = (21, 121, 421, 1621, 6421, 65_536)
WORK_SIZES = (121, 421, 1621, 6421)
ROUNDS = 9
# Old over new of the kernel's own C, by VMA count.
KERNEL_OLD_OVER_NEW = {121: 3.7, 421: 3.9, 1621: 4.6, 6421: 4.8}
NODE_BYTES, RECORD_BYTES = 256, 64
PAGE = 4096
PRIVATE_ANONYMOUS, MAP_FIXED = 0x22, 0x10
Figures = dict[str, float | int | str | None]


def runs_of_five(count: int, pages: int = 1, start: int = 0x1000_0000) -> list[VmaSpec]:
    """The seed's layout: five touching VMAs that cannot merge, then a gap of a page."""
    specs, addr = [], start
    for i in range(count):
        end = addr + pages * PAGE
        specs.append(VmaSpec(addr, end, 0x71 if i % 2 else 0x100073))
        addr = end if i % 5 < 4 else end + PAGE
    return specs


@contextmanager
def own_arena(capacity_bytes: int = 512 << 20, lanes: int = 2) -> Iterator[tuple[Arena, Any]]:
    """A fresh arena in memory and its manager, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="forkstorm-bench-", dir="/dev/shm") as folder:
        arena = Arena.create(os.path.join(folder, "arena"), capacity_bytes)
        mm = MemoryManager(arena, lanes)
        try:
            yield arena, mm
        finally:
            mm.close()
            arena.close()


def forks_of(vma_count: int) -> int:
    """Forks per round: some ten milliseconds of them, at least three."""
    return max(3, 1_000_000 // (vma_count * 15 + 300))


def duplication(mm: Any, vma_count: int) -> Figures:
    """Both strategies and a memcpy of the same bytes, round by round next to each other."""
    mm_id = mm.create(SpaceParams(), runs_of_five(vma_count)).value
    info = mm.info(mm_id)
    nbytes = info.node_count * NODE_BYTES + vma_count * RECORD_BYTES
    forks = forks_of(vma_count)
    times: dict[str, list[float]] = {"BULK_INSERT": [], "TREE_DUP": [], "MEMCPY": []}
    medians: dict[str, list[float]] = {name: [] for name in times}
    for _ in range(ROUNDS):
        for strategy in Strategy:
            durations, _, _ = mm.repeat_fork(mm_id, strategy, forks)
            times[strategy.name].append(min(durations))
            medians[strategy.name].append(statistics.median(durations))
        durations = yardstick.memcpy_ns(nbytes, forks)
        times["MEMCPY"].append(min(durations))
        medians["MEMCPY"].append(statistics.median(durations))
    mm.exit(mm_id)
    n = str(vma_count)
    figures: Figures = {}
    for name in times:
        figures[f"ns_per_vma.{name}.{n}"] = min(times[name]) / vma_count
        figures[f"ns_per_vma_p50.{name}.{n}"] = statistics.median(medians[name]) / vma_count
    figures[f"bytes.{n}"] = nbytes
    figures[f"tree_dup_over_memcpy.{n}"] = ratio(times["TREE_DUP"], times["MEMCPY"])
    figures[f"old_over_new.{n}"] = ratio(medians["BULK_INSERT"], medians["TREE_DUP"])
    for strategy in Strategy:
        anchor = KERNEL_C_NS_PER_VMA[strategy.name].get(vma_count)
        if anchor is not None:
            figures[f"fidelity.{strategy.name}.{n}"] = (
                min(times[strategy.name]) / vma_count / anchor
            )
    return figures


def work(mm: Any, vma_count: int) -> Figures:
    """What one fork does, per VMA, beside the kernel's own counts."""
    mm_id = mm.create(SpaceParams(), runs_of_five(vma_count)).value
    figures: Figures = {}
    for strategy in Strategy:
        counts = mm.repeat_fork(mm_id, strategy, 1)[2]
        for name in ("nodes_allocated", "slots_written", "levels_climbed", "gap_updates", "splits"):
            figures[f"work_per_vma.{strategy.name}.{name}.{vma_count}"] = (
                getattr(counts, name) / vma_count
            )
    figures[f"kernel.levels_climbed_per_vma.{vma_count}"] = KERNEL_LEVELS_CLIMBED[vma_count]
    figures[f"kernel.splits_per_vma.{vma_count}"] = KERNEL_SPLITS
    figures[f"kernel.old_over_new.{vma_count}"] = KERNEL_OLD_OVER_NEW[vma_count]
    mm.exit(mm_id)
    return figures


def steps(mm: Any) -> Figures:
    """A lookup and a path-copying store in a published tree of 6,421 VMAs."""
    mm_id = mm.create(SpaceParams(), runs_of_five(6421)).value
    finds = [yardstick.find_ns(mm, mm_id, 200_000) for _ in range(ROUNDS)]
    stores = [yardstick.store_ns(mm, mm_id, 50_000) for _ in range(ROUNDS)]
    mm.exit(mm_id)
    return {
        "find_ns.6421": statistics.median(finds),
        "find_ns_best.6421": min(finds),
        "store_ns.6421": statistics.median(stores),
        "store_ns_best.6421": min(stores),
    }


def calls(mm: Any, vma_count: int = 6421, rounds: int = 3000) -> Figures:
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
        mm.create(SpaceParams(), runs_of_five(421))
        before = arena.usage()["free_bytes"]
        for _ in range(100):
            mm.fork(mm.ids()[0], Strategy.BULK_INSERT)
        used = before - arena.usage()["free_bytes"]
        # The slot and the reference counts (4 bytes per 64) belong to a space too.
        return {"arena_kib_per_space.421": (used / 100 * 68 / 64 + 768) / 1024}


def fork_p50(path: str, vma_count: int, forks: int) -> dict[str, float]:
    """Median nanoseconds per strategy, whatever build is on the path (run in a subprocess)."""
    with own_arena(64 << 20, 1) as (_, mm):
        mm_id = mm.create(SpaceParams(), runs_of_five(vma_count)).value
        return {
            strategy.name: statistics.median(mm.repeat_fork(mm_id, strategy, forks)[0])
            for strategy in Strategy
        }


def uncompiled() -> Figures:
    """The release build against the same files as plain Python, at 421 VMAs."""
    with tempfile.TemporaryDirectory(prefix="forkstorm-bench-") as folder:
        source = Path(forkstormd.core.__file__).parent
        target = Path(folder, "forkstormd", "core")
        target.mkdir(parents=True)
        (target.parent / "__init__.py").touch()
        for file in source.glob("*.py"):
            shutil.copy(file, target)
        script = "import json, forkstorm_bench.core as c; print(json.dumps(c.fork_p50('', 421, 3)))"
        paths = [folder, *sys.path]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        answer = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
    slow = json.loads(answer.stdout)
    fast = fork_p50("", 421, 2000)
    return {f"release_over_uncompiled.{name}": slow[name] / fast[name] for name in sorted(fast)}

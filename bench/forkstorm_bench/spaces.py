"""Where forks are measured: arenas of one's own, and what lies in them.

Sources of a fork come in three states:

    fresh      made by create() in ascending order, as BULK_INSERT makes a child
    aged       then 5n random records were replaced, and n/10 VMAs unmapped and mapped again
    compact    itself made by an EXTENT_COPY fork, and not changed since
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from forkstormd.core import yardstick
from forkstormd.core.arena import Arena
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec

SIZES = (21, 121, 421, 1621, 6421, 65_536, 1_000_000)
# The seed table's largest process, and sizes that other figures are taken at.
SMALL, MEDIUM = 421, 6421
NODE_BYTES, RECORD_BYTES = 256, 64
PAGE = 4096
AGE_SEED = 20_231_024
PLACE = "/dev/shm"


def runs_of_five(count: int, pages: int = 1, start: int = 0x1000_0000) -> list[VmaSpec]:
    """The seed's layout: five touching VMAs that cannot merge, then a gap of a page."""
    specs, addr = [], start
    for i in range(count):
        end = addr + pages * PAGE
        specs.append(VmaSpec(addr, end, 0x71 if i % 2 else 0x100073))
        addr = end if i % 5 < 4 else end + PAGE
    return specs


def params_for(vma_count: int) -> SpaceParams:
    """Linux's defaults, but for a limit that lets so many VMAs be."""
    return SpaceParams(max_map_count=max(SpaceParams().max_map_count, vma_count + 1))


@contextmanager
def own_arena(capacity_bytes: int = 512 << 20, lanes: int = 2) -> Iterator[tuple[Arena, Any]]:
    """A fresh arena in memory and its manager, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="forkstorm-bench-", dir=PLACE) as folder:
        arena = Arena.create(os.path.join(folder, "arena"), capacity_bytes)
        mm = MemoryManager(arena, lanes)
        try:
            yield arena, mm
        finally:
            mm.close()
            arena.close()


def capacity_for(vma_count: int) -> int:
    """Bytes of an arena for a few spaces of this size. A lane keeps a free extent, which has to
    stay hot, of no more than an eighth of the arena (extents.py)."""
    return (256 << 20) + 10 * vma_count * 100


def does_not_fit(vma_count: int) -> str | None:
    """Why an arena for this size cannot be had here, or None."""
    free = shutil.disk_usage(PLACE).free
    needed = capacity_for(vma_count)
    if free > needed:
        return None
    return f"{PLACE} has {free >> 20} MiB free, {needed >> 20} are needed"


@dataclass
class Sources:
    """Spaces of one size in an arena of their own, each made when it is first asked for."""

    arena: Arena
    mm: Any
    specs: list[VmaSpec]
    ids: dict[str, int] = field(default_factory=dict)

    @property
    def vma_count(self) -> int:
        return len(self.specs)

    def fresh(self) -> int:
        if "fresh" not in self.ids:
            self.ids["fresh"] = self.mm.create(params_for(self.vma_count), self.specs).value
        return self.ids["fresh"]

    def compact(self) -> int:
        if "compact" not in self.ids:
            self.ids["compact"] = self.mm.fork(self.fresh(), Strategy.EXTENT_COPY).child
        return self.ids["compact"]

    def aged(self) -> int:
        """Ageing scatters the arena's free memory too: ask for it last."""
        if "aged" not in self.ids:
            mm_id = self.mm.fork(self.fresh(), Strategy.BULK_INSERT).child
            yardstick.age(self.mm, mm_id, AGE_SEED)
            self.ids["aged"] = mm_id
        return self.ids["aged"]

    def of(self, source: str) -> int:
        """The source by its name."""
        made: dict[str, Callable[[], int]] = {
            "fresh": self.fresh,
            "compact": self.compact,
            "aged": self.aged,
        }
        return made[source]()

    def bytes_of(self, mm_id: int) -> int:
        """Nodes and records of a space."""
        nodes: int = self.mm.info(mm_id).node_count
        return nodes * NODE_BYTES + self.vma_count * RECORD_BYTES


@contextmanager
def sources(vma_count: int, specs: list[VmaSpec] | None = None) -> Iterator[Sources]:
    """Sources of this size in a fresh arena."""
    with own_arena(capacity_for(vma_count)) as (arena, mm):
        yield Sources(arena, mm, specs or runs_of_five(vma_count))

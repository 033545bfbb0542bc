"""What several tests of the core say often."""

import random

from forkstormd.core.layout import SHARED_OBJECT
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, VmaSpec
from forkstormd.core.verify import references

from . import linux, model

ANON = linux.MAP_PRIVATE | linux.MAP_ANONYMOUS
PAGE = 4096


def maps(mm: MemoryManager, mm_id: int) -> list[model.Shown]:
    """All VMAs of a space as the model shows them."""
    found: list[model.Shown] = []
    with mm.snapshot(mm_id) as snapshot:
        while True:
            start, end, flags, offset, name = snapshot.read(100)
            if not start:
                return found
            for row in zip(start, end, flags, offset, name, strict=True):
                file = row[4] - 2 if row[4] > 2 else 0
                file = -1 if file >= SHARED_OBJECT else file
                found.append((row[0], row[1], row[2], file, row[3] // PAGE if file else 0))


def assert_sound(mm: MemoryManager, *mm_ids: int) -> None:
    for mm_id in mm_ids:
        assert mm.verify(mm_id) == []


def assert_no_leak(mm: MemoryManager) -> None:
    audit = mm.audit()
    assert audit.quiescent
    assert (audit.allocated_nodes, audit.allocated_records) == (
        audit.reachable_nodes,
        audit.reachable_records,
    )
    assert (audit.page_table_count, audit.object_count) == (
        audit.reachable_page_tables,
        audit.reachable_objects,
    )
    assert audit.extent_blocks == audit.reachable_extent_blocks
    assert references(mm) == []


def runs_of_five(count: int, start: int = 0x1000_0000) -> list[VmaSpec]:
    """The seed's synthetic layout: five touching VMAs that cannot merge, then a gap."""
    specs, addr = [], start
    for i in range(count):
        specs.append(VmaSpec(addr, addr + PAGE, 0x71 if i % 2 else 0x100073))
        addr += PAGE if i % 5 < 4 else 2 * PAGE
    return specs


def scattered(rng: random.Random, count: int, special: float = 0.0) -> list[VmaSpec]:
    """VMAs of one to eight pages with gaps between most of them; a part is DONTCOPY."""
    specs, addr = [], 0x1000_0000
    for _ in range(count):
        addr += rng.choice((0, 1, 1, 2, 5)) * PAGE
        end = addr + rng.randint(1, 8) * PAGE
        flags = rng.choice((0x71, 0x73, 0x75))
        if rng.random() < special:
            flags |= linux.DONTCOPY
        specs.append(VmaSpec(addr, end, flags))
        addr = end
    return specs


def small_params() -> SpaceParams:
    """A window small enough that random calls meet each other."""
    return SpaceParams(
        task_size=0x4000_0000, mmap_base=0x3000_0000, start_brk=0, max_map_count=65_530
    )

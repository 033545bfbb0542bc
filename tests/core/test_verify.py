"""Verify and Audit find what is wrong: every kind of damage is made on purpose, in the file."""

import ctypes
import mmap
from collections.abc import Callable

import pytest
from forkstormd.core import layout
from forkstormd.core.arena import Arena
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams

from .helpers import runs_of_five


class Bytes:
    """A second mapping of the arena file, through the ctypes side of the layout."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self.base = mmap.mmap(file.fileno(), 0)
        self.header = layout.Header.from_buffer(self.base)

    def slot(self, mm_id: int) -> layout.Slot:
        at = self.header.table_at + (mm_id & 0xFFFFF) * layout.SLOT_STRIDE
        return layout.Slot.from_buffer(self.base, at)

    def state(self, mm_id: int) -> layout.State:
        slot = self.slot(mm_id)
        state: layout.State = slot.state[slot.word & 1]
        return state

    def inner(self, node: int) -> layout.Inner:
        return layout.Inner.from_buffer(self.base, node * layout.UNIT_BYTES)

    def leaf(self, node: int) -> layout.Leaf:
        return layout.Leaf.from_buffer(self.base, node * layout.UNIT_BYTES)

    def record(self, record: int) -> layout.Record:
        return layout.Record.from_buffer(self.base, record * layout.UNIT_BYTES)

    def ref(self, index: int) -> ctypes.c_uint32:
        return ctypes.c_uint32.from_buffer(self.base, self.header.refs_at + index * 4)

    def first_leaf(self, mm_id: int) -> int:
        node = self.state(mm_id).root
        for _ in range(self.state(mm_id).height - 1):
            node = self.inner(node).slot[0]
        return int(node)

    def table(self, mm_id: int, level: int) -> layout.Table:
        """The first table of this level: 0 a strip, 7 the PGD."""
        node = self.state(mm_id).page_root
        for _ in range(7 - level):
            table = layout.Table.from_buffer(self.base, node * layout.UNIT_BYTES)
            node = table.child[table.present.bit_length() - 1]
        return layout.Table.from_buffer(self.base, node * layout.UNIT_BYTES)


@pytest.fixture
def damaged(arena: Arena, mm: MemoryManager) -> tuple[Bytes, int]:
    mm_id = mm.create(SpaceParams(), runs_of_five(421)).value
    mm.touch(mm_id, 0x1000_0000, 1, 1)
    assert mm.verify(mm_id) == []
    return Bytes(arena.path), mm_id


def gap(file: Bytes, mm_id: int) -> None:
    file.inner(file.state(mm_id).root).gap[0] += 4096


def gap_slot(file: Bytes, mm_id: int) -> None:
    root = file.inner(file.state(mm_id).root)
    root.gap_slot = 0


def counts(file: Bytes, mm_id: int) -> None:
    file.inner(file.state(mm_id).root).vmas += 1


def nodes(file: Bytes, mm_id: int) -> None:
    file.inner(file.state(mm_id).root).nodes -= 1


def specials(file: Bytes, mm_id: int) -> None:
    file.leaf(file.first_leaf(mm_id)).special |= 2


def pivots(file: Bytes, mm_id: int) -> None:
    leaf = file.leaf(file.first_leaf(mm_id))
    leaf.pivot[2] = leaf.pivot[5]


def fill(file: Bytes, mm_id: int) -> None:
    file.leaf(file.first_leaf(mm_id)).end = 3


def null_twice(file: Bytes, mm_id: int) -> None:
    leaf = file.leaf(file.first_leaf(mm_id))
    leaf.slot[1] = 0


def record_range(file: Bytes, mm_id: int) -> None:
    file.record(file.leaf(file.first_leaf(mm_id)).slot[1]).end += 4096


def reachable_twice(file: Bytes, mm_id: int) -> None:
    leaf = file.leaf(file.first_leaf(mm_id))
    leaf.slot[2] = leaf.slot[1]


def outside(file: Bytes, mm_id: int) -> None:
    file.leaf(file.first_leaf(mm_id)).slot[1] = 77


def root_owner(file: Bytes, mm_id: int) -> None:
    file.ref(file.state(mm_id).root).value = 3


def leaf_owner(file: Bytes, mm_id: int) -> None:
    file.ref(file.first_leaf(mm_id)).value = 1


def record_owner(file: Bytes, mm_id: int) -> None:
    file.ref(file.leaf(file.first_leaf(mm_id)).slot[1]).value = 1


def statistics(file: Bytes, mm_id: int) -> None:
    file.state(mm_id).total_vm += 1


def map_count(file: Bytes, mm_id: int) -> None:
    file.state(mm_id).map_count -= 1


def touched_pages(file: Bytes, mm_id: int) -> None:
    file.state(mm_id).touched_pages += 1


def stray_page(file: Bytes, mm_id: int) -> None:
    strip = layout.Strip.from_buffer(file.table(mm_id, 0))
    strip.present |= 1 << 5  # the gap behind the first five VMAs


def stray_table(file: Bytes, mm_id: int) -> None:
    half = file.table(mm_id, 2)
    half.child[9], half.present = half.child[0], 1 << 9


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (gap, "gap 0 is"),
        (gap_slot, "does not name the largest gap"),
        (counts, "VMAs, not"),
        (nodes, "nodes, not"),
        (specials, "special mark"),
        (pivots, "pivot"),
        (fill, "a leaf with 4 slots"),
        (null_twice, "two NULL ranges touch"),
        (record_range, "stored at"),
        (reachable_twice, "reachable twice"),
        (outside, "outside the heap"),
        (touched_pages, "touched_pages is"),
        (stray_page, "where no VMA is"),
        (stray_table, "which no VMA needs"),
        (root_owner, "owners, not 2"),
        (leaf_owner, "owners, not 1"),
        (record_owner, "owners, not 1"),
        (statistics, "total_vm is"),
        (map_count, "map_count is"),
    ],
)
def test_every_damage_is_named(
    damaged: tuple[Bytes, int],
    mm: MemoryManager,
    damage: Callable[[Bytes, int], None],
    says: str,
) -> None:
    file, mm_id = damaged
    damage(file, mm_id)
    violations = mm.verify(mm_id)
    assert any(says in violation for violation in violations), violations


def test_audit_sees_what_leaked(damaged: tuple[Bytes, int], mm: MemoryManager) -> None:
    file, mm_id = damaged
    before = mm.audit()
    assert before.quiescent
    # The tree is lost without being freed, as when a process dies between commit and drop.
    file.state(mm_id).root = 0
    file.state(mm_id).height = 0
    after = mm.audit()
    assert after.allocated_records == before.allocated_records == 421
    # The eight nodes of its page tree are still found.
    assert (after.reachable_records, after.reachable_nodes) == (0, 8)

"""The arena file: who may attach it, what is refused, and that memory is really limited."""

import ctypes
import os
import stat
import struct

import pytest
from forkstormd.core import layout
from forkstormd.core.arena import Arena, default_capacity, geometry, struct_sizes
from forkstormd.core.errors import ArenaError, CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy

from .helpers import assert_no_leak, assert_sound, maps, runs_of_five


def test_both_sides_of_the_layout_say_the_same() -> None:
    assert struct_sizes() == {name: ctypes.sizeof(getattr(layout, name)) for name in struct_sizes()}
    assert ctypes.sizeof(layout.Leaf) <= layout.NODE_BYTES
    assert ctypes.sizeof(layout.Inner) <= layout.NODE_BYTES
    assert ctypes.sizeof(layout.Record) == layout.UNIT_BYTES
    assert ctypes.sizeof(layout.Slot) == layout.SLOT_STRIDE
    assert ctypes.sizeof(layout.Lane) == layout.LANE_STRIDE
    assert ctypes.sizeof(layout.DedupeEntry) == layout.DEDUPE_STRIDE
    assert layout.DedupeEntry.answer.offset == layout.DEDUPE_STRIDE - layout.ANSWER_BYTES
    assert ctypes.sizeof(layout.FileEntry) == layout.FILE_STRIDE
    assert ctypes.sizeof(layout.Header) <= layout.HEADER_BYTES


def test_the_parts_of_the_file_do_not_overlap() -> None:
    for capacity in (4 << 20, 1 << 30, 224 << 30):
        places = geometry(capacity, 65_536, 64, 65_536)
        starts = [value for name, value in places.items() if name.endswith("_at")]
        assert starts == sorted(starts)
        assert all(start % layout.PAGE_BYTES == 0 for start in starts)
        blocks = places["block_max"]
        assert blocks * layout.BLOCK_UNITS <= 1 << 32, "indexes have 32 bits"
        assert places["kind_at"] - places["free_at"] >= blocks * 8
        assert places["refs_at"] - places["kind_at"] >= blocks
        assert places["heap_at"] - places["refs_at"] >= blocks * layout.BLOCK_UNITS * 4
        assert places["heap_at"] == places["first_block"] * layout.BLOCK_BYTES


def test_the_file_is_private_and_new(arena: Arena) -> None:
    assert stat.S_IMODE(os.stat(arena.path).st_mode) == 0o600
    with pytest.raises(ArenaError, match="exists"):
        Arena.create(arena.path, 64 << 20)


def test_another_attachment_sees_the_same_spaces(arena: Arena, mm: MemoryManager) -> None:
    mm_id = mm.create(SpaceParams(), runs_of_five(50), labels=b"a\0b\0").value
    other_arena = Arena.attach(arena.path)
    other = MemoryManager(other_arena, 1)
    assert other_arena.instance_id == arena.instance_id
    assert maps(other, mm_id) == maps(mm, mm_id)
    assert other.info(mm_id).labels == b"a\0b\0"
    file = mm.intern_file(b"/usr/bin/true", 8, 1, 77)
    assert other.intern_file(b"/usr/bin/true", 8, 1, 77) == file
    assert other.file_info(file).path == b"/usr/bin/true"
    child = other.fork(mm_id, Strategy.TREE_DUP).child
    assert maps(mm, child) == maps(mm, mm_id)
    other.close()
    other_arena.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", "no arena"),
        (lambda data: data[:5000], "no arena"),
        (lambda data: b"\x7fELF" + data[4:], "no arena"),
        (lambda data: data[:8] + struct.pack("<I", 99) + data[12:], "layout 99"),
        (lambda data: data[:16] + struct.pack("<Q", 12345678) + data[24:], "contradicts"),
        (lambda data: data[:-4096], "bytes long"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_sound_arena_is_refused(arena_path, damage, message) -> None:  # type: ignore[no-untyped-def]
    arena = Arena.create(arena_path, 4 << 20, max_spaces=16, lanes=2)
    arena.close()
    with open(arena_path, "rb") as file:
        data = file.read()
    with open(arena_path, "wb") as file:
        file.write(damage(data))
    with pytest.raises(ArenaError, match=message):
        Arena.attach(arena_path)


def test_a_missing_file_and_a_link_are_refused(arena: Arena, arena_path: str) -> None:
    with pytest.raises(ArenaError, match="cannot open"):
        Arena.attach(arena_path + "-none")
    os.symlink(arena_path, arena_path + "-link")
    with pytest.raises(ArenaError, match="cannot open"):
        Arena.attach(arena_path + "-link")


def test_the_limit_of_spaces_is_exact_and_given_back(arena_path: str) -> None:
    arena = Arena.create(arena_path, 4 << 20, max_spaces=20, lanes=4)
    mm = MemoryManager(arena, 2)
    ids = [mm.create().value for _ in range(20)]
    for call in (mm.create, lambda: mm.fork(ids[0], Strategy.TREE_DUP)):
        with pytest.raises(CoreError) as caught:
            call()
        assert (caught.value.reason, caught.value.limit) == ("ENOMEM", "spaces")
    mm.exit(ids.pop())
    ids.append(mm.create().value)
    assert mm.ids() == sorted(ids, key=lambda mm_id: mm_id & 0xFFFFF)
    mm.close()
    arena.close()


def test_a_full_arena_refuses_and_recovers(arena_path: str) -> None:
    arena = Arena.create(arena_path, 4 << 20, max_spaces=200, lanes=4)
    mm = MemoryManager(arena, 1)
    parent = mm.create(SpaceParams(), runs_of_five(800)).value
    before = maps(mm, parent)
    ids: list[int] = []

    def fill() -> None:
        while True:
            ids.append(mm.create(SpaceParams(), runs_of_five(800)).value)

    with pytest.raises(CoreError) as caught:
        fill()
    assert (caught.value.reason, caught.value.limit) == ("ENOMEM", "arena")
    assert maps(mm, parent) == before
    assert_sound(mm, parent, *ids)
    assert_no_leak(mm)
    mm.exit(ids.pop())
    ids.append(mm.fork(parent, Strategy.TREE_DUP).child)
    assert_sound(mm, ids[-1])
    mm.close()
    arena.close()


def test_lanes_are_limited_and_given_back(arena_path: str) -> None:
    arena = Arena.create(arena_path, 4 << 20, max_spaces=16, lanes=3)
    first = MemoryManager(arena, 2)
    with pytest.raises(CoreError) as caught:
        MemoryManager(arena, 2)
    assert caught.value.limit == "lanes"
    first.close()
    second = MemoryManager(arena, 3)
    second.close()
    arena.close()


def test_the_default_capacity_leaves_half_of_what_there_is(tmp_path) -> None:  # type: ignore[no-untyped-def]
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert default_capacity(str(tmp_path), 1 << 60) <= free // 2 + (64 << 20)
    assert default_capacity(str(tmp_path), 8 << 20) == 8 << 20

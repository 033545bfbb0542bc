"""Touch over the wire: values, page tables, copy-on-write, stacks that grow."""

from __future__ import annotations

import grpc
import pytest
from forkstorm.v1 import types_pb2

from tests.rpc.calls import (
    BULK_INSERT,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    PRIVATE_ANONYMOUS,
    PROT_RW,
    TREE_DUP,
    Api,
    refused,
)

CODE = grpc.StatusCode
PAGE = 4096
PLACE = 0x10_0000_0000
BIG = 0xFEDC_BA98_7654_3210
DONTNEED, WIPEONFORK = 4, 18
MAP_GROWSDOWN = 0x100


@pytest.fixture
def mapped(api: Api, space: int) -> int:
    """Eight pages of private anonymous memory, rw, at PLACE."""
    api.map(space, 8 * PAGE, PLACE, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    return space


def test_a_page_keeps_what_was_written(api: Api, mapped: int) -> None:
    assert api.touch(mapped, PLACE + 123) == 0
    assert api.write(mapped, PLACE + 123, BIG) == BIG
    assert api.touch(mapped, PLACE) == BIG
    assert api.touch(mapped, PLACE + PAGE) == 0
    assert api.touch(mapped, PLACE, types_pb2.TOUCH_ACCESS_UNSPECIFIED, 5) == BIG
    info = api.info(mapped)
    assert info.touched_page_count == 2
    # A page table, a page middle directory, a page upper directory.
    assert info.page_table_count == 3
    api.advise(mapped, PLACE, PAGE, DONTNEED)
    assert api.touch(mapped, PLACE) == 0
    api.unmap(mapped, PLACE, 8 * PAGE)
    info = api.info(mapped)
    assert (info.touched_page_count, info.page_table_count) == (0, 0)


def test_what_would_be_a_sigsegv(api: Api, mapped: int) -> None:
    api.protect(mapped, PLACE + PAGE, PAGE, 1)
    api.protect(mapped, PLACE + 2 * PAGE, PAGE, 0)
    assert api.touch(mapped, PLACE + PAGE) == 0
    for addr, write in (
        (PLACE + PAGE, True),
        (PLACE + 2 * PAGE, False),
        (PLACE + 8 * PAGE, False),
        (0, False),
        ((1 << 64) - 1, True),
    ):
        with refused(CODE.FAILED_PRECONDITION, "EFAULT", errno="14"):
            api.write(mapped, addr, 1) if write else api.touch(mapped, addr)


@pytest.mark.parametrize("access", [3, -1])
def test_an_unknown_access(api: Api, mapped: int, access: types_pb2.TouchAccess) -> None:
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="access"):
        api.touch(mapped, PLACE, access)


@pytest.mark.parametrize("strategy", [BULK_INSERT, TREE_DUP])
def test_private_pages_are_copied_on_write_and_shared_ones_are_not(
    api: Api, mapped: int, strategy: int
) -> None:
    shared = api.map(mapped, PAGE, flags=MAP_SHARED | MAP_ANONYMOUS)
    api.advise(mapped, PLACE + PAGE, PAGE, WIPEONFORK)
    for addr in (PLACE, PLACE + PAGE, shared):
        api.write(mapped, addr, 1)
    child = api.fork(mapped, strategy=strategy).child
    assert [api.touch(child, addr) for addr in (PLACE, PLACE + PAGE, shared)] == [1, 0, 1]
    api.write(child, PLACE, 2)
    api.write(child, shared, 2)
    assert [api.touch(mapped, addr) for addr in (PLACE, PLACE + PAGE, shared)] == [1, 1, 2]
    api.write(mapped, PLACE, 3)
    assert api.touch(child, PLACE) == 2
    assert api.violations(mapped) == api.violations(child) == []
    api.exit(child)
    assert api.touch(mapped, PLACE) == 3


def test_a_file_s_pages_belong_to_all_who_map_it(api: Api) -> None:
    file = types_pb2.File(path=b"/shared", inode=4711)
    first, second = api.create(), api.create()
    here = api.map(first, 2 * PAGE, flags=MAP_SHARED, file=file)
    there = api.map(second, PAGE, flags=MAP_SHARED, file=file, offset_bytes=PAGE)
    api.write(first, here + PAGE, 9)
    assert api.touch(second, there) == 9
    private = api.map(second, PAGE, flags=MAP_PRIVATE, file=file, offset_bytes=PAGE)
    assert api.touch(second, private) == 9
    api.write(second, private, 10)
    assert api.touch(first, here + PAGE) == 9
    for mm_id in (first, second):
        api.exit(mm_id)


def test_a_write_keeps_neighbours_apart(api: Api, mapped: int) -> None:
    """What was written to has an anon_vma; a child's merges with nothing (section 8, A3)."""
    api.write(mapped, PLACE, 1)
    child = api.fork(mapped).child
    api.map(mapped, PAGE, PLACE + 8 * PAGE, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    api.map(child, PAGE, PLACE + 8 * PAGE, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    assert len(api.vmas(mapped)) == 1
    assert len(api.vmas(child)) == 2
    api.exit(child)


def test_a_stack_grows_to_its_limit(api: Api) -> None:
    mm_id = api.create(parameters={"stack_limit_bytes": 64 * PAGE})
    top = PLACE + 4 * PAGE
    api.map(mm_id, 4 * PAGE, PLACE, flags=PRIVATE_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN)
    api.write(mm_id, top - 60 * PAGE, 1)
    assert [(vma.start, vma.end) for vma in api.vmas(mm_id)] == [(top - 60 * PAGE, top)]
    with refused(CODE.FAILED_PRECONDITION, "EFAULT", limit="stack"):
        api.write(mm_id, top - 65 * PAGE, 1)
    assert api.violations(mm_id) == []
    api.exit(mm_id)


def test_page_tables_are_counted_from_both_sides(api: Api) -> None:
    mm_id = api.create()
    before = api.audit()
    # One page in each of three page tables, in two spaces.
    for i in range(3):
        addr = api.map(mm_id, PAGE, PLACE + (i << 21), prot=PROT_RW)
        api.write(mm_id, addr, i + 1)
    child = api.fork(mm_id).child
    assert api.info(child).page_table_count == api.info(mm_id).page_table_count == 5
    during = api.audit()
    if during.quiescent and before.quiescent:
        assert during.page_table_count == during.reachable_page_table_count
        assert during.page_table_count - before.page_table_count == 10
        assert during.object_count == during.reachable_object_count
    api.exit(child)
    api.exit(mm_id)
    assert api.audit().page_table_count == before.page_table_count

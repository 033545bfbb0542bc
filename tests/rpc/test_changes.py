"""Protect, Remap, Advise and SetBreak over the wire, with the errnos of their refusals."""

from __future__ import annotations

import errno
from collections.abc import Callable

import grpc
import pytest
from forkstorm.v1 import types_pb2

from tests.rpc.calls import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    NO_SPACE,
    PRIVATE_ANONYMOUS,
    PROT_RW,
    Api,
    refused,
)

CODE = grpc.StatusCode
PAGE = 4096
PLACE = 0x10_0000_0000
ELSEWHERE = 0x20_0000_0000
READ, WRITE, EXEC = 1, 2, 4
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4
DONTNEED, DONTFORK, DOFORK, WIPEONFORK = 4, 10, 11, 18
VM_DONTCOPY = 0x20000

Ranges = list[tuple[int, int, int]]


@pytest.fixture
def mapped(api: Api, space: int) -> int:
    """Eight pages of private anonymous memory, rw, at PLACE."""
    api.map(space, 8 * PAGE, PLACE, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    return space


def ranges(api: Api, mm_id: int, flags: int = READ | WRITE | EXEC) -> Ranges:
    """Every VMA as its first page and page behind it, counted from PLACE, and these flags."""
    return [
        ((vma.start - PLACE) // PAGE, (vma.end - PLACE) // PAGE, vma.vm_flags & flags)
        for vma in api.vmas(mm_id)
    ]


def test_protect_splits_and_merges(api: Api, mapped: int) -> None:
    assert api.protect(mapped, PLACE + 2 * PAGE, PAGE, READ).timing.core_ns > 0
    assert ranges(api, mapped) == [(0, 2, 3), (2, 3, 1), (3, 8, 3)]
    api.protect(mapped, PLACE + 3 * PAGE, PAGE, READ)
    api.protect(mapped, PLACE + 2 * PAGE, 2 * PAGE, PROT_RW)
    # Nobody wrote to it: what lost its charge with WRITE got it back, and is one VMA again.
    assert ranges(api, mapped) == [(0, 8, 3)]


def test_what_precedes_a_refusal_stays_changed(api: Api, mapped: int) -> None:
    api.unmap(mapped, PLACE + 4 * PAGE, PAGE)
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", errno="12"):
        api.protect(mapped, PLACE + 2 * PAGE, 6 * PAGE, READ)
    assert ranges(api, mapped) == [(0, 2, 3), (2, 4, 1), (5, 8, 3)]
    # madvise reaches the VMAs behind a hole too, before it says so.
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", errno="12"):
        api.advise(mapped, PLACE, 8 * PAGE, DONTFORK)
    flags = [vma.vm_flags & VM_DONTCOPY for vma in api.vmas(mapped)]
    assert flags == [VM_DONTCOPY] * 3
    assert api.violations(mapped) == []


def test_advise_decides_what_a_fork_copies(api: Api, mapped: int) -> None:
    api.advise(mapped, PLACE + PAGE, PAGE, DONTFORK)
    api.advise(mapped, PLACE + 3 * PAGE, PAGE, WIPEONFORK)
    child = api.fork(mapped).child
    assert ranges(api, child, 0) == [(0, 1, 0), (2, 3, 0), (3, 4, 0), (4, 8, 0)]
    api.exit(child)
    api.advise(mapped, PLACE, 2 * PAGE, DOFORK)
    assert ranges(api, mapped, 0) == [(0, 3, 0), (3, 4, 0), (4, 8, 0)]


def test_remap_grows_shrinks_and_moves(api: Api, mapped: int) -> None:
    assert api.remap(mapped, PLACE, 8 * PAGE, 10 * PAGE) == PLACE
    assert ranges(api, mapped) == [(0, 10, 3)]
    assert api.remap(mapped, PLACE, 10 * PAGE, 4 * PAGE) == PLACE
    assert ranges(api, mapped) == [(0, 4, 3)]
    assert api.remap(mapped, PLACE, PAGE, PAGE, MAYMOVE | FIXED, ELSEWHERE) == ELSEWHERE
    assert [vma.start for vma in api.vmas(mapped)] == [PLACE + PAGE, ELSEWHERE]
    api.map(mapped, PAGE, ELSEWHERE + PAGE, prot=READ, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    moved = api.remap(mapped, ELSEWHERE, PAGE, 2 * PAGE, MAYMOVE)
    assert moved not in (PLACE, ELSEWHERE)
    assert [v.end - v.start for v in api.vmas(mapped) if v.start == moved] == [2 * PAGE]
    kept = api.remap(mapped, moved, 2 * PAGE, 2 * PAGE, MAYMOVE | DONTUNMAP)
    assert kept != moved
    assert api.info(mapped).total_vm_pages == 3 + 1 + 2 + 2


def test_an_old_length_of_0_maps_shared_pages_twice(api: Api, space: int) -> None:
    addr = api.map(space, PAGE, flags=MAP_SHARED | MAP_ANONYMOUS)
    api.write(space, addr, 77)
    again = api.remap(space, addr, 0, PAGE, MAYMOVE)
    assert again != addr
    assert api.touch(space, again) == 77


def test_the_break_moves_by_bytes_and_never_fails(api: Api) -> None:
    start, first = 0x5555_0000_0123, 0x5555_0000_1000
    mm_id = api.create(parameters={"start_brk": start})
    assert api.set_break(mm_id) == start
    assert api.set_break(mm_id, start + 3 * PAGE) == start + 3 * PAGE
    (heap,) = api.vmas(mm_id)
    assert (heap.start, heap.end, heap.name) == (first, first + 3 * PAGE, b"[heap]")
    assert api.set_break(mm_id, first + 1) == first + 1
    assert api.info(mm_id).brk == first + 1
    assert api.info(mm_id).total_vm_pages == 1
    # Refused: below the start, and beyond the task.
    assert api.set_break(mm_id, start - 1) == first + 1
    assert api.set_break(mm_id, (1 << 64) - 1) == first + 1
    api.exit(mm_id)


Change = Callable[[Api, int], object]

# What is refused in a space with eight pages, rw, at PLACE.
REFUSALS: list[tuple[Change, str, grpc.StatusCode]] = [
    (lambda api, mm: api.protect(mm, PLACE + 1, PAGE, READ), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.protect(mm, PLACE, PAGE, 0x10), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.protect(mm, PLACE, PAGE, 1 << 40), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.protect(mm, PLACE, PAGE, 0x0300_0001), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.protect(mm, ELSEWHERE, PAGE, READ), "ENOMEM", CODE.RESOURCE_EXHAUSTED),
    (lambda api, mm: api.protect(mm, PLACE, -PLACE % 2**64, 1), "ENOMEM", CODE.RESOURCE_EXHAUSTED),
    (lambda api, mm: api.advise(mm, PLACE, PAGE, 999), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.advise(mm, PLACE, PAGE, 2**32 - 1), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.advise(mm, PLACE + 1, PAGE, DONTFORK), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.advise(mm, ELSEWHERE, PAGE, 10), "ENOMEM", CODE.RESOURCE_EXHAUSTED),
    (lambda api, mm: api.remap(mm, PLACE, PAGE, PAGE, 8), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.remap(mm, PLACE, PAGE, PAGE, 1 << 40), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.remap(mm, PLACE, PAGE, 0), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.remap(mm, PLACE, 0, PAGE, MAYMOVE), "EINVAL", CODE.INVALID_ARGUMENT),
    (lambda api, mm: api.remap(mm, ELSEWHERE, PAGE, PAGE), "EFAULT", CODE.FAILED_PRECONDITION),
    (lambda api, mm: api.remap(mm, PLACE, PAGE, 2 * PAGE), "ENOMEM", CODE.RESOURCE_EXHAUSTED),
    (lambda api, mm: api.touch(mm, ELSEWHERE), "EFAULT", CODE.FAILED_PRECONDITION),
]


@pytest.mark.parametrize(("change", "reason", "code"), REFUSALS)
def test_errnos(api: Api, mapped: int, change: Change, reason: str, code: grpc.StatusCode) -> None:
    before = api.vmas(mapped)
    with refused(code, reason, errno=str(getattr(errno, reason))):
        change(api, mapped)
    assert api.vmas(mapped) == before


def test_writing_to_a_file_that_is_open_for_reading(api: Api, space: int) -> None:
    file = types_pb2.File(path=b"/ro", access=types_pb2.FILE_ACCESS_READ_ONLY)
    addr = api.map(space, PAGE, prot=READ, flags=MAP_SHARED, file=file)
    with refused(CODE.PERMISSION_DENIED, "EACCES", errno="13"):
        api.protect(space, addr, PAGE, PROT_RW)


def test_a_refused_split_names_its_limit(api: Api) -> None:
    mm_id = api.create(parameters={"max_map_count": 2})
    for addr in (PLACE, PLACE + 16 * PAGE):
        api.map(mm_id, 8 * PAGE, addr, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="max_map_count"):
        api.protect(mm_id, PLACE + PAGE, PAGE, READ)
    with refused(CODE.RESOURCE_EXHAUSTED, "EAGAIN", errno="11", limit="max_map_count"):
        api.advise(mm_id, PLACE + PAGE, PAGE, DONTFORK)
    api.exit(mm_id)


def test_nothing_below_mmap_min_addr_but_for_the_privileged(api: Api) -> None:
    for privileged in (False, True):
        mm_id = api.create(parameters={"mmap_min_addr": 1 << 16, "privileged": privileged})
        if privileged:
            assert api.map(mm_id, PAGE, 0, flags=PRIVATE_ANONYMOUS | MAP_FIXED) == 0
        else:
            with refused(CODE.PERMISSION_DENIED, "EPERM", errno="1"):
                api.map(mm_id, PAGE, 0, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
        api.exit(mm_id)


@pytest.mark.parametrize("aligned", [True, False])
def test_alignment_can_be_switched_off(api: Api, aligned: bool) -> None:
    mm_id = api.create(parameters={"thp_alignment": aligned, "mmap_base": 0x7FFF_F7FF_F000})
    addr = api.map(mm_id, 2 << 20)
    assert (addr % (2 << 20) == 0) is aligned
    api.exit(mm_id)


@pytest.mark.parametrize(
    ("file", "aligned"),
    [
        (types_pb2.File(path=b"/ext4"), True),
        (types_pb2.File(path=b"/ext4", thp_aligned=True), True),
        (types_pb2.File(path=b"/tmpfs", thp_aligned=False), False),
    ],
)
def test_a_file_system_may_ask_for_alignment(
    api: Api, space: int, file: types_pb2.File, aligned: bool
) -> None:
    addr = api.map(space, 4 << 20, prot=READ, flags=MAP_PRIVATE, file=file)
    assert (addr % (2 << 20) == 0) is aligned


def test_a_family_shares_its_commit_limit(api: Api) -> None:
    mm_id = api.create(parameters={"overcommit": 2, "commit_limit_pages": 20})
    api.map(mm_id, 8 * PAGE)
    assert (api.info(mm_id).charged_pages, api.info(mm_id).committed_pages) == (8, 8)
    child = api.fork(mm_id).child
    assert api.info(child).committed_pages == api.info(mm_id).committed_pages == 16
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="commit"):
        api.map(child, 8 * PAGE)
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="commit", fault_site="COMMIT_LIMIT"):
        api.fork(mm_id)
    # Mode 2 knows no NORESERVE.
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="commit"):
        api.map(child, 8 * PAGE, flags=PRIVATE_ANONYMOUS | MAP_NORESERVE)
    api.exit(child)
    assert api.info(mm_id).committed_pages == 8
    api.map(mm_id, 11 * PAGE)
    api.exit(mm_id)


def test_every_change_knows_stale_ids(api: Api) -> None:
    for change in (
        lambda: api.protect(NO_SPACE, PLACE, PAGE, READ),
        lambda: api.remap(NO_SPACE, PLACE, PAGE, PAGE),
        lambda: api.advise(NO_SPACE, PLACE, PAGE, DONTFORK),
        lambda: api.set_break(NO_SPACE),
        lambda: api.touch(NO_SPACE, PLACE),
    ):
        with refused(CODE.NOT_FOUND, "NO_SUCH_SPACE", field="mm_id"):
            change()

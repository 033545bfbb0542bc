"""Map, Unmap, FindVma and FindGap over the wire, with the errno of every kind of refusal."""

from __future__ import annotations

import errno

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from tests.rpc.calls import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    MAP_SHARED,
    NO_SPACE,
    PRIVATE_ANONYMOUS,
    TREE_DUP,
    Api,
    refused,
    request_id,
)

MMAP_BASE = 0x7FFF_F7FF_F000
MAP_SHARED_VALIDATE = 0x3
CODE = grpc.StatusCode
LIBRARY = types_pb2.File(path=b"/lib/x.so", dev_major=8, dev_minor=1, inode=77)


def test_top_down_placement_and_merging(api: Api, space: int) -> None:
    first = api.map(space, 0x2000)
    assert first == MMAP_BASE - 0x2000
    assert api.map(space, 0x1000) == first - 0x1000
    assert [(v.start, v.end) for v in api.vmas(space)] == [(first - 0x1000, MMAP_BASE)]
    api.unmap(space, first, 0x1000)
    assert [(v.start, v.end) for v in api.vmas(space)] == [
        (first - 0x1000, first),
        (first + 0x1000, MMAP_BASE),
    ]
    assert api.map(space, 0x1000, addr=first) == first
    assert len(api.vmas(space)) == 1


def test_a_file_mapping_shows_its_file(api: Api, space: int) -> None:
    addr = api.map(space, 0x3000, prot=1, flags=MAP_PRIVATE, file=LIBRARY, offset_bytes=0x1000)
    (vma,) = api.vmas(space)
    assert (vma.name, vma.dev_major, vma.dev_minor, vma.inode) == (b"/lib/x.so", 8, 1, 77)
    assert vma.offset_bytes == 0x1000
    found = api.spaces.FindVma(pb.FindVmaRequest(mm_id=space, addr=addr + 0x1000))
    assert found.vma == vma


def test_another_open_file_does_not_merge(api: Api, space: int) -> None:
    upper = api.map(space, 0x1000, prot=1, flags=MAP_SHARED, file=LIBRARY, offset_bytes=0x1000)
    other = types_pb2.File()
    other.CopyFrom(LIBRARY)
    other.open_id = 1
    api.map(space, 0x1000, prot=1, flags=MAP_SHARED, file=other)
    assert len(api.vmas(space)) == 2
    api.map(space, 0x1000, upper - 0x1000, prot=1, flags=MAP_SHARED | MAP_FIXED, file=LIBRARY)
    assert [v.start for v in api.vmas(space)] == [upper - 0x1000]


def test_shared_anonymous_memory_never_merges(api: Api, space: int) -> None:
    for _ in range(2):
        api.map(space, flags=MAP_SHARED | MAP_ANONYMOUS)
    assert [v.name for v in api.vmas(space)] == [b"/dev/zero (deleted)"] * 2


# Errnos that a request of these fields gets in a space with [0x10000, 0x13000) mapped.
REFUSALS = [
    ({"length_bytes": 0}, "EINVAL", CODE.INVALID_ARGUMENT, "length_bytes"),
    ({"flags": MAP_ANONYMOUS}, "EINVAL", CODE.INVALID_ARGUMENT, "flags"),
    (
        {"addr": 0x10001, "flags": PRIVATE_ANONYMOUS | MAP_FIXED},
        "EINVAL",
        CODE.INVALID_ARGUMENT,
        "addr",
    ),
    ({"flags": MAP_PRIVATE}, "EBADF", CODE.FAILED_PRECONDITION, "file"),
    (
        {"flags": MAP_PRIVATE, "file": LIBRARY, "offset_bytes": 100},
        "EINVAL",
        CODE.INVALID_ARGUMENT,
        "offset_bytes",
    ),
    (
        {
            "flags": MAP_PRIVATE,
            "file": LIBRARY,
            "offset_bytes": 0x7FFF_FFFF_FFFF_F000,
            "length_bytes": 8192,
        },
        "EOVERFLOW",
        CODE.INVALID_ARGUMENT,
        "offset_bytes",
    ),
    (
        {"addr": 0x11000, "flags": PRIVATE_ANONYMOUS | MAP_FIXED_NOREPLACE},
        "EEXIST",
        CODE.ALREADY_EXISTS,
        "addr",
    ),
    ({"addr": 0, "flags": PRIVATE_ANONYMOUS | MAP_FIXED}, "EPERM", CODE.PERMISSION_DENIED, "addr"),
    (
        {
            "flags": MAP_SHARED,
            "file": types_pb2.File(path=b"/ro", access=types_pb2.FILE_ACCESS_READ_ONLY),
        },
        "EACCES",
        CODE.PERMISSION_DENIED,
        None,
    ),
    (
        {"flags": MAP_SHARED_VALIDATE | MAP_FIXED_NOREPLACE, "addr": 0x40000, "file": LIBRARY},
        "EOPNOTSUPP",
        CODE.FAILED_PRECONDITION,
        "flags",
    ),
    ({"length_bytes": 1 << 60}, "ENOMEM", CODE.RESOURCE_EXHAUSTED, "length_bytes"),
]


@pytest.mark.parametrize(("fields", "reason", "code", "field"), REFUSALS)
def test_errnos_of_map(
    api: Api,
    space: int,
    fields: dict[str, object],
    reason: str,
    code: grpc.StatusCode,
    field: str | None,
) -> None:
    api.map(space, 0x3000, addr=0x10000, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    before = api.vmas(space), api.info(space).version
    with refused(code, reason, errno=str(getattr(errno, reason))) as told:
        api.map(space, **fields)  # type: ignore[arg-type]
    if field is not None:
        assert told.metadata["field"] == field
    assert (api.vmas(space), api.info(space).version) == before


@pytest.mark.parametrize(
    ("addr", "length"), [(0x10001, 4096), (0x10000, 0), (1 << 62, 4096), (0x10000, 1 << 62)]
)
def test_errnos_of_unmap(api: Api, space: int, addr: int, length: int) -> None:
    with refused(CODE.INVALID_ARGUMENT, "EINVAL", errno="22"):
        api.unmap(space, addr, length)


def test_unmapping_nothing_is_fine(api: Api, space: int) -> None:
    assert api.unmap(space, 0x10000, 0x1000).timing.core_ns > 0


def test_limits_are_named(api: Api) -> None:
    mm_id = api.create(parameters={"max_map_count": 2, "task_size": 1 << 30, "mmap_base": 1 << 24})
    for addr in (0x10000, 0x20000, 0x30000):
        api.map(mm_id, addr=addr)
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="max_map_count"):
        api.map(mm_id, addr=0x40000)
    api.exit(mm_id)
    mm_id = api.create(parameters={"task_size": 1 << 20})
    api.map(mm_id, (1 << 20) - 0x2000)
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="placement"):
        api.map(mm_id, 0x10000)
    api.exit(mm_id)
    mm_id = api.create()
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="commit"):
        api.map(mm_id, 1 << 45)
    api.exit(mm_id)


def test_bad_files_are_named(api: Api, space: int) -> None:
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="file.access"):
        api.map(space, flags=MAP_PRIVATE, file=types_pb2.File(access=17))  # type: ignore[arg-type]
    for path in (b"/a\0b", b"/" * 4097):
        with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="file.path"):
            api.map(space, flags=MAP_PRIVATE, file=types_pb2.File(path=path))


def test_a_file_is_ignored_with_map_anonymous(api: Api, space: int) -> None:
    api.map(space, file=LIBRARY)
    assert [v.name for v in api.vmas(space)] == [b""]


def test_find_vma_and_gap(api: Api, space: int) -> None:
    for addr in (0x10000, 0x20000):
        api.map(space, 0x1000, addr=addr)

    def find(addr: int) -> pb.FindVmaResponse:
        answer: pb.FindVmaResponse = api.spaces.FindVma(pb.FindVmaRequest(mm_id=space, addr=addr))
        return answer

    assert find(0).vma.start == 0x10000
    assert find(0x10FFF).vma.start == 0x10000
    assert find(0x11000).vma.start == 0x20000
    assert not find(0x21000).HasField("vma")
    assert find(0).timing.server_ns > 0

    def gap(**fields: object) -> int:
        request = pb.FindGapRequest(mm_id=space, **fields)  # type: ignore[arg-type]
        answer: pb.FindGapResponse = api.spaces.FindGap(request)
        return answer.addr

    assert gap(length_bytes=0x1000) == MMAP_BASE - 0x1000
    assert gap(length_bytes=0x1000, bottom_up=True) == 0x1000
    assert gap(length_bytes=0xF000, bottom_up=True, low=0x2000) == 0x11000
    assert gap(length_bytes=0x1000, high=0x20000) == 0x1F000
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="placement"):
        gap(length_bytes=0x1000, low=0x10000, high=0x11000)
    with refused(CODE.INVALID_ARGUMENT, "EINVAL", field="length_bytes"):
        gap(length_bytes=0)


def test_every_call_on_a_space_knows_stale_ids(api: Api) -> None:
    calls = (
        lambda: api.map(NO_SPACE),
        lambda: api.unmap(NO_SPACE, 0x1000, 0x1000),
        lambda: api.spaces.FindVma(pb.FindVmaRequest(mm_id=NO_SPACE)),
        lambda: api.spaces.FindGap(pb.FindGapRequest(mm_id=NO_SPACE, length_bytes=4096)),
        lambda: list(api.spaces.StreamVmas(pb.StreamVmasRequest(mm_id=NO_SPACE))),
        lambda: list(
            api.spaces.RepeatFork(
                pb.RepeatForkRequest(mm_id=NO_SPACE, strategies=[TREE_DUP], forks_per_strategy=1)
            )
        ),
        lambda: api.spaces.GetAddressSpace(pb.GetAddressSpaceRequest(mm_id=NO_SPACE)),
        lambda: api.spaces.Exit(pb.ExitRequest(request_id=request_id(), mm_id=NO_SPACE)),
    )
    for call in calls:
        with refused(CODE.NOT_FOUND, "NO_SUCH_SPACE", field="mm_id"):
            call()

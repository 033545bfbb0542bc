"""Maps and smaps text over the wire: round trips, streams, and what malformed text gets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from tests.rpc.calls import MAP_FIXED, PRIVATE_ANONYMOUS, Api, refused, request_id
from tests.rpc.texts import many_vmas

LAYOUTS = sorted((Path(__file__).parents[2] / "loadtest" / "layouts").glob("*.maps"))
CODE = grpc.StatusCode
MMAP_BASE = 0x7FFF_F7FF_F000


def import_text(api: Api, text: bytes, size: int, **settings: object) -> int:
    def pieces() -> Iterator[pb.ImportAddressSpaceRequest]:
        create = pb.CreateAddressSpaceRequest(request_id=request_id(), **settings)  # type: ignore[arg-type]
        yield pb.ImportAddressSpaceRequest(create=create)
        for at in range(0, len(text), size):
            yield pb.ImportAddressSpaceRequest(maps_text=text[at : at + size])

    answer: pb.ImportAddressSpaceResponse = api.spaces.ImportAddressSpace(pieces())
    return answer.mm_id


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_real_maps_round_trip(api: Api, path: Path) -> None:
    text = path.read_bytes()
    mm_id = api.create(text)
    child = api.fork(mm_id).child
    assert api.maps_text(mm_id) == text
    assert api.maps_text(child) == text
    for space in (mm_id, child):
        api.exit(space)


def test_this_process_round_trips_from_maps_and_smaps(api: Api) -> None:
    maps, smaps = (Path(f"/proc/self/{name}").read_bytes() for name in ("maps", "smaps"))
    mm_id = api.create(maps)
    assert api.maps_text(mm_id) == maps
    api.exit(mm_id)
    headers = b"".join(line + b"\n" for line in smaps.splitlines() if b"-" in line.split(b" ")[0])
    mm_id = import_text(api, smaps, 1000)
    assert api.maps_text(mm_id) == headers
    libraries = [v for v in api.vmas(mm_id) if v.name.endswith(b".so")]
    assert libraries
    api.exit(mm_id)


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_pieces_may_be_cut_anywhere(api: Api, size: int) -> None:
    text = LAYOUTS[0].read_bytes()
    mm_id = import_text(api, text, size)
    assert api.maps_text(mm_id) == text
    api.exit(mm_id)


def test_more_text_than_a_message_holds(api: Api) -> None:
    text = many_vmas(120_000)
    assert len(text) > 4 << 20
    with pytest.raises(grpc.RpcError) as caught:
        api.create(text)
    assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
    mm_id = import_text(api, text, 1 << 20)
    assert api.info(mm_id).vma_count == 120_000
    vmas = api.vmas(mm_id)
    assert (vmas[0].start, vmas[-1].end) == (0x1000_0000, 0x1000_0000 + 0x2000 * 119_999 + 0x1000)
    api.exit(mm_id)


def test_execute_only_memory_of_a_layout_has_its_key(api: Api) -> None:
    text = b"10000-12000 --xp 00000000 00:00 0\n20000-22000 r-xp 00000000 00:00 0\n"
    for keys in (False, True):
        mm_id = api.create(text, parameters={"protection_keys": keys})
        assert [vma.vm_flags >> 32 for vma in api.vmas(mm_id)] == [keys, 0]
        # What is mapped beside it merges.
        api.map(mm_id, 0x1000, 0x12000, 4, PRIVATE_ANONYMOUS | MAP_FIXED)
        assert [vma.end for vma in api.vmas(mm_id)] == [0x13000, 0x22000]
        api.exit(mm_id)


def test_vm_flags_of_smaps(api: Api) -> None:
    text = (
        b"10000-11000 r--s 00000000 08:01 5                       /data\n"
        b"Size:                  4 kB\n"
        b"VmFlags: rd mr me ms sr nh \n"
    )
    mm_id = api.create(text)
    (vma,) = api.vmas(mm_id)
    assert vma.vm_flags == 0x1 | 0x10 | 0x40 | 0x80 | 0x8000 | 0x4000_0000
    api.exit(mm_id)


def test_flags_that_maps_makes_likely(api: Api) -> None:
    text = (
        b"10000-11000 rw-p 00000000 00:00 0 \n"
        b"20000-21000 r--s 00000000 08:01 5                       /data\n"
        b"30000-31000 rw-s 00000000 08:01 5                       /data\n"
        b"40000-41000 ---p 00000000 00:00 0 \n"
        b"7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]\n"
    )
    mm_id = api.create(text)
    flags = [vma.vm_flags for vma in api.vmas(mm_id)]
    assert flags == [0x100073, 0xF9, 0xFB, 0x70, 0x100173]
    api.exit(mm_id)


def test_new_mappings_go_where_the_process_would_have_put_them(api: Api) -> None:
    bash = next(path for path in LAYOUTS if path.stem == "bash").read_bytes()
    mm_id = api.create(bash)
    ends = [vma.end for vma in api.vmas(mm_id) if vma.name != b"[stack]" and vma.end < 1 << 47]
    assert api.info(mm_id).parameters.mmap_base == max(ends)
    heap = next(vma for vma in api.vmas(mm_id) if vma.name == b"[heap]")
    info = api.info(mm_id)
    assert (info.parameters.start_brk, info.brk) == (heap.start, heap.end)
    addr = api.map(mm_id, 0x10_0000)
    assert addr + 0x10_0000 <= max(ends)
    assert api.info(mm_id).parameters.task_size == 0x7FFF_FFFF_F000
    api.exit(mm_id)


def test_what_the_caller_says_counts_more_than_the_text(api: Api) -> None:
    mm_id = api.create(
        b"10000-20000 rw-p 00000000 00:00 0                          [heap]\n"
        b"7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n",
        parameters={"mmap_base": 1 << 40, "start_brk": 0x8000},
    )
    info = api.info(mm_id)
    assert (info.parameters.mmap_base, info.parameters.start_brk, info.brk) == (
        1 << 40,
        0x8000,
        0x20000,
    )
    api.exit(mm_id)


def test_a_program_without_mappings_keeps_linux_s_mmap_base(api: Api) -> None:
    mm_id = api.create(b"400000-401000 r-xp 00000000 08:01 9                       /static\n")
    assert api.info(mm_id).parameters.mmap_base == MMAP_BASE
    api.exit(mm_id)


def test_odd_names_round_trip(api: Api) -> None:
    def line(start: int, name: bytes, rest: bytes = b"00:00 0 ") -> bytes:
        head = b"%08x-%08x rw-p 00000000 %s" % (start, start + 0x1000, rest)
        return head.ljust(73) + name + b"\n" if name else head + b"\n"

    text = b"".join(
        [
            line(0x10000, b"[heap]"),
            line(0x11000, b"[heap]"),
            line(0x13000, b""),
            # Beyond nameless memory this is no part of the heap's range any more.
            line(0x15000, b"[heap]"),
            line(0x20000, b"[anon:worker 1]"),
            line(0x30000, b"/a b\\012c (deleted)", b"08:01 7 "),
            line(0x31000, b"/with \xff bytes", b"08:01 8 "),
            line(0x40000, b"[stack]"),
            line(0x50000, b"[stack]"),
            line(0x60000, b"", b"08:01 9 "),
            line(0xFFFF_FFFF_FF60_0000, b"[vsyscall]"),
        ]
    )
    mm_id = api.create(text)
    assert api.maps_text(mm_id) == text
    names = [vma.name for vma in api.vmas(mm_id)]
    assert b"/a b\nc (deleted)" in names
    child = api.fork(mm_id).child
    assert api.maps_text(child) == text
    api.exit(mm_id)
    api.exit(child)


def test_an_imported_file_is_the_same_file_as_a_mapped_one(api: Api) -> None:
    mm_id = api.create(b"10000-11000 r--p 00000000 08:01 5                               /data\n")
    file = types_pb2.File(path=b"/data", dev_major=8, dev_minor=1, inode=5)
    api.map(mm_id, addr=0x11000, prot=1, flags=0x2 | MAP_FIXED, file=file, offset_bytes=0x1000)
    assert [(v.start, v.end) for v in api.vmas(mm_id)] == [(0x10000, 0x12000)]
    api.map(mm_id, addr=0x20000, flags=PRIVATE_ANONYMOUS | MAP_FIXED)
    api.exit(mm_id)


GOOD = b"10000-11000 rw-p 00000000 00:00 0 \n"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (b"nonsense\n", 1, "no line"),
        (GOOD + b"20000-21000 rw-p 00000000\n", 2, "no line"),
        (GOOD + b"20000-21000 rw-q 00000000 00:00 0 \n", 2, "no line"),
        (GOOD + b"\n20000-2g000 rw-p 00000000 00:00 0 \n", 3, "no line"),
        (GOOD + b"10800-12000 rw-p 00000000 00:00 0 \n", 2, "aligned"),
        (GOOD + b"20000-21000 rw-p 00000800 00:00 0 \n", 2, "aligned"),
        (GOOD + b"21000-20000 rw-p 00000000 00:00 0 \n", 2, "ends"),
        (GOOD + b"10000-12000 rw-p 00000000 00:00 0 \n", 2, "overlaps"),
        (GOOD + b"08000-09000 rw-p 00000000 00:00 0 \n", 2, "after"),
        (GOOD + b"20000-21000 rw-p 00000000 00:00 99999999999999999999 \n", 2, "inode"),
        (b"VmFlags: rd \n", 1, "before the first"),
        (GOOD + b"VmFlags: rd wr zz \n", 2, "zz"),
        (GOOD + b"VmFlags: rd mr \n", 2, "contradicts"),
        (GOOD + b"x" * 70_000, 2, ""),
    ],
)
def test_malformed_text_names_the_line(api: Api, text: bytes, line: int, says: str) -> None:
    calls: list[Callable[[], int]] = [
        lambda: api.create(text),
        lambda: import_text(api, text, 11),
    ]
    for call in calls:
        with refused(
            CODE.INVALID_ARGUMENT, "MALFORMED_MAPS", line=str(line), field="maps_text"
        ) as told:
            call()
        assert told.detail.startswith(f"line {line}: ")
        assert says in told.detail
        assert told.fields["maps_text"] == told.detail


def test_a_vma_across_task_size(api: Api) -> None:
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="parameters.task_size"):
        api.create(b"10000-12000 rw-p 00000000 00:00 0 \n", parameters={"task_size": 0x11000})


def test_settings_come_first_and_once(api: Api) -> None:
    create = pb.CreateAddressSpaceRequest()
    for messages in (
        [],
        [pb.ImportAddressSpaceRequest(maps_text=GOOD)],
        [pb.ImportAddressSpaceRequest(create=create), pb.ImportAddressSpaceRequest(create=create)],
    ):
        with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="create"):
            api.spaces.ImportAddressSpace(iter(messages))


def test_an_import_that_breaks_off_makes_nothing(api: Api) -> None:
    labels = {"import": request_id()}

    def pieces() -> Iterator[pb.ImportAddressSpaceRequest]:
        yield pb.ImportAddressSpaceRequest(create=pb.CreateAddressSpaceRequest(labels=labels))
        yield pb.ImportAddressSpaceRequest(maps_text=GOOD)
        raise OSError("the sender fails")

    for _ in range(20):
        with pytest.raises(grpc.RpcError):
            api.spaces.ImportAddressSpace(pieces())
    time.sleep(0.1)
    assert not api.page(labels=labels).address_spaces


@pytest.mark.parametrize(
    ("device", "name", "aligned"),
    [(b"fe:00", b"/usr/lib/x.so", True), (b"00:01", b"/memfd:x (deleted)", False)],
)
def test_files_are_placed_as_their_devices_tell(
    api: Api, device: bytes, name: bytes, aligned: bool
) -> None:
    text = b"10000000-10400000 r--s 00000000 %s 7 %s\n" % (device, name)
    mm_id = api.create(text)
    addr = api.remap(mm_id, 0x1000_0000, 0, 4 << 20, 1)
    assert (addr % (2 << 20) == 0) is aligned
    api.exit(mm_id)

"""Batches: what is sent for them, and what is made of the answers."""

import struct
from typing import Any

import pytest
from forkstorm import AddressSpace, Batch, Client, File
from forkstorm.constants import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MREMAP_MAYMOVE
from forkstorm.errors import NoSuchSpace
from forkstorm.v1 import address_spaces_pb2 as pb
from grpc import StatusCode

from tests.client.fake import FakeServer, refuse

MM_ID = 0xFE00000000100007
U64 = (1 << 64) - 1
ANONYMOUS = int(MAP_PRIVATE | MAP_ANONYMOUS)


@pytest.fixture
def space(fake_client: Client) -> AddressSpace:
    return fake_client.get(MM_ID)


def words(data: bytes) -> list[int]:
    return list(struct.unpack(f"<{len(data) // 8}Q", data))


def rows(columns: pb.ApplyColumns) -> list[tuple[int, ...]]:
    """The operations as the server sees them."""
    count = len(columns.kind)
    wide = []
    for i in range(6):
        column = words(getattr(columns, f"arg_{i}"))
        wide.append(column * count if len(column) == 1 else column or [0] * count)
    return list(zip(columns.kind, *wide, strict=True))


def every_operation() -> Batch:
    batch = Batch()
    file = File(path=b"/lib/a.so")
    assert batch.map(8192) == 0
    assert batch.map(4096, 1, addr=0x10000, file=file, offset=4096) == 1
    assert batch.map(4096, flags=int(MAP_SHARED | MAP_FIXED), file=File(path=b"/lib/b.so")) == 2
    assert batch.map(4096, file=File(path=b"/lib/a.so")) == 3
    batch.unmap(0x10000, U64)
    batch.protect(0x20000, 4096, 1)
    batch.advise(0x20000, 4096, -1)
    batch.remap(0x20000, 4096, 8192, int(MREMAP_MAYMOVE), 0x30000)
    batch.set_break()
    batch.touch(0x20000)
    batch.touch(0x20000, "write", U64)
    return batch


def test_every_operation_is_sent(fake: FakeServer, space: AddressSpace) -> None:
    batch = every_operation()
    assert len(batch) == 11
    space.apply(batch, "skip")
    (call,) = fake.of("Apply")
    request = call.request
    assert len(request.request_id) == 36
    assert (request.mm_id, request.on_error) == (MM_ID, pb.APPLY_ON_ERROR_SKIP)
    assert [file.path for file in request.files] == [b"/lib/a.so", b"/lib/b.so"]
    assert rows(request.columns) == [
        (1, 0, 8192, 3, ANONYMOUS, 0, 0),
        (1, 0x10000, 4096, 1, 2, 1, 4096),
        (1, 0, 4096, 3, 0x11, 2, 0),
        (1, 0, 4096, 3, 2, 1, 0),
        (2, 0x10000, U64, 0, 0, 0, 0),
        (3, 0x20000, 4096, 1, 0, 0, 0),
        (4, 0x20000, 4096, 0xFFFF_FFFF, 0, 0, 0),
        (5, 0x20000, 4096, 8192, 1, 0x30000, 0),
        (6, 0, 0, 0, 0, 0, 0),
        (7, 0x20000, 1, 0, 0, 0, 0),
        (7, 0x20000, 2, U64, 0, 0, 0),
    ]


def test_a_batch_may_be_applied_again_and_grow(fake: FakeServer, space: AddressSpace) -> None:
    batch = Batch()
    for i in range(3):
        batch.unmap(4096 * i, 4096)
        space.apply(batch)
    requests = [call.request for call in fake.of("Apply")]
    assert [len(request.columns.kind) for request in requests] == [1, 2, 3]
    assert len({request.request_id for request in requests}) == 3
    assert requests[0].on_error == pb.APPLY_ON_ERROR_STOP
    # A column of one number is sent as one, and of zeros not at all.
    assert requests[2].columns.arg_1 == (4096).to_bytes(8, "little")
    assert requests[2].columns.arg_2 == b""


def test_what_does_not_fit_adds_nothing(space: AddressSpace) -> None:
    batch = Batch()
    for wrong in (-1, 1 << 64):
        with pytest.raises(ValueError, match="64 bits"):
            batch.unmap(wrong, 4096)
        with pytest.raises(ValueError, match="64 bits"):
            batch.map(4096, addr=0, offset=wrong)
    assert len(batch) == 0
    with pytest.raises(ValueError, match="without operations"):
        space.apply(batch)
    batch.unmap(0, 0)
    with pytest.raises(ValueError, match="none of stop, skip"):
        space.apply(batch, "go on")
    with pytest.raises(ValueError, match="acces"):
        batch.touch(0, "execute")


def test_results(fake: FakeServer, space: AddressSpace) -> None:
    answer = struct.pack("<4Q", 0x7000, 0, U64 - 11, U64 - 11)
    fake.answers["Apply"] = lambda *_: pb.ApplyResponse(
        performed_count=4, results=answer, failed=[2], limit="arena", replayed=True
    )
    batch = Batch()
    batch.unmap(0, 4096)
    outcome = space.apply(batch)
    # The last is a page that holds what the one before failed with.
    assert list(outcome.results) == [0x7000, 0, -12, U64 - 11]
    assert outcome.failed == {2: 12}
    assert (outcome.limit, outcome.replayed) == ("arena", True)
    fake.answers["Apply"] = lambda *_: pb.ApplyResponse(performed_count=4, results=answer)
    outcome = space.apply(batch)
    assert (list(outcome.results), outcome.failed) == ([0x7000, 0, U64 - 11, U64 - 11], {})


def test_a_stream_of_batches(fake: FakeServer, space: AddressSpace) -> None:
    def answer(requests: list[Any], context: Any) -> Any:
        for request in requests:
            yield pb.ApplyResponse(results=request.columns.arg_0)
        refuse(context, StatusCode.NOT_FOUND, "NO_SUCH_SPACE")

    fake.answers["ApplyStream"] = answer
    batches = []
    for i in range(1, 4):
        batches.append(Batch())
        batches[-1].unmap(4096 * i, 4096)
    stream = space.apply_stream(batches, "skip")
    assert [list(next(stream).results) for _ in batches] == [[4096], [8192], [12288]]
    with pytest.raises(NoSuchSpace):
        next(stream)
    (call,) = fake.of("ApplyStream")
    assert len({request.request_id for request in call.request}) == 3
    assert {request.on_error for request in call.request} == {pb.APPLY_ON_ERROR_SKIP}

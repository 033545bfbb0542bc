"""Apply and ApplyStream over the wire: columns, results, retries, limits, streams."""

from __future__ import annotations

import errno
import struct
import threading
import time
from collections.abc import Iterator, Sequence

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from tests.rpc.calls import MAP_FIXED, NO_SPACE, PRIVATE_ANONYMOUS, Api, refused, request_id
from tests.serving import running_server

CODE = grpc.StatusCode
PLACE, PAGE = 0x1000_0000, 4096
FIXED = PRIVATE_ANONYMOUS | MAP_FIXED
NOREPLACE = PRIVATE_ANONYMOUS | 0x100000
MAP, UNMAP, PROTECT, ADVISE, REMAP, SET_BREAK, TOUCH = range(1, 8)
STOP, SKIP = pb.APPLY_ON_ERROR_STOP, pb.APPLY_ON_ERROR_SKIP
Operation = tuple[int, ...]


@pytest.fixture(scope="module")
def own() -> Iterator[Api]:
    """A server for batches as large as can be: it grows with them."""
    with running_server(workers=1) as server:
        api = Api(server.endpoints[0])
        yield api
        api.channel.close()


def columns_of(operations: Sequence[Operation]) -> pb.ApplyColumns:
    rows = [(*args, *(0,) * (6 - len(args))) for _, *args in operations]
    packed = [struct.pack(f"<{len(rows)}Q", *column) for column in zip(*rows, strict=True)]
    return pb.ApplyColumns(
        kind=bytes(kind for kind, *_ in operations),
        **{f"arg_{i}": column for i, column in enumerate(packed)},
    )


def request_of(
    mm_id: int,
    operations: Sequence[Operation],
    on_error: pb.ApplyOnError = SKIP,
    files: Sequence[types_pb2.File] = (),
    once: str | None = None,
) -> pb.ApplyRequest:
    """`once`: the request id, unless it is one of its own."""
    return pb.ApplyRequest(
        request_id=request_id() if once is None else once,
        mm_id=mm_id,
        columns=columns_of(operations),
        on_error=on_error,
        files=files,
    )


def results(answer: pb.ApplyResponse) -> list[int]:
    return list(struct.unpack(f"<{answer.performed_count}q", answer.results))


def maps_of(count: int) -> list[Operation]:
    return [(MAP, PLACE + 2 * i * PAGE, PAGE, 3, FIXED) for i in range(count)]


def test_every_kind_of_operation(api: Api) -> None:
    mm_id = api.create(parameters={"start_brk": 0x5555_0000_0000})
    answer = api.spaces.Apply(
        request_of(
            mm_id,
            [
                (MAP, PLACE, 4 * PAGE, 3, FIXED),
                (TOUCH, PLACE, types_pb2.TOUCH_ACCESS_WRITE, 7),
                (TOUCH, PLACE, types_pb2.TOUCH_ACCESS_READ),
                (PROTECT, PLACE + PAGE, PAGE, 1),
                (ADVISE, PLACE + 2 * PAGE, PAGE, 10),
                (REMAP, PLACE + 3 * PAGE, PAGE, 2 * PAGE, 0),
                (SET_BREAK, 0x5555_0000_1000),
                (UNMAP, PLACE, PAGE),
                (UNMAP, PLACE + 1, PAGE),
            ],
        )
    )
    assert results(answer) == [PLACE, 7, 7, 0, 0, PLACE + 3 * PAGE, 0x5555_0000_1000, 0, -22]
    assert (answer.performed_count, list(answer.failed), answer.limit) == (9, [8], "")
    assert answer.timing.core_ns > 0
    assert answer.timing.server_ns > answer.timing.core_ns
    assert not answer.replayed
    assert api.info(mm_id).vma_count == 4
    assert api.info(mm_id).version == 2
    assert api.violations(mm_id) == []
    api.exit(mm_id)


def test_files_of_a_batch(api: Api, space: int) -> None:
    files = [types_pb2.File(path=b"/lib/a.so", inode=1), types_pb2.File(path=b"/lib/b.so", inode=2)]
    operations = [
        (MAP, PLACE, PAGE, 1, 0x12, 2, PAGE),
        (MAP, PLACE + PAGE, PAGE, 1, 0x12, 1, 0),
        (MAP, PLACE + 2 * PAGE, PAGE, 1, 0x12, 0, 0),
    ]
    answer = api.spaces.Apply(request_of(space, operations, files=files))
    assert results(answer) == [PLACE, PLACE + PAGE, -errno.EBADF]
    assert [(vma.name, vma.offset_bytes) for vma in api.vmas(space)] == [
        (b"/lib/b.so", PAGE),
        (b"/lib/a.so", 0),
    ]
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="columns.kind"):
        api.spaces.Apply(request_of(space, [(MAP, PLACE, PAGE, 1, 0x12, 3)] * 2, files=files))
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="files"):
        api.spaces.Apply(request_of(space, operations[:1], files=files))
    bad = types_pb2.File(path=b"/\0")
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="files.path"):
        api.spaces.Apply(request_of(space, operations, files=[bad]))


def test_stop_and_skip(api: Api, space: int) -> None:
    operations = [*maps_of(1), (MAP, PLACE, PAGE, 3, NOREPLACE), *maps_of(2)]
    for mode in (pb.APPLY_ON_ERROR_UNSPECIFIED, STOP):
        answer = api.spaces.Apply(request_of(space, operations, mode))
        assert results(answer) == [PLACE, -errno.EEXIST]
        assert list(answer.failed) == [1]
        assert api.info(space).vma_count == 1
    answer = api.spaces.Apply(request_of(space, operations, SKIP))
    assert (answer.performed_count, list(answer.failed)) == (4, [1])
    assert api.info(space).vma_count == 2


def test_a_page_may_hold_what_looks_like_an_errno(api: Api, space: int) -> None:
    value = (1 << 64) - errno.ENOMEM
    operations = [*maps_of(1), (TOUCH, PLACE, 2, value), (TOUCH, 2 * PLACE, 1)]
    answer = api.spaces.Apply(request_of(space, operations))
    assert results(answer) == [PLACE, -errno.ENOMEM, -errno.EFAULT]
    assert list(answer.failed) == [2]


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({}, "columns.kind"),
        ({"kind": b"\0"}, "columns.kind"),
        ({"kind": b"\x01\x08"}, "columns.kind"),
        ({"kind": b"\x02\x02", "arg_0": bytes(9)}, "columns.arg_0"),
        ({"kind": b"\x02\x02", "arg_1": bytes(24)}, "columns.arg_1"),
        ({"kind": b"\x02" * 3, "arg_5": bytes(16)}, "columns.arg_5"),
        ({"kind": b"\x07", "arg_1": b"\x03" + bytes(7)}, "columns.kind"),
        ({"kind": b"\x01", "arg_4": b"\x01" + bytes(7)}, "columns.kind"),
    ],
)
def test_malformed_columns(api: Api, space: int, columns: dict[str, bytes], field: str) -> None:
    version = api.info(space).version
    request = pb.ApplyRequest(
        request_id=request_id(), mm_id=space, columns=pb.ApplyColumns(**columns)
    )  # fmt: skip
    for _ in range(2):
        with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field=field):
            api.spaces.Apply(request)
    assert api.info(space).version == version


def test_odd_requests(api: Api, space: int) -> None:
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="on_error"):
        api.spaces.Apply(request_of(space, maps_of(1), 7))  # type: ignore[arg-type]
    with refused(CODE.NOT_FOUND, "NO_SUCH_SPACE"):
        api.spaces.Apply(request_of(NO_SPACE, maps_of(1)))
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="request_id"):
        api.spaces.Apply(request_of(space, maps_of(1), once="x"))
    too_many = pb.ApplyColumns(kind=b"\2" * 65_537)
    with refused(CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", limit="apply_operations"):
        api.spaces.Apply(pb.ApplyRequest(mm_id=space, columns=too_many))
    # Absurd numbers are Linux's affair.
    top = (1 << 64) - 1
    answer = api.spaces.Apply(request_of(space, [(kind, *[top] * 3) for kind in (1, 2, 3, 5, 6)]))
    assert list(answer.failed) == [0, 1, 2, 3]


def test_as_many_operations_as_fit(own: Api) -> None:
    space = own.create()
    operations = [(MAP, PLACE, PAGE, 3, FIXED, 0, 0), (UNMAP, PLACE, PAGE)] * 32_768
    answer = own.spaces.Apply(request_of(space, operations))
    assert answer.performed_count == 65_536
    assert results(answer) == [PLACE, 0] * 32_768
    assert own.info(space).vma_count == 0


def test_a_retry_gets_the_same_results_on_another_worker(workers: list[Api], space: int) -> None:
    first, second = workers
    operations = [*maps_of(1000), (MAP, PLACE, PAGE, 3, NOREPLACE)]
    request = request_of(space, operations)
    answer = first.spaces.Apply(request)
    assert len(answer.results) == 8 * 1001
    version = first.info(space).version
    again = second.spaces.Apply(request)
    assert again.replayed
    again.replayed = False
    assert again == answer
    assert first.info(space).version == version
    # By a stream too.
    streamed = next(second.spaces.ApplyStream(iter([request])))
    assert (streamed.replayed, streamed.results) == (True, answer.results)
    other = request_of(space, operations[:5], once=request.request_id)
    with refused(CODE.FAILED_PRECONDITION, "REQUEST_ID_REUSED", field="request_id"):
        second.spaces.Apply(other)
    with refused(CODE.FAILED_PRECONDITION, "REQUEST_ID_REUSED", field="request_id"):
        changed = pb.ApplyRequest()
        changed.CopyFrom(request)
        changed.on_error = STOP
        second.spaces.Apply(changed)


def test_refused_batches_keep_no_memory(api: Api, space: int) -> None:
    before = api.audit()
    for _ in range(50):
        with refused(CODE.NOT_FOUND, "NO_SUCH_SPACE"):
            api.spaces.Apply(request_of(NO_SPACE, maps_of(1000)))
    after = api.audit()
    assert after.allocated_node_count == before.allocated_node_count
    assert after.allocated_node_count == after.reachable_node_count


def test_old_answers_are_forgotten_for_new_ones() -> None:
    """However many batches come, their answers hold a sixteenth of the arena."""
    with running_server("--arena-bytes", "16MiB", workers=1) as server:
        api = Api(server.endpoints[0])
        mm_id = api.create()
        for _ in range(300):
            api.spaces.Apply(request_of(mm_id, maps_of(1000)))
        audit = api.audit()
        assert audit.allocated_node_count == audit.reachable_node_count
        assert 3000 < audit.allocated_node_count < 4096 + 300
        api.channel.close()


def test_a_full_arena_ends_a_batch() -> None:
    with running_server("--arena-bytes", "4MiB", workers=1) as server:
        api = Api(server.endpoints[0])
        mm_id = api.create()
        answer = api.spaces.Apply(request_of(mm_id, maps_of(60_000), once=""))
        assert (answer.limit, list(answer.failed)) == ("arena", [answer.performed_count - 1])
        assert results(answer)[-1] == -errno.ENOMEM
        assert api.info(mm_id).vma_count == answer.performed_count - 1
        assert api.violations(mm_id) == []
        # With an id there has to be room for the answer before anything happens.
        version = api.info(mm_id).version
        with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="arena"):
            api.spaces.Apply(request_of(mm_id, [(UNMAP, PLACE, PAGE)] * 30_000))
        assert api.info(mm_id).version == version
        api.exit(mm_id)
        assert api.audit().allocated_record_count == 0
        api.channel.close()


def test_a_deadline_takes_a_batch_back(own: Api) -> None:
    """MADV_POPULATE of a GiB takes longer than there is."""
    space = own.create()
    own.map(space, 1 << 30, PLACE, flags=FIXED)
    version = own.info(space).version
    operations = [*maps_of(100), (ADVISE, PLACE, 1 << 30, 23)] * 3
    with pytest.raises(grpc.RpcError) as caught:
        own.spaces.Apply(request_of(space, operations), timeout=0.05)
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    time.sleep(0.2)
    info = own.info(space)
    assert (info.version, info.vma_count, info.touched_page_count) == (version, 1, 0)
    assert own.violations(space) == []


def test_a_stream_answers_in_order(api: Api, space: int) -> None:
    requests = [request_of(space, [(MAP, PLACE + i * PAGE, PAGE, 3, FIXED)]) for i in range(200)]
    answers = list(api.spaces.ApplyStream(iter(requests)))
    assert [results(answer) for answer in answers] == [[PLACE + i * PAGE] for i in range(200)]
    assert all(answer.timing.server_ns > 0 for answer in answers)
    assert api.info(space).version == 201


def test_a_conversation(api: Api, space: int) -> None:
    """Each request is made from the answer before it."""
    places: list[int] = []
    more = threading.Semaphore(1)

    def requests() -> Iterator[pb.ApplyRequest]:
        for _ in range(10):
            more.acquire()
            below = places[-1] - 2 * PAGE if places else PLACE
            yield request_of(space, [(MAP, below, PAGE, 3, FIXED)])

    for answer in api.spaces.ApplyStream(requests()):
        places += results(answer)
        more.release()
    assert places == [PLACE - 2 * i * PAGE for i in range(10)]


def test_an_error_ends_a_stream(api: Api, space: int) -> None:
    requests = [
        request_of(space, maps_of(1)),
        request_of(space, [(MAP, PLACE, PAGE, 3, NOREPLACE)]),
        pb.ApplyRequest(mm_id=space, columns=pb.ApplyColumns(kind=b"\0")),
        request_of(space, maps_of(5)),
    ]
    stream = api.spaces.ApplyStream(iter(requests))
    assert results(next(stream)) == [PLACE]
    assert results(next(stream)) == [-errno.EEXIST]
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="columns.kind"):
        next(stream)
    assert api.info(space).vma_count == 1
    assert list(api.spaces.ApplyStream(iter([]))) == []


def _open_streams(api: Api, mm_id: int, count: int, end: threading.Event) -> list[grpc.Call]:
    def requests() -> Iterator[pb.ApplyRequest]:
        yield request_of(mm_id, maps_of(1))
        end.wait(30)

    streams = [api.spaces.ApplyStream(requests()) for _ in range(count)]
    for stream in streams:
        next(stream)
    return streams


def test_idle_streams_leave_a_thread(api: Api, space: int) -> None:
    end = threading.Event()
    streams = _open_streams(api, space, 3, end)
    with refused(CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", limit="threads"):
        next(api.spaces.ApplyStream(iter([request_of(space, maps_of(1))])))
    api.spaces.Ping(pb.PingRequest(), timeout=5)
    assert api.spaces.Apply(request_of(space, maps_of(3))).performed_count == 3
    for stream in streams:
        stream.cancel()
    end.set()
    assert _soon(lambda: len(list(api.spaces.ApplyStream(iter([request_of(space, maps_of(1))])))))
    _close(_open_streams(api, space, 1, end))


def test_who_does_not_read_holds_up_nobody_else(own: Api) -> None:
    """A stream whose answers are not read stops taking requests."""
    space = own.create()
    made: list[int] = []
    operations = [(UNMAP, PLACE, PAGE)] * 20_000

    def requests() -> Iterator[pb.ApplyRequest]:
        for i in range(1000):
            made.append(i)
            yield request_of(space, operations, once="")

    stream = own.spaces.ApplyStream(requests())
    next(stream)
    seen = -1
    while seen != len(made):
        seen = len(made)
        time.sleep(0.5)
    assert seen < 300
    version = own.info(space).version
    assert version < 300
    own.spaces.Ping(pb.PingRequest(), timeout=5)
    stream.cancel()
    assert own.info(space).version <= version + 1


def _close(streams: list[grpc.Call]) -> None:
    for stream in streams:
        stream.cancel()


def _soon(attempt: object) -> bool:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            return bool(attempt())  # type: ignore[operator]
        except grpc.RpcError:
            time.sleep(0.05)
    return False

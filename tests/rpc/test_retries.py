"""Request ids: a mutation that is retried, here or on another worker, happens once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from tests.rpc.calls import BULK_INSERT, PRIVATE_ANONYMOUS, Api, refused, request_id

CODE = grpc.StatusCode


@pytest.fixture
def labels(api: Api) -> Iterator[dict[str, str]]:
    """Labels of this test only; what has them ends with it."""
    own = {"retry": request_id()}
    yield own
    api.spaces.Exit(pb.ExitRequest(labels=pb.Labels(labels=own)))


def test_a_fork_retried_on_another_worker(
    workers: list[Api], space: int, labels: dict[str, str]
) -> None:
    first, second = workers
    request = pb.ForkRequest(request_id=request_id(), mm_id=space, labels=labels)
    answer = first.spaces.Fork(request)
    assert not answer.replayed
    again = second.spaces.Fork(request)
    assert again.replayed
    again.replayed = False
    assert again == answer
    assert len(first.page(labels=labels).address_spaces) == 1


def test_every_mutation_is_replayed(workers: list[Api], labels: dict[str, str]) -> None:
    first, second = workers
    create = pb.CreateAddressSpaceRequest(
        request_id=request_id(), labels=labels, maps_text=b"10000-11000 rw-p 00000000 00:00 0 \n"
    )
    made = first.spaces.CreateAddressSpace(create)
    assert second.spaces.CreateAddressSpace(create).mm_id == made.mm_id
    mm_id = made.mm_id
    map_ = pb.MapRequest(
        request_id=request_id(), mm_id=mm_id, length_bytes=4096, prot=3, flags=PRIVATE_ANONYMOUS
    )
    addr = first.spaces.Map(map_).addr
    again = second.spaces.Map(map_)
    assert (again.addr, again.replayed) == (addr, True)
    assert first.info(mm_id).vma_count == 2
    unmap = pb.UnmapRequest(request_id=request_id(), mm_id=mm_id, addr=addr, length_bytes=4096)
    first.spaces.Unmap(unmap)
    first.map(mm_id, addr=addr)
    assert second.spaces.Unmap(unmap).replayed
    assert first.info(mm_id).vma_count == 2, "the replay unmapped once more"
    exit_ = pb.ExitRequest(request_id=request_id(), mm_id=mm_id)
    first.spaces.Exit(exit_)
    assert second.spaces.Exit(exit_).exited_count == 1


def test_changes_and_touches_are_replayed(workers: list[Api], labels: dict[str, str]) -> None:
    first, second = workers
    mm_id = first.create(labels=labels, parameters={"start_brk": 0x5555_0000_0000})
    place = 0x10_0000_0000
    first.map(mm_id, 8192, place)

    def twice(name: str, request: Any, undo: Callable[[], object]) -> Any:
        """The call, something that undoes it, the same call at the other worker."""
        request.request_id, request.mm_id = request_id(), mm_id
        answer = getattr(first.spaces, name)(request)
        assert not answer.replayed
        undo()
        version = first.info(mm_id).version
        again = getattr(second.spaces, name)(request)
        assert again.replayed
        assert first.info(mm_id).version == version, f"{name} happened once more"
        again.replayed = False
        assert again == answer
        return answer

    protect = pb.ProtectRequest(addr=place, length_bytes=4096, prot=1)
    twice("Protect", protect, lambda: first.protect(mm_id, place, 8192, 3))
    advise = pb.AdviseRequest(addr=place, length_bytes=4096, advice=10)
    twice("Advise", advise, lambda: first.advise(mm_id, place, 8192, 11))
    grow = pb.RemapRequest(addr=place, old_length_bytes=8192, new_length_bytes=16384)
    assert twice("Remap", grow, lambda: first.unmap(mm_id, place + 8192, 8192)).addr == place
    brk = pb.SetBreakRequest(addr=0x5555_0000_2345)
    assert twice("SetBreak", brk, lambda: first.set_break(mm_id, 0x5555_0000_0000)).brk == brk.addr
    write = pb.TouchRequest(addr=place, access=types_pb2.TOUCH_ACCESS_WRITE, value=5)
    assert twice("Touch", write, lambda: first.write(mm_id, place, 6)).value == 5
    assert first.touch(mm_id, place) == 6


def test_exit_by_labels_is_replayed(workers: list[Api], labels: dict[str, str]) -> None:
    first, second = workers
    for _ in range(3):
        first.create(labels=labels)
    request = pb.ExitRequest(request_id=request_id(), labels=pb.Labels(labels=labels))
    assert first.spaces.Exit(request).exited_count == 3
    late = first.create(labels=labels)
    again = second.spaces.Exit(request)
    assert (again.exited_count, again.replayed) == (3, True)
    assert first.info(late).mm_id == late


def test_an_import_is_replayed_however_its_text_is_cut(
    workers: list[Api], labels: dict[str, str]
) -> None:
    text = b"10000-11000 rw-p 00000000 00:00 0 \n20000-21000 rw-p 00000000 00:00 0 \n"
    settings = pb.CreateAddressSpaceRequest(request_id=request_id(), labels=labels)

    def pieces(size: int, text: bytes = text) -> Iterator[pb.ImportAddressSpaceRequest]:
        yield pb.ImportAddressSpaceRequest(create=settings, maps_text=text[:size])
        for at in range(size, len(text), size):
            yield pb.ImportAddressSpaceRequest(maps_text=text[at : at + size])

    answer = workers[0].spaces.ImportAddressSpace(pieces(7))
    again = workers[1].spaces.ImportAddressSpace(pieces(30))
    assert (again.mm_id, again.vma_count, again.replayed) == (answer.mm_id, 2, True)
    with refused(CODE.FAILED_PRECONDITION, "REQUEST_ID_REUSED", field="request_id"):
        workers[1].spaces.ImportAddressSpace(pieces(30, text[:35]))


def test_an_id_used_for_something_else(workers: list[Api], space: int) -> None:
    first, second = workers
    used = request_id()
    child = first.spaces.Fork(pb.ForkRequest(request_id=used, mm_id=space)).child
    calls: tuple[Callable[[], object], ...] = (
        lambda: second.spaces.Fork(pb.ForkRequest(request_id=used, mm_id=child)),
        lambda: second.spaces.Fork(
            pb.ForkRequest(request_id=used, mm_id=space, strategy=BULK_INSERT)
        ),
        # The very bytes of the fork, as another RPC.
        lambda: second.spaces.Exit(pb.ExitRequest(request_id=used, mm_id=space)),
    )
    for call in calls:
        with refused(CODE.FAILED_PRECONDITION, "REQUEST_ID_REUSED", field="request_id"):
            call()
    assert first.info(space).mm_id == space
    first.exit(child)


def test_errors_are_not_remembered(api: Api, space: int) -> None:
    request = pb.MapRequest(
        request_id=request_id(),
        mm_id=space,
        addr=0x10000,
        length_bytes=4096,
        prot=3,
        flags=PRIVATE_ANONYMOUS | 0x100000,
    )
    addr = api.map(space, addr=0x10000)
    with refused(CODE.ALREADY_EXISTS, "EEXIST"):
        api.spaces.Map(request)
    api.unmap(space, addr, 4096)
    answer = api.spaces.Map(request)
    assert (answer.addr, answer.replayed) == (0x10000, False)


def test_without_an_id_there_is_no_protection(api: Api, space: int) -> None:
    request = pb.ForkRequest(mm_id=space)
    children = {api.spaces.Fork(request).child for _ in range(2)}
    assert len(children) == 2
    for child in children:
        api.exit(child)


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "00000000-0000-0000-0000-000000000000",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        "0a4d9c9e9d5f4a0c8b1d2f3e4a5b6c7d",
        "{0a4d9c9e-9d5f-4a0c-8b1d-2f3e4a5b6c7d}",
        "0a4d9c9e-9d5f-4a0c-0b1d-2f3e4a5b6c7d",
        "0a4d9c9e-9d5f-4a0c-8b1d-2f3e4a5b6c7",
        "0a4d9c9e-9d5f-4a0c-8b1d-2f3e4a5b 6c7",
    ],
)
def test_an_id_that_is_no_uuid4(api: Api, space: int, bad: str) -> None:
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field="request_id"):
        api.spaces.Fork(pb.ForkRequest(request_id=bad, mm_id=space))
    assert api.info(space).mm_id == space


def test_many_attempts_at_once_fork_once(
    workers: list[Api], space: int, labels: dict[str, str]
) -> None:
    for _ in range(20):
        request = pb.ForkRequest(request_id=request_id(), mm_id=space, labels=labels)
        children: list[int] = []
        others: list[str] = []

        def attempt(
            api: Api,
            request: pb.ForkRequest = request,
            children: list[int] = children,
            others: list[str] = others,
        ) -> None:
            try:
                children.append(api.spaces.Fork(request).child)
            except grpc.RpcError as error:
                others.append(error.code().name)

        threads = [threading.Thread(target=attempt, args=(workers[i % 2],)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(children)) == 1
        assert set(others) <= {"ABORTED"}
        workers[0].exit(children[0])
    assert not workers[0].page(labels=labels).address_spaces

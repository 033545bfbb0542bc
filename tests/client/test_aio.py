"""The asyncio twin over real channels."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from forkstorm import Batch, ForkFault, SharedPortWarning, aio
from forkstorm.constants import MADV_DONTFORK, MREMAP_MAYMOVE
from forkstorm.errors import DeadlineExceeded, NoMemory, NoSuchSpace, Unavailable
from forkstorm.messages import IMPORT_PIECE_BYTES
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from tests.client.fake import FakeServer, refuse
from tests.client.test_calls import chunk
from tests.client.test_connection import closed_port, fails_first, workers_of

Scenario = Callable[[aio.Client], Awaitable[None]]


def play(fake: FakeServer, scenario: Scenario, **options: Any) -> None:
    """Runs a scenario with a client of the fake server, in a loop of its own."""

    async def run() -> None:
        async with await aio.connect(fake.address, **options) as client:
            fake.calls.clear()
            await asyncio.wait_for(scenario(client), 20)

    asyncio.run(run())


def test_fork_map_exit(fake: FakeServer) -> None:
    fake.answers["CreateAddressSpace"] = lambda *_: pb.CreateAddressSpaceResponse(mm_id=1)
    fake.answers["Fork"] = lambda *_: pb.ForkResponse(child=2, strategy=1)  # type: ignore[arg-type]
    fake.answers["Map"] = lambda *_: pb.MapResponse(addr=4096)
    fake.answers["Remap"] = lambda *_: pb.RemapResponse(addr=8192)
    fake.answers["SetBreak"] = lambda *_: pb.SetBreakResponse(brk=7)
    fake.answers["Touch"] = lambda request, _: pb.TouchResponse(value=request.value)

    async def scenario(client: aio.Client) -> None:
        async with await client.create(b"text") as space:
            child = (await space.fork("bulk-insert")).child
            await child.unmap(await child.map(4096), 4096)
            await child.protect(4096, 4096, 1)
            await child.advise(4096, 4096, MADV_DONTFORK)
            assert await child.remap(4096, 4096, 8192, MREMAP_MAYMOVE) == 8192
            assert await child.set_break() == 7
            assert await child.touch(4096, "write", 9) == 9
            await child.exit()
            assert await child.find_vma(0) is None
            assert await child.find_gap(4096) == 0
            assert (await child.info()).mm_id == 0
        await client.ping()
        assert await client.exit_labelled({"a": "b"}) == 0
        assert (await client.server()).instance_id == "fake"
        assert (await client.audit()).space_count == 0
        assert (await client.verify()).verified_space_count == 0

    play(fake, scenario)
    assert [call.request.mm_id for call in fake.of("Exit")] == [2, 1, 0]
    for method in ("Protect", "Advise", "Remap", "SetBreak", "Touch"):
        assert [call.request.mm_id for call in fake.of(method)] == [2]


def test_streams(fake: FakeServer) -> None:
    fake.answers["ImportAddressSpace"] = lambda *_: pb.ImportAddressSpaceResponse(mm_id=1)
    fake.answers["StreamVmas"] = lambda *_: iter([chunk(0x1000), chunk(0x2000, total=2)])
    fake.answers["RepeatFork"] = lambda *_: (pb.RepeatForkResponse(block=i) for i in range(3))
    fake.answers["Apply"] = lambda *_: pb.ApplyResponse(results=b"\7" + bytes(7))
    fake.answers["ApplyStream"] = lambda requests, _: (
        pb.ApplyResponse(results=b"\x08" + bytes(7)) for _ in requests
    )
    fake.answers["ListAddressSpaces"] = lambda request, _: pb.ListAddressSpacesResponse(
        address_spaces=[types_pb2.AddressSpace(mm_id=5)],
        next_page_token="" if request.page_token else "x",
    )

    async def scenario(client: aio.Client) -> None:
        space = await client.create(b"x" * (IMPORT_PIECE_BYTES + 1))
        assert [vma.start for vma in await space.vmas()] == [0x1000, 0x2000]
        assert (await space.maps()).startswith(b"00001000-00002000 r--p ")
        assert [block.block async for block in space.repeat_fork(["tree-dup"], 1)] == [0, 1, 2]
        batch = Batch()
        batch.unmap(0, 4096)
        assert list((await space.apply(batch)).results) == [7]
        streamed = [result async for result in space.apply_stream([batch] * 3, "skip")]
        assert [list(result.results) for result in streamed] == [[8]] * 3
        assert [info.mm_id async for info in client.list()] == [5, 5]

    play(fake, scenario)
    assert len(fake.of("ImportAddressSpace")[0].request) == 3


def test_errors_are_the_same(fake: FakeServer) -> None:
    fake.answers["Map"] = lambda _, context: refuse(
        context, grpc.StatusCode.RESOURCE_EXHAUSTED, "ENOMEM", limit="arena"
    )
    fake.answers["StreamVmas"] = lambda _, context: refuse(
        context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE"
    )

    fake.answers["Fork"] = lambda request, context: refuse(
        context,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "ENOMEM",
        fault_site="POLICY",
        fault_ordinal=str(request.fault.ordinal),
        duplicated_vma_count="2",
        undone_vma_count="1",
        undo_ns="9",
    )

    async def scenario(client: aio.Client) -> None:
        with pytest.raises(NoMemory) as caught:
            await client.get(1).map(4096)
        assert caught.value.limit == "arena"
        with pytest.raises(NoMemory) as caught:
            await client.get(1).fork(fault=ForkFault("policy", 3))
        assert caught.value.fork == (3, 3, 2, 1, 9)
        with pytest.raises(NoSuchSpace):
            await client.get(1).vmas()

    play(fake, scenario)


def test_a_cancelled_task_cancels_its_call(fake: FakeServer) -> None:
    async def scenario(client: aio.Client) -> None:
        started, ended = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def wait(request: Any, context: grpc.ServicerContext) -> Any:
            def tell() -> None:
                loop.call_soon_threadsafe(ended.set)

            context.add_callback(tell)
            loop.call_soon_threadsafe(started.set)
            asyncio.run_coroutine_threadsafe(ended.wait(), loop).result(10)
            return pb.ForkResponse()

        fake.answers["Fork"] = wait
        task = asyncio.create_task(client.get(1).fork())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(ended.wait(), 5)

    play(fake, scenario)


def test_retries_and_deadlines(fake: FakeServer) -> None:
    fake.answers["Fork"] = fails_first(1, grpc.StatusCode.UNAVAILABLE)

    async def scenario(client: aio.Client) -> None:
        await client.get(1).fork()
        fake.answers["Fork"] = fails_first(99, grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(DeadlineExceeded):
            await client.get(1).fork(timeout=0.05)

    play(fake, scenario)
    ids = [call.request.request_id for call in fake.of("Fork")]
    assert ids[0] == ids[1]

    async def unavailable(client: aio.Client) -> None:
        with pytest.raises(Unavailable):
            await client.get(1).fork()

    play(fake, unavailable, retries=0)
    assert len(fake.of("Fork")) == 1


def test_calls_go_round_the_workers(fake: FakeServer) -> None:
    async def scenario(client: aio.Client) -> None:
        while len(workers_of(fake)) < 2:
            await client.ping()
        fake.calls.clear()
        await asyncio.gather(*(client.ping() for _ in range(20)))

    play(fake, scenario)
    assert workers_of(fake) == {0: 10, 1: 10}


def test_the_shared_port_takes_the_place_of_endpoints_out_of_reach(fake: FakeServer) -> None:
    fake.told_endpoints = [f"127.0.0.1:{closed_port()}" for _ in fake.endpoints]

    async def scenario(client: aio.Client) -> None:
        for _ in range(8):
            await client.ping()

    with pytest.warns(SharedPortWarning):
        play(fake, scenario)
    assert workers_of(fake) == {0: 8}


def test_no_server_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        asyncio.run(aio.connect(f"127.0.0.1:{closed_port()}", retries=0))

"""The client for asyncio: the same names and arguments as client.py, awaited.

    from forkstorm import aio

    async with await aio.connect("127.0.0.1:7077") as client:
        async with await client.load("/proc/self/maps") as space:
            result = await space.fork("tree-dup")
            await result.child.exit()

`list`, `repeat_fork` and `apply_stream` are asynchronous iterators. A client belongs to one event
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from os import PathLike
from types import TracebackType
from typing import Any

import grpc
import grpc.aio

from forkstorm import connection, errors
from forkstorm import messages as m
from forkstorm.batch import ApplyResult, Batch, apply_result
from forkstorm.constants import TouchAccess
from forkstorm.maps import Vma, format_maps
from forkstorm.v1.address_spaces_pb2_grpc import AddressSpacesStub
from forkstorm.v1.diagnostics_pb2_grpc import DiagnosticsStub


async def connect(
    address: str = connection.DEFAULT_ADDRESS,
    *,
    timeout: float = connection.DEFAULT_TIMEOUT_S,
    retries: int = connection.DEFAULT_RETRIES,
) -> Client:
    """As client.connect."""
    options = connection.channel_options(retries)
    host, _ = connection.split_address(address)
    async with contextlib.AsyncExitStack() as on_error:
        shared = await on_error.enter_async_context(_Channel(address, options))
        server = await shared.call(m.GET_SERVER, m.GET_SERVER_REQUEST, timeout)
        channels = [shared]
        workers = await _worker_channel(server, host, options, timeout)
        if workers is not None:
            await shared.close()
            channels = [workers]
        else:
            more = connection.shared_connections(server, address) - 1
            channels += [_Channel(address, options) for _ in range(more)]
        on_error.pop_all()
    return Client(channels, timeout)


async def _worker_channel(
    server: m.ServerInfo, host: str, options: connection.Options, timeout: float
) -> _Channel | None:
    """A channel to the workers' own ports; None when they cannot be reached."""
    probe_s = min(timeout, connection.PROBE_TIMEOUT_S)
    for target in await asyncio.to_thread(connection.worker_targets, server, host):
        channel = _Channel(target, options)
        with contextlib.suppress(errors.ForkstormError):
            found = await channel.call(m.GET_SERVER, m.GET_SERVER_REQUEST, probe_s)
            if found.instance_id == server.instance_id:
                return channel
        await channel.close()
    return None


class _Channel:
    """A gRPC channel, and the methods of both services by name."""

    def __init__(self, target: str, options: connection.Options) -> None:
        self._channel = grpc.aio.insecure_channel(target, options)
        self.methods: dict[str, Any] = {
            **vars(AddressSpacesStub(self._channel)),
            **vars(DiagnosticsStub(self._channel)),
        }

    async def __aenter__(self) -> _Channel:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._channel.close()

    async def call(
        self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float
    ) -> m.Reply:
        try:
            reply: m.Reply = await self.methods[rpc.name](request, timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        return reply

    async def stream(
        self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float
    ) -> AsyncIterator[m.Reply]:
        replies = self.methods[rpc.name](request, timeout=timeout)
        try:
            async for reply in replies:
                yield reply
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        finally:
            replies.cancel()


class Client:
    """As client.Client; an asynchronous context manager."""

    def __init__(self, channels: Sequence[_Channel], timeout: float) -> None:
        self._channels = channels
        self._turns = itertools.cycle(channels)
        self.timeout = timeout

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()

    async def create(
        self,
        maps_text: bytes = b"",
        *,
        params: m.SpaceParameters | None = None,
        labels: m.Labels | None = None,
        ttl_s: float = 0,
        timeout: float | None = None,
    ) -> AddressSpace:
        if len(maps_text) <= m.IMPORT_PIECE_BYTES:
            request = m.create_request(maps_text, params, labels, ttl_s)
            return AddressSpace(self, (await self.call(m.CREATE, request, timeout)).mm_id)
        settings = m.create_request(b"", params, labels, ttl_s)
        pieces = m.import_requests(settings, maps_text)
        return AddressSpace(self, (await self.call(m.IMPORT, pieces, timeout)).mm_id)

    async def load(
        self,
        source: int | str | PathLike[str],
        *,
        params: m.SpaceParameters | None = None,
        labels: m.Labels | None = None,
        ttl_s: float = 0,
        timeout: float | None = None,
    ) -> AddressSpace:
        text = await asyncio.to_thread(m.read_maps, source)
        return await self.create(text, params=params, labels=labels, ttl_s=ttl_s, timeout=timeout)

    def get(self, mm_id: int) -> AddressSpace:
        return AddressSpace(self, mm_id)

    async def list(
        self, labels: m.Labels | None = None, *, timeout: float | None = None
    ) -> AsyncIterator[m.SpaceInfo]:
        page_token = ""
        while True:
            page = await self.call(m.LIST, m.list_request(labels, page_token), timeout)
            for info in page.address_spaces:
                yield info
            page_token = page.next_page_token
            if not page_token:
                return

    async def exit_labelled(self, labels: m.Labels, *, timeout: float | None = None) -> int:
        return (await self.call(m.EXIT, m.exit_labelled_request(labels), timeout)).exited_count

    async def ping(self, *, timeout: float | None = None) -> None:
        await self.call(m.PING, m.PING_REQUEST, timeout)

    async def server(self, *, timeout: float | None = None) -> m.ServerInfo:
        return await self.call(m.GET_SERVER, m.GET_SERVER_REQUEST, timeout)

    async def audit(self, *, timeout: float | None = None) -> m.AuditReport:
        return await self.call(m.AUDIT, m.AUDIT_REQUEST, timeout)

    async def verify(self, mm_id: int = 0, *, timeout: float | None = None) -> m.VerifyReport:
        return await self.call(m.VERIFY, m.verify_request(mm_id), timeout)

    async def call(
        self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float | None
    ) -> m.Reply:
        channel = next(self._turns)
        return await channel.call(rpc, request, self.timeout if timeout is None else timeout)

    def stream(
        self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float | None
    ) -> AsyncIterator[m.Reply]:
        channel = next(self._turns)
        return channel.stream(rpc, request, self.timeout if timeout is None else timeout)


class AddressSpace:
    """As client.AddressSpace; an asynchronous context manager."""

    __slots__ = ("_call", "_client", "id")

    def __init__(self, client: Client, mm_id: int) -> None:
        self._client = client
        self._call = client.call
        self.id = mm_id

    def __repr__(self) -> str:
        return f"<AddressSpace {self.id:#x}>"

    async def __aenter__(self) -> AddressSpace:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        ignored = errors.NoSuchSpace if error is None else errors.ForkstormError
        with contextlib.suppress(ignored):
            await self.exit()

    async def fork(
        self,
        strategy: m.Strategy = None,
        *,
        labels: m.Labels | None = None,
        ttl_s: float = 0,
        with_phases: bool = False,
        fault: m.ForkFault | None = None,
        timeout: float | None = None,
    ) -> m.ForkResult[AddressSpace]:
        request = m.fork_request(self.id, strategy, labels, ttl_s, with_phases, fault)
        reply = await self._call(m.FORK, request, timeout)
        return m.fork_result(reply, AddressSpace(self._client, reply.child))

    async def repeat_fork(
        self,
        strategies: Sequence[m.Strategy],
        forks_per_strategy: int,
        *,
        block_fork_count: int = 0,
        warmup_fork_count: int = 0,
        share_out: bool = False,
        timeout: float | None = None,
    ) -> AsyncIterator[m.ForkBlock]:
        request = m.repeat_fork_request(
            self.id,
            strategies,
            forks_per_strategy,
            block_fork_count,
            warmup_fork_count,
            share_out,
        )
        async for reply in self._client.stream(m.REPEAT_FORK, request, timeout):
            yield m.fork_block(reply)

    async def map(
        self,
        length: int,
        prot: int = m.READ_WRITE,
        flags: int | None = None,
        *,
        addr: int = 0,
        file: m.File | None = None,
        offset: int = 0,
        timeout: float | None = None,
    ) -> int:
        request = m.map_request(self.id, length, prot, flags, addr, file, offset)
        return (await self._call(m.MAP, request, timeout)).addr

    async def unmap(self, addr: int, length: int, *, timeout: float | None = None) -> None:
        await self._call(m.UNMAP, m.unmap_request(self.id, addr, length), timeout)

    async def protect(
        self, addr: int, length: int, prot: int, *, timeout: float | None = None
    ) -> None:
        await self._call(m.PROTECT, m.protect_request(self.id, addr, length, prot), timeout)

    async def remap(
        self,
        addr: int,
        old_length: int,
        new_length: int,
        flags: int = 0,
        new_addr: int = 0,
        *,
        timeout: float | None = None,
    ) -> int:
        request = m.remap_request(self.id, addr, old_length, new_length, flags, new_addr)
        return (await self._call(m.REMAP, request, timeout)).addr

    async def advise(
        self, addr: int, length: int, advice: int, *, timeout: float | None = None
    ) -> None:
        await self._call(m.ADVISE, m.advise_request(self.id, addr, length, advice), timeout)

    async def set_break(self, addr: int = 0, *, timeout: float | None = None) -> int:
        return (await self._call(m.SET_BREAK, m.set_break_request(self.id, addr), timeout)).brk

    async def touch(
        self,
        addr: int,
        access: m.Access = TouchAccess.READ,
        value: int = 0,
        *,
        timeout: float | None = None,
    ) -> int:
        request = m.touch_request(self.id, addr, access, value)
        return (await self._call(m.TOUCH, request, timeout)).value

    async def apply(
        self, batch: Batch, on_error: str = "stop", *, timeout: float | None = None
    ) -> ApplyResult:
        request = m.apply_request(self.id, batch, on_error)
        return apply_result(await self._call(m.APPLY, request, timeout))

    async def apply_stream(
        self,
        batches: Iterable[Batch],
        on_error: str = "stop",
        *,
        timeout: float | None = None,
    ) -> AsyncIterator[ApplyResult]:
        requests = m.apply_requests(self.id, batches, on_error)
        async for reply in self._client.stream(m.APPLY_STREAM, requests, timeout):
            yield apply_result(reply)

    async def find_vma(self, addr: int, *, timeout: float | None = None) -> Vma | None:
        request = m.find_vma_request(self.id, addr)
        return m.found_vma(await self._call(m.FIND_VMA, request, timeout))

    async def find_gap(
        self,
        length: int,
        *,
        low: int = 0,
        high: int = 0,
        bottom_up: bool = False,
        timeout: float | None = None,
    ) -> int:
        request = m.find_gap_request(self.id, length, low, high, bottom_up)
        return (await self._call(m.FIND_GAP, request, timeout)).addr

    async def vmas(self, *, timeout: float | None = None) -> list[Vma]:
        request = m.stream_vmas_request(self.id)
        stream = self._client.stream(m.STREAM_VMAS, request, timeout)
        return m.vmas_of([chunk async for chunk in stream])

    async def maps(self, *, timeout: float | None = None) -> bytes:
        return format_maps(await self.vmas(timeout=timeout))

    async def info(self, *, timeout: float | None = None) -> m.SpaceInfo:
        return (await self._call(m.GET, m.get_request(self.id), timeout)).address_space

    async def exit(self, *, timeout: float | None = None) -> None:
        await self._call(m.EXIT, m.exit_request(self.id), timeout)

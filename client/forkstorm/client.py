"""The client: address spaces on a Forkstorm server, as objects.

    with forkstorm.connect("127.0.0.1:7077") as client:
        with client.load("/proc/self/maps") as space:
            result = space.fork("tree-dup")
            print(result.timing.core_ns, result.work.nodes_allocated)
            result.child.exit()

Every call takes `timeout`, seconds that replace the client's, and raises what errors.py draws.
Addresses and lengths are bytes, ranges half-open. Several threads may use one client.
aio.py is the twin for asyncio.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from types import TracebackType
from typing import Any

import grpc

from forkstorm import connection, errors
from forkstorm import messages as m
from forkstorm.batch import ApplyResult, Batch, apply_result
from forkstorm.constants import TouchAccess
from forkstorm.maps import Vma, format_maps
from forkstorm.v1.address_spaces_pb2_grpc import AddressSpacesStub
from forkstorm.v1.diagnostics_pb2_grpc import DiagnosticsStub


def connect(
    address: str = connection.DEFAULT_ADDRESS,
    *,
    timeout: float = connection.DEFAULT_TIMEOUT_S,
    retries: int = connection.DEFAULT_RETRIES,
) -> Client:
    """A client of the server at "host:port", connected to every worker.

    timeout: seconds until a call fails with DeadlineExceeded. retries: attempts after the first
    when a worker does not answer, 0 to 4. Unavailable when there is no server.
    """
    options = connection.channel_options(retries)
    host, _ = connection.split_address(address)
    with contextlib.ExitStack() as on_error:
        shared = on_error.enter_context(_Channel(address, options))
        server = shared.call(m.GET_SERVER, m.GET_SERVER_REQUEST, timeout)
        channels = [shared]
        workers = _worker_channel(server, host, options, timeout)
        if workers is not None:
            shared.close()
            channels = [workers]
        else:
            more = connection.shared_connections(server, address) - 1
            channels += [_Channel(address, options) for _ in range(more)]
        on_error.pop_all()
    return Client(channels, timeout)


def _worker_channel(
    server: m.ServerInfo, host: str, options: connection.Options, timeout: float
) -> _Channel | None:
    """A channel to the workers' own ports; None when they cannot be reached."""
    probe_s = min(timeout, connection.PROBE_TIMEOUT_S)
    for target in connection.worker_targets(server, host):
        channel = _Channel(target, options)
        with contextlib.suppress(errors.ForkstormError):
            found = channel.call(m.GET_SERVER, m.GET_SERVER_REQUEST, probe_s)
            # Behind a port mapping, another server may listen there.
            if found.instance_id == server.instance_id:
                return channel
        channel.close()
    return None


class _Channel:
    """A gRPC channel, and the methods of both services by name."""

    def __init__(self, target: str, options: connection.Options) -> None:
        self._channel = grpc.insecure_channel(target, options)
        self.close = self._channel.close
        self.methods: dict[str, Any] = {
            **vars(AddressSpacesStub(self._channel)),
            **vars(DiagnosticsStub(self._channel)),
        }

    def __enter__(self) -> _Channel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float) -> m.Reply:
        try:
            reply: m.Reply = self.methods[rpc.name](request, timeout=timeout)
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        return reply

    def stream(
        self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float
    ) -> Iterator[m.Reply]:
        replies = self.methods[rpc.name](request, timeout=timeout)
        try:
            yield from replies
        except grpc.RpcError as error:
            raise errors.from_rpc_error(error) from error
        finally:
            # Nobody reads the rest: the server need not send it.
            replies.cancel()


class Client:
    """A connection to a server. Made by `connect`; a context manager that closes it."""

    def __init__(self, channels: Sequence[_Channel], timeout: float) -> None:
        self._channels = channels
        self._turns = itertools.cycle(channels)
        #: Seconds until a call fails with DeadlineExceeded.
        self.timeout = timeout

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. The spaces live on, until they exit or their ttl ends."""
        for channel in self._channels:
            channel.close()

    def create(
        self,
        maps_text: bytes = b"",
        *,
        params: m.SpaceParameters | None = None,
        labels: m.Labels | None = None,
        ttl_s: float = 0,
        timeout: float | None = None,
    ) -> AddressSpace:
        """A new space, empty or from the text of /proc/PID/maps or smaps.

        ttl_s: the server ends the space after so many seconds; 0: never. InvalidArgument names
        the line of a text that it cannot read.
        """
        if len(maps_text) <= m.IMPORT_PIECE_BYTES:
            request = m.create_request(maps_text, params, labels, ttl_s)
            return AddressSpace(self, self.call(m.CREATE, request, timeout).mm_id)
        settings = m.create_request(b"", params, labels, ttl_s)
        pieces = m.import_requests(settings, maps_text)
        return AddressSpace(self, self.call(m.IMPORT, pieces, timeout).mm_id)

    def load(
        self,
        source: int | str | PathLike[str],
        *,
        params: m.SpaceParameters | None = None,
        labels: m.Labels | None = None,
        ttl_s: float = 0,
        timeout: float | None = None,
    ) -> AddressSpace:
        """A new space from a file of maps text, or like the process with that pid."""
        text = m.read_maps(source)
        return self.create(text, params=params, labels=labels, ttl_s=ttl_s, timeout=timeout)

    def get(self, mm_id: int) -> AddressSpace:
        """A handle of a space by its id. Asks nothing: its first call may raise NoSuchSpace."""
        return AddressSpace(self, mm_id)

    def list(
        self, labels: m.Labels | None = None, *, timeout: float | None = None
    ) -> Iterator[m.SpaceInfo]:
        """All spaces that have all of these labels, page by page."""
        page_token = ""
        while True:
            page = self.call(m.LIST, m.list_request(labels, page_token), timeout)
            yield from page.address_spaces
            page_token = page.next_page_token
            if not page_token:
                return

    def exit_labelled(self, labels: m.Labels, *, timeout: float | None = None) -> int:
        """Ends all spaces that have all of these labels; how many. ValueError without a label."""
        return self.call(m.EXIT, m.exit_labelled_request(labels), timeout).exited_count

    def ping(self, *, timeout: float | None = None) -> None:
        """The empty call."""
        self.call(m.PING, m.PING_REQUEST, timeout)

    def server(self, *, timeout: float | None = None) -> m.ServerInfo:
        """Version, workers, limits and host of the server."""
        return self.call(m.GET_SERVER, m.GET_SERVER_REQUEST, timeout)

    def audit(self, *, timeout: float | None = None) -> m.AuditReport:
        """Everything alive in the arena, counted from both sides. O(everything)."""
        return self.call(m.AUDIT, m.AUDIT_REQUEST, timeout)

    def verify(self, mm_id: int = 0, *, timeout: float | None = None) -> m.VerifyReport:
        """Checks every invariant of one space, or of all. O(their nodes)."""
        return self.call(m.VERIFY, m.verify_request(mm_id), timeout)

    def call(
        self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float | None
    ) -> m.Reply:
        """One unary call of the API."""
        channel = next(self._turns)
        return channel.call(rpc, request, self.timeout if timeout is None else timeout)

    def stream(
        self, rpc: m.Rpc[m.Request, m.Reply], request: m.Request, timeout: float | None
    ) -> Iterator[m.Reply]:
        """One call of the API that answers with a stream."""
        channel = next(self._turns)
        return channel.stream(rpc, request, self.timeout if timeout is None else timeout)


class AddressSpace:
    """A handle of one space. A context manager that exits the space."""

    __slots__ = ("_call", "_client", "id")

    def __init__(self, client: Client, mm_id: int) -> None:
        self._client = client
        self._call = client.call
        #: Names the space on every worker.
        self.id = mm_id

    def __repr__(self) -> str:
        return f"<AddressSpace {self.id:#x}>"

    def __enter__(self) -> AddressSpace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whoever ended it within the block, it has ended; and the block's own error comes first.
        ignored = errors.NoSuchSpace if error is None else errors.ForkstormError
        with contextlib.suppress(ignored):
            self.exit()

    def fork(
        self,
        strategy: m.Strategy = None,
        *,
        labels: m.Labels | None = None,
        ttl_s: float = 0,
        with_phases: bool = False,
        fault: m.ForkFault | None = None,
        timeout: float | None = None,
    ) -> m.ForkResult[AddressSpace]:
        """Duplicates the space. O(VMAs), with "share" O(1).

        strategy: a ForkStrategy, its name or alias ("tree-dup", "linux-6.8"), or None for the
        server's default; the answer tells the one used. A child ends after ttl_s seconds, if not 0.
        with_phases costs two more readings of the clock. fault: a step to fail at; the error tells
        in .fork what was undone.
        """
        request = m.fork_request(self.id, strategy, labels, ttl_s, with_phases, fault)
        reply = self._call(m.FORK, request, timeout)
        return m.fork_result(reply, AddressSpace(self._client, reply.child))

    def repeat_fork(
        self,
        strategies: Sequence[m.Strategy],
        forks_per_strategy: int,
        *,
        block_fork_count: int = 0,
        warmup_fork_count: int = 0,
        share_out: bool = False,
        timeout: float | None = None,
    ) -> Iterator[m.ForkBlock]:
        """Forks and exits inside the server: blocks of durations, strategies interleaved A B B A,
        or A B C D D C B A.

        block_fork_count: forks of one strategy in a row, 0 for the server's choice. A strategy
        named twice is the A/A control. share_out: idle workers may help with large forks, as they
        do with fork(); else each is made by one process, as a kernel would. `timeout` is for all
        blocks together.
        """
        request = m.repeat_fork_request(
            self.id,
            strategies,
            forks_per_strategy,
            block_fork_count,
            warmup_fork_count,
            share_out,
        )
        return map(m.fork_block, self._client.stream(m.REPEAT_FORK, request, timeout))

    def map(
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
        """mmap(2): the address. flags default to MAP_PRIVATE, and MAP_ANONYMOUS without a file.

        addr is a hint, or with MAP_FIXED and MAP_FIXED_NOREPLACE the place. O(log VMAs).
        """
        request = m.map_request(self.id, length, prot, flags, addr, file, offset)
        return self._call(m.MAP, request, timeout).addr

    def unmap(self, addr: int, length: int, *, timeout: float | None = None) -> None:
        """munmap(2). O(log VMAs + VMAs removed)."""
        self._call(m.UNMAP, m.unmap_request(self.id, addr, length), timeout)

    def protect(self, addr: int, length: int, prot: int, *, timeout: float | None = None) -> None:
        """mprotect(2). What precedes the VMA that is refused stays changed. O(log VMAs + VMAs)."""
        self._call(m.PROTECT, m.protect_request(self.id, addr, length, prot), timeout)

    def remap(
        self,
        addr: int,
        old_length: int,
        new_length: int,
        flags: int = 0,
        new_addr: int = 0,
        *,
        timeout: float | None = None,
    ) -> int:
        """mremap(2): the address. flags are MREMAP_*; without any it grows or shrinks in place.

        new_addr: with MREMAP_FIXED the place, with MREMAP_DONTUNMAP a hint. O(log VMAs + VMAs).
        """
        request = m.remap_request(self.id, addr, old_length, new_length, flags, new_addr)
        return self._call(m.REMAP, request, timeout).addr

    def advise(self, addr: int, length: int, advice: int, *, timeout: float | None = None) -> None:
        """madvise(2) with an Advice. NoMemory over a hole, but all VMAs around it were advised."""
        self._call(m.ADVISE, m.advise_request(self.id, addr, length, advice), timeout)

    def set_break(self, addr: int = 0, *, timeout: float | None = None) -> int:
        """brk(2), the system call: the break as it then is. 0 only asks; nothing is an error."""
        return self._call(m.SET_BREAK, m.set_break_request(self.id, addr), timeout).brk

    def touch(
        self,
        addr: int,
        access: m.Access = TouchAccess.READ,
        value: int = 0,
        *,
        timeout: float | None = None,
    ) -> int:
        """Reads, or writes value to, the page at addr: the page's value (64 bits) after it.

        access: a TouchAccess, its name or alias. BadAddress is a process's SIGSEGV.
        """
        return self._call(m.TOUCH, m.touch_request(self.id, addr, access, value), timeout).value

    def apply(
        self, batch: Batch, on_error: str = "stop", *, timeout: float | None = None
    ) -> ApplyResult:
        """Many operations as one transaction: seen together or, past the deadline, not at all.

        on_error: "stop" ends the batch with the first operation that fails, "skip" goes on. What
        operations fail with is in the result; nothing is raised for it.
        """
        request = m.apply_request(self.id, batch, on_error)
        return apply_result(self._call(m.APPLY, request, timeout))

    def apply_stream(
        self,
        batches: Iterable[Batch],
        on_error: str = "stop",
        *,
        timeout: float | None = None,
    ) -> Iterator[ApplyResult]:
        """A transaction for each batch, in order, over one stream; yields their results.

        Batches are taken ahead of the results, as far as the connection takes them. An error ends
        the stream, and what was yielded before it stays. `timeout` is for all batches together.
        """
        requests = m.apply_requests(self.id, batches, on_error)
        return map(apply_result, self._client.stream(m.APPLY_STREAM, requests, timeout))

    def find_vma(self, addr: int, *, timeout: float | None = None) -> Vma | None:
        """The VMA that contains addr, else the next above it, else None. O(log VMAs)."""
        return m.found_vma(self._call(m.FIND_VMA, m.find_vma_request(self.id, addr), timeout))

    def find_gap(
        self,
        length: int,
        *,
        low: int = 0,
        high: int = 0,
        bottom_up: bool = False,
        timeout: float | None = None,
    ) -> int:
        """The address of the highest (or, bottom_up, lowest) gap of that length in [low, high).

        0 stands for mmap_min_addr and mmap_base. NoMemory when there is none. O(log VMAs).
        """
        request = m.find_gap_request(self.id, length, low, high, bottom_up)
        return self._call(m.FIND_GAP, request, timeout).addr

    def vmas(self, *, timeout: float | None = None) -> list[Vma]:
        """All VMAs of one instant, ascending. O(VMAs)."""
        request = m.stream_vmas_request(self.id)
        return m.vmas_of(self._client.stream(m.STREAM_VMAS, request, timeout))

    def maps(self, *, timeout: float | None = None) -> bytes:
        """The text of /proc/PID/maps. O(VMAs)."""
        return format_maps(self.vmas(timeout=timeout))

    def info(self, *, timeout: float | None = None) -> m.SpaceInfo:
        """Labels, counts, parameters and tree of the space."""
        return self._call(m.GET, m.get_request(self.id), timeout).address_space

    def exit(self, *, timeout: float | None = None) -> None:
        """Ends the space. NoSuchSpace when it has ended."""
        self._call(m.EXIT, m.exit_request(self.id), timeout)

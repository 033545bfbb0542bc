"""The service AddressSpaces: one method per RPC.

This is the path whose speed decides what a storm measures: a fork of a common process takes the
core some microseconds, so a handler looks up nothing that it could have been given, logs nothing
and loops over nothing. A mutation goes through _mutate, anything else through _read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import monotonic_ns
from typing import Protocol, TypeVar

import grpc
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import address_spaces_pb2_grpc, types_pb2

from forkstormd.core.dedupe import Ticket
from forkstormd.core.errors import CoreError
from forkstormd.core.types import SpaceInfo
from forkstormd.errors import Refusal, abort, invalid
from forkstormd.service import batches, imports, replies, streams
from forkstormd.service.idempotency import Identified, begin
from forkstormd.service.requests import (
    decode_labels,
    encode_labels,
    expiry_of,
    fault_of,
    file_of,
    page_token,
    slot_of_token,
    strategy_of,
    touch_of,
)
from forkstormd.service.state import Turn, WorkerState

_MAP_ANONYMOUS = 0x20
_SLOT_MASK = (1 << 20) - 1
_PAGE_SPACES = 100
_PAGE_SPACES_MAX = 1000
_WALK_SPACES = 1000
_PONG = pb.PingResponse()


class Mutated(Protocol):
    """What every answer to a mutation has."""

    replayed: bool

    @property
    def timing(self) -> types_pb2.Timing: ...

    def MergeFromString(self, serialized: bytes) -> int: ...

    def SerializeToString(self) -> bytes: ...


Request = TypeVar("Request", bound=Identified)
Response = TypeVar("Response", bound=Mutated)
Answer = TypeVar("Answer")


class HasTiming(Protocol):
    """An answer that tells what it cost."""

    @property
    def timing(self) -> types_pb2.Timing: ...


Timed = TypeVar("Timed", bound=HasTiming)


class AddressSpaces(address_spaces_pb2_grpc.AddressSpacesServicer):
    """See protos/forkstorm/v1/address_spaces.proto, which documents every RPC."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state
        self._mm = state.mm
        self._worker = state.config.index
        self._default_strategy = state.default_strategy

    # -- how every call goes --

    def _mutate(
        self,
        rpc: bytes,
        request: Request,
        context: grpc.ServicerContext,
        response: Response,
        perform: Callable[[Request, Response, Turn, Ticket | None], object],
    ) -> Response:
        """_once for a call of its own."""
        with self._state.turn(context) as turn:
            try:
                return self._once(rpc, request, response, turn, perform)
            except (CoreError, Refusal) as error:
                abort(context, turn.explain(error))

    def _once(
        self,
        rpc: bytes,
        request: Request,
        response: Response,
        turn: Turn,
        perform: Callable[[Request, Response, Turn, Ticket | None], object],
    ) -> Response:
        """Run `perform` once per request id and fill `response`, or give the first answer again."""
        began_ns = monotonic_ns()
        ticket = begin(self._state.dedupe, rpc, request)
        try:
            if ticket is not None and ticket.replay is not None:
                response.MergeFromString(ticket.replay)
                response.replayed = True
                return response
            perform(request, response, turn, ticket)
            timing = response.timing
            timing.worker = self._worker
            timing.server_ns = monotonic_ns() - began_ns
            if ticket is not None:
                ticket.done(response.SerializeToString())
            return response
        except BaseException:
            if ticket is not None:
                ticket.abandon()
            raise

    def _read(
        self,
        context: grpc.ServicerContext,
        response: Answer,
        perform: Callable[[Answer, Turn], object],
    ) -> Answer:
        """Run `perform`, which fills `response`."""
        with self._state.turn(context) as turn:
            try:
                perform(response, turn)
                return response
            except (CoreError, Refusal) as error:
                abort(context, turn.explain(error))

    # -- spaces --

    def CreateAddressSpace(
        self, request: pb.CreateAddressSpaceRequest, context: grpc.ServicerContext
    ) -> pb.CreateAddressSpaceResponse:
        return self._mutate(
            b"Create", request, context, pb.CreateAddressSpaceResponse(), self._create
        )

    def _create(
        self,
        request: pb.CreateAddressSpaceRequest,
        response: pb.CreateAddressSpaceResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        layout = imports.layout_of_text(request.maps_text, request.parameters)
        imports.create(self._mm, layout, request, response, turn, ticket)

    def ImportAddressSpace(
        self,
        request_iterator: Iterable[pb.ImportAddressSpaceRequest],
        context: grpc.ServicerContext,
    ) -> pb.ImportAddressSpaceResponse:
        return imports.import_address_space(self._state, request_iterator, context)

    def GetAddressSpace(
        self, request: pb.GetAddressSpaceRequest, context: grpc.ServicerContext
    ) -> pb.GetAddressSpaceResponse:
        def perform(response: pb.GetAddressSpaceResponse, turn: Turn) -> None:
            replies.fill_address_space(response.address_space, self._mm.info(request.mm_id))

        return self._read(context, pb.GetAddressSpaceResponse(), perform)

    def ListAddressSpaces(
        self, request: pb.ListAddressSpacesRequest, context: grpc.ServicerContext
    ) -> pb.ListAddressSpacesResponse:
        def perform(response: pb.ListAddressSpacesResponse, turn: Turn) -> None:
            size = min(request.page_size or _PAGE_SPACES, _PAGE_SPACES_MAX)
            for info in self._walk(turn, dict(request.labels), slot_of_token(request.page_token)):
                if len(response.address_spaces) == size:
                    last = response.address_spaces[-1].mm_id & _SLOT_MASK
                    response.next_page_token = page_token(last)
                    return
                replies.fill_address_space(response.address_spaces.add(), info)

        return self._read(context, pb.ListAddressSpacesResponse(), perform)

    def _walk(
        self, turn: Turn, labels: dict[str, str], after_slot: int = -1
    ) -> Iterator[SpaceInfo]:
        """The living spaces with these labels, ascending by slot. O(spaces)."""
        while infos := self._mm.list(after_slot, _WALK_SPACES):
            if turn.is_cancelled():
                raise Refusal("CANCELLED", "the call was cancelled")
            for info in infos:
                if not labels or labels.items() <= decode_labels(info.labels).items():
                    yield info
            after_slot = infos[-1].mm_id & _SLOT_MASK

    # -- fork and exit --

    def Fork(self, request: pb.ForkRequest, context: grpc.ServicerContext) -> pb.ForkResponse:
        return self._mutate(b"Fork", request, context, pb.ForkResponse(), self._fork)

    def _fork(
        self,
        request: pb.ForkRequest,
        response: pb.ForkResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        result = self._mm.fork(
            request.mm_id,
            strategy_of(request.strategy, self._default_strategy),
            labels=encode_labels(request.labels),
            expires_ns=expiry_of(request.ttl_ns),
            with_phases=request.with_phases,
            fault=fault_of(request.fault) if request.HasField("fault") else None,
            deadline_ns=turn.deadline_ns,
            request=ticket,
        )
        if turn.is_cancelled():
            # Nobody will ever know this child's id.
            self._mm.exit(result.child)
            raise Refusal("CANCELLED", "the call was cancelled")
        response.child = result.child
        response.strategy = result.strategy  # type: ignore[assignment]
        response.vma_count = result.vma_count
        replies.fill_timing(response.timing, result)
        replies.fill_work(response.work, result.work)
        if result.processes > 1:
            response.process_count = result.processes
        if request.with_phases:
            phases = response.phases
            phases.prepare_ns = result.prepare_ns
            phases.entries_ns = result.entries_ns
            phases.seal_ns = result.seal_ns
            phases.pages_ns = result.pages_ns

    def Exit(self, request: pb.ExitRequest, context: grpc.ServicerContext) -> pb.ExitResponse:
        return self._mutate(b"Exit", request, context, pb.ExitResponse(), self._exit)

    def _exit(
        self,
        request: pb.ExitRequest,
        response: pb.ExitResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        target = request.WhichOneof("target")
        if target == "mm_id":
            result = self._mm.exit(request.mm_id, deadline_ns=turn.deadline_ns, request=ticket)
            response.exited_count = 1
            replies.fill_timing(response.timing, result)
        elif target == "labels":
            self._exit_labelled(dict(request.labels.labels), response, turn)
        else:
            raise invalid("target", "says neither mm_id nor labels")

    def _exit_labelled(self, labels: dict[str, str], response: pb.ExitResponse, turn: Turn) -> None:
        if not labels:
            raise invalid("labels", "needs at least one label")
        timing = response.timing
        for info in self._walk(turn, labels):
            try:
                result = self._mm.exit(info.mm_id, deadline_ns=turn.deadline_ns)
            except CoreError as error:
                if error.reason != "NO_SUCH_SPACE":
                    raise
                continue  # somebody else ended it
            response.exited_count += 1
            timing.core_ns += result.core_ns
            timing.lock_wait_ns += result.lock_wait_ns

    # -- mappings --

    def Map(self, request: pb.MapRequest, context: grpc.ServicerContext) -> pb.MapResponse:
        return self._mutate(b"Map", request, context, pb.MapResponse(), self._map)

    def _map(
        self, request: pb.MapRequest, response: pb.MapResponse, turn: Turn, ticket: Ticket | None
    ) -> None:
        flags = request.flags
        file = 0
        if not flags & _MAP_ANONYMOUS and request.HasField("file"):
            file = file_of(self._mm, request.file)
        result = self._mm.map(
            request.mm_id,
            request.addr,
            request.length_bytes,
            request.prot,
            flags,
            file=file,
            offset=request.offset_bytes,
            deadline_ns=turn.deadline_ns,
            request=ticket,
        )
        response.addr = result.value
        replies.fill_timing(response.timing, result)

    def Unmap(self, request: pb.UnmapRequest, context: grpc.ServicerContext) -> pb.UnmapResponse:
        return self._mutate(b"Unmap", request, context, pb.UnmapResponse(), self._unmap)

    def _unmap(
        self,
        request: pb.UnmapRequest,
        response: pb.UnmapResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        result = self._mm.unmap(
            request.mm_id,
            request.addr,
            request.length_bytes,
            deadline_ns=turn.deadline_ns,
            request=ticket,
        )
        replies.fill_timing(response.timing, result)

    def Protect(
        self, request: pb.ProtectRequest, context: grpc.ServicerContext
    ) -> pb.ProtectResponse:
        return self._mutate(b"Protect", request, context, pb.ProtectResponse(), self._protect)

    def _protect(
        self,
        request: pb.ProtectRequest,
        response: pb.ProtectResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        result = self._mm.protect(
            request.mm_id,
            request.addr,
            request.length_bytes,
            request.prot,
            deadline_ns=turn.deadline_ns,
            request=ticket,
        )
        replies.fill_timing(response.timing, result)

    def Remap(self, request: pb.RemapRequest, context: grpc.ServicerContext) -> pb.RemapResponse:
        return self._mutate(b"Remap", request, context, pb.RemapResponse(), self._remap)

    def _remap(
        self,
        request: pb.RemapRequest,
        response: pb.RemapResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        result = self._mm.remap(
            request.mm_id,
            request.addr,
            request.old_length_bytes,
            request.new_length_bytes,
            request.flags,
            request.new_addr,
            deadline_ns=turn.deadline_ns,
            request=ticket,
        )
        response.addr = result.value
        replies.fill_timing(response.timing, result)

    def Advise(self, request: pb.AdviseRequest, context: grpc.ServicerContext) -> pb.AdviseResponse:
        return self._mutate(b"Advise", request, context, pb.AdviseResponse(), self._advise)

    def _advise(
        self,
        request: pb.AdviseRequest,
        response: pb.AdviseResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        result = self._mm.advise(
            request.mm_id,
            request.addr,
            request.length_bytes,
            request.advice,
            deadline_ns=turn.deadline_ns,
            request=ticket,
        )
        replies.fill_timing(response.timing, result)

    def SetBreak(
        self, request: pb.SetBreakRequest, context: grpc.ServicerContext
    ) -> pb.SetBreakResponse:
        return self._mutate(b"SetBreak", request, context, pb.SetBreakResponse(), self._set_break)

    def _set_break(
        self,
        request: pb.SetBreakRequest,
        response: pb.SetBreakResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        result = self._mm.set_break(
            request.mm_id, request.addr, deadline_ns=turn.deadline_ns, request=ticket
        )
        response.brk = result.value
        replies.fill_timing(response.timing, result)

    def Touch(self, request: pb.TouchRequest, context: grpc.ServicerContext) -> pb.TouchResponse:
        return self._mutate(b"Touch", request, context, pb.TouchResponse(), self._touch)

    def _touch(
        self,
        request: pb.TouchRequest,
        response: pb.TouchResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        result = self._mm.touch(
            request.mm_id,
            request.addr,
            touch_of(request.access),
            request.value,
            deadline_ns=turn.deadline_ns,
            request=ticket,
        )
        response.value = result.value
        replies.fill_timing(response.timing, result)

    def Apply(self, request: pb.ApplyRequest, context: grpc.ServicerContext) -> pb.ApplyResponse:
        return self._mutate(b"Apply", request, context, pb.ApplyResponse(), self._apply)

    def _apply(
        self,
        request: pb.ApplyRequest,
        response: pb.ApplyResponse,
        turn: Turn,
        ticket: Ticket | None,
    ) -> None:
        batches.apply(self._mm, request, response, turn, ticket)

    def ApplyStream(
        self, request_iterator: Iterable[pb.ApplyRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ApplyResponse]:
        def once(request: pb.ApplyRequest, turn: Turn) -> pb.ApplyResponse:
            # The name of Apply: a retry may come either way.
            return self._once(b"Apply", request, pb.ApplyResponse(), turn, self._apply)

        return batches.apply_stream(self._state, request_iterator, context, once)

    # -- looking --

    def FindVma(
        self, request: pb.FindVmaRequest, context: grpc.ServicerContext
    ) -> pb.FindVmaResponse:
        def perform(response: pb.FindVmaResponse, turn: Turn) -> None:
            found, result = self._mm.find_vma(
                request.mm_id, request.addr, deadline_ns=turn.deadline_ns
            )
            if found is not None:
                replies.fill_vma(response.vma, self._mm, found)
            replies.fill_timing(response.timing, result)

        return self._timed(context, pb.FindVmaResponse(), perform)

    def FindGap(
        self, request: pb.FindGapRequest, context: grpc.ServicerContext
    ) -> pb.FindGapResponse:
        def perform(response: pb.FindGapResponse, turn: Turn) -> None:
            result = self._mm.find_gap(
                request.mm_id,
                request.length_bytes,
                request.low,
                request.high,
                request.bottom_up,
                deadline_ns=turn.deadline_ns,
            )
            response.addr = result.value
            replies.fill_timing(response.timing, result)

        return self._timed(context, pb.FindGapResponse(), perform)

    def _timed(
        self,
        context: grpc.ServicerContext,
        response: Timed,
        perform: Callable[[Timed, Turn], object],
    ) -> Timed:
        """_read for answers that tell what they cost."""
        began_ns = monotonic_ns()
        self._read(context, response, perform)
        timing = response.timing
        timing.worker = self._worker
        timing.server_ns = monotonic_ns() - began_ns
        return response

    # -- streams --

    def StreamVmas(
        self, request: pb.StreamVmasRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.StreamVmasResponse]:
        return streams.stream_vmas(self._state, request, context)

    def RepeatFork(
        self, request: pb.RepeatForkRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.RepeatForkResponse]:
        return streams.repeat_fork(self._state, request, context)

    def Ping(self, request: pb.PingRequest, context: grpc.ServicerContext) -> pb.PingResponse:
        return _PONG

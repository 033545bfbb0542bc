"""Requests built and replies read: pure functions, shared by client.py and aio.py.

The small records of a reply (Timing, WorkCounts, SpaceInfo ...) are the messages of forkstorm.v1
themselves; their units and meaning stand in the .proto files.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from forkstorm.batch import ON_ERROR, Batch
from forkstorm.constants import (
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    STRATEGY_NAMES,
    FaultSite,
    ForkStrategy,
    Recovery,
    TouchAccess,
)
from forkstorm.errors import ServerFault
from forkstorm.maps import Vma
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import diagnostics_pb2, types_pb2

# The records of the API under the names the library uses.
AuditReport = diagnostics_pb2.AuditResponse
File = types_pb2.File
ForkPhases = types_pb2.ForkPhases
ServerInfo = diagnostics_pb2.GetServerResponse
SpaceInfo = types_pb2.AddressSpace
SpaceParameters = types_pb2.SpaceParameters
Timing = types_pb2.Timing
VerifyReport = diagnostics_pb2.VerifyResponse
WorkCounts = types_pb2.WorkCounts

#: Longer maps texts travel as a stream of pieces of this size, in bytes.
IMPORT_PIECE_BYTES = 1 << 20

#: What Map maps unless told: a plain int, for a flag class costs a microsecond per call.
READ_WRITE = int(PROT_READ | PROT_WRITE)

_PAGE_SIZE = 1000
_PRIVATE_ANONYMOUS = int(MAP_PRIVATE | MAP_ANONYMOUS)
_PRIVATE = int(MAP_PRIVATE)

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Space = TypeVar("Space")

Strategy = ForkStrategy | str | None
Access = TouchAccess | str
Labels = Mapping[str, str]


class Rpc(Generic[Request, Reply]):
    """A method of the API by its name, and what goes in and comes out."""

    def __init__(self, name: str) -> None:
        self.name = name


CREATE = Rpc[pb.CreateAddressSpaceRequest, pb.CreateAddressSpaceResponse]("CreateAddressSpace")
IMPORT = Rpc[Iterator[pb.ImportAddressSpaceRequest], pb.ImportAddressSpaceResponse](
    "ImportAddressSpace"
)
GET = Rpc[pb.GetAddressSpaceRequest, pb.GetAddressSpaceResponse]("GetAddressSpace")
LIST = Rpc[pb.ListAddressSpacesRequest, pb.ListAddressSpacesResponse]("ListAddressSpaces")
FORK = Rpc[pb.ForkRequest, pb.ForkResponse]("Fork")
EXIT = Rpc[pb.ExitRequest, pb.ExitResponse]("Exit")
MAP = Rpc[pb.MapRequest, pb.MapResponse]("Map")
UNMAP = Rpc[pb.UnmapRequest, pb.UnmapResponse]("Unmap")
PROTECT = Rpc[pb.ProtectRequest, pb.ProtectResponse]("Protect")
REMAP = Rpc[pb.RemapRequest, pb.RemapResponse]("Remap")
ADVISE = Rpc[pb.AdviseRequest, pb.AdviseResponse]("Advise")
SET_BREAK = Rpc[pb.SetBreakRequest, pb.SetBreakResponse]("SetBreak")
TOUCH = Rpc[pb.TouchRequest, pb.TouchResponse]("Touch")
APPLY = Rpc[pb.ApplyRequest, pb.ApplyResponse]("Apply")
APPLY_STREAM = Rpc[Iterator[pb.ApplyRequest], pb.ApplyResponse]("ApplyStream")
FIND_VMA = Rpc[pb.FindVmaRequest, pb.FindVmaResponse]("FindVma")
FIND_GAP = Rpc[pb.FindGapRequest, pb.FindGapResponse]("FindGap")
STREAM_VMAS = Rpc[pb.StreamVmasRequest, pb.StreamVmasResponse]("StreamVmas")
REPEAT_FORK = Rpc[pb.RepeatForkRequest, pb.RepeatForkResponse]("RepeatFork")
PING = Rpc[pb.PingRequest, pb.PingResponse]("Ping")
AUDIT = Rpc[diagnostics_pb2.AuditRequest, AuditReport]("Audit")
VERIFY = Rpc[diagnostics_pb2.VerifyRequest, VerifyReport]("Verify")
GET_SERVER = Rpc[diagnostics_pb2.GetServerRequest, ServerInfo]("GetServer")

PING_REQUEST = pb.PingRequest()
AUDIT_REQUEST = diagnostics_pb2.AuditRequest()
GET_SERVER_REQUEST = diagnostics_pb2.GetServerRequest()


class ForkFault(NamedTuple):
    """A step that a fork is to fail at. A fork that does not take it there does not fail."""

    #: A FaultSite, its name or alias ("vma-record").
    site: FaultSite | str
    #: Index of the parent's VMA, ascending from 0, DONTCOPY ones counted.
    ordinal: int
    #: How to undo: a Recovery, its name or alias.
    recovery: Recovery | str = Recovery.MARKER


class ForkResult(NamedTuple, Generic[Space]):
    """A fork's child and what it cost."""

    child: Space
    #: The one used in the end: the server's default when none was asked for, EXTENT_COPY for a
    #: SHARE of too many special VMAs, TREE_DUP for an EXTENT_COPY without room for an extent.
    strategy: ForkStrategy
    #: VMAs of the child.
    vma_count: int
    #: core_ns, lock_wait_ns, server_ns and the worker.
    timing: Timing
    work: WorkCounts
    #: None unless asked for.
    phases: ForkPhases | None
    #: A retry got the first attempt's answer.
    replayed: bool
    #: How many of the server's processes worked on it.
    process_count: int


class ForkBlock(NamedTuple):
    """Forks of one strategy in a row, of repeat_fork."""

    #: Index in the strategies asked for.
    strategy_index: int
    #: The one used in the end, as in ForkResult.
    strategy: ForkStrategy
    #: Counts the blocks of all strategies, from 0.
    block: int
    #: One duration per fork.
    core_ns: Sequence[int]
    #: What every fork of this block did.
    work: WorkCounts
    #: The exits of this block together.
    exit_ns: int
    worker: int


def request_id() -> str:
    """A new UUID4. A request keeps its id over all attempts."""
    return str(uuid.uuid4())


def ttl_ns(ttl_s: float) -> int:
    """Seconds to live in nanoseconds; ValueError below 0."""
    if ttl_s < 0:
        raise ValueError(f"ttl_s: {ttl_s} is less than 0")
    return round(ttl_s * 1e9)


def strategy_number(strategy: Strategy) -> int:
    """The API's number of a strategy, name or alias; 0, the server's default, for None."""
    if strategy is None:
        return 0
    if isinstance(strategy, ForkStrategy):
        return strategy.value
    known = STRATEGY_NAMES.get(strategy)
    return known.value if known is not None else ForkStrategy.parse(strategy).value


def create_request(
    maps_text: bytes, params: SpaceParameters | None, labels: Labels | None, ttl_s: float
) -> pb.CreateAddressSpaceRequest:
    return pb.CreateAddressSpaceRequest(
        request_id=request_id(),
        parameters=params,
        maps_text=maps_text,
        labels=labels,
        ttl_ns=ttl_ns(ttl_s),
    )


def import_requests(
    create: pb.CreateAddressSpaceRequest, maps_text: bytes
) -> Iterator[pb.ImportAddressSpaceRequest]:
    """The settings of `create`, then the text in pieces."""
    yield pb.ImportAddressSpaceRequest(create=create)
    for at in range(0, len(maps_text), IMPORT_PIECE_BYTES):
        yield pb.ImportAddressSpaceRequest(maps_text=maps_text[at : at + IMPORT_PIECE_BYTES])


def read_maps(source: int | str | PathLike[str]) -> bytes:
    """The maps text of a file, or of a process by its pid.

    Of a process its smaps, whose VmFlags say more (DONTCOPY, WIPEONFORK ...), or its maps
    where the kernel has no smaps. OSError when it cannot be read.
    """
    if not isinstance(source, int):
        return Path(source).read_bytes()
    try:
        return Path(f"/proc/{source}/smaps").read_bytes()
    except FileNotFoundError:
        return Path(f"/proc/{source}/maps").read_bytes()


def list_request(labels: Labels | None, page_token: str) -> pb.ListAddressSpacesRequest:
    return pb.ListAddressSpacesRequest(page_size=_PAGE_SIZE, page_token=page_token, labels=labels)


def fork_request(
    mm_id: int,
    strategy: Strategy,
    labels: Labels | None,
    ttl_s: float,
    with_phases: bool,
    fault: ForkFault | None,
) -> pb.ForkRequest:
    return pb.ForkRequest(
        request_id=request_id(),
        mm_id=mm_id,
        strategy=strategy_number(strategy),  # type: ignore[arg-type]
        labels=labels,
        ttl_ns=ttl_ns(ttl_s),
        with_phases=with_phases,
        fault=None if fault is None else fork_fault(fault),
    )


def fork_fault(fault: ForkFault) -> types_pb2.ForkFault:
    """ValueError for a site or recovery that there is not."""
    site, ordinal, recovery = fault
    return types_pb2.ForkFault(
        site=(FaultSite.parse(site) if isinstance(site, str) else site).value,  # type: ignore[arg-type]
        ordinal=ordinal,
        recovery=(Recovery.parse(recovery) if isinstance(recovery, str) else recovery).value,  # type: ignore[arg-type]
    )


def fork_result(reply: pb.ForkResponse, child: Space) -> ForkResult[Space]:
    return ForkResult(
        child,
        ForkStrategy(reply.strategy),
        reply.vma_count,
        reply.timing,
        reply.work,
        reply.phases if reply.HasField("phases") else None,
        reply.replayed,
        reply.process_count or 1,
    )


def get_request(mm_id: int) -> pb.GetAddressSpaceRequest:
    return pb.GetAddressSpaceRequest(mm_id=mm_id)


def verify_request(mm_id: int) -> diagnostics_pb2.VerifyRequest:
    return diagnostics_pb2.VerifyRequest(mm_id=mm_id)


def exit_request(mm_id: int) -> pb.ExitRequest:
    return pb.ExitRequest(request_id=request_id(), mm_id=mm_id)


def exit_labelled_request(labels: Labels) -> pb.ExitRequest:
    if not labels:
        raise ValueError("labels: at least one is needed")
    return pb.ExitRequest(request_id=request_id(), labels=pb.Labels(labels=labels))


def map_request(
    mm_id: int,
    length: int,
    prot: int,
    flags: int | None,
    addr: int,
    file: File | None,
    offset: int,
) -> pb.MapRequest:
    if flags is None:
        flags = _PRIVATE_ANONYMOUS if file is None else _PRIVATE
    return pb.MapRequest(
        request_id=request_id(),
        mm_id=mm_id,
        addr=addr,
        length_bytes=length,
        prot=prot,
        flags=flags,
        file=file,
        offset_bytes=offset,
    )


def unmap_request(mm_id: int, addr: int, length: int) -> pb.UnmapRequest:
    return pb.UnmapRequest(request_id=request_id(), mm_id=mm_id, addr=addr, length_bytes=length)


def protect_request(mm_id: int, addr: int, length: int, prot: int) -> pb.ProtectRequest:
    return pb.ProtectRequest(
        request_id=request_id(), mm_id=mm_id, addr=addr, length_bytes=length, prot=prot
    )


def remap_request(
    mm_id: int, addr: int, old_length: int, new_length: int, flags: int, new_addr: int
) -> pb.RemapRequest:
    return pb.RemapRequest(
        request_id=request_id(),
        mm_id=mm_id,
        addr=addr,
        old_length_bytes=old_length,
        new_length_bytes=new_length,
        flags=flags,
        new_addr=new_addr,
    )


def advise_request(mm_id: int, addr: int, length: int, advice: int) -> pb.AdviseRequest:
    return pb.AdviseRequest(
        request_id=request_id(),
        mm_id=mm_id,
        addr=addr,
        length_bytes=length,
        # An int in Linux: -1 is as unknown as any other.
        advice=advice & 0xFFFF_FFFF,
    )


def set_break_request(mm_id: int, addr: int) -> pb.SetBreakRequest:
    return pb.SetBreakRequest(request_id=request_id(), mm_id=mm_id, addr=addr)


def touch_request(mm_id: int, addr: int, access: Access, value: int) -> pb.TouchRequest:
    kind = TouchAccess.parse(access) if isinstance(access, str) else access
    return pb.TouchRequest(
        request_id=request_id(),
        mm_id=mm_id,
        addr=addr,
        access=kind.value,  # type: ignore[arg-type]
        value=value,
    )


def apply_request(mm_id: int, batch: Batch, on_error: str) -> pb.ApplyRequest:
    """ValueError for an on_error that there is not, or an empty batch."""
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error: {on_error!r} is none of {', '.join(ON_ERROR)}")
    if not batch:
        raise ValueError("a batch without operations")
    return pb.ApplyRequest(
        request_id=request_id(),
        mm_id=mm_id,
        columns=batch.columns(),
        on_error=ON_ERROR[on_error],
        files=batch.files,
    )


def apply_requests(
    mm_id: int, batches: Iterable[Batch], on_error: str
) -> Iterator[pb.ApplyRequest]:
    return (apply_request(mm_id, batch, on_error) for batch in batches)


def find_vma_request(mm_id: int, addr: int) -> pb.FindVmaRequest:
    return pb.FindVmaRequest(mm_id=mm_id, addr=addr)


def find_gap_request(
    mm_id: int, length: int, low: int, high: int, bottom_up: bool
) -> pb.FindGapRequest:
    return pb.FindGapRequest(
        mm_id=mm_id, length_bytes=length, low=low, high=high, bottom_up=bottom_up
    )


def found_vma(reply: pb.FindVmaResponse) -> Vma | None:
    if not reply.HasField("vma"):
        return None
    vma = reply.vma
    return Vma(
        vma.start,
        vma.end,
        vma.vm_flags,
        vma.offset_bytes,
        _text(vma.name),
        vma.dev_major,
        vma.dev_minor,
        vma.inode,
    )


def stream_vmas_request(mm_id: int) -> pb.StreamVmasRequest:
    return pb.StreamVmasRequest(mm_id=mm_id)


def vmas_of(chunks: Iterable[pb.StreamVmasResponse]) -> list[Vma]:
    """The VMAs of a whole stream. ServerFault when it was cut off or contradicts itself. O(n)."""
    vmas: list[Vma] = []
    names: dict[int, tuple[str, int, int, int]] = {0: ("", 0, 0, 0)}
    totals: SpaceInfo | None = None
    for chunk in chunks:
        for name in chunk.names:
            names[name.index] = (_text(name.name), name.dev_major, name.dev_minor, name.inode)
        c = chunk.columns
        columns = zip(c.start, c.end, c.vm_flags, c.offset_bytes, c.name_index, strict=True)
        vmas += [Vma(s, e, flags, off, *names[i]) for s, e, flags, off, i in columns]
        if chunk.HasField("totals"):
            totals = chunk.totals
    if totals is None:
        raise ServerFault("the stream of VMAs was cut off: it came without totals")
    if totals.vma_count != len(vmas):
        raise ServerFault(f"{len(vmas)} VMAs came of {totals.vma_count}")
    return vmas


def repeat_fork_request(
    mm_id: int, strategies: Sequence[Strategy], forks: int, block: int, warmup: int, share: bool
) -> pb.RepeatForkRequest:
    return pb.RepeatForkRequest(
        mm_id=mm_id,
        strategies=[strategy_number(s) for s in strategies],  # type: ignore[misc]
        forks_per_strategy=forks,
        block_fork_count=block,
        warmup_fork_count=warmup,
        share_out=share,
    )


def fork_block(reply: pb.RepeatForkResponse) -> ForkBlock:
    return ForkBlock(
        reply.strategy_index,
        ForkStrategy(reply.strategy),
        reply.block,
        reply.core_ns,
        reply.work,
        reply.exit_ns,
        reply.worker,
    )


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")

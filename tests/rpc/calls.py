"""Calls over real channels, and what they are refused with."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import grpc
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import diagnostics_pb2, types_pb2
from forkstorm.v1.address_spaces_pb2_grpc import AddressSpacesStub
from forkstorm.v1.diagnostics_pb2_grpc import DiagnosticsStub
from google.rpc import error_details_pb2
from grpc_status import rpc_status

PROT_RW = 3
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x2, 0x10, 0x20
MAP_NORESERVE = 0x4000
MAP_FIXED_NOREPLACE = 0x100000
PRIVATE_ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS
BULK_INSERT, TREE_DUP = types_pb2.FORK_STRATEGY_BULK_INSERT, types_pb2.FORK_STRATEGY_TREE_DUP
EXTENT_COPY, SHARE = types_pb2.FORK_STRATEGY_EXTENT_COPY, types_pb2.FORK_STRATEGY_SHARE
STRATEGIES = (BULK_INSERT, TREE_DUP, EXTENT_COPY, SHARE)
NO_SPACE = 0x00FF_FFFF_FFF0_0001


def request_id() -> str:
    return str(uuid.uuid4())


class Api:
    """Both services at one address, on a connection of their own."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.spaces = AddressSpacesStub(self.channel)
        self.diagnostics = DiagnosticsStub(self.channel)

    def create(
        self,
        text: bytes = b"",
        labels: Mapping[str, str] | None = None,
        ttl_ns: int = 0,
        parameters: Mapping[str, int] | None = None,
    ) -> int:
        answer = self.spaces.CreateAddressSpace(
            pb.CreateAddressSpaceRequest(
                request_id=request_id(),
                maps_text=text,
                labels=labels,
                ttl_ns=ttl_ns,
                parameters=types_pb2.SpaceParameters(**(parameters or {})),  # type: ignore[arg-type]
            )
        )
        return cast(int, answer.mm_id)

    def fork(self, mm_id: int, **fields: object) -> pb.ForkResponse:
        fields = {"request_id": request_id(), **fields}
        request = pb.ForkRequest(mm_id=mm_id, **fields)  # type: ignore[arg-type]
        return cast(pb.ForkResponse, self.spaces.Fork(request))

    def exit(self, mm_id: int) -> pb.ExitResponse:
        request = pb.ExitRequest(request_id=request_id(), mm_id=mm_id)
        return cast(pb.ExitResponse, self.spaces.Exit(request))

    def map(
        self,
        mm_id: int,
        length_bytes: int = 4096,
        addr: int = 0,
        prot: int = PROT_RW,
        flags: int = PRIVATE_ANONYMOUS,
        **fields: object,
    ) -> int:
        request = pb.MapRequest(
            request_id=request_id(),
            mm_id=mm_id,
            addr=addr,
            length_bytes=length_bytes,
            prot=prot,
            flags=flags,
            **fields,  # type: ignore[arg-type]
        )
        return cast(int, self.spaces.Map(request).addr)

    def unmap(self, mm_id: int, addr: int, length_bytes: int) -> pb.UnmapResponse:
        request = pb.UnmapRequest(
            request_id=request_id(), mm_id=mm_id, addr=addr, length_bytes=length_bytes
        )
        return cast(pb.UnmapResponse, self.spaces.Unmap(request))

    def protect(self, mm_id: int, addr: int, length_bytes: int, prot: int) -> pb.ProtectResponse:
        request = pb.ProtectRequest(
            request_id=request_id(), mm_id=mm_id, addr=addr, length_bytes=length_bytes, prot=prot
        )
        return cast(pb.ProtectResponse, self.spaces.Protect(request))

    def remap(
        self,
        mm_id: int,
        addr: int,
        old_length_bytes: int,
        new_length_bytes: int,
        flags: int = 0,
        new_addr: int = 0,
    ) -> int:
        request = pb.RemapRequest(
            request_id=request_id(),
            mm_id=mm_id,
            addr=addr,
            old_length_bytes=old_length_bytes,
            new_length_bytes=new_length_bytes,
            flags=flags,
            new_addr=new_addr,
        )
        return cast(int, self.spaces.Remap(request).addr)

    def advise(self, mm_id: int, addr: int, length_bytes: int, advice: int) -> pb.AdviseResponse:
        request = pb.AdviseRequest(
            request_id=request_id(),
            mm_id=mm_id,
            addr=addr,
            length_bytes=length_bytes,
            advice=advice,
        )
        return cast(pb.AdviseResponse, self.spaces.Advise(request))

    def set_break(self, mm_id: int, addr: int = 0) -> int:
        request = pb.SetBreakRequest(request_id=request_id(), mm_id=mm_id, addr=addr)
        return cast(int, self.spaces.SetBreak(request).brk)

    def touch(
        self,
        mm_id: int,
        addr: int,
        access: types_pb2.TouchAccess = types_pb2.TOUCH_ACCESS_READ,
        value: int = 0,
    ) -> int:
        request = pb.TouchRequest(
            request_id=request_id(), mm_id=mm_id, addr=addr, access=access, value=value
        )
        return cast(int, self.spaces.Touch(request).value)

    def write(self, mm_id: int, addr: int, value: int) -> int:
        return self.touch(mm_id, addr, types_pb2.TOUCH_ACCESS_WRITE, value)

    def audit(self) -> diagnostics_pb2.AuditResponse:
        answer = self.diagnostics.Audit(diagnostics_pb2.AuditRequest())
        return cast(diagnostics_pb2.AuditResponse, answer)

    def leaks(self) -> dict[str, int]:
        """What Audit counts as allocated and cannot reach, by kind; of a quiet server."""
        audit = self.audit()
        assert audit.quiescent
        found = {
            "nodes": audit.allocated_node_count - audit.reachable_node_count,
            "records": audit.allocated_record_count - audit.reachable_record_count,
            "page tables": audit.page_table_count - audit.reachable_page_table_count,
            "objects": audit.object_count - audit.reachable_object_count,
            "extent blocks": audit.extent_block_count - audit.reachable_extent_block_count,
        }
        return {kind: count for kind, count in found.items() if count}

    def violations(self, mm_id: int) -> list[str]:
        """What Verify finds wrong with a space."""
        answer = self.diagnostics.Verify(diagnostics_pb2.VerifyRequest(mm_id=mm_id))
        return list(answer.violations)

    def info(self, mm_id: int) -> types_pb2.AddressSpace:
        answer = self.spaces.GetAddressSpace(pb.GetAddressSpaceRequest(mm_id=mm_id))
        return cast(types_pb2.AddressSpace, answer.address_space)

    def page(self, **fields: object) -> pb.ListAddressSpacesResponse:
        request = pb.ListAddressSpacesRequest(**fields)  # type: ignore[arg-type]
        return cast(pb.ListAddressSpacesResponse, self.spaces.ListAddressSpaces(request))

    def vmas(self, mm_id: int, chunk_vma_count: int = 0) -> list[types_pb2.Vma]:
        """All VMAs, put together from the stream; fails when it has no totals."""
        names = {0: types_pb2.VmaName()}
        vmas: list[types_pb2.Vma] = []
        totals = None
        stream = self.spaces.StreamVmas(
            pb.StreamVmasRequest(mm_id=mm_id, chunk_vma_count=chunk_vma_count)
        )
        for chunk in stream:
            assert totals is None, "a chunk behind the totals"
            for name in chunk.names:
                assert name.index not in names, "a name sent twice"
                names[name.index] = name
            columns = chunk.columns
            for row in zip(
                columns.start,
                columns.end,
                columns.vm_flags,
                columns.offset_bytes,
                columns.name_index,
                strict=True,
            ):
                name = names[row[4]]
                vmas.append(
                    types_pb2.Vma(
                        start=row[0],
                        end=row[1],
                        vm_flags=row[2],
                        offset_bytes=row[3],
                        name=name.name,
                        dev_major=name.dev_major,
                        dev_minor=name.dev_minor,
                        inode=name.inode,
                    )
                )
            if chunk.HasField("totals"):
                totals = chunk.totals
        assert totals is not None
        assert totals.vma_count == len(vmas)
        return vmas

    def maps_text(self, mm_id: int) -> bytes:
        """The text of /proc/PID/maps, written down once more for the comparison."""
        lines = []
        for vma in self.vmas(mm_id):
            flags = vma.vm_flags
            permissions = "".join(
                letter if flags & bit else "-" for letter, bit in zip("rwx", (1, 2, 4), strict=True)
            ) + ("s" if flags & 0x80 else "p")
            line = (
                f"{vma.start:08x}-{vma.end:08x} {permissions} {vma.offset_bytes:08x} "
                f"{vma.dev_major:02x}:{vma.dev_minor:02x} {vma.inode} "
            ).encode()
            if vma.name:
                line = line.ljust(73) + vma.name.replace(b"\n", rb"\012")
            lines.append(line + b"\n")
        return b"".join(lines)


@dataclass
class Refused:
    """How a call failed: filled in when the block of `refused` ends."""

    detail: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


@contextmanager
def refused(code: grpc.StatusCode, reason: str, **metadata: str) -> Iterator[Refused]:
    """The block's call fails with this code and ErrorInfo, which has at least this metadata."""
    told = Refused()
    try:
        yield told
    except grpc.RpcError as error:
        call = cast(grpc.Call, error)
        assert call.code() is code, call.details()
        info, bad = _details(call)
        assert (info.reason, info.domain) == (reason, "forkstorm"), call.details()
        told.detail = call.details() or ""
        told.metadata = dict(info.metadata)
        assert metadata.items() <= told.metadata.items(), told.metadata
        told.fields = {v.field: v.description for v in bad.field_violations}
        # Who is to blame is said in both places.
        if code is grpc.StatusCode.INVALID_ARGUMENT and "field" in told.metadata:
            assert told.metadata["field"] in told.fields
    else:
        raise AssertionError(f"the call succeeded instead of {code.name} {reason}")


def _details(
    call: grpc.Call,
) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(call)
    assert status is not None, f"no details: {call.code()} {call.details()}"
    for detail in status.details:
        for message in (info, bad):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    return info, bad

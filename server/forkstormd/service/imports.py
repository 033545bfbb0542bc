"""Spaces from the text of /proc/PID/maps and smaps, and from nothing.

What a text says beyond its VMAs:

- [heap] gives start_brk and brk: the first start and the last end of the lines of that name, as
  far as no nameless private memory lies between (the kernel would call that [heap] as well).
- [stack] gives start_stack; its first line, since a process has one stack.
- mmap_base is the end of the highest VMA that ends at least 128 MiB below the top of the stack
  (of task_size without one). That is Linux's smallest gap between the two (MIN_GAP), and the first
  things that a process maps, its loader and vdso, end at mmap_base: so new mappings go where they
  would have gone in the process. Only the upper quarter counts: a lower one is the end of a program
  that has mapped nothing, or of the legacy bottom-up layout. There Linux's default holds.
- A file on a block device asks for places at 2 MiB boundaries, as ext4 and xfs do. One without
  (major 0) does not, as is right for tmpfs, overlayfs, memfd and [vdso]; the text does not tell
  btrfs, which has none either, from these.
- Any other name is an object of its own, known by name, device and inode. So [vdso] and [vvar] are
  "files" without an inode, and do not merge with anonymous memory. [vsyscall] lies above task_size
  and is a VMA here, although no kernel has it in the tree: reading it back is worth more than the
  one VMA that a real process would not duplicate.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic_ns

import grpc
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from forkstormd.core.dedupe import Ticket
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import TASK_SIZE, SpaceParams, VmaSpec
from forkstormd.errors import Refusal, abort, invalid, limit_exceeded
from forkstormd.maps_text import (
    VM_EXEC,
    VM_PKEY,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    MapsError,
    MapsParser,
    MapsVma,
    TooManyVmas,
)
from forkstormd.service import replies
from forkstormd.service.idempotency import enter, parse_request_id, payload_hash
from forkstormd.service.requests import STACK_GAP, encode_labels, expiry_of, parameters_of
from forkstormd.service.state import Turn, WorkerState

VMAS_MAX = 1 << 20
_HEAP, _STACK = b"[heap]", b"[stack]"
# Where the stack pointer of a process lies at its start: below some bytes at the stack's end.
_STACK_TOP_BYTES = 16
_END_S = 0.01

Created = pb.CreateAddressSpaceResponse | pb.ImportAddressSpaceResponse


@dataclass(frozen=True)
class Layout:
    """What a new space consists of; files are still names."""

    params: SpaceParams
    vmas: list[MapsVma]
    brk: int
    start_stack: int


def layout_of_text(text: bytes, parameters: types_pb2.SpaceParameters) -> Layout:
    """The layout of a whole text; an empty one gives an empty space. O(bytes)."""
    return _layout(_parse([text]), parameters)


def create(
    mm: MemoryManager,
    layout: Layout,
    request: pb.CreateAddressSpaceRequest,
    response: Created,
    turn: Turn,
    ticket: Ticket | None,
) -> None:
    """Make the space and fill the response. O(VMAs). None is left when the caller has gone."""
    result = mm.create(
        layout.params,
        _specs(mm, layout),
        brk=layout.brk,
        start_stack=layout.start_stack,
        labels=encode_labels(request.labels),
        expires_ns=expiry_of(request.ttl_ns),
        request=ticket,
    )
    if turn.is_cancelled():
        mm.exit(result.value)
        raise Refusal("CANCELLED", "the call was cancelled")
    response.mm_id = result.value
    response.vma_count = len(layout.vmas)
    replies.fill_timing(response.timing, result)


def import_address_space(
    state: WorkerState,
    pieces: Iterable[pb.ImportAddressSpaceRequest],
    context: grpc.ServicerContext,
) -> pb.ImportAddressSpaceResponse:
    """ImportAddressSpace: the settings first, then text in pieces."""
    began_ns = monotonic_ns()
    ticket = None
    try:
        with state.long_turn(context) as turn:
            settings, vmas, text_hash = _receive(iter(pieces))
            if _is_broken_off(context):
                raise Refusal("CANCELLED", "the call was cancelled")
            response = pb.ImportAddressSpaceResponse()
            if settings.request_id:
                request_id = parse_request_id(settings.request_id)
                settings.request_id = ""
                payload = settings.SerializeToString(deterministic=True) + text_hash
                ticket = enter(state.dedupe, request_id, payload_hash(b"Import", payload))
                if ticket.replay is not None:
                    response.MergeFromString(ticket.replay)
                    response.replayed = True
                    return response
            create(state.mm, _layout(vmas, settings.parameters), settings, response, turn, ticket)
            response.timing.worker = state.config.index
            response.timing.server_ns = monotonic_ns() - began_ns
            if ticket is not None:
                ticket.done(response.SerializeToString())
            return response
    except (CoreError, Refusal) as error:
        if ticket is not None:
            ticket.abandon()
        abort(context, error)


def _is_broken_off(context: grpc.ServicerContext) -> bool:
    """Whether the stream ended because its sender did.

    That a stream has ended and that its call has are two events, and the first looks the same
    whether or not the second follows; so this waits for a moment.
    """
    ended = threading.Event()
    return not context.add_callback(ended.set) or ended.wait(_END_S)


def _receive(
    pieces: Iterator[pb.ImportAddressSpaceRequest],
) -> tuple[pb.CreateAddressSpaceRequest, list[MapsVma], bytes]:
    """The settings without their text, the VMAs, and a hash of the text however it was cut."""
    first = next(pieces, None)
    if first is None or not first.HasField("create"):
        raise invalid("create", "the first message carries the settings")
    settings = first.create
    text_hash = blake2b(digest_size=16)

    def texts() -> Iterator[bytes]:
        yield settings.maps_text
        yield first.maps_text
        for piece in pieces:
            if piece.HasField("create"):
                raise invalid("create", "only the first message carries the settings")
            yield piece.maps_text

    def hashed() -> Iterator[bytes]:
        for text in texts():
            text_hash.update(text)
            yield text

    vmas = _parse(hashed())
    settings.maps_text = b""
    return settings, vmas, text_hash.digest()


def _parse(texts: Iterable[bytes]) -> list[MapsVma]:
    parser = MapsParser(VMAS_MAX)
    try:
        for text in texts:
            parser.feed(text)
        return parser.finish()
    except MapsError as error:
        raise Refusal(
            "MALFORMED_MAPS", str(error), field="maps_text", line=str(error.line)
        ) from None
    except TooManyVmas:
        raise limit_exceeded(
            "import_vmas", f"a space is made with at most {VMAS_MAX} VMAs", "maps_text"
        ) from None


# --- what a text says beyond its VMAs --------------------------------------------------------


def _layout(vmas: list[MapsVma], parameters: types_pb2.SpaceParameters) -> Layout:
    start_brk, brk = _heap(vmas)
    stack = next((vma for vma in vmas if _is_special(vma, _STACK)), None)
    task_size = parameters.task_size if parameters.HasField("task_size") else TASK_SIZE
    top = stack.end if stack is not None else task_size
    params = parameters_of(parameters, _mmap_base(vmas, top, task_size), start_brk)
    for vma in vmas:
        if vma.start < params.task_size < vma.end:
            raise invalid(
                "parameters.task_size", f"the VMA {vma.start:x}-{vma.end:x} reaches over it"
            )
    start_stack = stack.end - _STACK_TOP_BYTES if stack is not None else 0
    return Layout(params, vmas, max(brk, params.start_brk), start_stack)


def _heap(vmas: list[MapsVma]) -> tuple[int, int]:
    """start_brk and brk of the lines called [heap]; 0, 0 without any."""
    start = end = 0
    for vma in vmas:
        if _is_special(vma, _HEAP):
            start, end = start or vma.start, vma.end
        elif start and _is_nameless(vma):
            break
    return start, end


def _mmap_base(vmas: list[MapsVma], top: int, task_size: int) -> int | None:
    ends = (vma.end for vma in vmas if vma.end <= top - STACK_GAP)
    highest = max(ends, default=0)
    return highest if highest > task_size // 4 * 3 else None


def _is_special(vma: MapsVma, name: bytes) -> bool:
    return vma.name == name and not (vma.inode or vma.dev_major or vma.dev_minor)


def _is_nameless(vma: MapsVma) -> bool:
    """Private anonymous memory: no object behind it."""
    return _is_special(vma, b"") and not vma.vm_flags & VM_SHARED


def _specs(mm: MemoryManager, layout: Layout) -> list[VmaSpec]:
    """The VMAs as the core takes them, every name an interned file."""
    files: dict[tuple[bytes, int, int, int], int] = {}
    specs = []
    for vma in layout.vmas:
        file = 0
        if not _shows_by_itself(vma, layout):
            key = (vma.name, vma.dev_major, vma.dev_minor, vma.inode)
            file = files.get(key, 0)
            if not file:
                file = files[key] = mm.intern_file(*key, thp_aligned=vma.dev_major != 0)
        specs.append(VmaSpec(vma.start, vma.end, _flags(vma, layout), vma.offset_bytes, file))
    return specs


def _flags(vma: MapsVma, layout: Layout) -> int:
    """Neither maps nor VmFlags show the key that memory for nothing but execution has."""
    execute_only = vma.vm_flags & (VM_READ | VM_WRITE | VM_EXEC) == VM_EXEC
    return vma.vm_flags | (VM_PKEY if execute_only and layout.params.protection_keys else 0)


def _shows_by_itself(vma: MapsVma, layout: Layout) -> bool:
    """Whether the core shows the right name for this VMA without a file behind it."""
    in_heap = vma.start < layout.brk and vma.end > layout.params.start_brk
    if _is_special(vma, _HEAP):
        return in_heap
    if _is_special(vma, _STACK):
        return not in_heap and vma.start <= layout.start_stack <= vma.end
    return _is_nameless(vma)

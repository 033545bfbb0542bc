"""What requests say: labels, files, strategies, parameters, ttl and page tokens.

Everything here raises errors.Refusal, naming the request's field.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Mapping
from time import monotonic_ns

from forkstorm.v1 import types_pb2

from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import (
    LINUX_VERSION,
    MAX_MAP_COUNT,
    MMAP_BASE,
    MMAP_MIN_ADDR,
    STACK_LIMIT_BYTES,
    TASK_SIZE,
    FaultSite,
    ForkFault,
    Recovery,
    SpaceParams,
)
from forkstormd.errors import invalid, limit_exceeded

LABEL_BYTES_MAX = 256
PATH_BYTES_MAX = 4096
STRATEGIES = (
    types_pb2.FORK_STRATEGY_BULK_INSERT,
    types_pb2.FORK_STRATEGY_TREE_DUP,
    types_pb2.FORK_STRATEGY_EXTENT_COPY,
    types_pb2.FORK_STRATEGY_SHARE,
)

# With five-level page tables; what no x86-64 process can have more than.
_TASK_SIZE_MAX = (1 << 56) - 4096
_PAGE = 4096
_U64_MAX = (1 << 64) - 1
# Linux keeps at least this much between the top of the stack and mmap_base (MIN_GAP).
STACK_GAP = TASK_SIZE - MMAP_BASE

_ACCESS = {
    types_pb2.FILE_ACCESS_UNSPECIFIED: 3,
    types_pb2.FILE_ACCESS_READ_WRITE: 3,
    types_pb2.FILE_ACCESS_READ_ONLY: 1,
    types_pb2.FILE_ACCESS_WRITE_ONLY: 2,
}
_FAULT_SITES: dict[int, FaultSite] = {site.value: site for site in FaultSite}
_RECOVERIES: dict[int, Recovery] = {recovery.value: recovery for recovery in Recovery} | {
    types_pb2.FORK_RECOVERY_UNSPECIFIED: Recovery.MARKER
}
# What the core calls an access.
_TOUCHES = {
    types_pb2.TOUCH_ACCESS_UNSPECIFIED: 0,
    types_pb2.TOUCH_ACCESS_READ: 0,
    types_pb2.TOUCH_ACCESS_WRITE: 1,
}
# vm.overcommit_memory has these.
_OVERCOMMITS = (0, 1, 2)
# As many pages as 64 bits of address have.
_COMMIT_LIMIT_MAX = 1 << 52
# 2.6 to 99.999: so that neither 618 nor 6.18.3 written in one go passes for 6.18.
_LINUX_VERSIONS = range(2006, 100_000)
_TOKEN = struct.Struct(">III")
_TOKEN_MAGIC = 0x66736C31  # "fsl1": a list's page, by slot


def encode_labels(labels: Mapping[str, str], field: str = "labels") -> bytes:
    """Labels as the arena keeps them: key NUL value NUL, ascending by key."""
    if not labels:
        return b""
    parts = []
    for key, value in sorted(labels.items()):
        if not key:
            raise invalid(field, "a label needs a key")
        if "\0" in key or "\0" in value:
            raise invalid(field, f"label {key!r} contains NUL")
        parts.append(f"{key}\0{value}\0")
    encoded = "".join(parts).encode()
    if len(encoded) > LABEL_BYTES_MAX:
        raise limit_exceeded(
            "label_bytes",
            f"labels take {len(encoded)} bytes (keys, values, and one each); "
            f"the limit is {LABEL_BYTES_MAX}",
            field,
        )
    return encoded


def decode_labels(encoded: bytes) -> dict[str, str]:
    """encode_labels, backwards."""
    words = encoded.decode().split("\0")
    return dict(zip(words[0:-1:2], words[1::2], strict=True))


def strategy_of(
    number: types_pb2.ForkStrategy, default: types_pb2.ForkStrategy, field: str = "strategy"
) -> types_pb2.ForkStrategy:
    """The strategy to use: `default` for the unset one."""
    if number == types_pb2.FORK_STRATEGY_UNSPECIFIED:
        return default
    if number not in STRATEGIES:
        raise invalid(field, f"there is no fork strategy {number}")
    return number


def expiry_of(ttl_ns: int) -> int:
    """When a space ends, in ns of CLOCK_MONOTONIC; 0 for never."""
    return min(monotonic_ns() + ttl_ns, _U64_MAX) if ttl_ns else 0


def fault_of(fault: types_pb2.ForkFault) -> ForkFault:
    """The step that a fork is to fail at."""
    if fault.site not in _FAULT_SITES:
        raise invalid("fault.site", f"there is no fault site {fault.site}")
    if fault.recovery not in _RECOVERIES:
        raise invalid("fault.recovery", f"there is no recovery {fault.recovery}")
    return ForkFault(_FAULT_SITES[fault.site], fault.ordinal, _RECOVERIES[fault.recovery])


def touch_of(access: types_pb2.TouchAccess) -> int:
    """The core's number of an access."""
    if access not in _TOUCHES:
        raise invalid("access", f"there is no access {access}")
    return _TOUCHES[access]


def file_of(mm: MemoryManager, file: types_pb2.File, field: str = "file") -> int:
    """The core's id of a file."""
    if file.access not in _ACCESS:
        raise invalid(f"{field}.access", f"there is no file access {file.access}")
    if b"\0" in file.path or len(file.path) > PATH_BYTES_MAX:
        raise invalid(f"{field}.path", f"a path has no NUL and at most {PATH_BYTES_MAX} bytes")
    return mm.intern_file(
        file.path,
        file.dev_major,
        file.dev_minor,
        file.inode,
        file.open_id,
        _ACCESS[file.access],
        file.thp_aligned if file.HasField("thp_aligned") else True,
    )


def parameters_of(
    given: types_pb2.SpaceParameters, mmap_base: int | None = None, start_brk: int = 0
) -> SpaceParams:
    """A space's parameters: what is given, else what the layout suggests, else Linux's.

    Fields that are read without asking whether they are set are 0 or false by default.
    """
    task_size = given.task_size if given.HasField("task_size") else TASK_SIZE
    if not _PAGE <= task_size <= _TASK_SIZE_MAX or task_size % _PAGE:
        raise invalid("parameters.task_size", f"{task_size:#x} is no page-aligned size of a task")
    min_addr = given.mmap_min_addr if given.HasField("mmap_min_addr") else MMAP_MIN_ADDR
    if min_addr >= task_size or min_addr % _PAGE:
        raise invalid("parameters.mmap_min_addr", f"{min_addr:#x} is unaligned or beyond task_size")
    lsm_min_addr = given.lsm_min_addr
    if lsm_min_addr >= task_size or lsm_min_addr % _PAGE:
        raise invalid(
            "parameters.lsm_min_addr", f"{lsm_min_addr:#x} is unaligned or beyond task_size"
        )
    if given.HasField("mmap_base"):
        mmap_base = given.mmap_base
    elif mmap_base is None or mmap_base > task_size:
        mmap_base = task_size - STACK_GAP if task_size > 2 * STACK_GAP else task_size
    if not min_addr <= mmap_base <= task_size or mmap_base % _PAGE:
        raise invalid(
            "parameters.mmap_base",
            f"{mmap_base:#x} is unaligned or not within mmap_min_addr and task_size",
        )
    if given.HasField("start_brk"):
        start_brk = given.start_brk
    if start_brk > task_size:
        raise invalid("parameters.start_brk", f"{start_brk:#x} is beyond task_size")
    if given.overcommit not in _OVERCOMMITS:
        raise invalid("parameters.overcommit", f"there is no overcommit mode {given.overcommit}")
    if given.commit_limit_pages > _COMMIT_LIMIT_MAX:
        raise invalid("parameters.commit_limit_pages", "more pages than 64 bits of address have")
    linux_version = given.linux_version if given.HasField("linux_version") else LINUX_VERSION
    if linux_version not in _LINUX_VERSIONS:
        raise invalid(
            "parameters.linux_version", f"{linux_version} is no major * 1000 + minor, such as 6018"
        )
    return SpaceParams(
        task_size=task_size,
        mmap_min_addr=min_addr,
        mmap_base=mmap_base,
        start_brk=start_brk,
        max_map_count=given.max_map_count if given.HasField("max_map_count") else MAX_MAP_COUNT,
        privileged=given.privileged,
        thp_alignment=given.thp_alignment if given.HasField("thp_alignment") else True,
        overcommit=given.overcommit,
        commit_limit_pages=given.commit_limit_pages,
        linux_version=linux_version,
        stack_limit_bytes=(
            given.stack_limit_bytes if given.HasField("stack_limit_bytes") else STACK_LIMIT_BYTES
        ),
        lsm_min_addr=lsm_min_addr,
        protection_keys=given.protection_keys,
    )


def page_token(slot: int) -> str:
    """The token of the page behind a slot."""
    packed = struct.pack(">II", _TOKEN_MAGIC, slot)
    return base64.urlsafe_b64encode(packed + zlib.crc32(packed).to_bytes(4)).decode()


def slot_of_token(token: str) -> int:
    """page_token, backwards; -1, which is before all slots, for the empty one."""
    if not token:
        return -1
    refusal = invalid("page_token", "is no next_page_token of this server")
    try:
        packed = base64.b64decode(token, altchars=b"-_", validate=True)
        magic, slot, checksum = _TOKEN.unpack(packed)
    except (ValueError, struct.error):
        raise refusal from None
    if magic != _TOKEN_MAGIC or checksum != zlib.crc32(packed[:8]):
        raise refusal
    return int(slot)

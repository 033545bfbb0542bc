"""Many operations for one message: what Apply is asked and what it answers.

    batch = forkstorm.Batch()
    batch.map(8192, addr=0x10000, flags=MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    batch.unmap(0x10000, 4096)
    outcome = space.apply(batch)
    print(outcome.results)

The methods are those of an AddressSpace, with the same arguments in bytes; each returns the index
of its operation. A batch may be applied any number of times, and grow in between.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from forkstorm.constants import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, TouchAccess
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

_MAP, _UNMAP, _PROTECT, _ADVISE, _REMAP, _SET_BREAK, _TOUCH = range(1, 8)
_READ_WRITE = int(PROT_READ | PROT_WRITE)
_PRIVATE = int(MAP_PRIVATE)
_PRIVATE_ANONYMOUS = int(MAP_PRIVATE | MAP_ANONYMOUS)
_WORD_BYTES = 8
# A row: the kind and six arguments, little-endian.
_ROW_WORDS = 7
_ROW_BYTES = _ROW_WORDS * _WORD_BYTES
_pack_row = struct.Struct(f"<{_ROW_WORDS}Q").pack
_MODULUS = 1 << 64

#: What happens when an operation fails: the batch ends with it, or goes on.
ON_ERROR = {"stop": pb.APPLY_ON_ERROR_STOP, "skip": pb.APPLY_ON_ERROR_SKIP}


class ApplyResult(NamedTuple):
    """What came of a batch."""

    #: One number per operation performed: an address, a break, a page's value or 0; of one that
    #: failed its errno, negative.
    results: Sequence[int]
    #: The errno of each operation that failed, by its index, ascending.
    failed: Mapping[int, int]
    #: "arena" when the server's memory ran out, which ends a batch; else "".
    limit: str
    timing: types_pb2.Timing
    #: A retry got the first attempt's answer.
    replayed: bool


class Batch:
    """Operations on one space, performed in this order and published together."""

    __slots__ = ("_rows", "files")

    def __init__(self) -> None:
        self._rows = bytearray()
        #: What the operations map, each once.
        self.files: list[types_pb2.File] = []

    def __len__(self) -> int:
        return len(self._rows) // _ROW_BYTES

    def _add(
        self, kind: int, a: int, b: int = 0, c: int = 0, d: int = 0, e: int = 0, f: int = 0
    ) -> int:
        rows = self._rows
        index = len(rows) // _ROW_BYTES
        try:
            rows += _pack_row(kind, a, b, c, d, e, f)
        except struct.error:
            raise ValueError("an argument is no number of 64 bits") from None
        return index

    def map(
        self,
        length: int,
        prot: int = _READ_WRITE,
        flags: int | None = None,
        *,
        addr: int = 0,
        file: types_pb2.File | None = None,
        offset: int = 0,
    ) -> int:
        """mmap(2). Its result is the address."""
        if flags is None:
            flags = _PRIVATE_ANONYMOUS if file is None else _PRIVATE
        if file is None and offset == 0:
            return self._add(_MAP, addr, length, prot, flags)
        return self._add(_MAP, addr, length, prot, flags, self._place_of(file), offset)

    def _place_of(self, file: types_pb2.File | None) -> int:
        if file is None:
            return 0
        if file not in self.files:
            self.files.append(file)
        return self.files.index(file) + 1

    def unmap(self, addr: int, length: int) -> int:
        """munmap(2)."""
        return self._add(_UNMAP, addr, length)

    def protect(self, addr: int, length: int, prot: int) -> int:
        """mprotect(2)."""
        return self._add(_PROTECT, addr, length, prot)

    def advise(self, addr: int, length: int, advice: int) -> int:
        """madvise(2) with an Advice."""
        return self._add(_ADVISE, addr, length, advice & 0xFFFF_FFFF)

    def remap(
        self, addr: int, old_length: int, new_length: int, flags: int = 0, new_addr: int = 0
    ) -> int:
        """mremap(2). Its result is the address."""
        return self._add(_REMAP, addr, old_length, new_length, flags, new_addr)

    def set_break(self, addr: int = 0) -> int:
        """brk(2), the system call. Its result is the break as it then is."""
        return self._add(_SET_BREAK, addr)

    def touch(self, addr: int, access: TouchAccess | str = TouchAccess.READ, value: int = 0) -> int:
        """An access to memory. Its result is the page's value after it."""
        kind = TouchAccess.parse(access) if isinstance(access, str) else access
        return self._add(_TOUCH, addr, kind.value, value)

    def columns(self) -> pb.ApplyColumns:
        """The operations as they are sent. O(operations), at the speed of copying."""
        words = array("Q", bytes(self._rows))
        # The lowest byte of each row's first word.
        kind = bytes(self._rows[::_ROW_BYTES])
        columns = [_packed(words[number::_ROW_WORDS]) for number in range(1, _ROW_WORDS)]
        return pb.ApplyColumns(
            kind=kind,
            arg_0=columns[0],
            arg_1=columns[1],
            arg_2=columns[2],
            arg_3=columns[3],
            arg_4=columns[4],
            arg_5=columns[5],
        )


def _packed(column: array[int]) -> bytes:
    """A column as it is sent: one word where all are the same, nothing where they are 0."""
    data = column.tobytes()
    first = data[:_WORD_BYTES]
    if data != first * len(column):
        return data
    return first if column[0] else b""


def apply_result(reply: pb.ApplyResponse) -> ApplyResult:
    # Negative only where an operation failed: a page may hold any 64 bits.
    results = array("Q", reply.results)
    if sys.byteorder == "big":
        results.byteswap()
    if not reply.failed:
        return ApplyResult(results, {}, reply.limit, reply.timing, reply.replayed)
    signed: list[int] = results.tolist()
    for index in reply.failed:
        signed[index] -= _MODULUS
    failed = {index: -signed[index] for index in reply.failed}
    return ApplyResult(signed, failed, reply.limit, reply.timing, reply.replayed)

"""VMAs as the text of /proc/PID/maps.

The format is that of show_map_vma() in fs/proc/task_mmu.c: addresses of at least eight hexadecimal
digits, the name in column 73 or one blank behind a longer line, a blank behind the inode where
there is no name, and a newline in a name as \\012. Only the server reads such text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from forkstorm.constants import VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE

_NAME_COLUMN = 73
_READ, _WRITE, _EXEC, _MAYSHARE = map(int, (VM_READ, VM_WRITE, VM_EXEC, VM_MAYSHARE))


class Vma(NamedTuple):
    """One memory area, [start, end) in bytes. A named tuple: a space has up to 65,530 of them."""

    start: int
    end: int
    #: VmFlag bits.
    vm_flags: int
    #: 0 for private anonymous memory.
    offset_bytes: int
    #: A path, [heap], [stack] ..., or "". Bytes that are not UTF-8 are surrogate escapes.
    name: str
    dev_major: int
    dev_minor: int
    inode: int

    def __str__(self) -> str:
        return format_vma(self)


def format_vma(vma: Vma) -> str:
    """The line of one VMA, without its newline."""
    start, end, flags, offset, name, major, minor, inode = vma
    line = (
        f"{start:08x}-{end:08x} "
        f"{'r' if flags & _READ else '-'}{'w' if flags & _WRITE else '-'}"
        f"{'x' if flags & _EXEC else '-'}{'s' if flags & _MAYSHARE else 'p'} "
        f"{offset:08x} {major:02x}:{minor:02x} {inode} "
    )
    if not name:
        return line
    escaped = name.replace("\n", "\\012")
    return f"{line:<{_NAME_COLUMN}}{escaped}"


def format_maps(vmas: Iterable[Vma]) -> bytes:
    """The text of /proc/PID/maps. O(n)."""
    return "".join(format_vma(vma) + "\n" for vma in vmas).encode("utf-8", "surrogateescape")

"""Parser of /proc/PID/maps and /proc/PID/smaps, in pieces that may be cut anywhere.

    parser = MapsParser()
    for piece in pieces: parser.feed(piece)
    vmas = parser.finish()

The format is that of show_map_vma() in fs/proc/task_mmu.c. smaps has further lines behind each
header; of these VmFlags gives the flags exactly. From maps alone they are what mmap(2) would most
likely have set: the MAY bits all, SHARED and MAYSHARE for 's', ACCOUNT for private writable
memory, GROWSDOWN for [stack].

A name is kept as the kernel has it, so \\012 becomes the newline that it stands for.

Errors: MapsError with the line's number, from 1, for text that is no such file, and for VMAs that
are empty, unaligned, overlapping or not ascending.
"""

from __future__ import annotations

import re
from typing import NamedTuple

VM_READ, VM_WRITE, VM_EXEC, VM_SHARED = 0x1, 0x2, 0x4, 0x8
VM_MAYREAD, VM_MAYWRITE, VM_MAYEXEC, VM_MAYSHARE = 0x10, 0x20, 0x40, 0x80
VM_GROWSDOWN = 0x100
VM_ACCOUNT = 0x100000
# The protection key of execute-only memory, as in the core (vma.py); no text shows it.
VM_PKEY = 1 << 32

# The mnemonics of show_smap_vma_flags() and their bits in include/linux/mm.h (Linux 6.18, x86-64).
_VM_FLAGS = {
    b"rd": VM_READ,
    b"wr": VM_WRITE,
    b"ex": VM_EXEC,
    b"sh": VM_SHARED,
    b"mr": VM_MAYREAD,
    b"mw": VM_MAYWRITE,
    b"me": VM_MAYEXEC,
    b"ms": VM_MAYSHARE,
    b"gd": VM_GROWSDOWN,
    b"um": 1 << 9,  # UFFD_MISSING
    b"pf": 1 << 10,  # PFNMAP
    b"uw": 1 << 12,  # UFFD_WP
    b"lo": 1 << 13,  # LOCKED
    b"io": 1 << 14,  # IO
    b"sr": 1 << 15,  # SEQ_READ
    b"rr": 1 << 16,  # RAND_READ
    b"dc": 1 << 17,  # DONTCOPY
    b"de": 1 << 18,  # DONTEXPAND
    b"lf": 1 << 19,  # LOCKONFAULT
    b"ac": VM_ACCOUNT,
    b"nr": 1 << 21,  # NORESERVE
    b"ht": 1 << 22,  # HUGETLB
    b"sf": 1 << 23,  # SYNC
    b"ar": 1 << 24,  # ARCH_1, on x86 PAT
    b"wf": 1 << 25,  # WIPEONFORK
    b"dd": 1 << 26,  # DONTDUMP
    b"sd": 1 << 27,  # SOFTDIRTY
    b"mm": 1 << 28,  # MIXEDMAP
    b"hg": 1 << 29,  # HUGEPAGE
    b"nh": 1 << 30,  # NOHUGEPAGE
    b"mg": 1 << 31,  # MERGEABLE
    b"ss": 1 << 37,  # SHADOW_STACK
    b"dp": 1 << 40,  # DROPPABLE
    b"ui": 1 << 41,  # UFFD_MINOR
    b"sl": 1 << 42,  # SEALED
}

_PAGE = 4096
_LINE_BYTES_MAX = 64 << 10
_U64_MAX = (1 << 64) - 1
_PERMISSIONS = VM_READ | VM_WRITE | VM_EXEC

_HEADER = re.compile(
    rb"([0-9a-f]{1,16})-([0-9a-f]{1,16}) ([r-][w-][x-][ps]) ([0-9a-f]{1,16}) "
    rb"([0-9a-f]{1,8}):([0-9a-f]{1,8}) ([0-9]{1,20})(?: +(.*))?",
    re.DOTALL,
)
_SMAPS_FIELD = re.compile(rb"([A-Z][A-Za-z0-9_]*):(.*)", re.DOTALL)


class MapsError(Exception):
    """The text is not what it should be; `line` is the number of the line at fault, from 1."""

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(f"line {line}: {detail}")
        self.line = line


class TooManyVmas(Exception):
    """More VMAs than the parser was told to accept."""


class MapsVma(NamedTuple):
    """One VMA as the text has it, [start, end) in bytes."""

    start: int
    end: int
    vm_flags: int
    offset_bytes: int
    dev_major: int
    dev_minor: int
    inode: int
    name: bytes


class MapsParser:
    """See the module. O(bytes) altogether."""

    def __init__(self, max_vmas: int = 1 << 20) -> None:
        self._max_vmas = max_vmas
        self._vmas: list[MapsVma] = []
        self._line = 0
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the text."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._take(line)
        if len(self._rest) > _LINE_BYTES_MAX:
            raise MapsError(self._line + 1, f"longer than {_LINE_BYTES_MAX} bytes")

    def finish(self) -> list[MapsVma]:
        """The VMAs of the whole text, ascending."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""
        return self._vmas

    def _take(self, line: bytes) -> None:
        self._line += 1
        if header := _HEADER.fullmatch(line):
            self._take_header(header)
        elif field := _SMAPS_FIELD.fullmatch(line):
            if not self._vmas:
                raise MapsError(self._line, "a field of smaps before the first VMA")
            if field[1] == b"VmFlags":
                self._take_vm_flags(field[2])
        elif line.strip():
            raise MapsError(self._line, "is no line of /proc/PID/maps or smaps")

    def _take_header(self, header: re.Match[bytes]) -> None:
        start, end, offset = int(header[1], 16), int(header[2], 16), int(header[4], 16)
        major, minor, inode = int(header[5], 16), int(header[6], 16), int(header[7])
        if end <= start:
            raise MapsError(self._line, "ends where it starts, or before")
        if (start | end | offset) % _PAGE:
            raise MapsError(self._line, f"is not aligned to pages of {_PAGE} bytes")
        if inode > _U64_MAX:
            raise MapsError(self._line, f"has the inode {inode}, which is no 64-bit number")
        if self._vmas and start < self._vmas[-1].end:
            what = "overlaps" if end > self._vmas[-1].start else "comes after"
            raise MapsError(
                self._line, f"{what} the VMA before it; VMAs are ascending and disjoint"
            )
        if len(self._vmas) >= self._max_vmas:
            raise TooManyVmas
        name = (header[8] or b"").replace(rb"\012", b"\n")
        flags = _likely_flags(header[3], name)
        self._vmas.append(MapsVma(start, end, flags, offset, major, minor, inode, name))

    def _take_vm_flags(self, text: bytes) -> None:
        """VmFlags replaces the flags that the header made likely, and must agree with it."""
        flags = 0
        for word in text.split():
            try:
                flags |= _VM_FLAGS[word]
            except KeyError:
                # All flags take part in merging: one that is dropped would change what happens.
                shown = word.decode("ascii", "backslashreplace")
                raise MapsError(self._line, f"VmFlags has an unknown flag {shown!r}") from None
        vma = self._vmas[-1]
        if (flags ^ vma.vm_flags) & (_PERMISSIONS | VM_MAYSHARE):
            raise MapsError(self._line, "VmFlags contradicts the permissions of its VMA")
        self._vmas[-1] = vma._replace(vm_flags=flags)


def _likely_flags(permissions: bytes, name: bytes) -> int:
    flags = VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    if permissions[0] == ord("r"):
        flags |= VM_READ
    if permissions[1] == ord("w"):
        flags |= VM_WRITE
    if permissions[2] == ord("x"):
        flags |= VM_EXEC
    if permissions[3] == ord("s"):
        flags |= VM_SHARED | VM_MAYSHARE
    elif flags & VM_WRITE:
        flags |= VM_ACCOUNT
    if name == b"[stack]":
        flags |= VM_GROWSDOWN
    return flags

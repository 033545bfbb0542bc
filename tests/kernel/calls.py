"""What the kernel and a simulation of it are both asked, and how they answer.

A Call names a process (0 is the first; every fork that succeeds makes the next number) and a
system call with its raw arguments:

    map      addr, length, prot, flags, file, offset     file: index in FILES, -1 for a bad one
    unmap    addr, length
    protect  addr, length, prot
    remap    old address, old length, new length, flags, new address
    advise   addr, length, advice
    brk      addr
    touch    addr, access, value                         the u64 at the start of the page
    fork
    exit

Numbers are those of the system calls; addresses, lengths and offsets are u64 in bytes.
"""

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from forkstormd.core.types import SpaceParams

PAGE = 4096
PMD = 2 << 20
TASK_SIZE = 0x7FFF_FFFF_F000
FILE_BYTES = 1 << 40  # the size of every file, all of it a hole
PROCESSES = 16  # at most in one sequence, dead ones counted

READ, WRITE = 0, 1  # what a touch does

PROT_READ, PROT_WRITE, PROT_EXEC, PROT_SEM = 1, 2, 4, 8
PROT_GROWSDOWN, PROT_GROWSUP = 0x0100_0000, 0x0200_0000
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_DROPPABLE = 1, 2, 3, 8
MAP_FIXED, MAP_ANONYMOUS, MAP_32BIT, MAP_ABOVE4G = 0x10, 0x20, 0x40, 0x80
MAP_GROWSDOWN, MAP_DENYWRITE, MAP_EXECUTABLE = 0x100, 0x800, 0x1000
MAP_NORESERVE, MAP_NONBLOCK, MAP_STACK = 0x4000, 0x10000, 0x20000
MAP_SYNC, MAP_FIXED_NOREPLACE = 0x8_0000, 0x10_0000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4

VM_READ, VM_WRITE, VM_GROWSDOWN, VM_HUGEPAGE = 0x1, 0x2, 0x100, 0x2000_0000

# The two letters of VmFlags in smaps that are compared, and the kernel's bits for them. The
# others are of memory that no call here makes.
VM_FLAGS = {
    "rd": 0x1,
    "wr": 0x2,
    "ex": 0x4,
    "sh": 0x8,
    "mr": 0x10,
    "mw": 0x20,
    "me": 0x40,
    "ms": 0x80,
    "gd": 0x100,
    "sr": 0x8000,
    "rr": 0x1_0000,
    "dc": 0x2_0000,
    "ac": 0x10_0000,
    "nr": 0x20_0000,
    "sf": 0x80_0000,
    "wf": 0x200_0000,
    "dd": 0x400_0000,
    "hg": 0x2000_0000,
    "nh": 0x4000_0000,
    "dp": 0x100_0000_0000,
}

BAD_FILE, ANON, SHARED_ANON, SPECIAL = -1, -1, -2, -3


class File(NamedTuple):
    """An open file description. same_as: the first of FILES that is the same inode."""

    name: str
    same_as: int
    readable: bool
    writable: bool
    on_tmpfs: bool


FILES = (
    File("disk, read and write", 0, True, True, False),
    File("disk, read only", 0, True, False, False),
    File("disk, opened again", 0, True, True, False),
    File("disk, write only", 0, False, True, False),
    File("another on disk", 4, True, True, False),
    File("memfd", 5, True, True, True),
    File("memfd, read only", 5, True, False, True),
)


class Call(NamedTuple):
    process: int
    name: str
    args: tuple[int, ...] = ()


class Outcome(NamedTuple):
    """What a call returned: a value, or 0 and an errno.

    value: an address of map and remap, the resulting break of brk, the page's u64 after a touch,
    the child's number of a fork, else 0. A touch that would be a SIGSEGV is EFAULT.
    """

    value: int = 0
    errno: int = 0

    def __str__(self) -> str:
        return errno.errorcode.get(self.errno, str(self.errno)) if self.errno else hex(self.value)


class Area(NamedTuple):
    """A VMA, [start, end): the bits of VM_FLAGS, the offset as in /proc/PID/maps.

    file: an index in FILES, ANON, SHARED_ANON, or SPECIAL for what was there before the first
    call: the program itself, the vdso and the like. Those never merge with anything.
    """

    start: int
    end: int
    flags: int
    offset: int
    file: int

    def __str__(self) -> str:
        letters = " ".join(letter for letter, bit in VM_FLAGS.items() if self.flags & bit)
        return f"{self.start:x}-{self.end:x} {self.offset:x} file {self.file} {letters}"


@dataclass(frozen=True)
class Start:
    """The process as it stands before the first call.

    thp_aligned: for each of FILES, whether its file system asks for placement at 2 MiB
    boundaries, which was tried out beforehand. huge_pages: whether MADV_HUGEPAGE gives huge pages,
    and nothing else does.
    """

    areas: tuple[Area, ...]
    params: SpaceParams
    brk: int
    thp_aligned: tuple[bool, ...]
    huge_pages: bool


class Simulation(Protocol):
    """What stands in for the kernel.

    begin() forgets whatever was before it; end() tells what is wrong inside, in sentences, if
    the simulation can check itself.
    """

    def begin(self, start: Start) -> None: ...

    def run(self, call: Call) -> Outcome: ...

    def maps(self, process: int) -> list[Area]: ...

    def end(self) -> list[str]: ...


def same_file(area: Area) -> Area:
    """The area as maps shows it, where two open files of one inode look the same."""
    if area.file < 0 or FILES[area.file].same_as == area.file:
        return area
    return area._replace(file=FILES[area.file].same_as)


def normalised(areas: Sequence[Area]) -> list[Area]:
    return [same_file(area) for area in areas]

"""Linux's numbers by their names: protection, mapping, remapping and VMA flags of x86-64, advice;
and the numbers of the API: fork strategies, fault sites, recoveries.

The names at the end are those of mmap(2), mremap(2), madvise(2) and include/linux/mm.h. The classes
give a number's flags a readable repr: `VmFlag(vma.vm_flags)`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Self

PAGE_SIZE = 4096


class Prot(IntFlag):
    """The prot argument of mmap(2)."""

    NONE = 0
    READ = 0x1
    WRITE = 0x2
    EXEC = 0x4
    SEM = 0x8
    GROWSDOWN = 0x01000000
    GROWSUP = 0x02000000


class MapFlag(IntFlag):
    """The flags argument of mmap(2). The lowest four bits are a type, not single flags."""

    SHARED = 0x1
    PRIVATE = 0x2
    SHARED_VALIDATE = 0x3
    DROPPABLE = 0x8
    FIXED = 0x10
    ANONYMOUS = 0x20
    GROWSDOWN = 0x100
    DENYWRITE = 0x800
    EXECUTABLE = 0x1000
    LOCKED = 0x2000
    NORESERVE = 0x4000
    POPULATE = 0x8000
    NONBLOCK = 0x10000
    STACK = 0x20000
    HUGETLB = 0x40000
    SYNC = 0x80000
    FIXED_NOREPLACE = 0x100000


class VmFlag(IntFlag):
    """Bits of Vma.vm_flags, as in include/linux/mm.h."""

    READ = 0x1
    WRITE = 0x2
    EXEC = 0x4
    SHARED = 0x8
    MAYREAD = 0x10
    MAYWRITE = 0x20
    MAYEXEC = 0x40
    MAYSHARE = 0x80
    GROWSDOWN = 0x100
    UFFD_MISSING = 0x200
    PFNMAP = 0x400
    UFFD_WP = 0x1000
    LOCKED = 0x2000
    IO = 0x4000
    SEQ_READ = 0x8000
    RAND_READ = 0x10000
    DONTCOPY = 0x20000
    DONTEXPAND = 0x40000
    LOCKONFAULT = 0x80000
    ACCOUNT = 0x100000
    NORESERVE = 0x200000
    HUGETLB = 0x400000
    SYNC = 0x800000
    WIPEONFORK = 0x2000000
    DONTDUMP = 0x4000000
    SOFTDIRTY = 0x8000000
    MIXEDMAP = 0x10000000
    HUGEPAGE = 0x20000000
    NOHUGEPAGE = 0x40000000
    MERGEABLE = 0x80000000
    # What Linux gives to memory of PROT_EXEC alone, where there are protection keys.
    PKEY_BIT0 = 1 << 32
    DROPPABLE = 1 << 40


class RemapFlag(IntFlag):
    """The flags argument of mremap(2)."""

    MAYMOVE = 0x1
    FIXED = 0x2
    DONTUNMAP = 0x4


class _Named(IntEnum):
    """An enumeration whose members also go by aliases: TREE_DUP, tree-dup."""

    @property
    def alias(self) -> str:
        """The name on the command line: tree-dup."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """The members by their names and aliases."""
        return {name: one for one in cls for name in (one.name, one.alias)}

    @classmethod
    def parse(cls, text: str) -> Self:
        """The member of a name or alias. ValueError if none."""
        names = cls.names()
        if text not in names:
            what = re.sub("(?<=[a-z])(?=[A-Z])", " ", cls.__name__).lower()
            raise ValueError(f"no {what} {text!r}; there are {', '.join(names)}")
        return names[text]


class Advice(_Named):
    """The advice argument of madvise(2)."""

    NORMAL = 0
    RANDOM = 1
    SEQUENTIAL = 2
    WILLNEED = 3
    DONTNEED = 4
    FREE = 8
    REMOVE = 9
    DONTFORK = 10
    DOFORK = 11
    MERGEABLE = 12
    UNMERGEABLE = 13
    HUGEPAGE = 14
    NOHUGEPAGE = 15
    DONTDUMP = 16
    DODUMP = 17
    WIPEONFORK = 18
    KEEPONFORK = 19
    COLD = 20
    PAGEOUT = 21
    POPULATE_READ = 22
    POPULATE_WRITE = 23
    DONTNEED_LOCKED = 24
    COLLAPSE = 25
    HWPOISON = 100
    SOFT_OFFLINE = 101
    GUARD_INSTALL = 102
    GUARD_REMOVE = 103


class TouchAccess(_Named):
    """What a process does at an address; the numbers are those of the API."""

    READ = 1
    WRITE = 2


class FaultSite(_Named):
    """The step of a fork that fails; the numbers are those of the API."""

    TREE_NODE = 1
    VMA_RECORD = 2
    POLICY = 3
    ANON_VMA = 4
    COMMIT_LIMIT = 5
    PAGE_TABLE = 6
    DONTCOPY_ERASE = 7
    FATAL_SIGNAL = 8


class Recovery(_Named):
    """How a fork that fails half way is undone; the numbers are those of the API."""

    TREE_END = 1
    MARKER = 2
    IMMEDIATE = 3


class ForkStrategy(_Named):
    """How a fork duplicates the tree of VMAs; the numbers are those of the API."""

    BULK_INSERT = 1
    TREE_DUP = 2
    # No kernel has these.
    EXTENT_COPY = 3
    SHARE = 4

    @classmethod
    def names(cls) -> Mapping[str, ForkStrategy]:
        """The members by their names and aliases, and by the kernels that do so, if any."""
        kernels = {"linux-6.7": cls.BULK_INSERT, "linux-6.8": cls.TREE_DUP}
        return {**super().names(), **kernels}

    @classmethod
    def _missing_(cls, value: object) -> ForkStrategy | None:
        # A newer server may name one that this library does not know yet.
        if not isinstance(value, int) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"STRATEGY_{value}" if value else "UNSPECIFIED"
        member._value_ = value
        return member


STRATEGY_NAMES = ForkStrategy.names()


def linux_version(release: str) -> int:
    """SpaceParameters.linux_version of a release such as os.uname() tells: 6018 for "6.18.3-1".

    ValueError when it does not begin with two numbers.
    """
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        raise ValueError(f"{release!r} is no release of Linux such as 6.18")
    return int(match[1]) * 1000 + int(match[2])


PROT_NONE = Prot.NONE
PROT_READ = Prot.READ
PROT_WRITE = Prot.WRITE
PROT_EXEC = Prot.EXEC
PROT_SEM = Prot.SEM
PROT_GROWSDOWN = Prot.GROWSDOWN
PROT_GROWSUP = Prot.GROWSUP

MAP_SHARED = MapFlag.SHARED
MAP_PRIVATE = MapFlag.PRIVATE
MAP_SHARED_VALIDATE = MapFlag.SHARED_VALIDATE
MAP_DROPPABLE = MapFlag.DROPPABLE
MAP_FIXED = MapFlag.FIXED
MAP_ANONYMOUS = MapFlag.ANONYMOUS
MAP_GROWSDOWN = MapFlag.GROWSDOWN
MAP_DENYWRITE = MapFlag.DENYWRITE
MAP_EXECUTABLE = MapFlag.EXECUTABLE
MAP_LOCKED = MapFlag.LOCKED
MAP_NORESERVE = MapFlag.NORESERVE
MAP_POPULATE = MapFlag.POPULATE
MAP_NONBLOCK = MapFlag.NONBLOCK
MAP_STACK = MapFlag.STACK
MAP_HUGETLB = MapFlag.HUGETLB
MAP_SYNC = MapFlag.SYNC
MAP_FIXED_NOREPLACE = MapFlag.FIXED_NOREPLACE

MREMAP_MAYMOVE = RemapFlag.MAYMOVE
MREMAP_FIXED = RemapFlag.FIXED
MREMAP_DONTUNMAP = RemapFlag.DONTUNMAP

MADV_NORMAL = Advice.NORMAL
MADV_RANDOM = Advice.RANDOM
MADV_SEQUENTIAL = Advice.SEQUENTIAL
MADV_WILLNEED = Advice.WILLNEED
MADV_DONTNEED = Advice.DONTNEED
MADV_FREE = Advice.FREE
MADV_REMOVE = Advice.REMOVE
MADV_DONTFORK = Advice.DONTFORK
MADV_DOFORK = Advice.DOFORK
MADV_MERGEABLE = Advice.MERGEABLE
MADV_UNMERGEABLE = Advice.UNMERGEABLE
MADV_HUGEPAGE = Advice.HUGEPAGE
MADV_NOHUGEPAGE = Advice.NOHUGEPAGE
MADV_DONTDUMP = Advice.DONTDUMP
MADV_DODUMP = Advice.DODUMP
MADV_WIPEONFORK = Advice.WIPEONFORK
MADV_KEEPONFORK = Advice.KEEPONFORK
MADV_COLD = Advice.COLD
MADV_PAGEOUT = Advice.PAGEOUT
MADV_POPULATE_READ = Advice.POPULATE_READ
MADV_POPULATE_WRITE = Advice.POPULATE_WRITE
MADV_DONTNEED_LOCKED = Advice.DONTNEED_LOCKED
MADV_COLLAPSE = Advice.COLLAPSE
MADV_HWPOISON = Advice.HWPOISON
MADV_SOFT_OFFLINE = Advice.SOFT_OFFLINE
MADV_GUARD_INSTALL = Advice.GUARD_INSTALL
MADV_GUARD_REMOVE = Advice.GUARD_REMOVE

VM_READ = VmFlag.READ
VM_WRITE = VmFlag.WRITE
VM_EXEC = VmFlag.EXEC
VM_SHARED = VmFlag.SHARED
VM_MAYREAD = VmFlag.MAYREAD
VM_MAYWRITE = VmFlag.MAYWRITE
VM_MAYEXEC = VmFlag.MAYEXEC
VM_MAYSHARE = VmFlag.MAYSHARE
VM_GROWSDOWN = VmFlag.GROWSDOWN
VM_UFFD_MISSING = VmFlag.UFFD_MISSING
VM_PFNMAP = VmFlag.PFNMAP
VM_UFFD_WP = VmFlag.UFFD_WP
VM_LOCKED = VmFlag.LOCKED
VM_IO = VmFlag.IO
VM_SEQ_READ = VmFlag.SEQ_READ
VM_RAND_READ = VmFlag.RAND_READ
VM_DONTCOPY = VmFlag.DONTCOPY
VM_DONTEXPAND = VmFlag.DONTEXPAND
VM_LOCKONFAULT = VmFlag.LOCKONFAULT
VM_ACCOUNT = VmFlag.ACCOUNT
VM_NORESERVE = VmFlag.NORESERVE
VM_HUGETLB = VmFlag.HUGETLB
VM_SYNC = VmFlag.SYNC
VM_WIPEONFORK = VmFlag.WIPEONFORK
VM_DONTDUMP = VmFlag.DONTDUMP
VM_SOFTDIRTY = VmFlag.SOFTDIRTY
VM_MIXEDMAP = VmFlag.MIXEDMAP
VM_HUGEPAGE = VmFlag.HUGEPAGE
VM_NOHUGEPAGE = VmFlag.NOHUGEPAGE
VM_MERGEABLE = VmFlag.MERGEABLE
VM_PKEY_BIT0 = VmFlag.PKEY_BIT0
VM_DROPPABLE = VmFlag.DROPPABLE

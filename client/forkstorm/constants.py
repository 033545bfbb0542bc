"""Linux's numbers by their names: protection, mapping and VMA flags of x86-64; fork strategies.

The names at the end are those of mmap(2) and include/linux/mm.h. The classes give a number's
flags a readable repr: `VmFlag(vma.vm_flags)`.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

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
    DROPPABLE = 1 << 40


class ForkStrategy(IntEnum):
    """How a fork duplicates the tree of VMAs; the numbers are those of the API."""

    BULK_INSERT = 1
    TREE_DUP = 2

    @property
    def alias(self) -> str:
        """The name on the command line: tree-dup."""
        return self.name.lower().replace("_", "-")

    @classmethod
    def parse(cls, text: str) -> ForkStrategy:
        """The strategy of a name (TREE_DUP) or alias (tree-dup, linux-6.8). ValueError if none."""
        try:
            return STRATEGY_NAMES[text]
        except KeyError:
            known = ", ".join(STRATEGY_NAMES)
            raise ValueError(f"no fork strategy {text!r}; there are {known}") from None

    @classmethod
    def _missing_(cls, value: object) -> ForkStrategy | None:
        # A newer server may name one that this library does not know yet.
        if not isinstance(value, int) or value < 0:
            return None
        member = int.__new__(cls, value)
        member._name_ = f"STRATEGY_{value}" if value else "UNSPECIFIED"
        member._value_ = value
        return member


STRATEGY_NAMES = {
    **{strategy.name: strategy for strategy in ForkStrategy},
    **{strategy.alias: strategy for strategy in ForkStrategy},
    "linux-6.7": ForkStrategy.BULK_INSERT,
    "linux-6.8": ForkStrategy.TREE_DUP,
}

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
VM_DROPPABLE = VmFlag.DROPPABLE

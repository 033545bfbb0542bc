"""A naive model of address spaces: sorted lists and scans, the rules of Linux and nothing clever.

Written from the rules alone (the paragraphs named are those of the specification of Linux's VMA
semantics), so that it shares no code and no idea with the core. tests/kernel holds it to the
running kernel, which is right where it and the specification disagree; "Measured" marks what
was learnt there.

A Space is one process's memory, a Family those that come from one by forks, with the files they
map. Ranges are half-open, in bytes; page offsets count pages. What a call refuses is an Errno;
it has changed nothing then, except where Linux itself stops half way.
"""

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from forkstormd.core.types import SpaceParams

PAGE, PMD, GIB4 = 4096, 2 << 20, 1 << 32
GUARD = 256 * PAGE
U64 = (1 << 64) - 1
FILE_BYTES_MAX = (1 << 63) - 1

READ, WRITE, EXEC, SHARED = 0x1, 0x2, 0x4, 0x8
ACCESS = READ | WRITE | EXEC
MAY, MAYWRITE, MAYSHARE, GROWSDOWN = 0x70, 0x20, 0x80, 0x100
PFNMAP, IO, SEQ_READ, RAND_READ = 0x400, 0x4000, 0x8000, 0x1_0000
DONTCOPY, DONTEXPAND, ACCOUNT, NORESERVE = 0x2_0000, 0x4_0000, 0x10_0000, 0x20_0000
SYNC, WIPEONFORK, DONTDUMP, MIXEDMAP = 0x80_0000, 0x200_0000, 0x400_0000, 0x1000_0000
HUGEPAGE, NOHUGEPAGE, DROPPABLE = 0x2000_0000, 0x4000_0000, 0x100_0000_0000
SPECIAL = IO | DONTEXPAND | PFNMAP | MIXEDMAP

PROT_SEM, PROT_GROWSDOWN, PROT_GROWSUP = 8, 0x100_0000, 0x200_0000
MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE, MAP_DROPPABLE = 1, 2, 3, 8
MAP_FIXED, MAP_ANONYMOUS, MAP_32BIT, MAP_ABOVE4G = 0x10, 0x20, 0x40, 0x80
MAP_GROWSDOWN, MAP_NORESERVE, MAP_STACK = 0x100, 0x4000, 0x2_0000
MAP_SYNC, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_HUGETLB = 0x8_0000, 0x10_0000, 0x2000, 0x4_0000
# The flags that MAP_SHARED_VALIDATE knows: all there were before it, not FIXED_NOREPLACE.
MAP_VALIDATED = 0xF | 0xF0 | 0x100 | 0x800 | 0x1000 | 0x7_E000 | 0x400_0000 | 0xFC00_0000
MAYMOVE, FIXED, DONTUNMAP = 1, 2, 4

NORMAL, RANDOM, SEQUENTIAL, WILLNEED, DONTNEED, FREE = 0, 1, 2, 3, 4, 8
DONTFORK, DOFORK, WIPE, KEEP = 10, 11, 18, 19
# What each advice sets and clears.
ADVICE_FLAGS = {
    NORMAL: (0, SEQ_READ | RAND_READ),
    RANDOM: (RAND_READ, SEQ_READ),
    SEQUENTIAL: (SEQ_READ, RAND_READ),
    DONTFORK: (DONTCOPY, 0),
    DOFORK: (0, DONTCOPY),
    14: (HUGEPAGE, NOHUGEPAGE),
    15: (NOHUGEPAGE, HUGEPAGE),
    16: (DONTDUMP, 0),
    17: (0, DONTDUMP),
    WIPE: (WIPEONFORK, 0),
    KEEP: (0, WIPEONFORK),
}
REMOVE, DODUMP, COLD, PAGEOUT, POPULATE_READ, POPULATE_WRITE = 9, 17, 20, 21, 22, 23
DONTNEED_LOCKED = 24
ADVICE_KNOWN = {*ADVICE_FLAGS, WILLNEED, DONTNEED, FREE, REMOVE, *range(COLD, 25)}

MACHINE_PAGES = os.sysconf("SC_PHYS_PAGES")


Shown = tuple[int, int, int, int, int]  # start, end, flags, file, page offset


class Errno(Exception):
    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode.get(number, str(number)))
        self.number = number


class ForkRefused(Errno):
    """The VMA at this index of the parent is more than the commit limit allows."""

    def __init__(self, ordinal: int) -> None:
        super().__init__(errno.ENOMEM)
        self.ordinal = ordinal


def refuse(number: int) -> NoReturn:
    raise Errno(number)


def page_align(length: int) -> int:
    """Rounded up to pages, modulo 2^64 as the kernel does it."""
    return (length + PAGE - 1) // PAGE * PAGE & U64


@dataclass(eq=False)
class AnonVma:
    """Whose pages a write-faulted VMA has; chain counts it and those inherited by forks (§8)."""

    chain: int = 1


class Vma(NamedTuple):
    """file: an id of Family.files, negative for shared anonymous memory, 0 for none."""

    start: int
    end: int
    flags: int
    file: int
    pgoff: int
    anon: AnonVma | None = None

    @property
    def pages(self) -> int:
        return (self.end - self.start) // PAGE

    def pgoff_at(self, addr: int) -> int:
        return self.pgoff + (addr - self.start) // PAGE

    def part(self, start: int, end: int) -> "Vma":
        """What lies within [start, end); I7."""
        start = max(start, self.start)
        return self._replace(start=start, end=min(end, self.end), pgoff=self.pgoff_at(start))

    def joined(self, upper: "Vma") -> "Vma":
        """Merged with the one behind it; A4."""
        return self._replace(end=upper.end, anon=self.anon or upper.anon)


@dataclass
class File:
    """An open file, or the object of a shared anonymous mapping.

    access: bit 0 readable, bit 1 writable. pages: what was written, by page offset; files that
    are the same inode have one dict. page_count: its size, None for as large as one likes.
    charged: pages of the commit limit it holds. knows_sync: its file system knows MAP_SYNC, as
    ext4 does, and refuses it.
    """

    access: int = 3
    thp_aligned: bool = True
    pages: dict[int, int] = field(default_factory=dict)
    page_count: int | None = None
    charged: int = 0
    knows_sync: bool = False


@dataclass
class Family:
    """The spaces that come from one, and the files they map: a commit domain."""

    files: dict[int, File] = field(default_factory=dict)
    spaces: list["Space"] = field(default_factory=list)

    def committed(self) -> int:
        """Pages charged: ACCOUNT areas, and the shared anonymous objects still mapped."""
        vmas = [vma for space in self.spaces for vma in space.vmas]
        objects = {vma.file for vma in vmas if vma.file < 0}
        return sum(vma.pages for vma in vmas if vma.flags & ACCOUNT) + sum(
            self.files[file].charged for file in objects
        )


class Space:
    """One address space; an empty one of a family of its own unless told otherwise."""

    def __init__(self, params: SpaceParams | None = None, family: Family | None = None) -> None:
        self.params = params or SpaceParams()
        self.family = family or Family()
        self.family.spaces.append(self)
        self.vmas: list[Vma] = []
        self.pages: dict[int, int] = {}  # the space's own, by page number; absent ones are read
        self.brk = self.params.start_brk
        # Measured: mmap_min_addr decides about EPERM; the greater of it and the constant that
        # the kernel was built with is as low as hints, placement and stacks go.
        self.floor = max(self.params.mmap_min_addr, self.params.lsm_min_addr)

    # -- looking --

    def maps(self) -> list[Shown]:
        """As /proc/PID/maps has them: private anonymous memory has no offset, and all shared
        anonymous memory is file -1."""
        return [
            (vma.start, vma.end, vma.flags, max(vma.file, -1), vma.pgoff if vma.file else 0)
            for vma in self.vmas
        ]

    def first_above(self, addr: int) -> int:
        """The index of the first VMA that ends above addr."""
        return bisect_right(self.vmas, addr, key=lambda vma: vma.end)

    def overlapping(self, start: int, end: int) -> list[Vma]:
        low = self.first_above(start)
        return self.vmas[low : bisect_right(self.vmas, end - 1, key=lambda vma: vma.start)]

    def vma_at(self, addr: int) -> Vma | None:
        i = self.first_above(addr)
        return self.vmas[i] if i < len(self.vmas) and self.vmas[i].start <= addr else None

    def guard(self, addr: int) -> int:
        """Where the first VMA that ends above addr begins to claim space; no VMA: no limit."""
        i = self.first_above(addr)
        if i == len(self.vmas):
            return 1 << 64
        vma = self.vmas[i]
        return max(0, vma.start - GUARD) if vma.flags & GROWSDOWN else vma.start

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """The empty ranges within [low, high), ascending."""
        return list(self._gaps_from(low, high))

    def _gaps_from(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        i = self.first_above(low)
        while low < high:
            start, end = self.vmas[i][:2] if i < len(self.vmas) else (high, high)
            if min(start, high) > low:
                yield low, min(start, high)
            low = max(low, end)
            i += 1

    def _gaps_below(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        i = bisect_right(self.vmas, high - 1, key=lambda vma: vma.start)
        while low < high:
            start, end = self.vmas[i - 1][:2] if i > 0 else (low, low)
            if max(end, low) < high:
                yield max(end, low), high
            high = min(high, start)
            i -= 1

    def enough_memory(self, pages: int, more: int = 0) -> None:
        """The commit limit: mode 0 looks at the call alone, mode 2 at the family, and `more`."""
        limit = self.params.commit_limit_pages or MACHINE_PAGES
        held = self.family.committed() + more if self.params.overcommit == 2 else 0
        if self.params.overcommit != 1 and held + pages > limit:
            refuse(errno.ENOMEM)

    # -- placement, §3 --

    def place(self, addr: int, length: int, flags: int, file: int = 0, pgoff: int = 0) -> int:
        """Where a mapping goes, for an address that is fixed or a hint."""
        if length > self.params.task_size:
            refuse(errno.ENOMEM)
        if not flags & MAP_FIXED:
            addr = self.aligned_place(addr, length, flags, file, pgoff)
        if addr > U64 - 4095:
            # Measured: a fixed address that looks like an error is taken for one.
            refuse(U64 + 1 - addr)
        if addr > self.params.task_size - length:
            refuse(errno.ENOMEM)
        if addr % PAGE:
            refuse(errno.EINVAL)
        if addr < self.params.mmap_min_addr and not self.params.privileged:
            refuse(errno.EPERM)
        return addr

    def aligned_place(self, hint: int, length: int, flags: int, file: int, pgoff: int) -> int:
        """L5, else the plain rule."""
        if file:
            offset = pgoff * PAGE
            extent = -(-offset // PMD) * PMD
            wanted = self.family.files[file].thp_aligned and offset + length - extent >= PMD
        else:
            offset = 0
            wanted = not flags & MAP_SHARED and not hint and length % PMD == 0
        if wanted and self.params.thp_alignment:
            try:
                found = self.plain_place(hint, length + PMD, flags)
            except Errno:
                return self.plain_place(hint, length, flags)
            return found if found == hint else found + ((offset - found) % PMD or PMD)
        return self.plain_place(hint, length, flags)

    def plain_place(self, hint: int, length: int, flags: int) -> int:
        """L1 to L4. MAP_32BIT: bottom-up within the second GiB, a hint below 2 GiB is taken."""
        task_size, low_limit = self.params.task_size, max(PAGE, self.floor)
        low, high = task_size // 3 // PAGE * PAGE, task_size
        if (task_size // 3) % PAGE:
            low += PAGE
        if flags & MAP_32BIT:
            low, high = 0x4000_0000, 0x8000_0000
        fits = hint and hint + length <= high and hint + length <= self.guard(hint)
        if length > task_size:
            refuse(errno.ENOMEM)
        if fits:
            return hint
        if not flags & MAP_32BIT:
            found = self.top_down(
                max(low_limit, GIB4 if flags & MAP_ABOVE4G else 0), self.params.mmap_base, length
            )
            if found is not None:
                return found
        found = self.bottom_up(max(low_limit, low), high, length)
        return refuse(errno.ENOMEM) if found is None else found

    def top_down(self, low: int, high: int, length: int) -> int | None:
        while gap := next((g for g in self._gaps_below(low, high) if g[1] - g[0] >= length), None):
            if self.guard(gap[0]) >= gap[1]:
                return gap[1] - length
            high = self.guard(gap[0])
        return None

    def bottom_up(self, low: int, high: int, length: int) -> int | None:
        while gap := next((g for g in self._gaps_from(low, high) if g[1] - g[0] >= length), None):
            if self.guard(gap[0]) >= gap[0] + length:
                return gap[0]
            low = self.vmas[self.first_above(gap[0])].end
        return None

    # -- changing the list, §1 --

    def split(self, addr: int) -> None:
        i = self.first_above(addr)
        if i < len(self.vmas) and self.vmas[i].start < addr:
            vma = self.vmas[i]
            self.vmas[i : i + 1] = [vma.part(vma.start, addr), vma.part(addr, vma.end)]

    def refuse_a_punch(self, start: int, end: int) -> None:
        """§11: a hole strictly inside one VMA makes one more."""
        if len(self.vmas) >= self.params.max_map_count and any(
            vma.start < start and end < vma.end for vma in self.overlapping(start, end)
        ):
            refuse(errno.ENOMEM)

    def punch(self, start: int, end: int) -> None:
        """Nothing is left in [start, end)."""
        self.split(start)
        self.split(end)
        low = self.first_above(start)
        self.vmas[low : low + len(self.overlapping(start, end))] = []
        self.drop_pages(start, end)

    def own_pages(self, start: int, end: int) -> list[int]:
        """The numbers of the space's own pages there."""
        if end - start > len(self.pages) * PAGE:
            return [page for page in self.pages if start <= page * PAGE < end]
        return [page for page in range(start // PAGE, end // PAGE) if page in self.pages]

    def drop_pages(self, start: int, end: int) -> None:
        for page in self.own_pages(start, end):
            del self.pages[page]

    @staticmethod
    def mergeable(lower: Vma, upper: Vma, neighbour: Vma) -> bool:
        """I1 and A2 for two that touch, of which `neighbour` was there before."""
        if (lower.end, lower.flags, lower.file) != (upper.start, upper.flags, upper.file):
            return False
        if lower.flags & SPECIAL or lower.pgoff_at(lower.end) != upper.pgoff:
            return False
        if lower.anon and upper.anon:
            return lower.anon is upper.anon
        anon = lower.anon or upper.anon
        return anon is None or anon.chain == 1

    def neighbours(self, new: Vma, low: int, high: int) -> tuple[Vma | None, Vma | None]:
        """I5: what the new VMA merges with, of those before index low and from index high."""
        prev = self.vmas[low - 1] if low else None
        next_ = self.vmas[high] if high < len(self.vmas) else None
        prev = prev if prev and self.mergeable(prev, new, prev) else None
        next_ = next_ if next_ and self.mergeable(new, next_, next_) else None
        if prev and next_ and prev.anon and next_.anon and prev.anon is not next_.anon:
            next_ = None
        return prev, next_

    def put(self, new: Vma, low: int, high: int) -> bool:
        """The new VMA in place of those from index low to high, merged; whether it was."""
        prev, next_ = self.neighbours(new, low, high)
        merged = prev.joined(new) if prev else new
        merged = merged.joined(next_) if next_ else merged
        self.vmas[low - bool(prev) : high + bool(next_)] = [merged]
        return bool(prev or next_)

    def insert(self, new: Vma) -> None:
        """Into a hole."""
        low = self.first_above(new.start)
        self.put(new, low, low)

    def change(self, vma: Vma, start: int, end: int, flags: int) -> None:
        """Other flags for [start, end) of a VMA: I6. When the second of two splits is one too
        many, the first has been made."""
        i = self.first_above(vma.start)
        part = vma.part(start, end)._replace(flags=flags)
        prev, next_ = self.neighbours(part, i, i + 1)
        if not (prev and part.start == vma.start) and not (next_ and part.end == vma.end):
            for addr in (part.start, part.end):
                if vma.start < addr < vma.end:
                    if len(self.vmas) >= self.params.max_map_count:
                        refuse(errno.ENOMEM)
                    self.split(addr)
            i = self.first_above(part.start)
            self.vmas[i] = part
            return
        self.split(part.start)
        self.split(part.end)
        i = self.first_above(part.start)
        self.put(part, i, i + 1)

    # -- mmap, §2 --

    def map(
        self, addr: int, length: int, prot: int, flags: int, file: int = 0, offset: int = 0
    ) -> int:
        anonymous = bool(flags & MAP_ANONYMOUS)
        if offset % PAGE:
            refuse(errno.EINVAL)
        if not anonymous and file not in self.family.files:
            refuse(errno.EBADF)
        if length == 0:
            refuse(errno.EINVAL)
        if flags & MAP_FIXED_NOREPLACE:
            flags |= MAP_FIXED
        if not flags & MAP_FIXED:
            addr = addr // PAGE * PAGE
            if 0 < addr < self.floor:
                addr = page_align(self.floor)
        length, pgoff = page_align(length), offset // PAGE
        if length == 0 or len(self.vmas) > self.params.max_map_count:
            refuse(errno.ENOMEM)
        addr = self.place(addr, length, flags, 0 if anonymous else file, pgoff)
        if flags & MAP_FIXED_NOREPLACE and self.overlapping(addr, addr + length):
            refuse(errno.EEXIST)
        vm_flags = prot & ACCESS | MAY
        vm_flags |= GROWSDOWN if flags & MAP_GROWSDOWN else 0
        vm_flags |= NOHUGEPAGE if flags & MAP_STACK else 0
        vm_flags |= SYNC if flags & MAP_SYNC else 0
        if anonymous:
            vm_flags |= self.anonymous_flags(flags)
            file, pgoff = 0, 0 if vm_flags & SHARED else addr // PAGE
        else:
            vm_flags = self.file_flags(vm_flags, self.family.files[file], flags, length, pgoff)
        if flags & MAP_NORESERVE and self.params.overcommit != 2:
            vm_flags |= NORESERVE
        self.refuse_a_punch(addr, addr + length)
        if vm_flags & (NORESERVE | SHARED | WRITE) == WRITE:
            vm_flags |= ACCOUNT
            self.enough_memory(length // PAGE - self.accounted_pages(addr, addr + length))
        # Measured: what a file system or the making of a shared object refuses, it refuses when
        # nothing is left there any more.
        try:
            if file and vm_flags & SYNC and self.family.files[file].knows_sync:
                refuse(errno.EOPNOTSUPP)
            if anonymous and vm_flags & SHARED:
                file = self.shared_object(length // PAGE, not vm_flags & NORESERVE)
        finally:
            self.punch(addr, addr + length)
        self.insert(Vma(addr, addr + length, vm_flags, file, pgoff))
        return addr

    @staticmethod
    def anonymous_flags(flags: int) -> int:
        kind = flags & 0xF
        if kind not in (MAP_SHARED, MAP_PRIVATE, MAP_DROPPABLE):
            refuse(errno.EINVAL)
        if kind == MAP_PRIVATE:
            return 0
        if flags & MAP_GROWSDOWN or (kind == MAP_DROPPABLE and flags & (MAP_LOCKED | MAP_HUGETLB)):
            refuse(errno.EINVAL)
        droppable = DROPPABLE | NORESERVE | WIPEONFORK | DONTDUMP
        return SHARED | MAYSHARE if kind == MAP_SHARED else droppable

    @staticmethod
    def file_flags(vm_flags: int, file: File, flags: int, length: int, pgoff: int) -> int:
        """The checks of a file's mapping, and its flags."""
        kind = flags & 0xF
        if pgoff > (FILE_BYTES_MAX - length) // PAGE:
            refuse(errno.EOVERFLOW)
        known = MAP_VALIDATED | (MAP_SYNC if file.knows_sync else 0)
        if kind == MAP_SHARED_VALIDATE and flags & ~known:
            refuse(errno.EOPNOTSUPP)
        if kind in (MAP_SHARED, MAP_SHARED_VALIDATE):
            if vm_flags & WRITE and not file.access & 2:
                refuse(errno.EACCES)
            vm_flags |= SHARED | MAYSHARE
            if not file.access & 2:
                vm_flags &= ~(MAYWRITE | SHARED)
        elif kind != MAP_PRIVATE:
            refuse(errno.EINVAL)
        if not file.access & 1:
            refuse(errno.EACCES)
        if vm_flags & GROWSDOWN:
            refuse(errno.EINVAL)
        return vm_flags

    def accounted_pages(self, start: int, end: int) -> int:
        return sum(
            vma.part(start, end).pages
            for vma in self.overlapping(start, end)
            if vma.flags & ACCOUNT
        )

    def shared_object(self, pages: int, charged: bool) -> int:
        """The object behind a shared anonymous mapping: its memory, charged as a whole."""
        if charged:
            self.enough_memory(pages)
        file = min(0, *self.family.files, 0) - 1
        self.family.files[file] = File(
            thp_aligned=False, page_count=pages, charged=pages if charged else 0
        )
        return file

    # -- munmap, §4 --

    def unmap(self, addr: int, length: int) -> None:
        task_size = self.params.task_size
        if addr % PAGE or addr > task_size or length > task_size - addr or length == 0:
            refuse(errno.EINVAL)
        end = addr + page_align(length)
        self.refuse_a_punch(addr, end)
        self.punch(addr, end)

    # -- mprotect, §5 --

    def protect(self, addr: int, length: int, prot: int) -> None:
        grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
        prot &= ~grows
        if grows == PROT_GROWSDOWN | PROT_GROWSUP or addr % PAGE:
            refuse(errno.EINVAL)
        if length == 0:
            return
        end = addr + page_align(length) & U64
        if end <= addr:
            refuse(errno.ENOMEM)
        if prot & ~(ACCESS | PROT_SEM):
            refuse(errno.EINVAL)
        vmas = self.overlapping(addr, end)
        if not vmas:
            refuse(errno.ENOMEM)
        if grows == PROT_GROWSDOWN:
            addr = vmas[0].start
            if not vmas[0].flags & GROWSDOWN:
                refuse(errno.EINVAL)
        elif vmas[0].start > addr:
            refuse(errno.ENOMEM)
        elif grows:
            refuse(errno.EINVAL)
        while addr < end:
            vma = self.vma_at(addr)
            if vma is None:
                refuse(errno.ENOMEM)
            flags = vma.flags & ~ACCESS | prot & ACCESS
            if flags & ~(flags >> 4) & ACCESS:
                refuse(errno.EACCES)
            stop = min(vma.end, end)
            if flags != vma.flags:
                self.change(vma, addr, stop, self.accounted(vma, addr, stop, flags))
            addr = stop

    def accounted(self, vma: Vma, start: int, end: int, flags: int) -> int:
        """I2: the flags with ACCOUNT as mprotect sets and clears it."""
        if flags & WRITE:
            if not vma.flags & (ACCOUNT | WRITE | SHARED | NORESERVE):
                self.enough_memory((end - start) // PAGE)
                flags |= ACCOUNT
        elif vma.file == 0 and vma.anon is None:
            flags &= ~ACCOUNT
        return flags

    # -- madvise, §6 --

    def advise(self, addr: int, length: int, advice: int) -> None:
        if advice not in ADVICE_KNOWN or addr % PAGE:
            refuse(errno.EINVAL)
        end = addr + page_align(length)
        if (length and end == addr) or end > U64:
            refuse(errno.EINVAL)
        if end == addr:
            return
        if advice in (POPULATE_READ, POPULATE_WRITE):
            self.populate(addr, end, advice == POPULATE_WRITE)
            return
        hole = False
        while addr < end:
            i = self.first_above(addr)
            if i == len(self.vmas) or self.vmas[i].start >= end:
                refuse(errno.ENOMEM)
            vma = self.vmas[i]
            hole |= vma.start > addr
            addr, stop = max(addr, vma.start), min(end, vma.end)
            self.advise_one(vma, addr, stop, advice)
            addr = stop
        if hole:
            refuse(errno.ENOMEM)

    def advise_one(self, vma: Vma, start: int, end: int, advice: int) -> None:
        flags = vma.flags
        if (
            (advice in (COLD, PAGEOUT, DONTNEED, DONTNEED_LOCKED, FREE) and flags & PFNMAP)
            or (advice == FREE and vma.file)
            or (advice == REMOVE and not vma.file)
            or (advice == DOFORK and flags & IO)
            or (advice == WIPE and (vma.file or flags & SHARED))
            or (advice == KEEP and flags & DROPPABLE)
            or (advice == DODUMP and flags & (SPECIAL | DROPPABLE))
        ):
            refuse(errno.EINVAL)
        if advice in (DONTNEED, DONTNEED_LOCKED):
            self.drop_pages(start, end)
        elif advice == REMOVE:
            if not (flags & SHARED and flags & MAYWRITE):
                refuse(errno.EACCES)
            low, pages = vma.pgoff_at(start), self.family.files[vma.file].pages
            for page in [page for page in pages if low <= page < low + (end - start) // PAGE]:
                del pages[page]
        elif advice in ADVICE_FLAGS:
            sets, clears = ADVICE_FLAGS[advice]
            flags = flags & ~clears | sets
            if flags != vma.flags:
                try:
                    self.change(vma, start, end, flags)
                except Errno:
                    refuse(errno.EAGAIN)

    def populate(self, addr: int, end: int, write: bool) -> None:
        """Touch every page, writing what is there already."""
        while addr < end:
            vma = self.vma_at(addr) or refuse(errno.ENOMEM)
            if vma.flags & (IO | PFNMAP) or not vma.flags & (WRITE if write else READ):
                refuse(errno.EINVAL)
            value = self.touch(addr, 0)
            if write:
                self.touch(addr, 1, value)
            addr += PAGE

    # -- mremap, §7 --

    def remap(self, old: int, old_length: int, new_length: int, flags: int, new: int = 0) -> int:
        old_length, new_length = page_align(old_length), page_align(new_length)
        if flags & ~(MAYMOVE | FIXED | DONTUNMAP) or old % PAGE:
            refuse(errno.EINVAL)
        if new_length == 0 or new_length > self.params.task_size:
            refuse(errno.EINVAL)
        if flags & (FIXED | DONTUNMAP):
            overlap = (old + old_length) & U64 > new and (new + new_length) & U64 > old
            if (
                new > self.params.task_size - new_length
                or new % PAGE
                or not flags & MAYMOVE
                or (flags & DONTUNMAP and old_length != new_length)
                or overlap
            ):
                refuse(errno.EINVAL)
            if len(self.vmas) + 2 >= self.params.max_map_count - 3:
                refuse(errno.ENOMEM)
        if flags & FIXED and old_length == new_length:
            return self.move_all(old, old_length, flags, new)
        return self.remap_one(old, old_length, new_length, flags, new)

    def move_all(self, old: int, length: int, flags: int, new: int) -> int:
        """A: each VMA by itself; pages of the target opposite holes are left alone."""
        addr, end = old, old + length
        if self.vma_at(old) is None:
            refuse(errno.EFAULT)
        while addr < end and (left := self.overlapping(addr, end)):
            vma = left[0]
            addr, stop = max(addr, vma.start), min(end, vma.end)
            self.remap_one(addr, stop - addr, stop - addr, flags, new + addr - old)
            addr = vma.end
        return new

    def remap_one(self, old: int, old_length: int, new_length: int, flags: int, new: int) -> int:
        """B, and each piece of A."""
        vma = self.vma_at(old)
        if vma is None:
            refuse(errno.EFAULT)
        to_new = bool(flags & (FIXED | DONTUNMAP))
        if to_new or new_length > old_length:
            self.refuse_a_resize(vma, old, old_length, new_length, flags)
        delta = abs(new_length - old_length)
        if not to_new:
            if new_length < old_length:
                self.unmap(old + new_length, delta)
            if new_length <= old_length:
                return old
            return self.grow(vma, old, old_length, new_length, flags)
        if flags & FIXED:
            self.unmap(new, new_length)
            vma = self.vma_at(old) or refuse(errno.EFAULT)
            if new_length < old_length:
                self.unmap(old + new_length, delta)
                vma = self.vma_at(old) or refuse(errno.EFAULT)
                old_length = new_length
        map_flags = MAP_FIXED if flags & FIXED else 0
        charged = new_length if flags & DONTUNMAP else delta
        return self.move(vma, old, old_length, new_length, flags, new, map_flags, charged)

    def refuse_a_resize(
        self, vma: Vma, old: int, old_length: int, new_length: int, flags: int
    ) -> None:
        if old_length == 0 and not vma.flags & (SHARED | MAYSHARE):
            refuse(errno.EINVAL)
        if flags & DONTUNMAP and vma.flags & (DONTEXPAND | PFNMAP):
            refuse(errno.EINVAL)
        if min(old_length, new_length) > vma.end - old:
            refuse(errno.EFAULT)
        if old_length != new_length and vma.flags & (DONTEXPAND | PFNMAP):
            refuse(errno.EFAULT)

    def grow(self, vma: Vma, old: int, old_length: int, new_length: int, flags: int) -> int:
        delta = new_length - old_length
        end = vma.end + delta
        in_place = old + old_length == vma.end and not self.overlapping(vma.end, end)
        if in_place and end <= self.params.task_size:
            if vma.flags & ACCOUNT:
                self.enough_memory(delta // PAGE)
            i = self.first_above(vma.start)
            self.vmas[i] = vma._replace(end=end)
            low = self.first_above(vma.start)
            grown = self.vmas.pop(low)
            prev_end = self.vmas[low - 1] if low else None
            _, next_ = self.neighbours(grown, 0, low)
            if next_:
                grown = grown.joined(next_)
                self.vmas.pop(low)
            self.vmas.insert(low, grown)
            assert prev_end is None or prev_end.end <= grown.start
            return old
        if not flags & MAYMOVE:
            refuse(errno.ENOMEM)
        return self.move(vma, old, old_length, new_length, flags, 0, 0, delta)

    def move(
        self,
        vma: Vma,
        old: int,
        old_length: int,
        new_length: int,
        flags: int,
        new: int,
        map_flags: int,
        charged: int,
    ) -> int:
        """Copy, merge at the destination, unmap the source."""
        pgoff = vma.pgoff_at(old)
        map_flags |= MAP_SHARED if vma.flags & MAYSHARE else 0
        new = self.place(new, new_length, map_flags, vma.file, pgoff)
        if len(self.vmas) >= self.params.max_map_count - 3:
            refuse(errno.ENOMEM)
        if vma.flags & ACCOUNT:
            self.enough_memory(charged // PAGE)
        if vma.file == 0 and vma.anon is None:
            pgoff = new // PAGE
        moved = Vma(new, new + new_length, vma.flags, vma.file, pgoff, vma.anon)
        self.insert(moved)
        for page in self.own_pages(old, old + old_length):
            self.pages[page + (new - old) // PAGE] = self.pages.pop(page)
        if old_length and not flags & DONTUNMAP:
            self.punch(old, old + old_length)
        elif (vma.start, vma.end) == (old, old + old_length) and vma in self.vmas:
            # Moved whole, it has lost its anon_vma; its pgoff it keeps.
            self.vmas[self.vmas.index(vma)] = vma._replace(anon=None)
        return new

    # -- brk, §9 --

    def set_break(self, addr: int) -> int:
        """The resulting break."""
        with suppress(Errno):
            self.brk = self.moved_break(addr)
        return self.brk

    def moved_break(self, addr: int) -> int:
        params, old, new = self.params, page_align(self.brk), page_align(addr)
        if addr < params.start_brk:
            return self.brk
        if old == new:
            return addr
        if addr <= self.brk:
            if not self.overlapping(new, old):
                return self.brk
            self.refuse_a_punch(new, old)
            self.punch(new, old)
            return addr
        self.place(old, (new - old) & U64, MAP_FIXED)
        if new + PAGE > self.guard(old) or len(self.vmas) > params.max_map_count:
            return self.brk
        self.enough_memory((new - old) // PAGE)
        area = Vma(old, new, READ | WRITE | MAY | ACCOUNT, 0, old // PAGE)
        low = self.first_above(old)
        prev = self.vmas[low - 1] if low else None
        if prev and prev.end > params.start_brk and self.mergeable(prev, area, prev):
            self.vmas[low - 1] = prev.joined(area)
        else:
            self.vmas.insert(low, area)
        return addr

    # -- page faults, §8 --

    def touch(self, addr: int, access: int, value: int = 0) -> int:
        """Read (0) or write (1) a page: the value it then has. EFAULT: the process gets SIGSEGV,
        or SIGBUS beyond the end of a shared object."""
        i = self.first_above(addr)
        if i == len(self.vmas):
            refuse(errno.EFAULT)
        if addr < self.vmas[i].start:
            self.grow_down(i, addr // PAGE * PAGE)
        vma = self.vmas[i]
        if not vma.flags & (WRITE if access else ACCESS):
            refuse(errno.EFAULT)
        page, offset = addr // PAGE, vma.pgoff_at(addr)
        behind = self.family.files[vma.file] if vma.file else None
        if behind and behind.page_count is not None and offset >= behind.page_count:
            refuse(errno.EFAULT)
        if access and behind and vma.flags & SHARED:
            behind.pages[offset] = value
        elif access:
            self.prepare_anon(i)
            self.pages[page] = value
        if page in self.pages:
            return self.pages[page]
        return behind.pages.get(offset, 0) if behind else 0

    def grow_down(self, i: int, addr: int) -> None:
        """A stack grows down to a page below it. It gets its anon_vma even if it then may not."""
        vma, prev = self.vmas[i], self.vmas[i - 1] if i else None
        if not vma.flags & GROWSDOWN or addr < self.floor:
            refuse(errno.EFAULT)
        if prev and not prev.flags & GROWSDOWN and prev.flags & ACCESS and addr - prev.end < GUARD:
            refuse(errno.EFAULT)
        vma = self.prepare_anon(i)
        pages = (vma.start - addr) // PAGE
        if pages > vma.pgoff or vma.end - addr > self.params.stack_limit_bytes:
            refuse(errno.EFAULT)
        try:
            self.enough_memory(pages)
        except Errno:
            refuse(errno.EFAULT)
        self.vmas[i] = vma._replace(start=addr, pgoff=vma.pgoff - pages)

    def prepare_anon(self, i: int) -> Vma:
        """A1: the VMA with an anon_vma, that of the next or previous one if it has one to lend."""
        vma = self.vmas[i]
        if vma.anon is None:
            near = [(vma, other) for other in self.vmas[i + 1 : i + 2]]
            near += [(other, vma) for other in self.vmas[max(0, i - 1) : i]]
            lent = (
                other.anon
                for lower, upper in near
                for other in (lower, upper)
                if other is not vma
                and (lower.end, lower.file) == (upper.start, upper.file)
                and not (lower.flags ^ upper.flags) & ~ACCESS
                and lower.pgoff_at(lower.end) == upper.pgoff
                and other.anon
                and other.anon.chain == 1
            )
            vma = self.vmas[i] = vma._replace(anon=next(lent, None) or AnonVma())
        return vma

    # -- fork and exit, §10 --

    def fork(self) -> "Space":
        """The child. Raises ForkRefused, with nothing left of it."""
        vmas: list[Vma] = []
        charged = 0
        for ordinal, vma in enumerate(self.vmas):
            if vma.flags & DONTCOPY:
                continue
            if vma.flags & ACCOUNT:
                try:
                    self.enough_memory(vma.pages, charged)
                except Errno:
                    raise ForkRefused(ordinal) from None
                charged += vma.pages
            inherited = None if vma.flags & WIPEONFORK else vma.anon
            anon = AnonVma(inherited.chain + 1) if inherited else None
            vmas.append(vma._replace(anon=anon))
        child = Space(self.params, self.family)
        child.vmas, child.brk = vmas, self.brk
        for page, value in self.pages.items():
            copied = child.vma_at(page * PAGE)
            if copied and not copied.flags & WIPEONFORK:
                child.pages[page] = value
        return child

    def exit(self) -> None:
        self.family.spaces.remove(self)
        self.vmas, self.pages = [], {}

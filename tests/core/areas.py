"""The list of VMAs of the naive model: looking, placing, splitting and merging.

What every call of model.py is made of, and the only place where a VMA is merged, but for the
growth in place of remap.
"""

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from forkstormd.core.types import SpaceParams

from .linux import (
    ACCOUNT,
    GIB4,
    GROWSDOWN,
    GUARD,
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_FIXED,
    MAP_SHARED,
    PAGE,
    PMD,
    SPECIAL,
    U64,
)

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


def block_range(block: int) -> tuple[int, int]:
    return block * PMD, (block + 1) * PMD


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
    spaces: list["Areas"] = field(default_factory=list)

    def committed(self) -> int:
        """Pages charged: ACCOUNT areas, and the shared anonymous objects still mapped."""
        vmas = [vma for space in self.spaces for vma in space.vmas]
        objects = {vma.file for vma in vmas if vma.file < 0}
        return sum(vma.pages for vma in vmas if vma.flags & ACCOUNT) + sum(
            self.files[file].charged for file in objects
        )


class Areas:
    """One address space; an empty one of a family of its own unless told otherwise."""

    def __init__(self, params: SpaceParams | None = None, family: Family | None = None) -> None:
        self.params = params or SpaceParams()
        self.family = family or Family()
        self.family.spaces.append(self)
        self.vmas: list[Vma] = []
        # What is mapped, by page number: a page of the space's own with its value, or None for
        # what lies behind it. tables: the 2 MiB blocks that have a page table (§13).
        self.pages: dict[int, int | None] = {}
        self.tables: set[int] = set()
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
        task_size = self.params.task_size
        low, high = page_align(task_size // 3), task_size
        if flags & MAP_32BIT:
            low, high = 0x4000_0000, 0x8000_0000
        if length > task_size:
            refuse(errno.ENOMEM)
        if hint and hint + length <= min(high, self.guard(hint)):
            return hint
        found = None
        if not flags & MAP_32BIT:
            above = max(PAGE, self.floor, GIB4 if flags & MAP_ABOVE4G else 0)
            found = self.top_down(above, self.params.mmap_base, length)
        if found is None:
            found = self.bottom_up(max(low, self.floor), high, length)
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
        self.tables = {block for block in self.tables if self.overlapping(*block_range(block))}

    def mapped_pages(self, start: int, end: int) -> list[int]:
        if end - start > len(self.pages) * PAGE:
            return [page for page in self.pages if start <= page * PAGE < end]
        return [page for page in range(start // PAGE, end // PAGE) if page in self.pages]

    def drop_pages(self, start: int, end: int) -> None:
        for page in self.mapped_pages(start, end):
            del self.pages[page]

    @staticmethod
    def mergeable(lower: Vma, upper: Vma) -> bool:
        """I1 and A2."""
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
        prev = prev if prev and self.mergeable(prev, new) else None
        next_ = next_ if next_ and self.mergeable(new, next_) else None
        if prev and next_ and prev.anon and next_.anon and prev.anon is not next_.anon:
            next_ = None
        return prev, next_

    def put(self, new: Vma, low: int, high: int) -> None:
        """The new VMA, merged, in place of those from index low to high."""
        prev, next_ = self.neighbours(new, low, high)
        merged = prev.joined(new) if prev else new
        merged = merged.joined(next_) if next_ else merged
        self.vmas[low - bool(prev) : high + bool(next_)] = [merged]

    def insert(self, new: Vma) -> None:
        """Into a hole."""
        low = self.first_above(new.start)
        self.put(new, low, low)

    def change(self, vma: Vma, start: int, end: int, flags: int) -> None:
        """Other flags for [start, end) of a VMA: I6. When the second of two splits is one too
        many, the first has been made."""
        i = self.first_above(vma.start)
        part = vma.part(start, end)._replace(flags=flags)
        if not any(self.neighbours(part, i, i + 1)):
            for addr in (part.start, part.end):
                if vma.start < addr < vma.end:
                    if len(self.vmas) >= self.params.max_map_count:
                        refuse(errno.ENOMEM)
                    self.split(addr)
        self.split(part.start)
        self.split(part.end)
        i = self.first_above(part.start)
        self.put(part, i, i + 1)

"""A naive model of address spaces: sorted lists and linear scans, nothing clever.

Written from the rules alone, so that it shares no code and no idea with the core. Ranges are
half-open. A VMA is a tuple (start, end, flags, file, pgoff).
"""

import errno
from dataclasses import dataclass, field, replace

PAGE = 4096
WRITE, EXEC, SHARED = 0x2, 0x4, 0x8
MAY = 0x70
MAYWRITE, MAYSHARE, GROWSDOWN = 0x20, 0x80, 0x100
DONTCOPY, ACCOUNT, NORESERVE = 0x20000, 0x100000, 0x200000
NOHUGEPAGE = 0x40000000
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 1, 2, 0x10, 0x20
MAP_GROWSDOWN, MAP_NORESERVE, MAP_STACK, MAP_FIXED_NOREPLACE = 0x100, 0x4000, 0x20000, 0x100000
Vma = tuple[int, int, int, int, int]


class Errno(Exception):
    def __init__(self, number: int) -> None:
        self.number = number


@dataclass
class Space:
    """One address space. Private anonymous memory and files only: file ids are the caller's."""

    task_size: int = 0x7FFF_FFFF_F000
    mmap_base: int = 0x7FFF_F7FF_F000
    min_addr: int = PAGE
    max_map_count: int = 65_530
    vmas: list[Vma] = field(default_factory=list)

    def fork(self) -> "Space":
        return replace(self, vmas=[vma for vma in self.vmas if not vma[2] & DONTCOPY])

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        found, at = [], low
        for start, end, *_ in self.vmas:
            if min(start, high) > at:
                found.append((at, min(start, high)))
            at = max(at, end)
        if at < high:
            found.append((at, high))
        return found

    def guard(self, addr: int) -> int:
        """Where the first VMA at or above addr begins to claim space; no VMA: no limit."""
        for start, end, flags, *_ in self.vmas:
            if end > addr:
                return max(0, start - 256 * PAGE) if flags & GROWSDOWN else start
        return 1 << 64

    def place(self, hint: int, length: int) -> int:
        hint = hint // PAGE * PAGE
        if 0 < hint < self.min_addr:
            hint = -(-self.min_addr // PAGE) * PAGE
        if hint and hint + length <= self.task_size and hint + length <= self.guard(hint):
            return hint
        high = self.mmap_base
        while fitting := [
            gap for gap in self.gaps(self.min_addr, high) if gap[1] - gap[0] >= length
        ]:
            start = fitting[-1][1] - length
            if self.guard(start) >= start + length:
                return start
            high = self.guard(start)
        low = -(-(self.task_size // 3) // PAGE) * PAGE
        while fitting := [
            gap for gap in self.gaps(low, self.task_size) if gap[1] - gap[0] >= length
        ]:
            start = fitting[0][0]
            if self.guard(start) >= start + length:
                return start
            low = next(end for begin, end, *_ in self.vmas if begin >= start)
        raise Errno(errno.ENOMEM)

    def punch(self, start: int, end: int) -> None:
        kept = []
        for vma in self.vmas:
            if vma[0] < start:
                kept.append((vma[0], min(vma[1], start), *vma[2:]))
            if vma[1] > end:
                begin = max(vma[0], end)
                kept.append((begin, vma[1], vma[2], vma[3], vma[4] + (begin - vma[0]) // PAGE))
        self.vmas = sorted({vma for vma in kept if vma[0] < vma[1]})

    def splits_one(self, start: int, end: int) -> bool:
        return any(vma[0] < start and end < vma[1] for vma in self.vmas)

    def map(
        self, addr: int, length: int, prot: int, flags: int, file: int = 0, offset: int = 0
    ) -> int:
        kind = flags & 15
        if not flags & MAP_ANONYMOUS and file == 0:
            raise Errno(errno.EBADF)
        if length == 0:
            raise Errno(errno.EINVAL)
        if flags & MAP_FIXED_NOREPLACE:
            flags |= MAP_FIXED
        length = -(-length // PAGE) * PAGE
        if length > (1 << 64) - 1 or len(self.vmas) > self.max_map_count or length > self.task_size:
            raise Errno(errno.ENOMEM)
        if flags & MAP_FIXED:
            if addr > self.task_size - length:
                raise Errno(errno.ENOMEM)
            if addr % PAGE:
                raise Errno(errno.EINVAL)
            if addr < self.min_addr:
                raise Errno(errno.EPERM)
            if flags & MAP_FIXED_NOREPLACE and any(
                vma[0] < addr + length and vma[1] > addr for vma in self.vmas
            ):
                raise Errno(errno.EEXIST)
        else:
            addr = self.place(addr, length)
        vm_flags = (prot & 7) | MAY
        if flags & MAP_ANONYMOUS:
            if kind != MAP_PRIVATE:
                raise Errno(errno.EINVAL)
            file, pgoff = 0, addr // PAGE
            vm_flags |= GROWSDOWN if flags & MAP_GROWSDOWN else 0
        else:
            if kind not in (MAP_SHARED, MAP_PRIVATE) or flags & MAP_GROWSDOWN:
                raise Errno(errno.EINVAL)
            pgoff = offset // PAGE
            vm_flags |= SHARED | MAYSHARE if kind == MAP_SHARED else 0
        if flags & MAP_NORESERVE:
            vm_flags |= NORESERVE
        elif vm_flags & WRITE and not vm_flags & SHARED:
            vm_flags |= ACCOUNT
        if flags & MAP_STACK:
            vm_flags |= NOHUGEPAGE
        if len(self.vmas) >= self.max_map_count and self.splits_one(addr, addr + length):
            raise Errno(errno.ENOMEM)
        self.punch(addr, addr + length)
        self.insert((addr, addr + length, vm_flags, file, pgoff))
        return addr

    def insert(self, new: Vma) -> None:
        """Put a VMA into a hole and merge it with what touches it."""
        merged = new
        for vma in list(self.vmas):
            if vma[2:4] != new[2:4]:
                continue
            pages = (vma[1] - vma[0]) // PAGE
            if vma[1] == new[0] and vma[4] + pages == new[4]:
                self.vmas.remove(vma)
                merged = (vma[0], merged[1], *vma[2:])
            elif vma[0] == new[1] and new[4] + (new[1] - new[0]) // PAGE == vma[4]:
                self.vmas.remove(vma)
                merged = (merged[0], vma[1], *merged[2:])
        self.vmas = sorted([*self.vmas, merged])

    def unmap(self, addr: int, length: int) -> None:
        if addr % PAGE or addr > self.task_size or length > self.task_size - addr or length == 0:
            raise Errno(errno.EINVAL)
        end = addr + -(-length // PAGE) * PAGE
        if len(self.vmas) >= self.max_map_count and self.splits_one(addr, end):
            raise Errno(errno.ENOMEM)
        self.punch(addr, end)

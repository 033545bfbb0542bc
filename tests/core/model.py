"""A naive model of address spaces: sorted lists and scans, the rules of Linux and nothing clever.

Written from the rules alone (the paragraphs named are those of the specification of Linux's VMA
semantics), so that it shares no code and no idea with the core. tests/kernel holds it to the
running kernel, which is right where it and the specification disagree; "Measured" marks what
was learnt there.

A Space is one process's memory, a Family those that come from one by forks, with the files they
map. Ranges are half-open, in bytes; page offsets count pages. What a call refuses is an Errno;
it has changed nothing then, except where Linux itself stops half way. This module has the
system calls, page faults and forks; areas.py what they all use.
"""

import errno
from contextlib import suppress

from .areas import (
    AnonVma,
    Areas,
    Errno,
    Family,
    File,
    ForkRefused,
    Shown,
    Vma,
    block_range,
    page_align,
    refuse,
)
from .linux import (
    ACCESS,
    ACCOUNT,
    ADVICE_FLAGS,
    ADVICE_KNOWN,
    COLD,
    DODUMP,
    DOFORK,
    DONTCOPY,
    DONTDUMP,
    DONTEXPAND,
    DONTNEED,
    DONTNEED_LOCKED,
    DONTUNMAP,
    DROPPABLE,
    EXEC,
    FILE_BYTES_MAX,
    FIXED,
    FREE,
    GROWSDOWN,
    GUARD,
    HUGEPAGE,
    IO,
    KEEP,
    MAP_ANONYMOUS,
    MAP_DROPPABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_SYNC,
    MAP_VALIDATED,
    MAY,
    MAYMOVE,
    MAYSHARE,
    MAYWRITE,
    NOHUGEPAGE,
    NORESERVE,
    PAGE,
    PAGEOUT,
    PFNMAP,
    PKEY,
    PMD,
    POPULATE_READ,
    POPULATE_WRITE,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_SEM,
    READ,
    REMOVE,
    SHARED,
    SPECIAL,
    SYNC,
    U64,
    WIPE,
    WIPEONFORK,
    WRITE,
)

__all__ = ["AnonVma", "Errno", "Family", "File", "ForkRefused", "Shown", "Space", "Vma"]


class Space(Areas):
    """One address space; an empty one of a family of its own unless told otherwise."""

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
        vm_flags = self.access_flags(prot) | MAY
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
            # Measured: what the limit refuses has split the VMAs at its ends.
            self.split(addr)
            self.split(addr + length)
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

    def access_flags(self, prot: int) -> int:
        """R, W and X; measured: with protection keys, X and no other bit of prot is unreadable."""
        return prot & ACCESS | (PKEY if self.params.protection_keys and prot == EXEC else 0)

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
            flags = vma.flags & ~(ACCESS | PKEY) | self.access_flags(prot)
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
        if advice in (DONTNEED, DONTNEED_LOCKED) or (advice == PAGEOUT and flags & DROPPABLE):
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
        if flags & FIXED and old_length == new_length and self.params.linux_version >= 6017:
            return self.move_all(old, old_length, flags, new)
        return self.remap_one(old, old_length, new_length, flags, new)

    def move_all(self, old: int, length: int, flags: int, new: int) -> int:
        """A, since Linux 6.17: each VMA by itself; the target opposite holes is left alone."""
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
            grown, behind = vma._replace(end=end), self.vmas[i + 1 : i + 2]
            # Measured: whether the one that grows has inherited its anon_vma does not matter.
            fresh = grown._replace(anon=AnonVma()) if grown.anon else grown
            asking = grown if behind and behind[0].anon else fresh
            if behind and self.mergeable(asking, behind[0]):
                self.vmas[i : i + 2] = [grown.joined(behind[0])]
            else:
                self.vmas[i] = grown
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
            # Measured: where FIXED cuts off a tail first, Linux 6.18 charges the tail as well, and
            # never gives it back (Committed_AS grows for good). The leak is not repeated here.
            self.enough_memory(charged // PAGE)
        if vma.file == 0 and vma.anon is None:
            pgoff = new // PAGE
        moved = Vma(new, new + new_length, vma.flags, vma.file, pgoff, vma.anon)
        self.insert(moved)
        self.move_pages(old, old + old_length, new - old)
        if old_length and not flags & DONTUNMAP:
            self.punch(old, old + old_length)
        elif (vma.start, vma.end) == (old, old + old_length) and vma in self.vmas:
            # Moved whole, it has lost its anon_vma; its pgoff it keeps until Linux 7.
            reset = vma.anon and vma.file == 0 and self.params.linux_version >= 7000
            pgoff = vma.start // PAGE if reset else vma.pgoff
            self.vmas[self.vmas.index(vma)] = vma._replace(anon=None, pgoff=pgoff)
        return new

    def move_pages(self, start: int, end: int, by: int) -> None:
        """Pages go, and tables are made for them wherever there was one, empty or not. Moved whole
        to the start of a block, a huge page stays huge and a table is moved itself."""
        moved = self.mapped_pages(start, end)
        blocks = self.tables & set(range(start // PMD, -(-end // PMD)))
        for block in {page * PAGE // PMD for page in moved}:
            low, high = block_range(block)
            if low < start or high > end or by % PMD:
                blocks.add(block)
        for block in blocks:
            low, high = (min(max(addr, start), end) + by for addr in block_range(block))
            if high - low == PMD and by % PMD == 0:
                self.tables.discard(block)
            self.tables.update(range(low // PMD, -(-high // PMD)))
        for page in moved:
            self.pages[page + by // PAGE] = self.pages.pop(page)

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
        if prev and prev.end > params.start_brk and self.mergeable(prev, area):
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
        if not vma.flags & (WRITE if access else ACCESS) or vma.flags & PKEY:
            refuse(errno.EFAULT)
        page, offset = addr // PAGE, vma.pgoff_at(addr)
        behind = self.family.files[vma.file] if vma.file else None
        if behind and behind.page_count is not None and offset >= behind.page_count:
            refuse(errno.EFAULT)
        huge = self.gets_huge_page(vma, addr)
        if not huge:
            self.tables.add(addr // PMD)
        if huge or (access and not vma.flags & SHARED):
            self.prepare_anon(i)
        if access and not vma.flags & SHARED:
            self.pages[page] = value
        else:
            if access and behind:
                behind.pages[offset] = value
            self.pages.setdefault(page)
        own = self.pages[page]
        if own is None:
            return behind.pages.get(offset, 0) if behind else 0
        return own

    def gets_huge_page(self, vma: Vma, addr: int) -> bool:
        """Measured: a huge page comes with an anon_vma, read or written, and without a table."""
        start, end = block_range(addr // PMD)
        fits = vma.start <= start and end <= vma.end and addr // PMD not in self.tables
        return fits and bool(vma.flags & HUGEPAGE) and vma.file == 0

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
            # What a fault would find again is not copied.
            if copied and copied.anon:
                child.pages[page] = value
        child.tables = {block for block in self.tables if child.mapped_pages(*block_range(block))}
        return child

    def exit(self) -> None:
        self.family.spaces.remove(self)
        self.vmas, self.pages, self.tables = [], {}, set()

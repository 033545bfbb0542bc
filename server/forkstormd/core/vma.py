"""VMAs: their flags, when two are one, how a range of them is replaced, what they count.

The one place for merging and splitting; every call on an address space goes through
vma_replace. Rules (I.., A..) are those of Linux 6.18, observed through mmap(2) and
/proc/PID/smaps. Addresses here are half-open, [start, end); the tree's ranges are inclusive.

A record is immutable once published: whoever changes a VMA makes a new record. Records made
by a call that fails later are given back by the caller.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.anon import anon_joinable, anon_mergeable, anon_of
    from forkstormd.core.atomics import copy_record
    from forkstormd.core.heap import heap_ensure, record_alloc
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.objects import object_get
    from forkstormd.core.owning import record_release
    from forkstormd.core.space import LIMIT_ARENA, LIMIT_MAP_COUNT
    from forkstormd.core.store import mas_store_pieces

    # Bits of vm_flags, with the values of include/linux/mm.h.
    VM_READ = 0x1
    VM_WRITE = 0x2
    VM_EXEC = 0x4
    VM_SHARED = 0x8
    VM_MAYREAD = 0x10
    VM_MAYWRITE = 0x20
    VM_MAYEXEC = 0x40
    VM_MAYSHARE = 0x80
    VM_GROWSDOWN = 0x100
    VM_LOCKED = 0x2000
    VM_DONTCOPY = 0x20000
    VM_ACCOUNT = 0x100000
    VM_NORESERVE = 0x200000
    VM_SYNC = 0x800000
    VM_WIPEONFORK = 0x2000000
    VM_DONTDUMP = 0x4000000
    VM_SOFTDIRTY = 0x8000000
    VM_NOHUGEPAGE = 0x40000000
    VM_DROPPABLE = 1 << 40
    # The protection key that Linux gives to execute-only memory: the lowest bit of VM_PKEY_BIT*.
    VM_PKEY = 1 << 32
    VM_SEQ_READ = 0x8000
    VM_RAND_READ = 0x10000
    VM_HUGEPAGE = 0x20000000
    # What a fork treats specially, besides VMAs with a shared object.
    VM_SPECIAL = VM_DONTCOPY | VM_WIPEONFORK | VM_LOCKED
    # stack_guard_gap: pages kept free below a GROWSDOWN area.
    GUARD_PAGES = 256
    # A device's or the kernel's own memory (VM_SPECIAL of Linux): never merged.
    VM_PFNMAP = 0x400
    VM_IO = 0x4000
    VM_DONTEXPAND = 0x40000
    VM_MIXEDMAP = 0x10000000
    VM_FOREIGN = VM_PFNMAP | VM_IO | VM_DONTEXPAND | VM_MIXEDMAP
    # On which sides vma_replace merges.
    MERGE_NONE = 0
    MERGE_LEFT = 1
    MERGE_RIGHT = 2
    MERGE_BOTH = 3
    MERGE_GROWN = 4


def vma_can_merge(task, left, right):
    """I1: two touching VMAs are one if one continues the other, and their anonymous memory may
    be one (A2)."""
    return vma_continues(task.mem, left, right) and anon_mergeable(
        anon_of(task, left), anon_of(task, right)
    )


def vma_continues(mem, left, right):
    """Whether flags, file and page offset go on from one VMA to the next."""
    a: RecordP = record_at(mem, left)
    b: RecordP = record_at(mem, right)
    if a.end != b.start or a.file != b.file or a.flags & VM_FOREIGN:
        return False
    # SOFTDIRTY says that pages changed lately, nothing about the mapping (vma_merge's rule).
    if ((a.flags ^ b.flags) & ~cython.cast(u64, VM_SOFTDIRTY)) != 0:
        return False
    return a.pgoff + vma_pages(a) == b.pgoff and a.policy == b.policy


def vma_lookup(task, addr):
    """The VMA that contains an address, or 0. What lies above task_size (an imported [vsyscall])
    is there to be seen, and out of reach of every call."""
    if addr >= task.next.task_size:
        return 0
    return mas_walk(task_mas(task, 0), addr)


def vma_find(task, addr):
    """The VMA that contains an address, else the next above it, or 0; as vma_lookup."""
    index: u32 = mas_find(task_mas(task, 0), addr)
    if index != 0 and record_at(task.mem, index).start >= task.next.task_size:
        return 0
    return index


def vma_pages(vma):
    """How many pages a VMA has."""
    return (vma.end - vma.start) >> PAGE_SHIFT


def access_flags(state, prot):
    """What a prot of mmap or mprotect says of a VMA's flags. Where there are protection keys,
    memory for nothing but execution has one that forbids to read it (execute_only_pkey);
    measured: only if prot is PROT_EXEC and no other bit, known or not."""
    flags: u64 = prot & (VM_READ | VM_WRITE | VM_EXEC)
    return flags | VM_PKEY if state.protection_keys and prot == VM_EXEC else flags


if not cython.compiled:

    def vma_special(vma):
        """Whether a fork treats a VMA specially: it is left out, has no pages, is no longer
        locked, or holds one more reference on an object. Leaves mark those, inner nodes count
        them."""
        return (vma.flags & VM_SPECIAL) != 0 or vma.object != 0


def vma_account(state, flags, pages):
    """Count pages in (or, negative, out of) the statistics of an mm (vm_stat_account)."""
    state.total_vm += pages
    if (flags & (VM_EXEC | VM_WRITE | VM_GROWSDOWN)) == VM_EXEC:
        state.exec_vm += pages
    elif flags & VM_GROWSDOWN:
        state.stack_vm += pages
    elif (flags & (VM_WRITE | VM_SHARED)) == VM_WRITE:
        state.data_vm += pages
    if flags & VM_ACCOUNT:
        state.charged += pages


def vma_guard_start(record):
    """Where the space that a VMA keeps free begins: L4, the guard gap of GROWSDOWN."""
    if not record.flags & VM_GROWSDOWN:
        return record.start
    if record.start < GUARD_PAGES * PAGE_BYTES:
        return 0
    return record.start - GUARD_PAGES * PAGE_BYTES


def vma_new(task, start, end, flags, pgoff, file):
    """A record of the running transaction's space, without anonymous memory; 0 when there is no
    memory."""
    index: u32 = record_alloc(task)
    record: RecordP
    if index == 0:
        return 0
    record = record_at(task.mem, index)
    record.start = start
    record.end = end
    record.flags = flags
    record.pgoff = pgoff
    record.writer = task.next.serial
    record.anon = 0
    record.file = file
    record.object = 0
    record.policy = 0
    return index


def vma_part(task, record, start, end, flags, anon):
    """A new record for the part [start, end) of a VMA, with these flags; I7: the page offset
    moves along. heap_ensure has made sure of it. anon: what anon_of says of the VMA, the same
    for all its parts."""
    index: u32 = record_alloc(task)
    part: RecordP
    copy_record(task.mem.base, index, record)
    part = record_at(task.mem, index)
    part.pgoff += (start - part.start) >> PAGE_SHIFT
    part.start = start
    part.end = end
    part.flags = flags
    part.writer = task.next.serial
    part.anon = anon
    if part.object != 0:
        object_get(task, part.object)
    return index


def vma_splits_one(mas, start, end):
    """Whether [start, end) lies strictly inside one VMA, so that removing it makes two."""
    index: u32 = mas_walk(mas, start)
    record: RecordP
    if index == 0:
        return False
    record = record_at(mas.mem, index)
    return record.start < start and end < record.end


def _piece(mas, record, last):
    count: cython.int = mas.piece_count
    mas.piece_last[count] = last
    mas.piece_record[count] = record
    mas.piece_special[count] = vma_special(record_at(mas.mem, record)) if record != 0 else 0
    mas.piece_count = count + 1


def vma_replace(mas, state, start, end, record, merge):
    """Make [start, end) the VMA `record`, or empty (0), in mas's tree and in state's counts.

    What is there goes; a VMA that reaches over an end keeps its other part (I7). The new VMA
    merges (I5) with what then touches it, on the sides that `merge` allows: both of them only
    if their anonymous memory can be one too. The record belongs to the tree afterwards. O(VMAs
    removed + height). Returns 0, or -ENOMEM with nothing changed (the record is then still the
    caller's).
    """
    task: TaskP = mas.task
    mem: MemP = task.mem
    new: RecordP
    old: RecordP
    index: u32
    before: u32 = 0
    after: u32 = 0
    left: u32 = 0
    right: u32 = 0
    first: u64 = start
    last: u64 = end
    low: u64
    high: u64
    anon: u64 = 0
    removed: u64 = 0
    result: cython.int
    if heap_ensure(task, STORE_NODES, 8) != 0:
        return -ENOMEM
    # What is in the way, and what is left of it.
    index = mas_find(mas, start)
    while index != 0:
        old = record_at(mem, index)
        if old.start >= end:
            break
        low = old.start
        high = old.end
        if low < start or high > end:
            anon = anon_of(task, index)
        if low < start:
            left = vma_part(task, index, low, start, old.flags, anon)
            first = low
            low = start
        if high > end:
            right = vma_part(task, index, end, high, old.flags, anon)
            last = high
            high = end
        vma_account(state, old.flags, -cython.cast(i64, (high - low) >> PAGE_SHIFT))
        removed += 1
        index = mas_next(mas) if old.end < end else 0
    if record != 0:
        new = record_at(mem, record)
        vma_account(state, new.flags, (end - start) >> PAGE_SHIFT)
        if merge & MERGE_LEFT and start > 0:
            before = left if left != 0 else mas_walk(mas, start - 1)
            if before != 0 and not vma_can_merge(task, before, record):
                before = 0
        if merge & MERGE_RIGHT:
            after = right if right != 0 else mas_walk(mas, end)
            if after != 0 and not (
                _merges_after(task, record, after, merge)
                and (before == 0 or anon_joinable(anon_of(task, before), anon_of(task, after)))
            ):
                after = 0
        if before != 0:
            old = record_at(mem, before)
            new.start = old.start
            new.pgoff = old.pgoff
            if new.anon == 0:
                new.anon = anon_of(task, before)
            if before == left:
                record_release(task, left)
                left = 0
            else:
                first = old.start
                removed += 1
        if after != 0:
            old = record_at(mem, after)
            new.end = old.end
            if new.anon == 0:
                new.anon = anon_of(task, after)
            if after == right:
                record_release(task, right)
                right = 0
            else:
                last = old.end
                removed += 1
    mas.piece_count = 0
    if left != 0:
        _piece(mas, left, start - 1)
    _piece(mas, record, record_at(mem, record).end - 1 if record != 0 else end - 1)
    if right != 0:
        _piece(mas, right, last - 1)
    state.map_count += (left != 0) + (record != 0) + (right != 0) - removed
    result = mas_store_pieces(mas, first, last - 1)
    check(result == 0)
    return result


def _merges_after(task, record, after, merge):
    """Whether a new VMA joins the next one. Of one that has only grown (vma_merge_extend) Linux
    6.18 does not ask whether it has inherited its anonymous memory."""
    if merge & MERGE_GROWN and anon_of(task, after) == 0:
        return vma_continues(task.mem, record, after)
    return vma_can_merge(task, record, after)


def vma_change(mas, state, vma, start, end, flags):
    """Give the part [start, end) of a VMA other flags (vma_modify): I6.

    It joins the neighbours it then matches; what it leaves of the VMA becomes VMAs of their
    own, which max_map_count may forbid: -ENOMEM, and when only the second of two splits is
    forbidden the first one stays (section 11). Limit and arena are told apart by task.limit.
    """
    task: TaskP = mas.task
    old: RecordP = record_at(task.mem, vma)
    low: u64 = old.start
    high: u64 = old.end
    new: u32
    splits: u64 = 0
    anon: u64 = anon_of(task, vma)
    result: cython.int
    if heap_ensure(task, STORE_NODES, 8) != 0:
        task.limit = LIMIT_ARENA
        return -ENOMEM
    new = vma_part(task, vma, start, end, flags, anon)
    if not (
        (start == low and _merges(mas, new, start - 1, True))
        or (end == high and _merges(mas, new, end, False))
    ):
        splits = (start > low) + (end < high)
    if splits != 0 and state.map_count + splits > state.max_map_count:
        record_release(task, new)
        task.limit = LIMIT_MAP_COUNT
        if splits == 2 and state.map_count < state.max_map_count:
            result = vma_split(mas, state, vma, start)
            if result != 0:
                return result
        return -ENOMEM
    result = vma_replace(mas, state, start, end, new, MERGE_BOTH)
    if result != 0:
        record_release(task, new)
        task.limit = LIMIT_ARENA
    return result


def _merges(mas, new, at, before):
    """Whether a changed VMA will merge with its neighbour at this address."""
    task: TaskP = mas.task
    index: u32
    if at == MAX_INDEX:
        return False
    index = mas_walk(mas, at)
    if index == 0:
        return False
    return vma_can_merge(task, index, new) if before else vma_can_merge(task, new, index)


def vma_split(mas, state, vma, at):
    """Cut a VMA in two at an address within it, whatever the limit. 0 or -ENOMEM (arena)."""
    task: TaskP = mas.task
    old: RecordP = record_at(task.mem, vma)
    part: u32
    result: cython.int
    if heap_ensure(task, STORE_NODES, 8) != 0:
        task.limit = LIMIT_ARENA
        return -ENOMEM
    part = vma_part(task, vma, old.start, at, old.flags, anon_of(task, vma))
    result = vma_replace(mas, state, old.start, at, part, MERGE_NONE)
    if result != 0:
        record_release(task, part)
        task.limit = LIMIT_ARENA
    return result

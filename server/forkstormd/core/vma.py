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

    from forkstormd.core.atomics import copy_record
    from forkstormd.core.heap import heap_ensure, record_alloc, record_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
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
    VM_WIPEONFORK = 0x2000000
    VM_DONTDUMP = 0x4000000
    VM_SOFTDIRTY = 0x8000000
    VM_NOHUGEPAGE = 0x40000000
    VM_DROPPABLE = 1 << 40
    # What a fork treats specially.
    VM_SPECIAL = VM_DONTCOPY | VM_WIPEONFORK
    # stack_guard_gap: pages kept free below a GROWSDOWN area.
    GUARD_PAGES = 256


def vma_can_merge(left, right):
    """I1: two touching VMAs are one if flags, file and page offset continue, and their
    anonymous pages belong together."""
    if left.end != right.start or left.file != right.file:
        return False
    # SOFTDIRTY says that pages changed lately, nothing about the mapping (vma_merge's rule).
    if ((left.flags ^ right.flags) & ~cython.cast(u64, VM_SOFTDIRTY)) != 0:
        return False
    if left.pgoff + ((left.end - left.start) >> PAGE_SHIFT) != right.pgoff:
        return False
    return left.anon == right.anon and left.policy == right.policy


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
    """A record, or 0 when there is no memory."""
    index: u32 = record_alloc(task)
    record: RecordP
    if index == 0:
        return 0
    record = record_at(task.mem, index)
    record.start = start
    record.end = end
    record.flags = flags
    record.pgoff = pgoff
    record.writer = 0
    record.anon = 0
    record.file = file
    record.unused = 0
    record.policy = 0
    return index


def vma_splits_one(mas, start, end):
    """Whether [start, end) lies strictly inside one VMA, so that removing it makes two."""
    index: u32 = mas_walk(mas, start)
    record: RecordP
    if index == 0:
        return False
    record = record_at(mas.mem, index)
    return record.start < start and end < record.end


def _cut(task, record, start, end):
    """A new record for the part [start, end) of a VMA. I7: the page offset moves along."""
    index: u32 = record_alloc(task)
    part: RecordP
    copy_record(task.mem.base, index, record)
    part = record_at(task.mem, index)
    part.pgoff += (start - part.start) >> PAGE_SHIFT
    part.start = start
    part.end = end
    return index


def _piece(mas, record, last):
    count: cython.int = mas.piece_count
    mas.piece_last[count] = last
    mas.piece_record[count] = record
    mas.piece_special[count] = (
        (record_at(mas.mem, record).flags & VM_SPECIAL) != 0 if record != 0 else 0
    )
    mas.piece_count = count + 1


def vma_replace(mas, state, start, end, record):
    """Make [start, end) the VMA `record`, or empty (0), in mas's tree and in state's counts.

    What is there goes; a VMA that reaches over an end keeps its other part (I7); a new VMA
    merges with what then touches it (I5). The record belongs to the tree afterwards. O(VMAs
    removed + height). Returns 0, or -ENOMEM with nothing changed (the record is then still the
    caller's).
    """
    task: TaskP = mas.task
    mem: MemP = task.mem
    new: RecordP
    old: RecordP
    index: u32
    left: u32 = 0
    right: u32 = 0
    first: u64 = start
    last: u64 = end
    low: u64
    high: u64
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
        if low < start:
            left = _cut(task, index, low, start)
            first = low
            low = start
        if high > end:
            right = _cut(task, index, end, high)
            last = high
            high = end
        vma_account(state, old.flags, -cython.cast(i64, (high - low) >> PAGE_SHIFT))
        removed += 1
        index = mas_next(mas) if old.end < end else 0
    if record != 0:
        new = record_at(mem, record)
        vma_account(state, new.flags, (end - start) >> PAGE_SHIFT)
        if left != 0:
            if vma_can_merge(record_at(mem, left), new):
                new.start = record_at(mem, left).start
                new.pgoff = record_at(mem, left).pgoff
                record_free(task, left)
                left = 0
        elif start > 0:
            index = mas_walk(mas, start - 1)
            if index != 0 and vma_can_merge(record_at(mem, index), new):
                new.start = record_at(mem, index).start
                new.pgoff = record_at(mem, index).pgoff
                first = new.start
                removed += 1
        if right != 0:
            if vma_can_merge(new, record_at(mem, right)):
                new.end = record_at(mem, right).end
                record_free(task, right)
                right = 0
        else:
            index = mas_walk(mas, end)
            if index != 0 and vma_can_merge(new, record_at(mem, index)):
                new.end = record_at(mem, index).end
                last = new.end
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

"""madvise(2) on a space: section 6 of the semantics.

Advice about a VMA changes its flags; advice about pages drops or populates them, or says nothing
that could be observed (WILLNEED, COLD, FREE, and PAGEOUT of what may not be dropped: a machine
without swap that never runs short of memory).
Holes are passed over and reported in the end; an error stops at once; either way what was done
stays. O(height) per VMA whose flags change, O(pages) for those that populate.
Conventions: mapping.py.
"""

import cython

if not cython.compiled:
    from errno import EACCES, EAGAIN, EFAULT, EINVAL, ENOMEM, ETIMEDOUT

    from forkstormd.core.atomics import now_ns
    from forkstormd.core.fault import fault_in
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.mapping import call_room
    from forkstormd.core.objects import object_of, object_punch
    from forkstormd.core.pages import *
    from forkstormd.core.placement import page_align
    from forkstormd.core.retire import retire_room
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    # Populating looks at the clock every so many bytes, less one.
    POPULATE_LOOK = (4 << 20) - 1
    # An int to the kernel: what does not fit is lost.
    ADVICE_BITS = 0xFFFF_FFFF
    # Advice of madvise(2), with the values of asm-generic/mman-common.h.
    MADV_NORMAL = 0
    MADV_RANDOM = 1
    MADV_SEQUENTIAL = 2
    MADV_WILLNEED = 3
    MADV_DONTNEED = 4
    MADV_FREE = 8
    MADV_REMOVE = 9
    MADV_DONTFORK = 10
    MADV_DOFORK = 11
    MADV_HUGEPAGE = 14
    MADV_NOHUGEPAGE = 15
    MADV_DONTDUMP = 16
    MADV_DODUMP = 17
    MADV_WIPEONFORK = 18
    MADV_KEEPONFORK = 19
    MADV_COLD = 20
    MADV_PAGEOUT = 21
    MADV_POPULATE_READ = 22
    MADV_POPULATE_WRITE = 23
    MADV_DONTNEED_LOCKED = 24


def _known(advice):
    if advice <= MADV_DONTNEED or MADV_FREE <= advice <= MADV_DOFORK:
        return True
    return MADV_HUGEPAGE <= advice <= MADV_DONTNEED_LOCKED


def do_madvise(task, start, length, advice):
    """madvise(2)."""
    vma: RecordP
    index: u32
    end: u64
    upto: u64
    pages: u64 = page_align(length)
    result: cython.int
    hole: cython.bint = False
    task.value = 0
    advice &= ADVICE_BITS
    if not _known(advice):
        return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
    if start & (PAGE_BYTES - 1):
        return task_fail(task, EINVAL, FIELD_ADDR, LIMIT_NONE)
    end = (start + pages) & MAX_INDEX  # wraps, as in C
    if (length != 0 and pages == 0) or end < start:
        return task_fail(task, EINVAL, FIELD_LENGTH, LIMIT_NONE)
    if MADV_POPULATE_READ <= advice <= MADV_POPULATE_WRITE:
        return _populate(task, start, end, advice == MADV_POPULATE_WRITE)
    while start < end:
        index = vma_find(task, start)
        if index == 0:
            return task_fail(task, ENOMEM, FIELD_ADDR, LIMIT_NONE)
        vma = record_at(task.mem, index)
        if vma.start > start:
            hole = True
            start = vma.start
            if start >= end:
                break
        upto = min(vma.end, end)
        result = _advise_vma(task, index, start, upto, advice)
        if result != 0:
            return result
        start = upto
    return task_fail(task, ENOMEM, FIELD_ADDR, LIMIT_NONE) if hole else 0


def _populate(task, start, end, write):
    """Fault every page in; what fails says so with other errnos than a fault."""
    index: u32
    flags: u64
    result: cython.int
    while start < end:
        index = vma_lookup(task, start)
        if index == 0:
            return task_fail(task, ENOMEM, FIELD_ADDR, LIMIT_NONE)
        # Stricter than a load: write-only memory can be read, but not populated for reading.
        flags = record_at(task.mem, index).flags
        if flags & (VM_IO | VM_PFNMAP) or (not write and not flags & VM_READ):
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        result = fault_in(task, start, write)
        if result == -EFAULT and task.field == FIELD_ACCESS:
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        if result != 0:
            return result
        start += PAGE_BYTES
        if start & POPULATE_LOOK == 0 and task.deadline_ns != 0 and now_ns() > task.deadline_ns:
            return -ETIMEDOUT
    return 0


def _advise_vma(task, vma, start, end, advice):
    """madvise_vma_behavior: the new flags of one VMA, or what happens to its pages."""
    record: RecordP = record_at(task.mem, vma)
    flags: u64 = record.flags
    result: cython.int
    if advice == MADV_NORMAL:
        flags &= ~cython.cast(u64, VM_SEQ_READ | VM_RAND_READ)
    elif advice == MADV_SEQUENTIAL:
        flags = (flags & ~cython.cast(u64, VM_RAND_READ)) | VM_SEQ_READ
    elif advice == MADV_RANDOM:
        flags = (flags & ~cython.cast(u64, VM_SEQ_READ)) | VM_RAND_READ
    elif advice == MADV_DONTFORK:
        flags |= VM_DONTCOPY
    elif advice == MADV_DOFORK:
        if flags & VM_IO:
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        flags &= ~cython.cast(u64, VM_DONTCOPY)
    elif advice == MADV_WIPEONFORK:
        if record.file != 0 or flags & VM_SHARED:
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        flags |= VM_WIPEONFORK
    elif advice == MADV_KEEPONFORK:
        if flags & VM_DROPPABLE:
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        flags &= ~cython.cast(u64, VM_WIPEONFORK)
    elif advice == MADV_DONTDUMP:
        flags |= VM_DONTDUMP
    elif advice == MADV_DODUMP:
        if flags & (VM_FOREIGN | VM_DROPPABLE):
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        flags &= ~cython.cast(u64, VM_DONTDUMP)
    elif advice == MADV_HUGEPAGE:
        if flags & VM_FOREIGN:
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        flags = (flags & ~cython.cast(u64, VM_NOHUGEPAGE)) | VM_HUGEPAGE
    elif advice == MADV_NOHUGEPAGE:
        flags = (flags & ~cython.cast(u64, VM_HUGEPAGE)) | VM_NOHUGEPAGE
    else:
        return _advise_pages(task, vma, start, end, advice)
    if flags == record.flags:
        return 0
    if retire_room(task) != 0:
        return task_fail(task, EAGAIN, FIELD_NONE, LIMIT_ARENA)
    result = vma_change(task_mas(task, 0), task_next(task), vma, start, end, flags)
    return -EAGAIN if result == -ENOMEM else result


def _advise_pages(task, vma, start, end, advice):
    """Advice about pages, which leaves the VMA alone."""
    record: RecordP = record_at(task.mem, vma)
    offset: u64
    result: cython.int = 0
    if advice == MADV_FREE:
        if record.file != 0:
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
    elif advice in (MADV_DONTNEED, MADV_DONTNEED_LOCKED):
        if record.flags & VM_PFNMAP or (record.flags & VM_LOCKED and advice == MADV_DONTNEED):
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        result = _drop_pages(task, start, end)
    elif advice in (MADV_COLD, MADV_PAGEOUT):
        if record.flags & (VM_LOCKED | VM_PFNMAP):
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        if advice == MADV_PAGEOUT and record.flags & VM_DROPPABLE:
            # Measured: reclaimed at once, and what is droppable is not written anywhere.
            result = _drop_pages(task, start, end)
    elif advice == MADV_REMOVE:
        if record.flags & VM_LOCKED or record.file == 0:
            return task_fail(task, EINVAL, FIELD_ADVICE, LIMIT_NONE)
        if (record.flags & (VM_SHARED | VM_MAYWRITE)) != VM_SHARED | VM_MAYWRITE:
            return task_fail(task, EACCES, FIELD_ADVICE, LIMIT_NONE)
        offset = (record.pgoff << PAGE_SHIFT) + start - record.start
        object_punch(task, object_of(task, record), offset, offset + end - start)
    return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA) if result != 0 else 0


def _drop_pages(task, start, end):
    """Unmap the pages of a range; its page tables stay. 0 or -ENOMEM."""
    state: StateP = task_next(task)
    pages: PagesP = task_pages(task, 0)
    result: cython.int
    if state.page_root == 0:
        return 0
    if call_room(task) != 0:
        return -ENOMEM
    pages_init(pages, task, state, task_mas(task, 0).stamp)
    result = pages_zap(pages, start, end)
    pages_finish(pages, state)
    return result

"""mprotect(2) on a space: section 5 of the semantics.

Not atomic, as in Linux: it goes VMA by VMA, upwards, and what was changed before an error stays.
O(height) per VMA whose flags change. Conventions: mapping.py.
"""

import cython

if not cython.compiled:
    from errno import EACCES, EINVAL, ENOMEM

    from forkstormd.core.anon import anon_of
    from forkstormd.core.commit import *
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.placement import page_align
    from forkstormd.core.retire import retire_room
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    PROT_SEM = 0x8
    PROT_GROWSDOWN = 0x01000000
    PROT_GROWSUP = 0x02000000
    # PROT_READ, PROT_WRITE and PROT_EXEC, which are VM_READ, VM_WRITE and VM_EXEC too.
    ACCESS_BITS = 0x7


def do_mprotect(task, start, length, prot):
    """mprotect(2)."""
    vma: RecordP
    index: u32
    end: u64
    flags: u64
    result: cython.int = 0
    grows: u64 = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    task.value = 0
    prot &= ~cython.cast(u64, PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP:
        return task_fail(task, EINVAL, FIELD_PROT, LIMIT_NONE)
    if start & (PAGE_BYTES - 1):
        return task_fail(task, EINVAL, FIELD_ADDR, LIMIT_NONE)
    if length == 0:
        return 0
    end = (start + page_align(length)) & MAX_INDEX  # wraps, as in C
    if end <= start:
        return task_fail(task, ENOMEM, FIELD_LENGTH, LIMIT_NONE)
    if prot & ~cython.cast(u64, ACCESS_BITS | PROT_SEM):
        return task_fail(task, EINVAL, FIELD_PROT, LIMIT_NONE)
    index = vma_find(task, start)
    if index == 0 or record_at(task.mem, index).start >= end:
        return task_fail(task, ENOMEM, FIELD_ADDR, LIMIT_NONE)
    vma = record_at(task.mem, index)
    if grows & PROT_GROWSDOWN:
        if not vma.flags & VM_GROWSDOWN:
            return task_fail(task, EINVAL, FIELD_PROT, LIMIT_NONE)
        start = vma.start
    elif vma.start > start:
        return task_fail(task, ENOMEM, FIELD_ADDR, LIMIT_NONE)
    elif grows != 0:
        return task_fail(task, EINVAL, FIELD_PROT, LIMIT_NONE)
    while start < end:
        index = vma_lookup(task, start)
        if index == 0:
            return task_fail(task, ENOMEM, FIELD_LENGTH, LIMIT_NONE)
        vma = record_at(task.mem, index)
        flags = (vma.flags & ~(ACCESS_BITS | VM_PKEY)) | access_flags(task_next(task), prot)
        # MAYREAD, MAYWRITE and MAYEXEC stand four bits above what they allow.
        if flags & ~(flags >> 4) & ACCESS_BITS:
            return task_fail(task, EACCES, FIELD_PROT, LIMIT_NONE)
        length = min(vma.end, end) - start
        if flags != vma.flags:
            result = _protect_vma(task, index, start, start + length, flags)
            if result != 0:
                return result
        start += length
    return 0


def _protect_vma(task, vma, start, end, flags):
    """mprotect_fixup: ACCOUNT follows the permission to write (I2), and is charged."""
    state: StateP = task_next(task)
    record: RecordP = record_at(task.mem, vma)
    pages: u64 = (end - start) >> PAGE_SHIFT
    if retire_room(task) != 0:
        return task_fail(task, ENOMEM, FIELD_NONE, LIMIT_ARENA)
    if flags & VM_WRITE:
        if not record.flags & (VM_ACCOUNT | VM_WRITE | VM_SHARED | VM_NORESERVE):
            if commit_more(task, state, pages) != 0:
                return task_fail(task, ENOMEM, FIELD_PROT, LIMIT_COMMIT)
            flags |= VM_ACCOUNT
    elif record.file == 0 and anon_of(task, vma) == 0:
        flags &= ~cython.cast(u64, VM_ACCOUNT)
    # Where it cannot be split, what was charged is given back with the commit, or by its undo.
    return vma_change(task_mas(task, 0), state, vma, start, end, flags)

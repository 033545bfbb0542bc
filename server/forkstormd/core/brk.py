"""brk(2) on a space: section 9 of the semantics.

It has no errors: what cannot be done leaves the break where it is. O(height + VMAs removed).
Conventions: mapping.py.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.commit import *
    from forkstormd.core.layout import *
    from forkstormd.core.maple import *
    from forkstormd.core.mapping import call_room, range_mapped, unmap_range
    from forkstormd.core.placement import page_align
    from forkstormd.core.space import *
    from forkstormd.core.vma import *

    # rw private anonymous memory, accounted: VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT.
    BRK_FLAGS = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT


def do_brk(task, addr):
    """brk(2): task.value is the resulting break. 0, or -ENOMEM when the arena is full."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    new: u64 = page_align(addr)
    old: u64 = page_align(state.brk)
    task.value = state.brk
    if addr < state.start_brk or (new == 0 and addr != 0):
        return 0
    if call_room(task) != 0:
        return -ENOMEM
    if new < old:
        # What lies there goes, whoever mapped it; nothing there: no shrinking.
        if not range_mapped(mas, new, old):
            return 0
        if state.map_count >= state.max_map_count and vma_splits_one(mas, new, old):
            return 0
        if unmap_range(task, new, old) != 0:
            return -ENOMEM
    elif new > old and not _grow(task, old, new):
        return 0
    state.brk = addr
    task.value = addr
    return 0


def _grow(task, start, end):
    """Map [start, end) as heap, if it is free with a page more behind it; call_room was there."""
    state: StateP = task_next(task)
    mas: MasP = task_mas(task, 0)
    index: u32
    heap: RecordP
    merge: cython.int = MERGE_NONE
    pages: u64 = (end - start) >> PAGE_SHIFT
    if end > state.task_size or (start < state.mmap_min_addr and not state.privileged):
        return False
    index = mas_find(mas, start)
    if index != 0 and end + PAGE_BYTES > vma_guard_start(record_at(task.mem, index)):
        return False
    if state.map_count > state.max_map_count or commit_more(task, state, pages) != 0:
        return False
    if start > 0:
        index = mas_walk(mas, start - 1)
        # The data segment, which may end where the heap begins, is never extended.
        if index != 0:
            heap = record_at(task.mem, index)
            if heap.end > state.start_brk:
                merge = MERGE_LEFT
    index = vma_new(task, start, end, BRK_FLAGS, start >> PAGE_SHIFT, 0)
    return vma_replace(mas, state, start, end, index, merge) == 0

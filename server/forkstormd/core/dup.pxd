from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.clone cimport tree_clone
from forkstormd.core.dup_vma cimport *
from forkstormd.core.dup_whole cimport dup_extent, dup_share, too_special
from forkstormd.core.extents cimport extent_use
from forkstormd.core.heap cimport record_alloc, refill_records
from forkstormd.core.jobs cimport *
from forkstormd.core.maple cimport *
from forkstormd.core.objects cimport object_get
from forkstormd.core.owning cimport *
from forkstormd.core.pages cimport *
from forkstormd.core.parts cimport *
from forkstormd.core.store cimport *
from forkstormd.core.undo cimport *
from forkstormd.core.vma cimport vma_account, vma_pages, vma_special, VM_DONTCOPY, VM_LOCKED, VM_ACCOUNT, VM_WIPEONFORK
from libc.errno cimport EAGAIN, ENOMEM, EINVAL, EINTR, ETIMEDOUT

cdef int dup_mmap(Task *task, State *parent, int strategy, u64 stamp, bint phases) noexcept nogil
cdef u32 bulk_nodes(u64 entries) noexcept nogil

cdef int _bulk_insert(Task *task, Mas *old, Mas *child, bint phases) noexcept nogil
cdef int _tree_dup(Task *task, Mas *old, Mas *child, bint phases) noexcept nogil
cdef int _tree_dup_together(Task *task, State *parent, Mas *old, Mas *child, bint phases) noexcept nogil
cdef bint _parts_together(Task *task, State *parent, Mas *child, bint phases) noexcept nogil
cdef int _marked(Task *task, Mas *child) noexcept nogil
cdef int _undo_marked(Task *task, Mas *child, u64 failing) noexcept nogil
cdef u32 _copy_slowly(Task *task, u32 record, Record *vma, int fault) noexcept nogil

# Inline, because a fork spends its time here: _copy_vma of dup.py, word for word.
cdef inline u32 _copy_vma(Task *task, u32 record, Record *vma, int fault, u64 free) noexcept nogil:
    cdef u32 copy
    if (
        fault != 0
        or vma.object != 0
        or vma.flags & VM_LOCKED
        or (vma.flags & VM_ACCOUNT and (vma.end - vma.start) >> PAGE_SHIFT > free)
    ):
        return _copy_slowly(task, record, vma, fault)
    copy = record_alloc(task)
    if copy != 0:
        copy_record(task.mem.base, copy, record)
    else:
        task.failure.site = FAULT_VMA_RECORD
    return copy

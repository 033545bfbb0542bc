from forkstormd.core.layout cimport *
from forkstormd.core.anon cimport anon_of
from forkstormd.core.atomics cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.pages cimport *
from forkstormd.core.undo cimport *
from forkstormd.core.vma cimport vma_account, vma_pages, VM_ACCOUNT, VM_WIPEONFORK
from libc.errno cimport ENOMEM, EINTR, ETIMEDOUT

cdef enum:
    DEADLINE_VMAS = 4096

cdef int vma_may_fail(Task *task, u32 record, Record *vma, int fault) noexcept nogil
cdef int copy_pages(Task *task, u32 record, Record *vma, int fault) noexcept nogil
cdef void leave_out(Task *task, Record *vma) noexcept nogil
cdef u64 fault_at_vma(Task *task) noexcept nogil
cdef int fork_failed(Task *task, u64 ordinal, u64 done) noexcept nogil

# Inline, because a fork asks at every VMA: fork_late of dup_vma.py, word for word.
cdef inline bint fork_late(Task *task, u64 done) noexcept nogil:
    return done & (DEADLINE_VMAS - 1) == 0 and task.deadline_ns != 0 and now_ns() > task.deadline_ns

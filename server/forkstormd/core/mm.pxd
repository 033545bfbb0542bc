from cpython cimport array as arrays
from forkstormd.core.layout cimport *
from forkstormd.core.apply cimport Batch, mm_apply
from forkstormd.core.atomics cimport *
from forkstormd.core.futex cimport jobs_wait, jobs_wake
from forkstormd.core.heap cimport heap_ensure, record_alloc, refill_records, record_free, slot_alloc, slot_free
from forkstormd.core.maple cimport *
from forkstormd.core.owning cimport *
from forkstormd.core.store cimport *
from forkstormd.core.vma cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.jobs cimport jobs_help
from forkstormd.core.undo cimport *
from forkstormd.core.space cimport *
from forkstormd.core.operations cimport *
from forkstormd.core.lanes cimport Lanes, work_of
from forkstormd.core.snapshot cimport Snapshot, space_info
from libc.errno cimport ENOMEM, EINVAL

ctypedef u64 *U64P

cdef inline u64 *u64_of(arrays.array words):
    return <u64 *>words.data.as_voidptr

cdef inline u32 *u32_of(arrays.array words):
    return <u32 *>words.data.as_voidptr

cdef class MemoryManager(Lanes):
    cdef bint calls_beside(self, int index) noexcept nogil

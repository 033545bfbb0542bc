from libc.stdlib cimport calloc, free as c_free
from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.mutex cimport *
from forkstormd.core.arena cimport Arena
from forkstormd.core.heap cimport heap_flush, record_free, slot_alloc, slot_free, heap_ensure
from forkstormd.core.maple cimport *
from forkstormd.core.store cimport *
from forkstormd.core.vma cimport *
from forkstormd.core.dup cimport *
from forkstormd.core.space cimport *
from forkstormd.core.calls cimport *
from libc.errno cimport ENOMEM, ESRCH, ETIMEDOUT, EINVAL, EAGAIN

cdef enum:
    NAME_HEAP = 1
    NAME_STACK = 2
    NAME_FILE = 2

cdef class MemoryManager:
    cdef readonly Arena arena
    cdef readonly int shard
    cdef Task *tasks
    cdef int lane_count
    cdef list idle
    cdef object files
    cdef bint is_open

    cdef Task *task(self, int index) noexcept nogil
    cdef int begin(self, object request, object labels) except -1
    cdef int claim_lanes(self, int lanes) except -1

cdef class Snapshot:
    cdef readonly MemoryManager mm
    cdef readonly object info
    cdef u32 root
    cdef u32 height
    cdef u64 brk
    cdef u64 start_brk
    cdef u64 start_stack
    cdef u64 position
    cdef bint is_open

cdef int mm_fork(Task *task, u64 mm_id, int strategy, u64 expires_ns, bint phases) noexcept nogil
cdef int mm_map(Task *task, u64 mm_id) noexcept nogil
cdef int mm_unmap(Task *task, u64 mm_id, u64 addr, u64 length) noexcept nogil
cdef int mm_find(Task *task, u64 mm_id, u64 addr) noexcept nogil
cdef int mm_repeat_once(Task *task, u64 mm_id, int strategy) noexcept nogil
cdef u32 name_of(Record *record, u64 brk, u64 start_brk, u64 start_stack) noexcept nogil
cdef u64 offset_of(Record *record) noexcept nogil
cdef object work_of(Task *task)
cdef object space_info(Task *task, object mm_id)

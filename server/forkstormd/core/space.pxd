from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.mutex cimport *
from forkstormd.core.heap cimport slot_alloc, slot_free, heap_populate
from forkstormd.core.commit cimport *
from forkstormd.core.extents cimport extent_use
from forkstormd.core.owning cimport extent_put, retired_drop, tree_put
from forkstormd.core.maple cimport mas_init
from libc.errno cimport ENOMEM, ESRCH, ETIMEDOUT

cdef enum:
    FIELD_NONE = 0
    FIELD_MM_ID = 1
    FIELD_ADDR = 2
    FIELD_LENGTH = 3
    FIELD_FLAGS = 4
    FIELD_PROT = 5
    FIELD_FILE = 6
    FIELD_OFFSET = 7
    FIELD_STRATEGY = 8
    FIELD_ADVICE = 9
    FIELD_OLD_LENGTH = 10
    FIELD_NEW_LENGTH = 11
    FIELD_NEW_ADDR = 12
    FIELD_ACCESS = 13
    FIELD_FAULT = 14
    LIMIT_NONE = 0
    LIMIT_ARENA = 1
    LIMIT_SPACES = 2
    LIMIT_MAP_COUNT = 3
    LIMIT_PLACEMENT = 4
    LIMIT_COMMIT = 5
    LIMIT_FAULT = 6
    LIMIT_STACK = 7

cdef int task_fail(Task *task, int error, u32 field, u32 limit) noexcept nogil
cdef void work_begin(Task *task) noexcept nogil
cdef void task_begin(Task *task, u64 deadline_ns) noexcept nogil
cdef void task_end(Task *task) noexcept nogil
cdef u64 task_stamp(Task *task) noexcept nogil
cdef int space_lock(Task *task, u64 mm_id) noexcept nogil
cdef void space_unlock(Task *task) noexcept nogil
cdef void space_begin(Task *task) noexcept nogil
cdef void space_let_go(Task *task) noexcept nogil
cdef void space_commit(Task *task) noexcept nogil
cdef u64 space_publish(Task *task, u32 index, u64 expires_ns) noexcept nogil
cdef int space_exit(Task *task, u64 mm_id) noexcept nogil
cdef void space_release(Task *task) noexcept nogil
cdef u64 space_id(u32 index, u64 word) noexcept nogil

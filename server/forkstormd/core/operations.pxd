from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.advise cimport do_madvise
from forkstormd.core.brk cimport do_brk
from forkstormd.core.commit cimport *
from forkstormd.core.dup cimport dup_mmap
from forkstormd.core.extents cimport extent_settle
from forkstormd.core.owning cimport tree_get, tree_put
from forkstormd.core.fault cimport do_touch
from forkstormd.core.mapping cimport do_mmap, do_munmap
from forkstormd.core.protect cimport do_mprotect
from forkstormd.core.remap cimport do_mremap
from forkstormd.core.undo cimport FAULT_COMMIT_LIMIT
from forkstormd.core.heap cimport slot_alloc, slot_free
from forkstormd.core.maple cimport *
from forkstormd.core.space cimport *
from libc.errno cimport ENOMEM, ETIMEDOUT

cdef enum:
    OP_MAP = 1
    OP_UNMAP = 2
    OP_PROTECT = 3
    OP_ADVISE = 4
    OP_REMAP = 5
    OP_SET_BREAK = 6
    OP_TOUCH = 7
    REFERENCED_VMAS = 1024
    NAME_HEAP = 1
    NAME_STACK = 2
    NAME_FILE = 2

cdef int mm_fork(Task *task, u64 mm_id, int strategy, u64 expires_ns, bint phases) noexcept nogil
cdef int mm_operate(Task *task, int operation, u64 mm_id) noexcept nogil
cdef int perform(Task *task, int operation) noexcept nogil
cdef int mm_find(Task *task, u64 mm_id, u64 addr) noexcept nogil
cdef int mm_look(Task *task, u64 mm_id, bint snapshot) noexcept nogil
cdef int mm_repeat(Task *task, u64 mm_id, int strategy, u64 count, bint alone, u64 *durations) noexcept nogil
cdef u32 name_of(Record *record, u64 brk, u64 start_brk, u64 start_stack) noexcept nogil
cdef u64 offset_of(Record *record) noexcept nogil

cdef int _duplicate(Task *task, u64 mm_id, int strategy, bint phases) noexcept nogil
cdef int _leave(Task *task, int result) noexcept nogil
cdef void _fork_limit(Task *task) noexcept nogil

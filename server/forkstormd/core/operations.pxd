from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.calls cimport do_mmap, do_munmap
from forkstormd.core.dup cimport dup_mmap
from forkstormd.core.heap cimport slot_alloc, slot_free
from forkstormd.core.maple cimport *
from forkstormd.core.owning cimport tree_drop
from forkstormd.core.space cimport *
from libc.errno cimport ENOMEM

cdef enum:
    NAME_HEAP = 1
    NAME_STACK = 2
    NAME_FILE = 2

cdef int mm_fork(Task *task, u64 mm_id, int strategy, u64 expires_ns, bint phases) noexcept nogil
cdef int mm_map(Task *task, u64 mm_id) noexcept nogil
cdef int mm_unmap(Task *task, u64 mm_id, u64 addr, u64 length) noexcept nogil
cdef int mm_find(Task *task, u64 mm_id, u64 addr) noexcept nogil
cdef int mm_look(Task *task, u64 mm_id, bint snapshot) noexcept nogil
cdef int mm_repeat_once(Task *task, u64 mm_id, int strategy) noexcept nogil
cdef u32 name_of(Record *record, u64 brk, u64 start_brk, u64 start_stack) noexcept nogil
cdef u64 offset_of(Record *record) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.clone cimport *
from forkstormd.core.copying cimport *
from forkstormd.core.heap cimport heap_ensure, node_alloc, node_free, record_alloc, refill_records
from forkstormd.core.maple cimport *
from forkstormd.core.mutex cimport *
from forkstormd.core.owning cimport *
from forkstormd.core.store cimport mas_store, mas_store_range
from forkstormd.core.vma cimport VM_LOCKED, vma_special

cdef enum:
    PART_MOVE = 1
    PART_COPY = 2
    PART_CLONE = 3
    PART_VMAS = 1024
    PARTS_WANTED = 64
    PATIENCE_NS = 20000000
    PARTS_HELD = -2

cdef int parts_move(Job *job, u64 nodes, u64 records) noexcept nogil
cdef int parts_cut(Task *task, Job *job, u32 root, int height, u32 extent) noexcept nogil
cdef void part_do(Task *task, Job *job, u32 index) noexcept nogil
cdef bint parts_link(Task *task, Job *job) noexcept nogil
cdef void parts_drop(Task *task, Job *job) noexcept nogil

cdef Part *part_new(Job *job) noexcept nogil
cdef u64 _count(Mem *mem, u32 node, u64 wanted) noexcept nogil
cdef u32 _cut(Task *task, Job *job, u32 node, int levels, u64 low, u64 high, u64 wanted) noexcept nogil
cdef void _give_room(Task *task, Job *job, Part *part) noexcept nogil
cdef void _do_clone(Task *task, Job *job, Part *part) noexcept nogil

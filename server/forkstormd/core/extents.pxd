from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.heap cimport give_run, heap_claim, heap_flush, heap_populate, heap_reclaim
from forkstormd.core.mutex cimport *

cdef enum:
    SPARE_SHIFT = 3
    KEPT_SHIFT = 6
    KEPT_LAST_SHIFT = 3
    SMALL_BLOCKS = 64

cdef u64 extent_blocks(u32 nodes, u64 records) noexcept nogil
cdef u32 extent_alloc(Task *task, u32 nodes, u64 records) noexcept nogil
cdef void extent_one_part(Mem *mem, u32 extent) noexcept nogil
cdef void extent_settle(Task *task) noexcept nogil
cdef void extent_free(Task *task, u32 extent) noexcept nogil
cdef void extent_revive(Task *task) noexcept nogil
cdef u32 extent_root(Mem *mem, u32 extent) noexcept nogil

# Inline, because every retired object is asked: in_extent and extent_use of extents.py.
cdef inline bint in_extent(Task *task, u32 index) noexcept nogil:
    return <u32>(index - task.extent) < task.extent_units

cdef inline void extent_use(Task *task, u32 extent, u32 blocks) noexcept nogil:
    task.extent = extent
    task.extent_units = blocks * BLOCK_UNITS

cdef void _trim(Task *task, u32 last) noexcept nogil
cdef u64 _take_kept(Task *task, u64 blocks) noexcept nogil
cdef u64 _take_run(Task *task, u64 blocks) noexcept nogil
cdef u64 _take_blocks(Mem *mem, u32 first, u64 blocks) noexcept nogil
cdef u64 _claim_run(Task *task, u64 blocks) noexcept nogil

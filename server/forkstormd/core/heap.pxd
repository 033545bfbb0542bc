from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.mutex cimport *
from libc.errno cimport ENOMEM

cdef int heap_ensure(Task *task, u32 nodes, u32 records) noexcept nogil
cdef u32 node_alloc(Task *task) noexcept nogil
# Inline, because a fork spends its time here: record_alloc of heap.py, word for word.
cdef inline u32 record_alloc(Task *task) noexcept nogil:
    cdef Lane *lane = task.lane
    cdef u32 count
    if lane.record_count == 0 and not refill_records(task):
        return 0
    count = lane.record_count - 1
    lane.record_count = count
    return lane.records[count]

cdef void node_free(Task *task, u32 node) noexcept nogil
cdef void record_free(Task *task, u32 record) noexcept nogil
cdef void heap_flush(Task *task) noexcept nogil
cdef void heap_populate(Task *task) noexcept nogil
cdef u64 heap_reclaim(Task *task) noexcept nogil
cdef u32 give_run(Mem *mem, u64 word) noexcept nogil
cdef bint heap_claim(Task *task, u32 blocks, u32 taken) noexcept nogil
cdef int slot_alloc(Task *task) noexcept nogil
cdef void slot_free(Task *task, u32 slot) noexcept nogil

cdef u64 _give_extents(Mem *mem, Lane *lane) noexcept nogil
cdef bint _refill_nodes(Task *task) noexcept nogil
cdef bint refill_records(Task *task) noexcept nogil
cdef u32 _take_nodes(Task *task, u32 block) noexcept nogil
cdef u32 _take_records(Task *task, u32 block) noexcept nogil
cdef bint _scan(Task *task, u8 kind) noexcept nogil
cdef int _claim_chunk(Task *task) noexcept nogil
cdef void _flush_nodes(Task *task, u32 keep) noexcept nogil
cdef void _flush_records(Task *task, u32 keep) noexcept nogil
cdef u64 _whole_nodes(u64 word) noexcept nogil
cdef int _refill_slots(Task *task) noexcept nogil
cdef int _claim_slot(Task *task) noexcept nogil

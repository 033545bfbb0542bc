from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.heap cimport node_alloc, node_free
from forkstormd.core.maple cimport leaf_gap, mas_walk
from forkstormd.core.owning cimport *
from forkstormd.core.rebuild cimport mas_rebuild
from libc.errno cimport ENOMEM

# Inline, because a fork spends its time here: mas_store of store.py, word for word.
cdef inline int mas_store(Mas *mas, u64 first, u64 last, u32 record, u32 special) noexcept nogil:
    cdef int level = mas.height - 1
    cdef Leaf *leaf
    cdef int offset
    if mas.index == first and mas.last == last and mas.depth != 0 and record != 0:
        leaf = leaf_at(mas.mem, mas.node[level])
        offset = mas.offset[level]
        if (
            leaf.stamp == mas.stamp
            and leaf.slot[offset] != 0
            and (leaf.special >> offset) & 1 == special
        ):
            if not mas.keep_records:
                mas_retire(mas, DROP_RECORD, leaf.slot[offset], 0)
            leaf.slot[offset] = record
            mas.task.work.slots_written += 1
            return 0
    return mas_store_range(mas, first, last, record, special)

cdef int mas_store_range(Mas *mas, u64 first, u64 last, u32 record, u32 special) noexcept nogil
cdef int mas_store_pieces(Mas *mas, u64 first, u64 last) noexcept nogil
cdef int mas_reserve(Mas *mas, u32 nodes) noexcept nogil
cdef int mas_destroy(Mas *mas) noexcept nogil
cdef int _store_leaf(Mas *mas, u64 first, u64 last) noexcept nogil

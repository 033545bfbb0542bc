from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport bit_count, lowest_bit, prefetch
from libc.errno cimport EBUSY

cdef void mas_init(Mas *mas, Task *task, u32 root, u32 height) noexcept nogil
cdef u32 mas_walk(Mas *mas, u64 index) noexcept nogil
cdef u32 mas_first(Mas *mas, u64 low, u64 high) noexcept nogil
cdef u32 mas_next_slot(Mas *mas) noexcept nogil
cdef u32 mas_prev_slot(Mas *mas) noexcept nogil
cdef u32 mas_prev(Mas *mas) noexcept nogil
cdef u32 mas_find(Mas *mas, u64 index) noexcept nogil
cdef u32 mas_find_special(Mas *mas, u64 index) noexcept nogil
cdef u64 mas_rank(Mas *mas, u64 index) noexcept nogil
cdef u32 leaf_records(Leaf *leaf, int before) noexcept nogil
cdef u32 tree_nodes(Mem *mem, u32 root, int height) noexcept nogil
cdef u32 tree_specials(Mem *mem, u32 root, int height) noexcept nogil
cdef int mas_empty_area(Mas *mas, u64 low, u64 high, u64 size) noexcept nogil
cdef int mas_empty_area_rev(Mas *mas, u64 low, u64 high, u64 size) noexcept nogil
cdef u64 leaf_gap(Leaf *leaf, u64 min, u64 max) noexcept nogil
cdef u64 inner_gap(Inner *inner) noexcept nogil

# Inline, because a fork spends its time here: mas_next of maple.py, word for word.
cdef inline u32 mas_next(Mas *mas) noexcept nogil:
    cdef int level = mas.height - 1
    cdef Leaf *leaf = leaf_at(mas.mem, mas.node[level])
    cdef int offset = mas.offset[level] + 1
    cdef u32 record
    if offset < leaf.end:
        record = leaf.slot[offset]
        if record != 0:
            mas.index = mas.last + 1
            mas.offset[level] = offset
            mas.last = leaf.pivot[offset]
            return record
        if offset + 1 < leaf.end:
            mas.index = leaf.pivot[offset] + 1
            mas.offset[level] = offset + 1
            mas.last = leaf.pivot[offset + 1]
            return leaf.slot[offset + 1]
    return mas_next_leaf(mas)

cdef u32 mas_next_leaf(Mas *mas) noexcept nogil
cdef u32 _set_range(Mas *mas, Leaf *leaf, int offset) noexcept nogil
cdef void _down(Mas *mas, Inner *inner, int offset) noexcept nogil
cdef u32 _specials(Mas *mas, u32 node, int level) noexcept nogil
cdef u32 _first_special(Mas *mas) noexcept nogil
cdef void _first_leaf(Mas *mas) noexcept nogil
cdef void _last_leaf(Mas *mas) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.heap cimport heap_ensure, node_alloc, node_free, record_free
from forkstormd.core.maple cimport mas_init, mas_walk, mas_next_slot, leaf_gap, inner_gap
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
cdef void mas_retired_drop(Task *task) noexcept nogil
cdef void tree_drop(Task *task, u32 node, int levels) noexcept nogil
cdef void record_drop(Task *task, u32 record) noexcept nogil
cdef void inner_recount(Mem *mem, Inner *inner, bint over_leaves) noexcept nogil
cdef u32 leaf_vmas(Leaf *leaf) noexcept nogil
cdef u32 inner_gap_slot(Inner *inner) noexcept nogil
cdef u32 node_new(Mas *mas) noexcept nogil

cdef int _room(Mas *mas) noexcept nogil
cdef void mas_retire(Mas *mas, int kind, u32 index, int levels) noexcept nogil
cdef void _own_path(Mas *mas) noexcept nogil
cdef u32 _own(Mas *mas, u32 node, int level) noexcept nogil
cdef int _store_leaf(Mas *mas, u64 first, u64 last) noexcept nogil
cdef void _climb(Mas *mas, int level, u64 gap) noexcept nogil
cdef void _add_counts(Mas *mas, int level, int nodes, int vmas, int specials) noexcept nogil
cdef int _rebuild(Mas *mas, u64 first, u64 last, int settle) noexcept nogil
cdef void _gather_leaves(Mas *mas, Mas *right, u64 first, u64 last, int keep) noexcept nogil
cdef void _gather_inners(Mas *mas, Mas *right, int level) noexcept nogil
cdef void _push(Task *task, u64 last, u32 slot, u32 special, u64 gap, bint is_leaf) noexcept nogil
cdef void _push_node(Mas *mas, int level, int begin, int end) noexcept nogil
cdef void _drop_children(Mas *mas, int level, int begin, int end) noexcept nogil
cdef bint _pull(Mas *mas, Mas *right, int level, bint only_right) noexcept nogil
cdef void _pull_right(Mas *mas, Mas *right, int level, int turn) noexcept nogil
cdef void _pull_left(Mas *mas, Mas *right, int level, int turn) noexcept nogil
cdef void _consume(Mas *mas, int level) noexcept nogil
cdef int _turn_right(Mas *mas, int level) noexcept nogil
cdef int _turn_left(Mas *mas, int level) noexcept nogil
cdef void _emit(Mas *mas, int level, u64 min, u64 max) noexcept nogil
cdef int _share(Mas *mas, bint is_leaf, int left, int nodes) noexcept nogil
cdef u32 _emit_leaf(Mas *mas, int begin, int count, u64 min) noexcept nogil
cdef u32 _emit_inner(Mas *mas, int begin, int count, bint over_leaves) noexcept nogil
cdef bint _settle(Mas *mas, Mas *right, int level) noexcept nogil
cdef void _crown(Mas *mas, int collapsed) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.heap cimport node_free
from forkstormd.core.maple cimport inner_gap, leaf_gap, mas_init, mas_walk
from forkstormd.core.owning cimport *
from libc.errno cimport ENOMEM

cdef int mas_rebuild(Mas *mas, u64 first, u64 last, int settle) noexcept nogil
cdef void _crown(Mas *mas, int collapsed) noexcept nogil
cdef void _push(Task *task, u64 last, u32 slot, u32 special, u64 gap, bint is_leaf) noexcept nogil
cdef void _push_node(Mas *mas, int level, int begin, int end) noexcept nogil
cdef void _consume(Mas *mas, int level) noexcept nogil
cdef void _gather_leaves(Mas *mas, Mas *right, u64 first, u64 last, int keep) noexcept nogil
cdef void _drop_children(Mas *mas, int level, int begin, int end) noexcept nogil
cdef void _gather_inners(Mas *mas, Mas *right, int level) noexcept nogil
cdef int _turn_right(Mas *mas, int level) noexcept nogil
cdef int _turn_left(Mas *mas, int level) noexcept nogil
cdef bint _pull(Mas *mas, Mas *right, int level, bint only_right) noexcept nogil
cdef void _pull_right(Mas *mas, Mas *right, int level, int turn) noexcept nogil
cdef void _pull_left(Mas *mas, Mas *right, int level, int turn) noexcept nogil
cdef bint _settle(Mas *mas, Mas *right, int level) noexcept nogil
cdef int _share(Mas *mas, bint is_leaf, int left, int nodes) noexcept nogil
cdef void _emit(Mas *mas, int level, u64 min, u64 max) noexcept nogil
cdef u32 _emit_leaf(Mas *mas, int begin, int count, u64 min) noexcept nogil
cdef u32 _emit_inner(Mas *mas, int begin, int count, bint over_leaves) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.maple cimport leaf_records
from forkstormd.core.retire cimport *
from forkstormd.core.objects cimport object_put
from forkstormd.core.pages cimport pages_drop, pages_levels
from forkstormd.core.extents cimport extent_free, extent_use, in_extent
from forkstormd.core.heap cimport heap_ensure, node_alloc, node_free, record_free
from libc.errno cimport ENOMEM

cdef u32 node_new(Mas *mas) noexcept nogil
cdef int mas_room(Mas *mas) noexcept nogil
cdef void mas_retire(Mas *mas, int kind, u32 index, int levels) noexcept nogil
cdef void retired_drop(Task *task) noexcept nogil
cdef void retired_drop_one(Task *task, int i) noexcept nogil
cdef void record_release(Task *task, u32 record) noexcept nogil
cdef void record_drop(Task *task, u32 record) noexcept nogil
cdef void tree_drop(Task *task, u32 node, int levels) noexcept nogil
cdef void tree_share(Mem *mem, State *state) noexcept nogil
cdef void tree_get(Mem *mem, State *state) noexcept nogil
cdef bint tree_compact(State *state) noexcept nogil
cdef void tree_put(Task *task, State *state) noexcept nogil
cdef void extent_put(Task *task, u32 extent) noexcept nogil
cdef u32 mas_own(Mas *mas, u32 node, int level) noexcept nogil
cdef void mas_own_path(Mas *mas) noexcept nogil
cdef void mas_climb(Mas *mas, int level, u64 gap) noexcept nogil
cdef u32 inner_gap_slot(Inner *inner) noexcept nogil
cdef void mas_add_counts(Mas *mas, int level, int nodes, int vmas, int specials) noexcept nogil
cdef void inner_recount(Mem *mem, Inner *inner, bint over_leaves) noexcept nogil
cdef u32 tree_seal(Mem *mem, u32 node, int levels) noexcept nogil

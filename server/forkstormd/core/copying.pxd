from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *

cdef enum:
    NODE_LINES = 4

cdef void copy_compact(Mem *mem, u32 extent, u32 source, u64 stamp) noexcept nogil
cdef void copy_walked(Task *task, u32 extent, u32 root, int height, u64 stamp) noexcept nogil
cdef u32 copy_subtree(Copying *copying, u32 node, int levels) noexcept nogil
cdef void move_leaves(Mem *mem, u32 to, u32 source, u32 count, u32 by, u64 stamp) noexcept nogil
cdef void move_inners(Mem *mem, u32 to, u32 source, u32 count, u32 by, u64 stamp) noexcept nogil

cdef u32 _copy_leaf(Copying *copying, u32 node) noexcept nogil
cdef void _fetch_node(Mem *mem, u32 node) noexcept nogil
cdef void _fetch_records(Mem *mem, u32 node) noexcept nogil

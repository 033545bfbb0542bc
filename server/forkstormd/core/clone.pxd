from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport copy_node
from forkstormd.core.heap cimport heap_ensure, node_free, record_free
from forkstormd.core.maple cimport leaf_records
from forkstormd.core.owning cimport node_new
from forkstormd.core.undo cimport FAULT_TREE_NODE

cdef u32 tree_clone(Mas *child, u32 node, int levels) noexcept nogil
cdef u64 clone_free(Task *task, u32 node, int levels, u64 records) noexcept nogil

cdef bint _leaf_fails(Task *task, u32 leaf) noexcept nogil
cdef void _release(Task *task, u32 node, int levels, u32 built) noexcept nogil

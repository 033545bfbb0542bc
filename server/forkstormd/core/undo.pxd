from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport now_ns
from forkstormd.core.commit cimport *
from forkstormd.core.extents cimport extent_free, in_extent
from forkstormd.core.heap cimport node_free
from forkstormd.core.maple cimport *
from forkstormd.core.objects cimport object_put
from forkstormd.core.owning cimport *
from forkstormd.core.pages cimport *
from forkstormd.core.store cimport *
from forkstormd.core.vma cimport VM_ACCOUNT, vma_pages

cdef enum:
    FAULT_TREE_NODE = 1
    FAULT_VMA_RECORD = 2
    FAULT_POLICY = 3
    FAULT_ANON_VMA = 4
    FAULT_COMMIT_LIMIT = 5
    FAULT_PAGE_TABLE = 6
    FAULT_DONTCOPY_ERASE = 7
    FAULT_FATAL_SIGNAL = 8
    RECOVER_TREE_END = 1
    RECOVER_MARKER = 2
    RECOVER_IMMEDIATE = 3
    RECOVER_TREE_END_V3 = 4

cdef extern from *:
    """
    #define FS_MARKER 0xffffffffu
    """
    u32 MARKER "FS_MARKER"

cdef void dup_undo(Task *task, Mas *child, int recovery, u64 tree_end) noexcept nogil
cdef void tree_abandon(Mas *mas, u64 limit) noexcept nogil

cdef void _exit_mmap(Task *task, Mas *child, u64 tree_end, u64 ceiling) noexcept nogil
cdef void _tear_down(Task *task, Mas *child, u64 tree_end) noexcept nogil
cdef u32 _special_here(Mas *child) noexcept nogil
cdef u32 _first(Mas *child, u64 tree_end) noexcept nogil
cdef u32 _next(Mas *child, u64 tree_end) noexcept nogil
cdef void _remove_vma(Task *task, u32 record) noexcept nogil
cdef void _abandon_node(Task *task, u32 node, int levels, u64 min, u64 max, u64 limit) noexcept nogil

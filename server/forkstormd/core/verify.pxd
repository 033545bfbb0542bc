from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.maple cimport leaf_gap, inner_gap
from forkstormd.core.vma cimport vma_account, vma_special
from forkstormd.core.objects cimport object_facts
from forkstormd.core.pages cimport page_tree_facts, pages_levels
from forkstormd.core.mutex cimport *
from forkstormd.core.lanes cimport Lanes
from forkstormd.core.snapshot cimport Snapshot

cdef class TreeCheck:
    cdef Lanes mm
    cdef Mem *mem
    cdef list violations
    cdef set seen
    cdef set records
    cdef set objects
    cdef list starts
    cdef list ends
    cdef State *totals
    cdef State space
    cdef u64 extent
    cdef u64 extent_end
    cdef u32 specials
    cdef u32 nodes

    cdef bint inside(self, u64 index)
    cdef u64 node(self, u32 node, int levels, u64 low, u64 high, bint is_root) except? 0
    cdef u64 leaf(self, u32 node, u64 low, u64 high, bint is_root) except? 0
    cdef record(self, u32 record, u64 first, u64 last, bint special)

cdef set _file_objects(Mem *mem)
cdef object _refer(Mem *mem, u32 node, int levels, object inside, dict owners, set seen)

from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.lanes cimport Lanes
from forkstormd.core.maple cimport *
from forkstormd.core.operations cimport name_of, offset_of
from forkstormd.core.owning cimport tree_put
from forkstormd.core.space cimport *

cdef class Snapshot:
    cdef Lanes lanes
    cdef readonly object info
    cdef u32 root
    cdef u32 height
    cdef u32 page_root
    cdef u32 domain
    cdef u32 extent
    cdef u32 extent_blocks
    cdef u64 task_size
    cdef u64 serial
    cdef u64 brk
    cdef u64 start_brk
    cdef u64 start_stack
    cdef u64 position
    cdef bint is_open

cdef object space_info(Task *task, object mm_id)

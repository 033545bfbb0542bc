from forkstormd.core.layout cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.mapping cimport call_room, range_mapped, unmap_range
from forkstormd.core.maple cimport *
from forkstormd.core.owning cimport record_release
from forkstormd.core.placement cimport page_align
from forkstormd.core.space cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport ENOMEM

cdef enum:
    BRK_FLAGS = 0x100073

cdef int do_brk(Task *task, u64 addr) noexcept nogil

cdef bint _grow(Task *task, u64 start, u64 end) noexcept nogil

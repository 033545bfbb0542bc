from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport serial_next

cdef enum:
    ANON_WIPEONFORK = 0x2000000

cdef extern from *:
    """
    #define FS_ANON_BY_INDEX (1ULL << 63)
    """
    u64 ANON_BY_INDEX "FS_ANON_BY_INDEX"

cdef u64 anon_of(Task *task, u32 record) noexcept nogil
cdef u64 anon_new(Task *task) noexcept nogil
cdef bint anon_mergeable(u64 one, u64 other) noexcept nogil
cdef bint anon_joinable(u64 one, u64 other) noexcept nogil

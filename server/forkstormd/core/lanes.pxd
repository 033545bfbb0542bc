from libc.stdlib cimport calloc, free as c_free
from forkstormd.core.layout cimport *
from forkstormd.core.mutex cimport *
from forkstormd.core.arena cimport Arena
from forkstormd.core.extents cimport extent_revive
from forkstormd.core.heap cimport heap_flush
from forkstormd.core.jobs cimport jobs_reap

cdef class Lanes:
    cdef readonly Arena arena
    cdef readonly int shard
    cdef readonly object files
    cdef Task *tasks
    cdef int lane_count
    cdef int task_count
    cdef list idle
    cdef bint is_open
    cdef bint stopping

    cdef Task *task(self, int index) noexcept nogil
    cdef int begin(self, object request, object labels) except -1
    cdef int claim_lanes(self, int lanes) except -1

cdef object work_of(Task *task)

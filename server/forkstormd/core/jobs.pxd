from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.extents cimport extent_free, extent_use
from forkstormd.core.futex cimport jobs_wake
from forkstormd.core.heap cimport heap_populate
from forkstormd.core.mutex cimport *
from forkstormd.core.owning cimport *
from forkstormd.core.parts cimport *

cdef enum:
    JOB_NONE = -1
    JOB_LEFT = -2

cdef bint jobs_wanted(Task *task, int strategy, u64 vmas) noexcept nogil
cdef int job_begin(Task *task, int kind, State *source, u64 stamp) noexcept nogil
cdef void job_fill(Task *task, int index) noexcept nogil
cdef int job_run(Task *task, int index) noexcept nogil
cdef void job_leave(Task *task, int index) noexcept nogil
cdef void job_end(Task *task, int index) noexcept nogil
cdef void jobs_reap(Task *task) noexcept nogil
cdef bint jobs_help(Task *task) noexcept nogil

cdef void _help_with(Task *task, Job *job, u32 at, u64 word) noexcept nogil
cdef bint _is_new(Task *task, Job *job, u32 index) noexcept nogil
cdef void _close(Job *job) noexcept nogil
cdef void _let_go(Task *task, Job *job) noexcept nogil
cdef bint _reap(Task *task, Job *job) noexcept nogil

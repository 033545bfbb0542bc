from forkstormd.core.layout cimport *
from forkstormd.core.retire cimport retired_index, retired_kind, retired_levels
from forkstormd.core.atomics cimport *
from forkstormd.core.extents cimport in_extent
from forkstormd.core.heap cimport record_alloc, refill_records, record_free
from libc.errno cimport ENOMEM

cdef enum:
    OVERCOMMIT_GUESS = 0
    OVERCOMMIT_ALWAYS = 1
    OVERCOMMIT_NEVER = 2

cdef u32 domain_new(Task *task, u64 limit) noexcept nogil
cdef void domain_get(Task *task, u32 domain) noexcept nogil
cdef void domain_put(Task *task, u32 domain) noexcept nogil
cdef u64 commit_free(State *state) noexcept nogil
cdef int commit_charge(Task *task, State *state, u64 pages) noexcept nogil
cdef int commit_more(Task *task, State *state, u64 pages) noexcept nogil
cdef void commit_uncharge(Task *task, State *state, u64 pages) noexcept nogil
cdef u64 domain_charged(Task *task, u32 domain) noexcept nogil
cdef void domain_uncharge(Task *task, u32 domain, u64 pages) noexcept nogil
cdef void commit_between(Task *task, State *state) noexcept nogil
cdef void commit_reveal(Task *task) noexcept nogil
cdef u64 _retired_pages(Task *task, State *state) noexcept nogil
cdef u64 _all_gone(Task *task, u32 domain, u32 object) noexcept nogil
cdef u64 _gone(Task *task, u32 index, int levels, u32 domain, u32 object) noexcept nogil
cdef u64 _let_go(Task *task, u32 record, u32 domain, u32 object) noexcept nogil
cdef void commit_settle(Task *task, State *before, State *after) noexcept nogil
cdef void commit_undo(Task *task, State *state) noexcept nogil

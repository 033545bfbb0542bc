from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.mutex cimport *
from forkstormd.core.arena cimport Arena
from forkstormd.core.answers cimport *
from forkstormd.core.lanes cimport Lanes
from forkstormd.core.space cimport task_begin, task_end
from libc.errno cimport ENOMEM

cdef enum:
    ENTRY_FREE = 0
    ENTRY_PENDING = 1
    ENTRY_DONE = 2
    SAMPLE = 4

cdef class Dedupe:
    cdef readonly Arena arena
    cdef readonly Lanes mm
    cdef u64 owner

    cdef int lock_of(self, u64 high)
    cdef u64 *mutex(self, int lock) noexcept
    cdef hold(self, int lock)
    cdef i64 look(self, u64 high, u64 low) noexcept
    cdef i64 room(self, u64 high) noexcept
    cdef u32 detach(self, DedupeEntry *entry) noexcept
    cdef free(self, u32 chain)
    cdef forget_some(self, u32 nodes)

cdef class Ticket:
    cdef readonly Dedupe table
    cdef readonly u64 high
    cdef readonly u64 low
    cdef readonly object replay
    cdef u32 entry

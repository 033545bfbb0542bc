from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.mutex cimport *
from forkstormd.core.arena cimport Arena

cdef enum:
    ENTRY_FREE = 0
    ENTRY_PENDING = 1
    ENTRY_DONE = 2

cdef class Dedupe:
    cdef readonly Arena arena
    cdef readonly object mm
    cdef u64 owner

    cdef int lock_of(self, u64 high)
    cdef u64 *mutex(self, int lock) noexcept
    cdef hold(self, int lock)
    cdef i64 look(self, u64 high, u64 low) noexcept
    cdef i64 room(self, u64 high) noexcept

cdef class Ticket:
    cdef readonly Dedupe table
    cdef readonly u64 high
    cdef readonly u64 low
    cdef readonly object replay
    cdef u32 entry

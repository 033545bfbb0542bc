from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport claim_file, populate
from forkstormd.core.mutex cimport *
from forkstormd.core.arena cimport Arena

cdef class FileTable:
    cdef Arena arena
    cdef dict ids
    cdef list known

    cdef refresh(self)
    cdef claim(self, u64 nbytes)

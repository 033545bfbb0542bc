from libc.stdlib cimport calloc, free as c_free
from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.mutex cimport *

cdef class Arena:
    cdef Mem *mem
    cdef object _map
    cdef object _view
    cdef readonly str path
    cdef readonly bint is_open

    cdef _map_file(self, int fd, u64 capacity)
    cdef _format(self, dict geometry)

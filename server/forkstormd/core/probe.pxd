from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport ref_add
from forkstormd.core.lanes cimport Lanes
from forkstormd.core.objects cimport *
from forkstormd.core.owning cimport retired_drop
from forkstormd.core.pages cimport *
from forkstormd.core.space cimport task_begin, task_end, task_stamp
from forkstormd.core.verify cimport TreeCheck

cdef class PageTree:
    cdef Lanes lanes
    cdef State state
    cdef State *tree

cdef class SharedObjects:
    cdef Lanes lanes

cdef int _change(Task *task, object change) except? -1

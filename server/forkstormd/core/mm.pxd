from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.heap cimport heap_ensure, record_alloc, refill_records, record_free, slot_alloc, slot_free
from forkstormd.core.maple cimport *
from forkstormd.core.owning cimport *
from forkstormd.core.store cimport *
from forkstormd.core.vma cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.dup cimport tree_seal
from forkstormd.core.undo cimport *
from forkstormd.core.space cimport *
from forkstormd.core.operations cimport *
from forkstormd.core.lanes cimport Lanes, work_of
from forkstormd.core.snapshot cimport Snapshot, space_info
from libc.errno cimport ENOMEM, EINVAL

cdef class MemoryManager(Lanes):
    pass

from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.copying cimport *
from forkstormd.core.dup_vma cimport *
from forkstormd.core.extents cimport *
from forkstormd.core.heap cimport record_alloc, refill_records, record_free
from forkstormd.core.jobs cimport *
from forkstormd.core.maple cimport *
from forkstormd.core.objects cimport object_get
from forkstormd.core.owning cimport *
from forkstormd.core.pages cimport *
from forkstormd.core.parts cimport *
from forkstormd.core.placement cimport PMD_BYTES
from forkstormd.core.space cimport task_stamp
from forkstormd.core.store cimport *
from forkstormd.core.undo cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport EAGAIN, ENOMEM

cdef enum:
    SPECIAL_SHARE = 64

cdef bint too_special(Task *task, State *parent) noexcept nogil
cdef int dup_extent(Task *task, State *parent, bint phases) noexcept nogil
cdef int dup_share(Task *task, State *parent, bint phases) noexcept nogil

cdef void _copy_alone(Task *task, State *parent, u32 extent) noexcept nogil
cdef u32 _copy_together(Task *task, State *parent, u32 extent) noexcept nogil
cdef int _finish(Task *task, State *parent) noexcept nogil
cdef int _marked(Task *task) noexcept nogil
cdef int _own_special(Task *task, u32 record) noexcept nogil
cdef int _copy_tables(Task *task) noexcept nogil
cdef int _step_by_step(Task *task) noexcept nogil
cdef int _undo_at(Task *task, u64 failing, u64 end) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.anon cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.mapping cimport call_room
from forkstormd.core.maple cimport *
from forkstormd.core.objects cimport object_of, object_read, object_write
from forkstormd.core.owning cimport record_release
from forkstormd.core.pages cimport *
from forkstormd.core.placement cimport min_addr, PMD_BYTES
from forkstormd.core.space cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport ENOMEM, EFAULT

cdef enum:
    ACCESS_FLAGS = 0x7

cdef int do_touch(Task *task, u64 addr, bint write, u64 value) noexcept nogil
cdef int fault_in(Task *task, u64 addr, bint write) noexcept nogil

cdef int _expand_stack(Task *task, u32 vma, u64 addr) noexcept nogil
cdef u32 _anon_prepare(Task *task, u32 vma) noexcept nogil
cdef u64 _reusable_anon(Task *task, u32 near, Record *left, Record *right) noexcept nogil
cdef bint _huge(Pages *pages, Record *vma, u64 page) noexcept nogil
cdef u64 _shown(Task *task, Record *vma, u64 page) noexcept nogil
cdef u64 _object_offset(Record *vma, u64 page) noexcept nogil

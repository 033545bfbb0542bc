from forkstormd.core.layout cimport *
from forkstormd.core.anon cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.mapping cimport *
from forkstormd.core.maple cimport *
from forkstormd.core.owning cimport record_release
from forkstormd.core.pages cimport *
from forkstormd.core.placement cimport *
from forkstormd.core.retire cimport retire_room
from forkstormd.core.space cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport ENOMEM, EINVAL, EFAULT

cdef enum:
    MREMAP_MAYMOVE = 1
    MREMAP_FIXED = 2
    MREMAP_DONTUNMAP = 4
    MREMAP_KNOWN = 7
    LINUX_MOVES_MANY = 6017
    LINUX_RESETS_PGOFF = 7000

cdef int do_mremap(Task *task, RemapArgs *args) noexcept nogil

cdef int _check(Task *task, RemapArgs *args) noexcept nogil
cdef int _check_vma(Task *task, RemapArgs *args, u32 vma) noexcept nogil
cdef int _move_many(Task *task, RemapArgs *args) noexcept nogil
cdef int _move_to(Task *task, RemapArgs *args) noexcept nogil
cdef int _in_place(Task *task, RemapArgs *args) noexcept nogil
cdef int _expand(Task *task, RemapArgs *args, u32 vma) noexcept nogil
cdef int _place(Task *task, RemapArgs *args, u32 vma, u64 addr, u64 flags) noexcept nogil
cdef int _move(Task *task, RemapArgs *args, u64 to) noexcept nogil
cdef int _unmap_tail(Task *task, RemapArgs *args) noexcept nogil
cdef int _unmap_source(Task *task, u64 start, u64 end) noexcept nogil
cdef int _leave_source(Task *task, RemapArgs *args, u64 to) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport now_ns
from forkstormd.core.fault cimport fault_in
from forkstormd.core.maple cimport *
from forkstormd.core.pages cimport *
from forkstormd.core.placement cimport page_align
from forkstormd.core.mapping cimport call_room
from forkstormd.core.objects cimport object_of, object_punch
from forkstormd.core.retire cimport retire_room
from forkstormd.core.space cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport ENOMEM, EINVAL, EACCES, EAGAIN, EFAULT, ETIMEDOUT

cdef extern from *:
    """
    #define FS_ADVICE_BITS 0xffffffffULL
    """
    u64 ADVICE_BITS "FS_ADVICE_BITS"

cdef enum:
    POPULATE_LOOK = 0x3fffff
    MADV_NORMAL = 0
    MADV_RANDOM = 1
    MADV_SEQUENTIAL = 2
    MADV_WILLNEED = 3
    MADV_DONTNEED = 4
    MADV_FREE = 8
    MADV_REMOVE = 9
    MADV_DONTFORK = 10
    MADV_DOFORK = 11
    MADV_HUGEPAGE = 14
    MADV_NOHUGEPAGE = 15
    MADV_DONTDUMP = 16
    MADV_DODUMP = 17
    MADV_WIPEONFORK = 18
    MADV_KEEPONFORK = 19
    MADV_COLD = 20
    MADV_PAGEOUT = 21
    MADV_POPULATE_READ = 22
    MADV_POPULATE_WRITE = 23
    MADV_DONTNEED_LOCKED = 24

cdef int do_madvise(Task *task, u64 start, u64 length, u64 advice) noexcept nogil

cdef bint _known(u64 advice) noexcept nogil
cdef int _populate(Task *task, u64 start, u64 end, bint write) noexcept nogil
cdef int _advise_vma(Task *task, u32 vma, u64 start, u64 end, u64 advice) noexcept nogil
cdef int _advise_pages(Task *task, u32 vma, u64 start, u64 end, u64 advice) noexcept nogil
cdef int _drop_pages(Task *task, u64 start, u64 end) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.anon cimport anon_of
from forkstormd.core.maple cimport *
from forkstormd.core.placement cimport page_align
from forkstormd.core.retire cimport retire_room
from forkstormd.core.space cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport ENOMEM, EINVAL, EACCES

cdef enum:
    PROT_SEM = 0x8
    PROT_GROWSDOWN = 0x01000000
    PROT_GROWSUP = 0x02000000
    ACCESS_BITS = 0x7

cdef int do_mprotect(Task *task, u64 start, u64 length, u64 prot) noexcept nogil

cdef int _protect_vma(Task *task, u32 vma, u64 start, u64 end, u64 flags) noexcept nogil

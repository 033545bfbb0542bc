from forkstormd.core.layout cimport *
from forkstormd.core.heap cimport heap_ensure, record_free
from forkstormd.core.atomics cimport serial_next
from forkstormd.core.maple cimport *
from forkstormd.core.vma cimport *
from forkstormd.core.space cimport *
from libc.errno cimport ENOMEM, EINVAL, EBADF, EPERM, EEXIST, EOVERFLOW, EOPNOTSUPP, EACCES, EBUSY

cdef enum:
    MAP_SHARED = 0x1
    MAP_PRIVATE = 0x2
    MAP_SHARED_VALIDATE = 0x3
    MAP_DROPPABLE = 0x8
    MAP_TYPE = 0xf
    MAP_FIXED = 0x10
    MAP_ANONYMOUS = 0x20
    MAP_GROWSDOWN = 0x100
    MAP_NORESERVE = 0x4000
    MAP_STACK = 0x20000
    MAP_FIXED_NOREPLACE = 0x100000
    MAP_VALIDATED = 0x7e07f9f3
    ACCESS_READ = 1
    ACCESS_WRITE = 2
    SHARED_OBJECT = 0x40000000

cdef extern from *:
    """
    #define FS_FILE_BYTES_MAX 0x7fffffffffffffffULL
    """
    u64 FILE_BYTES_MAX "FS_FILE_BYTES_MAX"
cdef int do_mmap(Task *task, MapArgs *args) noexcept nogil
cdef int do_munmap(Task *task, u64 addr, u64 length) noexcept nogil
cdef int unmapped_area(Mas *mas, State *state, u64 hint, u64 length) noexcept nogil

cdef u64 _page_align(u64 length) noexcept nogil
cdef int _fail(Task *task, int error, u32 field, u32 limit) noexcept nogil
cdef int _place(Task *task, MapArgs *args) noexcept nogil
cdef u64 _file_flags(Task *task, MapArgs *args) noexcept nogil
cdef u64 _anonymous_flags(Task *task, MapArgs *args) noexcept nogil
cdef bint _top_down(Mas *mas, u64 low, u64 high, u64 length) noexcept nogil
cdef bint _bottom_up(Mas *mas, u64 low, u64 high, u64 length) noexcept nogil

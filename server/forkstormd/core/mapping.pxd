from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport serial_next
from forkstormd.core.commit cimport *
from forkstormd.core.heap cimport heap_ensure
from forkstormd.core.maple cimport *
from forkstormd.core.objects cimport object_new, object_put
from forkstormd.core.owning cimport record_release
from forkstormd.core.pages cimport *
from forkstormd.core.placement cimport *
from forkstormd.core.retire cimport *
from forkstormd.core.space cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport ENOMEM, EINVAL, EBADF, EEXIST, EOVERFLOW, EOPNOTSUPP, EACCES

cdef enum:
    MAP_SHARED = 0x1
    MAP_PRIVATE = 0x2
    MAP_SHARED_VALIDATE = 0x3
    MAP_DROPPABLE = 0x8
    MAP_TYPE = 0xf
    MAP_ANONYMOUS = 0x20
    MAP_GROWSDOWN = 0x100
    MAP_NORESERVE = 0x4000
    MAP_STACK = 0x20000
    MAP_SYNC = 0x80000
    MAP_FIXED_NOREPLACE = 0x100000
    MAP_VALIDATED = 0x7e07f9f3
    ACCESS_READ = 1
    ACCESS_WRITE = 2

cdef extern from *:
    """
    #define FS_FILE_BYTES_MAX 0x7fffffffffffffffULL
    """
    u64 FILE_BYTES_MAX "FS_FILE_BYTES_MAX"

cdef int do_mmap(Task *task, MapArgs *args) noexcept nogil
cdef int do_munmap(Task *task, u64 addr, u64 length) noexcept nogil
cdef int call_room(Task *task) noexcept nogil
cdef int unmap_pages(Task *task, u64 start, u64 end) noexcept nogil
cdef int unmap_range(Task *task, u64 start, u64 end) noexcept nogil
cdef u64 table_floor(Task *task, u64 start) noexcept nogil
cdef u64 table_ceiling(Task *task, u64 end) noexcept nogil
cdef bint range_mapped(Mas *mas, u64 start, u64 end) noexcept nogil

cdef u64 _file_flags(Task *task, MapArgs *args) noexcept nogil
cdef u64 _anonymous_flags(Task *task, MapArgs *args) noexcept nogil
cdef u64 _common_flags(State *state, u64 flags, u64 map_flags) noexcept nogil
cdef u64 _accounted(Task *task, u64 start, u64 end) noexcept nogil
cdef int _cut(Task *task, u64 at) noexcept nogil
cdef u32 _new_object(Task *task, u64 pages, bint charged) noexcept nogil

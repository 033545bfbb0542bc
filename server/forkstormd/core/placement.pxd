from forkstormd.core.layout cimport *
from forkstormd.core.maple cimport *
from forkstormd.core.space cimport *
from forkstormd.core.vma cimport *
from libc.errno cimport ENOMEM, EINVAL, EPERM, EBUSY

cdef enum:
    MAP_FIXED = 0x10
    MAP_32BIT = 0x40
    MAP_ABOVE4G = 0x80
    PMD_BYTES = 0x200000
    ERRNO_MAX = 4095
    LOW_2G_START = 0x40000000
    THP_NEVER = 0
    THP_WITHOUT_HINT = 1
    THP_ALWAYS = 2

cdef extern from *:
    """
    #define FS_LOW_2G_END 0x80000000ULL
    #define FS_ABOVE_4G 0x100000000ULL
    """
    u64 LOW_2G_END "FS_LOW_2G_END"
    u64 ABOVE_4G "FS_ABOVE_4G"

cdef u64 page_align(u64 length) noexcept nogil
cdef u64 min_addr(State *state) noexcept nogil
cdef u64 round_hint_to_min(State *state, u64 hint) noexcept nogil
cdef int thp_of_file(Mem *mem, u32 file) noexcept nogil
cdef int get_unmapped_area(Task *task, u64 addr, u64 length, u64 flags, int thp, u64 offset) noexcept nogil

cdef bint _unmapped_area(Mas *mas, State *state, u64 hint, u64 length, u64 flags) noexcept nogil
cdef bint _aligned_area(Mas *mas, State *state, u64 hint, u64 length, u64 flags, u64 offset) noexcept nogil
cdef bint _top_down(Mas *mas, u64 low, u64 high, u64 length) noexcept nogil
cdef bint _bottom_up(Mas *mas, u64 low, u64 high, u64 length) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.heap cimport heap_ensure, node_alloc, node_free
from forkstormd.core.retire cimport retire_room, task_retire
from libc.errno cimport ENOMEM

cdef enum:
    STRIP_BYTES = 65536
    CALL_NODES = 448
    CALL_RECORDS = 32
    LEVELS_MAX = 10
    COUNTED_MAX = 5

cdef int level_shift(int level) noexcept nogil
cdef u32 level_slot(u64 addr, int level) noexcept nogil
cdef u32 strip_mask(u64 at, u64 end) noexcept nogil

cdef void pages_init(Pages *pages, Task *task, State *state, u64 stamp) noexcept nogil
cdef void pages_finish(Pages *pages, State *state) noexcept nogil
cdef int pages_levels(u64 task_size) noexcept nogil
cdef int pages_look(Pages *pages, u64 addr) noexcept nogil
cdef u64 pages_next_table(Pages *pages, u64 addr) noexcept nogil
cdef bint pages_table(Pages *pages, u64 addr) noexcept nogil
cdef bint pages_any(Pages *pages, u64 start, u64 end) noexcept nogil
cdef int pages_set(Pages *pages, u64 addr, bint own, u64 value) noexcept nogil
cdef int pages_zap(Pages *pages, u64 start, u64 end) noexcept nogil
cdef int pages_free_tables(Pages *pages, u64 addr, u64 end, u64 floor, u64 ceiling) noexcept nogil
cdef int pages_unmap(Pages *pages, u64 start, u64 end, u64 floor, u64 ceiling) noexcept nogil
cdef int pages_copy(Pages *to, Pages *source, u64 start, u64 end, u64 stop_after) noexcept nogil
cdef int pages_move(Pages *pages, u64 from_addr, u64 to_addr, u64 length) noexcept nogil
cdef void pages_drop(Task *task, u32 node, int levels) noexcept nogil
cdef object page_tree_facts(Mem *mem, object walk, u32 root, int levels)

cdef bint pages_counted(int level) noexcept nogil
cdef u64 _span(int level) noexcept nogil
cdef u32 _find(Pages *pages, u64 addr, int level) noexcept nogil
cdef u64 _seek(Pages *pages, int level, u64 at, u64 end) noexcept nogil
cdef u64 _seek_pages(Pages *pages, u64 at, u64 end) noexcept nogil
cdef u32 _new(Pages *pages, int level) noexcept nogil
cdef u32 _own_node(Pages *pages, u32 node, int level) noexcept nogil
cdef u32 _own(Pages *pages, u64 addr, int level) noexcept nogil
cdef int _own_range(Pages *pages, u64 start, u64 end) noexcept nogil
cdef int _discard(Pages *pages, u32 node, int level) noexcept nogil
cdef int _free_level(
    Pages *pages, int level, u64 addr, u64 end, u64 floor, u64 ceiling, bint prepare
) noexcept nogil
cdef int _unlink(Pages *pages, u64 addr, int level) noexcept nogil
cdef int _build(Pages *to, Pages *source, int level, u64 start, u64 end, u64 ahead) noexcept nogil
cdef bint _copy_strip(Pages *to, u32 table, u32 slot, u32 source, u32 mask) noexcept nogil
cdef object _walk_node(Mem *mem, object walk, u32 node, int level, u64 at, bint is_root, list totals)

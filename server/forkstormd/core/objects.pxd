from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.mutex cimport *
from forkstormd.core.commit cimport domain_put, domain_uncharge
from forkstormd.core.heap cimport node_alloc, node_free
from forkstormd.core.pages cimport level_shift, level_slot
from libc.errno cimport ENOMEM

cdef enum:
    OBJECT_LEVELS_MAX = 12

cdef u32 object_new(Task *task, u64 pages) noexcept nogil
cdef void object_get(Task *task, u32 object) noexcept nogil
cdef void object_put(Task *task, u32 object) noexcept nogil
cdef u32 object_of(Task *task, Record *vma) noexcept nogil
cdef u64 object_read(Task *task, u32 object, u64 offset_bytes) noexcept nogil
cdef int object_write(Task *task, u32 object, u64 offset_bytes, u64 value) noexcept nogil
cdef void object_punch(Task *task, u32 object, u64 start_bytes, u64 end_bytes) noexcept nogil
cdef object object_facts(Mem *mem, object walk, u32 object)

cdef FileEntry *_file_at(Mem *mem, u32 file) noexcept nogil
cdef u32 _object_of_file(Task *task, u32 file) noexcept nogil
cdef bint _same_file(Mem *mem, FileEntry *one, FileEntry *other) noexcept nogil
cdef u32 _new(Task *task) noexcept nogil
cdef u32 _reach(Task *task, SharedObject *object, u64 offset) noexcept nogil
cdef int _levels(SharedObject *object) noexcept nogil
cdef bint _too_low(int levels, u64 offset) noexcept nogil
cdef bint _grow(Task *task, SharedObject *object, u64 offset) noexcept nogil
cdef void _punch(Task *task, u32 node, int level, u64 first, u64 last) noexcept nogil
cdef void _drop(Task *task, u32 node, int level) noexcept nogil
cdef object _walk_node(Mem *mem, object walk, u32 node, int level)

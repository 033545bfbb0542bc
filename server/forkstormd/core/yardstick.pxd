from libc.stdlib cimport malloc, free as c_free
from libc.string cimport memcpy, memset
from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.heap cimport heap_ensure, record_alloc
from forkstormd.core.maple cimport *
from forkstormd.core.copying cimport copy_compact, copy_walked
from forkstormd.core.dup cimport dup_mmap
from forkstormd.core.extents cimport extent_alloc, extent_free, extent_settle
from forkstormd.core.owning cimport tree_compact, tree_put
from forkstormd.core.mapping cimport MAP_ANONYMOUS, MAP_PRIVATE
from forkstormd.core.operations cimport OP_MAP, OP_UNMAP, mm_find, mm_fork, mm_operate
from forkstormd.core.placement cimport MAP_FIXED
from forkstormd.core.owning cimport mas_retire
from forkstormd.core.store cimport mas_store, mas_store_range
from forkstormd.core.space cimport *
from forkstormd.core.lanes cimport Lanes
from forkstormd.core.mm cimport MemoryManager
from forkstormd.core.undo cimport RECOVER_MARKER
from forkstormd.core.vma cimport vma_special
from libc.errno cimport ENOMEM

cdef enum:
    STORES_PER_VMA = 5
    VMAS_PER_PAIR = 10

cdef void _replace(Task *task, u32 record) noexcept nogil
cdef u64 _random(u64 state) noexcept nogil
cdef int _store_at(Task *task, u64 space, u64 where) noexcept nogil
cdef int _pair_at(Task *task, u64 space, u64 where) noexcept nogil

from forkstormd.core.layout cimport *
from forkstormd.core.anon cimport *
from forkstormd.core.heap cimport heap_ensure, record_alloc, refill_records
from forkstormd.core.objects cimport object_get
from forkstormd.core.owning cimport record_release
from forkstormd.core.space cimport LIMIT_ARENA, LIMIT_MAP_COUNT
from forkstormd.core.atomics cimport copy_record
from forkstormd.core.maple cimport *
from forkstormd.core.store cimport mas_store_pieces
from libc.errno cimport ENOMEM

cdef extern from *:
    """
    #define FS_VM_DROPPABLE (1ULL << 40)
    #define FS_VM_PKEY (1ULL << 32)
    """
    u64 VM_DROPPABLE "FS_VM_DROPPABLE"
    u64 VM_PKEY "FS_VM_PKEY"

cdef enum:
    VM_READ = 0x1
    VM_WRITE = 0x2
    VM_EXEC = 0x4
    VM_SHARED = 0x8
    VM_MAYREAD = 0x10
    VM_MAYWRITE = 0x20
    VM_MAYEXEC = 0x40
    VM_MAYSHARE = 0x80
    VM_GROWSDOWN = 0x100
    VM_LOCKED = 0x2000
    VM_SEQ_READ = 0x8000
    VM_RAND_READ = 0x10000
    VM_DONTCOPY = 0x20000
    VM_ACCOUNT = 0x100000
    VM_NORESERVE = 0x200000
    VM_SYNC = 0x800000
    VM_WIPEONFORK = 0x2000000
    VM_DONTDUMP = 0x4000000
    VM_SOFTDIRTY = 0x8000000
    VM_HUGEPAGE = 0x20000000
    VM_NOHUGEPAGE = 0x40000000
    VM_SPECIAL = 0x2022000
    VM_PFNMAP = 0x400
    VM_IO = 0x4000
    VM_DONTEXPAND = 0x40000
    VM_MIXEDMAP = 0x10000000
    VM_FOREIGN = 0x10044400
    GUARD_PAGES = 256
    MERGE_NONE = 0
    MERGE_LEFT = 1
    MERGE_RIGHT = 2
    MERGE_BOTH = 3
    MERGE_GROWN = 4

cdef bint vma_continues(Mem *mem, u32 left, u32 right) noexcept nogil
cdef bint vma_can_merge(Task *task, u32 left, u32 right) noexcept nogil
cdef u32 vma_lookup(Task *task, u64 addr) noexcept nogil
cdef u32 vma_find(Task *task, u64 addr) noexcept nogil
cdef u64 vma_pages(Record *vma) noexcept nogil
# Inline, because a fork asks it of every VMA: vma_special of vma.py, word for word.
cdef inline bint vma_special(Record *vma) noexcept nogil:
    return (vma.flags & VM_SPECIAL) != 0 or vma.object != 0

cdef u64 access_flags(State *state, u64 prot) noexcept nogil
cdef void vma_account(State *state, u64 flags, i64 pages) noexcept nogil
cdef u64 vma_guard_start(Record *record) noexcept nogil
cdef u32 vma_new(Task *task, u64 start, u64 end, u64 flags, u64 pgoff, u32 file) noexcept nogil
cdef u32 vma_part(Task *task, u32 record, u64 start, u64 end, u64 flags, u64 anon) noexcept nogil
cdef bint vma_splits_one(Mas *mas, u64 start, u64 end) noexcept nogil
cdef int vma_replace(Mas *mas, State *state, u64 start, u64 end, u32 record, int merge) noexcept nogil
cdef int vma_change(Mas *mas, State *state, u32 vma, u64 start, u64 end, u64 flags) noexcept nogil
cdef int vma_split(Mas *mas, State *state, u32 vma, u64 at) noexcept nogil

cdef void _piece(Mas *mas, u32 record, u64 last) noexcept nogil
cdef bint _merges_after(Task *task, u32 record, u32 after, int merge) noexcept nogil
cdef bint _merges(Mas *mas, u32 new, u64 at, bint before) noexcept nogil

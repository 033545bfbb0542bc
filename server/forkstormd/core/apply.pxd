from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *
from forkstormd.core.commit cimport *
from forkstormd.core.operations cimport *
from forkstormd.core.extents cimport in_extent
from forkstormd.core.owning cimport retired_drop_one, tree_drop
from forkstormd.core.pages cimport pages_counted, pages_drop, pages_levels
from forkstormd.core.retire cimport retired_index, retired_kind, retired_levels
from forkstormd.core.space cimport *
from libc.errno cimport ETIMEDOUT

cdef enum:
    DEADLINE_OPERATIONS = 64
    ACCESS_WRITE = 2
    FILE_COLUMN = 4
    ACCESS_COLUMN = 1

cdef inline u8 *kinds_of(bytes kinds):
    return <u8 *><char *>kinds

cdef inline u64 *column_of(bytes column):
    return <u64 *><char *>column

cdef class Batch:
    cdef readonly bytes kinds
    cdef readonly list columns
    cdef readonly object files
    cdef readonly bint skip
    cdef BatchWords words

    cdef BatchWords *bare(self)

cdef int mm_apply(Task *task, BatchWords *batch, u64 mm_id) noexcept nogil

cdef u64 _word(BatchWords *batch, u32 i, int column) noexcept nogil
cdef i64 _first_malformed(BatchWords *batch) noexcept nogil
cdef int _perform_one(Task *task, BatchWords *batch, u32 i) noexcept nogil
cdef void _take_back(Task *task, State *before) noexcept nogil
cdef void _hold_below(Task *task, u32 node, int levels) noexcept nogil
cdef void _hold_tables(Task *task, u32 node, int levels) noexcept nogil

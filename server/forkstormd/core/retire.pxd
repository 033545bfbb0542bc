from forkstormd.core.layout cimport *
from libc.errno cimport ENOMEM

cdef extern from *:
    """
    #include <stdlib.h>
    static inline int fs_list_grow(uint64_t **list, int *max, int more) {
        uint64_t *grown = (uint64_t *)realloc(*list, (size_t)(*max + more) * sizeof **list);
        if (grown == NULL) return -1;
        *list = grown;
        *max += more;
        return 0;
    }
    #define fs_retired_grow(task, more) fs_list_grow(&(task)->retired, &(task)->retired_max, (more))
    """
    int retired_grow "fs_retired_grow"(Task *task, int more) noexcept nogil

# Inline, as these are read in loops: retired_kind, _index and _levels of retire.py.
cdef inline int retired_kind(Task *task, int i) noexcept nogil:
    return task.retired[i] & 255

cdef inline u32 retired_index(Task *task, int i) noexcept nogil:
    return <u32>(task.retired[i] >> 32)

cdef inline int retired_levels(Task *task, int i) noexcept nogil:
    return (task.retired[i] >> 8) & 255

cdef int retire_room(Task *task) noexcept nogil
cdef void task_retire(Task *task, int kind, u32 index, int levels) noexcept nogil

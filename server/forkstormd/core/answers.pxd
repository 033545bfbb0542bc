from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport answer_nodes_add
from forkstormd.core.heap cimport node_alloc, node_free

cdef enum:
    ANSWERS_SHARE = 16

cdef inline bytes piece_bytes(Piece *piece, i64 size):
    return (<char *>piece.data)[:size]

cdef u32 answer_pieces(u64 size) noexcept nogil
cdef u64 answers_max(Header *header) noexcept nogil
cdef u32 chain_new(Task *task, u32 nodes) noexcept nogil
cdef void chain_free(Task *task, u32 head) noexcept nogil
cdef u32 chain_cut(Mem *mem, u32 head, u32 keep) noexcept nogil
cdef chain_write(Mem *mem, u32 head, bytes answer)
cdef bytes chain_read(Mem *mem, u32 head, i64 size)

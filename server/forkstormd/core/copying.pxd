# C block: copies of nodes compiled for what the machine's memcpy uses too; copying.py documents
# them and has them for the uncompiled build.
from forkstormd.core.layout cimport *
from forkstormd.core.atomics cimport *

cdef extern from *:
    """
    #if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(FORKSTORM_CHECKED)
    #define FS_CLONES __attribute__((target_clones("avx2", "default")))
    #else
    #define FS_CLONES
    #endif
    /* A leaf's slots are the 16 words from byte 136 on, an inner node's the 10 from byte 88 on: in
       vectors of 8 words, 4.25 to 6.25 and 2.75 to 4. The last vector of neither is used. */
    FS_CLONES static void fs_move_leaves(char *base, uint32_t to, uint32_t from, uint32_t count,
                                         uint32_t by, uint64_t stamp) {
        const fs_vector some = {0, 0, by, by, by, by, by, by}, all = {by, by, by, by, by, by, by, by};
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from);
        for (; count != 0; count--, t += 8, f += 8) {
            fs_vector a = f[4], b = f[5], c = f[6];
            t[0] = f[0]; t[1] = f[1]; t[2] = f[2]; t[3] = f[3];
            t[4] = a + ((fs_vector)(a != 0) & some);
            t[5] = b + ((fs_vector)(b != 0) & all);
            t[6] = c + ((fs_vector)(c != 0) & all);
            *(uint64_t *)t = stamp;
        }
    }
    FS_CLONES static void fs_move_inners(char *base, uint32_t to, uint32_t from, uint32_t count,
                                         uint32_t by, uint64_t stamp) {
        const fs_vector some = {0, 0, 0, 0, 0, 0, by, by}, all = {by, by, by, by, by, by, by, by};
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from);
        for (; count != 0; count--, t += 8, f += 8) {
            t[0] = f[0]; t[1] = f[1];
            t[2] = f[2] + some;
            t[3] = f[3] + all;
            t[4] = f[4]; t[5] = f[5]; t[6] = f[6];
            *(uint64_t *)t = stamp;
        }
    }
    FS_CLONES static uint32_t fs_copy_leaf(char *base, uint32_t to, uint32_t from, uint32_t record,
                                           uint64_t stamp) {
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from), *r;
        const uint32_t *old = (const uint32_t *)((char *)f + 136);
        uint32_t *slot = (uint32_t *)((char *)t + 136);
        int i, end = ((const uint8_t *)f)[8];
        t[0] = f[0]; t[1] = f[1]; t[2] = f[2]; t[3] = f[3]; t[4] = f[4];
        *(uint64_t *)t = stamp;
        r = fs_vectors(base, record);
        for (i = 0; i <= end; i++) {
            uint32_t one = old[i];
            if (one == 0) {
                slot[i] = 0;
            } else {
                fs_vector *v = fs_vectors(base, one);
                r[0] = v[0]; r[1] = v[1];
                slot[i] = record++;
                r += 2;
            }
        }
        return record;
    }
    """
    void move_leaves "fs_move_leaves"(char *base, u32 to, u32 source, u32 count, u32 by, u64 stamp) noexcept nogil
    void move_inners "fs_move_inners"(char *base, u32 to, u32 source, u32 count, u32 by, u64 stamp) noexcept nogil
    u32 copy_leaf "fs_copy_leaf"(char *base, u32 to, u32 source, u32 record, u64 stamp) noexcept nogil

cdef enum:
    NODE_LINES = 4
    AHEAD_VMAS = 2048

cdef void copy_compact(Mem *mem, u32 extent, u32 source, u64 stamp) noexcept nogil
cdef void copy_walked(Task *task, u32 extent, u32 root, int height, u64 stamp) noexcept nogil
cdef u32 copy_subtree(Copying *copying, u32 node, int levels) noexcept nogil

cdef void _copy_leaves(Copying *copying, Inner *old, Inner *new) noexcept nogil
cdef void _fetch_node(Mem *mem, u32 node) noexcept nogil
cdef void _fetch_records(Mem *mem, u32 node) noexcept nogil

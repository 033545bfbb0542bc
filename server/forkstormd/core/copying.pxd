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
    /* Past the caches, 16 bytes at once: what does not fit there would only be read for nothing before
       it is overwritten. */
    #if defined(__x86_64__) && defined(__GNUC__)
    typedef long long fs_half __attribute__((vector_size(16), aligned(16), may_alias));
    #define fs_stream(to, from) do { fs_vector _v = (from); const fs_half *_h = (const fs_half *)&_v; \
        __builtin_ia32_movntdq((fs_half *)(to), _h[0]); \
        __builtin_ia32_movntdq((fs_half *)(to) + 1, _h[1]); } while (0)
    #define fs_stream_end() __builtin_ia32_sfence()
    #else
    #define fs_stream(to, from) (*(to) = (from))
    #define fs_stream_end() ((void)0)
    #endif
    #define fs_put(to, from) do { if (stream) fs_stream(to, from); else *(to) = (from); } while (0)
    /* A node's first vector: with the new stamp. */
    #define fs_stamped(first, stamp) ({ fs_vector _s = (first); \
        _s[0] = (uint32_t)(stamp); _s[1] = (uint32_t)((stamp) >> 32); _s; })
    /* A leaf's slots are the 16 words from byte 136 on, an inner node's the 10 from byte 88 on: in
       vectors of 8 words, 4.25 to 6.25 and 2.75 to 4. The last vector of neither is used. */
    FS_CLONES static void fs_move_leaves(char *base, uint32_t to, uint32_t from, uint32_t count,
                                         uint32_t by, uint64_t stamp, int stream) {
        const fs_vector some = {0, 0, by, by, by, by, by, by}, all = {by, by, by, by, by, by, by, by};
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from);
        for (; count != 0; count--, t += 8, f += 8) {
            fs_vector a = f[4], b = f[5], c = f[6];
            fs_put(t, fs_stamped(f[0], stamp));
            fs_put(t + 1, f[1]);
            fs_put(t + 2, f[2]);
            fs_put(t + 3, f[3]);
            fs_put(t + 4, a + ((fs_vector)(a != 0) & some));
            fs_put(t + 5, b + ((fs_vector)(b != 0) & all));
            fs_put(t + 6, c + ((fs_vector)(c != 0) & all));
            if (stream) fs_stream(t + 7, f[7]);
        }
    }
    FS_CLONES static void fs_move_inners(char *base, uint32_t to, uint32_t from, uint32_t count,
                                         uint32_t by, uint64_t stamp, int stream) {
        const fs_vector some = {0, 0, 0, 0, 0, 0, by, by}, all = {by, by, by, by, by, by, by, by};
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from);
        for (; count != 0; count--, t += 8, f += 8) {
            fs_put(t, fs_stamped(f[0], stamp));
            fs_put(t + 1, f[1]);
            fs_put(t + 2, f[2] + some);
            fs_put(t + 3, f[3] + all);
            fs_put(t + 4, f[4]);
            fs_put(t + 5, f[5]);
            fs_put(t + 6, f[6]);
            if (stream) fs_stream(t + 7, f[7]);
        }
    }
    FS_CLONES static uint32_t fs_copy_leaf(char *base, uint32_t to, uint32_t from, uint32_t record,
                                           uint64_t stamp, int stream) {
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from), *r = fs_vectors(base, record);
        fs_vector node[7];
        const uint32_t *old = (const uint32_t *)((char *)f + 136);
        uint32_t *slot = (uint32_t *)((char *)(stream ? node : t) + 136);
        int i, end = ((const uint8_t *)f)[8];
        if (!stream) {
            t[0] = fs_stamped(f[0], stamp);
            t[1] = f[1]; t[2] = f[2]; t[3] = f[3]; t[4] = f[4];
        } else {
            node[0] = fs_stamped(f[0], stamp);
            node[1] = f[1]; node[2] = f[2]; node[3] = f[3]; node[4] = f[4]; node[5] = f[5]; node[6] = f[6];
        }
        for (i = 0; i <= end; i++) {
            uint32_t one = old[i];
            if (one == 0) {
                slot[i] = 0;
            } else {
                fs_vector *v = fs_vectors(base, one);
                fs_put(r, v[0]);
                fs_put(r + 1, v[1]);
                slot[i] = record++;
                r += 2;
            }
        }
        if (stream) {
            for (i = 0; i < 7; i++) fs_stream(t + i, node[i]);
            fs_stream(t + 7, f[7]);
        }
        return record;
    }
    static inline void fs_stream_units(char *base, uint32_t to, uint32_t from, uint64_t units) {
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from);
        for (; units != 0; units--, t += 2, f += 2) {
            fs_stream(t, f[0]);
            fs_stream(t + 1, f[1]);
        }
    }
    """
    void move_leaves "fs_move_leaves"(char *base, u32 to, u32 source, u32 count, u32 by, u64 stamp, bint stream) noexcept nogil
    void move_inners "fs_move_inners"(char *base, u32 to, u32 source, u32 count, u32 by, u64 stamp, bint stream) noexcept nogil
    u32 copy_leaf "fs_copy_leaf"(char *base, u32 to, u32 source, u32 record, u64 stamp, bint stream) noexcept nogil
    void stream_units "fs_stream_units"(char *base, u32 to, u32 source, u64 units) noexcept nogil
    void stream_end "fs_stream_end"() noexcept nogil

cdef enum:
    NODE_LINES = 4
    AHEAD_VMAS = 2048

cdef void copy_compact(Mem *mem, u32 extent, u32 source, u64 stamp) noexcept nogil
cdef void copy_parts(Mem *mem, u32 extent, u32 source) noexcept nogil
cdef void copy_nodes(Mem *mem, u32 extent, u32 source, u32 first, u32 last, u64 stamp) noexcept nogil
cdef void copy_records(Mem *mem, u32 extent, u32 source, u32 first, u32 last) noexcept nogil
cdef void copy_walked(Task *task, u32 extent, u32 root, int height, u64 stamp) noexcept nogil
cdef u32 copy_subtree(Copying *copying, u32 node, int levels) noexcept nogil

cdef bint streams(Mem *mem, u32 extent) noexcept nogil
cdef void _copy_some(Mem *mem, u32 extent, u32 source, u32 first, u32 last, bint leaves, u64 stamp) noexcept nogil
cdef void _copy_leaves(Copying *copying, Inner *old, Inner *new) noexcept nogil
cdef void _fetch_node(Mem *mem, u32 node) noexcept nogil
cdef void _fetch_records(Mem *mem, u32 node) noexcept nogil

# C block: atomics on the fields that several processes change, copies, the clock, and
# growing a file. atomics.py is the uncompiled side and documents what each does.
from forkstormd.core.layout cimport u8, u32, u64, i64, Header, Mem, Slot, State, Record, DedupeEntry, Domain, FileEntry, Job, Lane, SharedObject

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    #include <sys/mman.h>
    #ifndef MADV_POPULATE_WRITE
    #define MADV_POPULATE_WRITE 23
    #endif
    /* Fields are named, not pointed to, so that the same call reads as Python. */
    #define fs_load(field) __atomic_load_n(&(field), __ATOMIC_ACQUIRE)
    #define fs_add(field, n) __atomic_fetch_add(&(field), (n), __ATOMIC_ACQ_REL)
    #define fs_spaces_add(h, n) fs_add((h)->space_count, (uint32_t)(n))
    #define fs_snapshots_add(h, n) fs_add((h)->snapshots, (uint32_t)(n))
    #define fs_serial_next(h) (fs_add((h)->serials, 1ull) + 1)
    #define fs_order_next(h) (fs_add((h)->dedupe_order, 1ull) + 1)
    #define fs_counter_add(h, i, n) ((void)fs_add((h)->counter[i], (uint64_t)(n)))
    #define fs_answer_nodes_add(h, n) (fs_add((h)->answer_nodes, (uint64_t)(int64_t)(n)) + (uint64_t)(int64_t)(n))
    #define fs_answer_hand_next(h) fs_add((h)->answer_hand, 1ull)
    #define fs_members_add(d, n) fs_add((d)->members, (uint64_t)(int64_t)(n))
    #define fs_charged_add(d, n) fs_add((d)->charged, (uint64_t)(int64_t)(n))
    #define fs_page_tables_add(h, n) ((void)fs_add((h)->page_tables, (uint64_t)(int64_t)(n)))
    #define fs_objects_add(h, n) ((void)fs_add((h)->objects, (uint64_t)(int64_t)(n)))
    #define fs_shares_add(h) ((void)fs_add((h)->shares, 1ull))
    #define fs_references_add(o, n) fs_add((o)->references, (uint64_t)(int64_t)(n))
    #define fs_object_publish(entry, o) __atomic_store_n(&(entry)->object, (uint32_t)(o), __ATOMIC_RELEASE)
    #define fs_free_give(mem, b, mask) __atomic_fetch_or(&(mem)->free[b], (uint64_t)(mask), __ATOMIC_ACQ_REL)
    #define fs_ref_add(mem, i, n) __atomic_fetch_add(&(mem)->refs[i], (uint32_t)(n), __ATOMIC_ACQ_REL)
    #define fs_word_publish(slot, w) __atomic_store_n(&(slot)->word, (uint64_t)(w), __ATOMIC_RELEASE)
    #define fs_claimed_publish(h, n) __atomic_store_n(&(h)->claimed_blocks, (uint32_t)(n), __ATOMIC_RELEASE)
    #define fs_entry_publish(e, s) __atomic_store_n(&(e)->state, (uint64_t)(s), __ATOMIC_RELEASE)
    #define fs_job_publish(job, w) __atomic_store_n(&(job)->word, (uint64_t)(w), __ATOMIC_RELEASE)
    #define fs_barrier() __atomic_signal_fence(__ATOMIC_SEQ_CST)
    static inline int fs_cas64(uint64_t *p, uint64_t old, uint64_t wanted) {
        return __atomic_compare_exchange_n(p, &old, wanted, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline uint32_t fs_claim_part(uint64_t *claimed, uint32_t count, int last) {
        uint64_t old = __atomic_load_n(claimed, __ATOMIC_ACQUIRE);
        do {
            if ((uint32_t)old + (uint32_t)(old >> 32) >= count) return count;
        } while (!__atomic_compare_exchange_n(claimed, &old, old + (last ? 1ull << 32 : 1), 0,
                                              __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
        return last ? count - 1 - (uint32_t)(old >> 32) : (uint32_t)old;
    }
    #define fs_job_claim(job, count, last) fs_claim_part(&(job)->claimed, (count), (last))
    #define fs_extent_swap(lane, i, old, wanted) fs_cas64(&(lane)->extents[i], (old), (wanted))
    #define fs_free_take(mem, b, old, wanted) fs_cas64(&(mem)->free[b], (old), (wanted))
    /* Vectors, because gcc makes `rep movsq` of a memcpy of so many bytes, which takes its time to
       begin. Units lie at multiples of 64 bytes. */
    typedef uint32_t fs_vector __attribute__((vector_size(32), aligned(32), may_alias));
    #define fs_vectors(base, index) ((fs_vector *)((base) + (uint64_t)(index) * 64))
    static inline void fs_copy_node(char *base, uint32_t to, uint32_t from) {
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from);
        t[0] = f[0]; t[1] = f[1]; t[2] = f[2]; t[3] = f[3];
        t[4] = f[4]; t[5] = f[5]; t[6] = f[6]; t[7] = f[7];
    }
    static inline void fs_copy_record(char *base, uint32_t to, uint32_t from) {
        fs_vector *t = fs_vectors(base, to), *f = fs_vectors(base, from);
        t[0] = f[0]; t[1] = f[1];
    }
    static inline void fs_copy_units(char *base, uint32_t to, uint32_t from, uint64_t units) {
        memcpy(base + (uint64_t)to * 64, base + (uint64_t)from * 64, units * 64);
    }
    static inline void fs_zero_units(char *base, uint32_t index, uint32_t units) {
        memset(base + (uint64_t)index * 64, 0, (size_t)units * 64);
    }
    #define fs_copy_state(to, from) memcpy((to), (from), sizeof(*(to)))
    #define fs_prefetch(base, index) __builtin_prefetch((base) + (uint64_t)(index) * 64)
    #define fs_lowest_bit(word) __builtin_ctzll(word)
    #define fs_bit_count(word) __builtin_popcountll(word)
    static inline uint64_t fs_now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
    }
    static inline int fs_claim(int fd, uint64_t at, uint64_t bytes) {
        int r;
        do r = fallocate(fd, 0, (off_t)at, (off_t)bytes); while (r != 0 && errno == EINTR);
        if (r == 0) return 0;
        if (errno == EOPNOTSUPP) return -posix_fallocate(fd, (off_t)at, (off_t)bytes);
        return -errno;
    }
    static inline void fs_populate(char *base, uint64_t at, uint64_t bytes) {
        uint64_t from = at & ~4095ull, to = (at + bytes + 4095) & ~4095ull;
        (void)!madvise(base + from, to - from, MADV_POPULATE_WRITE);
    }
    """
    u64 load64 "fs_load"(u64 field) noexcept nogil
    u32 load32 "fs_load"(u32 field) noexcept nogil
    u32 spaces_add "fs_spaces_add"(Header *header, int n) noexcept nogil
    u32 snapshots_add "fs_snapshots_add"(Header *header, int n) noexcept nogil
    u64 serial_next "fs_serial_next"(Header *header) noexcept nogil
    u64 order_next "fs_order_next"(Header *header) noexcept nogil
    void counter_add "fs_counter_add"(Header *header, u32 i, u64 n) noexcept nogil
    u64 answer_nodes_add "fs_answer_nodes_add"(Header *header, i64 n) noexcept nogil
    u64 answer_hand_next "fs_answer_hand_next"(Header *header) noexcept nogil
    u64 members_add "fs_members_add"(Domain *domain, int n) noexcept nogil
    u64 charged_add "fs_charged_add"(Domain *domain, i64 n) noexcept nogil
    void page_tables_add "fs_page_tables_add"(Header *header, int n) noexcept nogil
    void objects_add "fs_objects_add"(Header *header, int n) noexcept nogil
    void shares_add "fs_shares_add"(Header *header) noexcept nogil
    u64 references_add "fs_references_add"(SharedObject *object, int n) noexcept nogil
    void object_publish "fs_object_publish"(FileEntry *entry, u32 object) noexcept nogil
    u64 free_give "fs_free_give"(Mem *mem, u32 block, u64 mask) noexcept nogil
    bint free_take "fs_free_take"(Mem *mem, u32 block, u64 old, u64 wanted) noexcept nogil
    bint extent_swap "fs_extent_swap"(Lane *lane, u32 i, u64 old, u64 wanted) noexcept nogil
    u32 ref_add "fs_ref_add"(Mem *mem, u32 index, int n) noexcept nogil
    void word_publish "fs_word_publish"(Slot *slot, u64 word) noexcept nogil
    void claimed_publish "fs_claimed_publish"(Header *header, u32 blocks) noexcept nogil
    void entry_publish "fs_entry_publish"(DedupeEntry *entry, u64 state) noexcept nogil
    u32 job_claim "fs_job_claim"(Job *job, u32 count, bint last) noexcept nogil
    void job_publish "fs_job_publish"(Job *job, u64 word) noexcept nogil
    void barrier "fs_barrier"() noexcept nogil
    void copy_node "fs_copy_node"(char *base, u32 to, u32 source) noexcept nogil
    void copy_record "fs_copy_record"(char *base, u32 to, u32 source) noexcept nogil
    void copy_units "fs_copy_units"(char *base, u32 to, u32 source, u64 units) noexcept nogil
    void zero_units "fs_zero_units"(char *base, u32 index, u32 units) noexcept nogil
    void copy_state "fs_copy_state"(State *to, State *source) noexcept nogil
    void copy_vma "fs_copy_state"(Record *to, Record *source) noexcept nogil
    void prefetch "fs_prefetch"(char *base, u32 index) noexcept nogil
    int lowest_bit "fs_lowest_bit"(u64 word) noexcept nogil
    int bit_count "fs_bit_count"(u64 word) noexcept nogil
    u64 now_ns "fs_now_ns"() noexcept nogil
    int claim_file "fs_claim"(int fd, u64 at, u64 nbytes) noexcept nogil
    void populate "fs_populate"(char *base, u64 at, u64 nbytes) noexcept nogil

# C block: waiting for work without a CPU; futex.py documents it. The word lies in a shared file
# mapping, so these are no private futexes.
from forkstormd.core.layout cimport u32, Header

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <linux/futex.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    static inline void fs_posted_wait(uint32_t *word, uint32_t seen, uint32_t bits) {
        (void)!syscall(SYS_futex, word, FUTEX_WAIT_BITSET, seen, NULL, NULL, bits);
    }
    static inline int fs_posted_wake(uint32_t *word, int count, uint32_t bits) {
        __atomic_fetch_add(word, 1, __ATOMIC_ACQ_REL);
        /* Asked for none, the kernel wakes one. */
        if (count <= 0) return 0;
        return (int)syscall(SYS_futex, word, FUTEX_WAKE_BITSET, count, NULL, NULL, bits);
    }
    #define fs_jobs_wait(header, seen, bits) fs_posted_wait(&(header)->jobs_posted, (seen), (bits))
    #define fs_jobs_wake(header, count, bits) fs_posted_wake(&(header)->jobs_posted, (count), (bits))
    """
    void jobs_wait "fs_jobs_wait"(Header *header, u32 seen, u32 bits) noexcept nogil
    int jobs_wake "fs_jobs_wake"(Header *header, int count, u32 bits) noexcept nogil

# C block: robust process-shared mutexes in shared memory; mutex.py documents them.
from forkstormd.core.layout cimport u64

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <errno.h>
    #include <pthread.h>
    #include <string.h>
    #include <time.h>
    typedef char fs_mutex_fits[sizeof(pthread_mutex_t) <= 64 ? 1 : -1];
    static inline int fs_mutex_init(uint64_t *word) {
        pthread_mutexattr_t attr;
        int r;
        memset(word, 0, 64);
        pthread_mutexattr_init(&attr);
        pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        r = pthread_mutex_init((pthread_mutex_t *)word, &attr);
        pthread_mutexattr_destroy(&attr);
        return -r;
    }
    static inline int fs_mutex_held(uint64_t *word, int r) {
        if (r == EOWNERDEAD) {
            /* Nothing to mend: a commit is one store, so the state is whole. */
            pthread_mutex_consistent((pthread_mutex_t *)word);
            return 0;
        }
        return -r;
    }
    static inline int fs_mutex_try(uint64_t *word) {
        return fs_mutex_held(word, pthread_mutex_trylock((pthread_mutex_t *)word));
    }
    static inline int fs_mutex_wait(uint64_t *word, uint64_t deadline_ns) {
        struct timespec t;
        if (deadline_ns == 0)
            return fs_mutex_held(word, pthread_mutex_lock((pthread_mutex_t *)word));
        t.tv_sec = (time_t)(deadline_ns / 1000000000ull);
        t.tv_nsec = (long)(deadline_ns % 1000000000ull);
        return fs_mutex_held(word, pthread_mutex_clocklock((pthread_mutex_t *)word, CLOCK_MONOTONIC, &t));
    }
    static inline void fs_mutex_release(uint64_t *word) {
        pthread_mutex_unlock((pthread_mutex_t *)word);
    }
    """
    int mutex_init "fs_mutex_init"(u64 *word) noexcept nogil
    int mutex_try "fs_mutex_try"(u64 *word) noexcept nogil
    int mutex_wait "fs_mutex_wait"(u64 *word, u64 deadline_ns) noexcept nogil
    void mutex_release "fs_mutex_release"(u64 *word) noexcept nogil

/*
 * The real fork() of this machine: a process with as many VMAs as it is told forks children that
 * only exit.
 *
 * Usage: realfork VMAS FORKS CPU
 *
 * The VMAs are those of the simulation: pages of alternating protection, which cannot merge, in
 * runs of five, then a gap. None is touched, so there are no page tables to copy but those of the
 * program itself. It runs on one CPU and in the batch class, where a new child does not preempt
 * its parent: the parent's time in fork() then holds nothing of the child.
 *
 * Prints how many VMAs it has, then for each fork a line: nanoseconds in fork(), and until the
 * child has been waited for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, RUN = 5, FORKS_MAX = 100000 };
#define FIRST 0x10000000000UL /* far from everything that the kernel places */

static struct { uint64_t fork_ns, total_ns; } taken[FORKS_MAX];

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static long own_vmas(void) {
    static char text[1 << 16];
    long lines = 0, got;
    int maps = open("/proc/self/maps", O_RDONLY);
    if (maps < 0) fail("/proc/self/maps");
    while ((got = read(maps, text, sizeof text)) > 0)
        for (long i = 0; i < got; i++) lines += text[i] == '\n';
    close(maps);
    return lines;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: realfork VMAS FORKS CPU\n");
        return 2;
    }
    long wanted = atol(argv[1]), forks = atol(argv[2]);
    if (forks < 1 || forks > FORKS_MAX) {
        fprintf(stderr, "1 to %d forks\n", FORKS_MAX);
        return 2;
    }
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(atoi(argv[3]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0) fail("sched_setaffinity");
    struct sched_param priority = {0};
    if (sched_setscheduler(0, SCHED_BATCH, &priority) != 0) fail("SCHED_BATCH");

    long own = own_vmas();
    for (long i = 0; i < wanted - own; i++) {
        void *at = (void *)(FIRST + (unsigned long)(i + i / RUN) * PAGE);
        int protection = i % 2 ? PROT_READ : PROT_READ | PROT_WRITE;
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
        if (mmap(at, PAGE, protection, flags, -1, 0) != at) fail("mmap");
    }
    memset(taken, 0, sizeof taken[0] * (size_t)forks);
    for (long i = 0; i < forks; i++) {
        uint64_t began = now_ns();
        pid_t child = fork();
        if (child == 0) _exit(0);
        uint64_t forked = now_ns();
        if (child < 0) fail("fork");
        if (waitpid(child, NULL, 0) != child) fail("waitpid");
        taken[i].fork_ns = forked - began;
        taken[i].total_ns = now_ns() - began;
    }
    printf("%ld\n", own_vmas());
    for (long i = 0; i < forks; i++)
        printf("%lu %lu\n", (unsigned long)taken[i].fork_ns, (unsigned long)taken[i].total_ns);
    return 0;
}

/*
 * Executes system calls on its own address space, as it is told through a pipe.
 *
 * Usage: executor STACK_BYTES COMMANDS:RESULTS[,COMMANDS:RESULTS...]
 *
 * Each pair of file descriptors belongs to one process; the first to this one, another to the
 * process made by the fork that names it. A command is eight u64: what, whether the map is
 * wanted, six arguments. A result is four u64: value, errno, number of areas, 0; then for each
 * area start, end, flags, offset, device, inode.
 *
 * There is no C library, so that nothing but what is told ever happens to the address space:
 * memory is static. Started with randomised addresses, it
 * starts itself again without. When its pipe is closed, a process ends.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <linux/capability.h>

typedef uint64_t u64;

enum { MAPS, MAP, UNMAP, PROTECT, REMAP, ADVISE, BRK, TOUCH, FORK, EXIT, UNPRIVILEGED,
       STRIPE, NO_HUGE_PAGES };
enum { PROCESSES = 16, AREAS = 70000, PAGE = 4096 };
#define SPECIAL (~0ULL) /* the device of [vdso] and the like */

struct command { u64 what, want_map, arg[6]; };
struct result { u64 value, error, areas, zero; };
struct area { u64 start, end, flags, offset, device, inode; };

/*
 * Read-only and far above everything else: the kernel puts the start of brk behind it, so that
 * the memory of brk does not touch this program's own, with which it could merge.
 */
__attribute__((section(".below_brk"), used)) static const char below_brk[PAGE] = {1};

static struct { int commands, results; } pipes[PROCESSES];
static struct area areas[AREAS];
static char text[1 << 16], signal_stack[1 << 16];
static volatile u64 touch_signal;

static long call(long n, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#define CALL(n, ...) CALL_(n, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_(n, a, b, c, d, e, f, ...) \
    call(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

/* gcc makes calls of it. */
void *memset(void *to, int byte, unsigned long count) {
    for (volatile char *at = to; count--; at++) *at = (char)byte;
    return to;
}

static __attribute__((noreturn)) void end(int status) {
    for (;;) CALL(SYS_exit_group, status);
}

static void read_all(int fd, void *to, u64 count) {
    for (char *at = to; count;) {
        long n = CALL(SYS_read, fd, at, count);
        if (n <= 0 && n != -EINTR) end(0);
        if (n > 0) at += n, count -= (u64)n;
    }
}

static void write_all(int fd, const void *from, u64 count) {
    for (const char *at = from; count;) {
        long n = CALL(SYS_write, fd, at, count);
        if (n <= 0 && n != -EINTR) end(1);
        if (n > 0) at += n, count -= (u64)n;
    }
}

static const char *number(const char *at, u64 base, u64 *value) {
    for (*value = 0;; at++) {
        u64 digit = *at >= '0' && *at <= '9' ? (u64)(*at - '0')
                  : *at >= 'a' && *at <= 'f' ? (u64)(*at - 'a' + 10) : 99;
        if (digit >= base) return at;
        *value = *value * base + digit;
    }
}

/* The bits in which the kernel keeps what VmFlags shows by two letters. */
static u64 flag(char a, char b) {
    static const struct { char name[3]; unsigned char bit; } known[] = {
        {"rd", 0}, {"wr", 1}, {"ex", 2}, {"sh", 3}, {"mr", 4}, {"mw", 5}, {"me", 6}, {"ms", 7},
        {"gd", 8}, {"sr", 15}, {"rr", 16}, {"dc", 17}, {"ac", 20}, {"nr", 21}, {"sf", 23},
        {"wf", 25}, {"dd", 26}, {"hg", 29}, {"nh", 30}, {"dp", 40},
    };
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].name[0] == a && known[i].name[1] == b) return 1ULL << known[i].bit;
    return 0;
}

/* One line of smaps: the head of an area, its VmFlags, or one of the others. */
static u64 line(const char *at, u64 count) {
    if (at[0] == 'V' && at[1] == 'm') {
        for (at += 8; *at == ' '; at++)
            if (at[1] > ' ') areas[count - 1].flags |= flag(at[1], at[2]), at += 2;
        return count;
    }
    if (*at >= 'A' && *at <= 'Z') return count;
    struct area *area = &areas[count];
    u64 major, minor;
    at = number(at, 16, &area->start) + 1;
    at = number(at, 16, &area->end) + 6;
    at = number(at, 16, &area->offset) + 1;
    at = number(at, 16, &major) + 1;
    at = number(at, 16, &minor) + 1;
    at = number(at, 10, &area->inode);
    area->device = major << 32 | minor;
    area->flags = 0;
    while (*at == ' ') at++;
    if (at[0] == '[' && at[1] == 'v') area->device = SPECIAL;
    return count + 1;
}

static u64 read_map(void) {
    static const char name[] = "/proc/self/smaps";
    u64 count = 0, held = 0;
    int fd = (int)CALL(SYS_open, name, O_RDONLY);
    if (fd < 0) end(2);
    for (;;) {
        long n = CALL(SYS_read, fd, text + held, sizeof text - 1 - held);
        if (n <= 0) break;
        u64 from = 0;
        for (u64 to = held, last = held + (u64)n; to < last; to++)
            if (text[to] == '\n') {
                text[to] = 0;
                if (count < AREAS) count = line(text + from, count);
                from = to + 1;
            }
        held = held + (u64)n - from;
        for (u64 i = 0; i < held; i++) text[i] = text[from + i];
    }
    CALL(SYS_close, fd);
    return count && areas[count - 1].start >> 63 ? count - 1 : count; /* [vsyscall] is no VMA */
}

/* Reads or writes a u64. Where that is a signal, on_signal goes on at touch_end. */
u64 touch_at(u64 addr, u64 access, u64 value);
extern const char touch_end[];
__asm__(".text\n"
        "touch_at:\n"
        "    test %rsi, %rsi\n"
        "    jz 1f\n"
        "    mov %rdx, (%rdi)\n"
        "1:  mov (%rdi), %rax\n"
        "touch_end:\n"
        "    ret\n");

static void on_signal(int signal, siginfo_t *info, void *context) {
    (void)info;
    ucontext_t *interrupted = context;
    if (touch_signal) end(3);
    touch_signal = (u64)signal;
    interrupted->uc_mcontext.gregs[REG_RIP] = (greg_t)touch_end;
}

__asm__(".text\n"
        "signal_return:\n"
        "    mov $15, %eax\n" /* rt_sigreturn */
        "    syscall\n");
extern void signal_return(void);

struct kernel_sigaction { void *handler; u64 flags; void (*restorer)(void); u64 mask; };

static void set_up_signals(void) {
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    struct kernel_sigaction caught = {
        on_signal, SA_SIGINFO | SA_ONSTACK | SA_NODEFER | 0x04000000, signal_return, 0};
    struct kernel_sigaction ignored = {(void *)SIG_IGN, 0x04000000, signal_return, 0};
    CALL(SYS_sigaltstack, &stack, 0);
    CALL(SYS_rt_sigaction, SIGSEGV, &caught, 0, 8);
    CALL(SYS_rt_sigaction, SIGBUS, &caught, 0, 8);
    CALL(SYS_rt_sigaction, SIGCHLD, &ignored, 0, 8);
}

static struct result touch(const u64 *arg) {
    struct result result = {0};
    touch_signal = 0;
    result.value = touch_at(arg[0], arg[1], arg[2]);
    if (touch_signal) {
        result.value = 0;
        result.error = touch_signal == SIGSEGV ? EFAULT : EIO;
    }
    return result;
}

/* mprotect() of every second page from arg[0] on, arg[1] pages in all; how many were refused. */
static struct result stripe(const u64 *arg) {
    struct result result = {0};
    for (u64 page = 1; page < arg[1]; page += 2)
        if (CALL(SYS_mprotect, arg[0] + page * PAGE, PAGE, arg[2])) result.value++;
    return result;
}

static long drop_privileges(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    return CALL(SYS_capset, &header, none);
}

/* Answers one command. In the child of a fork, *self is its own number afterwards. */
static struct result run(const struct command *command, u64 *self) {
    static const int number_of[] = {
        [MAP] = SYS_mmap, [UNMAP] = SYS_munmap, [PROTECT] = SYS_mprotect,
        [REMAP] = SYS_mremap, [ADVISE] = SYS_madvise, [BRK] = SYS_brk};
    const u64 *arg = command->arg;
    long value = 0;
    switch (command->what) {
    case MAPS: case EXIT: break;
    case TOUCH: return touch(arg);
    case STRIPE: return stripe(arg);
    case UNPRIVILEGED: value = drop_privileges(); break;
    case NO_HUGE_PAGES: value = CALL(SYS_prctl, PR_SET_THP_DISABLE, 1); break;
    case FORK:
        value = CALL(SYS_clone, SIGCHLD);
        if (value == 0) *self = arg[0];
        break;
    default:
        value = call(number_of[command->what], (long)arg[0], (long)arg[1], (long)arg[2],
                     (long)arg[3], (long)arg[4], (long)arg[5]);
    }
    struct result result = {0};
    if (value < 0 && value >= -4095) result.error = (u64)-value;
    else result.value = (u64)value;
    return result;
}

static __attribute__((noreturn)) void serve(void) {
    u64 self = 0;
    for (;;) {
        struct command command;
        read_all(pipes[self].commands, &command, sizeof command);
        u64 before = self;
        struct result result = run(&command, &self);
        if (self != before) continue; /* the new child: its parent answers */
        if (command.want_map) result.areas = read_map();
        write_all(pipes[self].results, &result, sizeof result);
        write_all(pipes[self].results, areas, result.areas * sizeof *areas);
        if (command.what == EXIT) end(0);
    }
}

/* Without randomised addresses, and with the stack limit by which mmap_base is chosen. */
static void start_again(char **argv, u64 stack_bytes) {
    static const char self[] = "/proc/self/exe";
    char *const nothing[] = {0};
    struct rlimit limit = {stack_bytes, stack_bytes};
    long now = CALL(SYS_personality, 0xffffffff);
    if (now & ADDR_NO_RANDOMIZE) return;
    CALL(SYS_prlimit64, 0, RLIMIT_STACK, &limit, 0);
    if (CALL(SYS_personality, now | ADDR_NO_RANDOMIZE) < 0) end(4);
    CALL(SYS_execve, self, argv, nothing);
    end(5);
}

__attribute__((noreturn, used)) static void begin(u64 *stack) {
    char **argv = (char **)(stack + 1);
    u64 stack_bytes, fd, count = 0;
    if (stack[0] != 3) end(6);
    number(argv[1], 10, &stack_bytes);
    start_again(argv, stack_bytes);
    for (const char *at = argv[2]; count < PROCESSES; at++, count++) {
        at = number(at, 10, &fd) + 1;
        pipes[count].commands = (int)fd;
        at = number(at, 10, &fd);
        pipes[count].results = (int)fd;
        if (!*at) break;
    }
    set_up_signals();
    serve();
}

__asm__(".text\n"
        ".globl _start\n"
        "_start:\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call begin\n");

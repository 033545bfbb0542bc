"""The text of strace, in the forms it writes."""

import pytest
from forkstorm.replay import calls as c
from forkstorm.replay.order import moments
from forkstorm.replay.strace import Call, Ended, Superseded, parse, split_arguments

MMAP = "mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3</lib/x>, 0x1000) = 0x7f0000000000"


def call_of(line: str) -> Call:
    (event,) = parse([line + "\n"]).events
    assert isinstance(event, Call)
    return event


def request_of(text: str) -> c.Request:
    return c.request_of(call_of(text))


@pytest.mark.parametrize(
    ("line", "pid"),
    [
        (MMAP, 0),
        (f"1234  {MMAP}", 1234),
        (f"1234<bash> {MMAP}", 1234),
        (f"[pid  1234] {MMAP}", 1234),
        (f"1234 12:00:01 {MMAP}", 1234),
        (f"1234  12:00:01.123456 {MMAP} <0.000012>", 1234),
        (f"12:00:01 {MMAP}", 0),
        (f"1700000000.123456 {MMAP}", 0),
        (f"1234 1700000000.123456 {MMAP} (DELAYED)", 1234),
        (f"     0.000123 {MMAP}", 0),
        (f"1234      0.000123 {MMAP} <0.000001>", 1234),
    ],
)
def test_prefixes_and_times(line: str, pid: int) -> None:
    call = call_of(line)
    assert (call.pid, call.name, call.result, call.error) == (pid, "mmap", 0x7F0000000000, "")
    assert c.request_of(call) == c.Map(0, 8192, 1, 2, c.Descriptor(3, "/lib/x"), 4096)


def test_errors_and_results_without_a_value() -> None:
    failed = call_of("7 munmap(0x1000, 0) = -1 EINVAL (Invalid argument)")
    assert (failed.result, failed.error) == (-1, "EINVAL")
    restarted = call_of("7 wait4(-1, 0x7ff, 0, NULL) = ? ERESTARTSYS (To be restarted)")
    assert (restarted.result, restarted.error) == (None, "ERESTARTSYS")
    assert call_of("7 exit_group(0)                     = ?").result is None
    theirs = call_of("7 clone(child_stack=NULL, flags=SIGCHLD) = 2 /* 99 in strace's PID NS */")
    assert theirs.result == 99


def test_calls_that_were_cut_are_one_event() -> None:
    trace = parse(
        """\
10 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>
11 brk(NULL) = 0x1000000
10 <... clone resumed>, child_tidptr=0x7f0) = 11
11 wait4(-1,  <unfinished ...>
10 exit_group(0 <unfinished ...>
11 <... wait4 resumed>NULL, 0, NULL) = -1 ECHILD (No child processes)
10 <... exit_group resumed>) = ?
10 +++ exited with 0 +++
11 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED} ---
11 munmap(0x1000,  <unfinished ...>
11 +++ killed by SIGKILL +++
""".splitlines()
    )
    assert trace.unreadable_line_count == 0
    names = [event.name if isinstance(event, Call) else type(event) for event in trace.events]
    assert names == ["brk", "clone", "wait4", "exit_group", Ended, Ended]
    clone = trace.events[1]
    assert isinstance(clone, Call)
    assert (clone.begun, clone.line, clone.result) == (1, 3, 11)
    assert clone.arguments[1:] == ("flags=CLONE_CHILD_SETTID|SIGCHLD", "child_tidptr=0x7f0")
    # The fork comes before its child's first call.
    ends = [m.event for m in moments(trace) if not m.begins]
    assert [event.line for event in ends[:2]] == [3, 2]


def test_a_call_that_never_ends_has_no_result() -> None:
    (event,) = parse(["5 munmap(0x1000,  <unfinished ...>"]).events
    assert isinstance(event, Call)
    assert (event.name, event.result) == ("munmap", None)


def test_a_terminal_s_lines_without_a_pid() -> None:
    trace = parse(
        """\
brk(NULL) = 0x1000
clone(child_stack=NULL, flags=SIGCHLD) = 21
strace: Process 21 attached
[pid    20] brk(NULL) = 0x1000
[pid    21] brk(NULL) = 0x1000
[pid    20] +++ exited with 0 +++
brk(NULL) = 0x1000
+++ exited with 0 +++
""".splitlines()
    )
    assert [event.pid for event in trace.events] == [20, 20, 20, 21, 20, 21, 21]


def test_a_thread_that_executes_becomes_its_leader() -> None:
    trace = parse(
        """\
31 execve("/bin/x", ["x"], 0x7f0 <unfinished ...>
30 +++ superseded by execve in pid 31 +++
30 <... execve resumed>) = 0
""".splitlines()
    )
    superseded, executed = trace.events
    assert superseded == Superseded(2, 30, 31)
    assert isinstance(executed, Call)
    assert (executed.pid, executed.begun, executed.result) == (30, 1, 0)


def test_other_lines_are_counted() -> None:
    trace = parse(["strace: something\n", "\n", "9 <... brk resumed>) = 0\n", "9 brk(NULL) = 0\n"])
    assert (trace.unreadable_line_count, trace.first_unreadable_line) == (2, 1)
    assert len(trace.events) == 1


def test_commas_that_part_nothing() -> None:
    text = (
        r'3</a,b\76(c>, {x=1, y=[2, 3]}, "s,\",", 5<TCP:[1.2.3.4:5->6.7.8.9:10]>, 1 /* a, b */) = 0'
    )
    arguments, end = split_arguments(text)
    assert arguments == (
        r"3</a,b\76(c>", "{x=1, y=[2, 3]}", r'"s,\","', "5<TCP:[1.2.3.4:5->6.7.8.9:10]>",
        "1 /* a, b */",
    )  # fmt: skip
    assert text[end:] == ") = 0"
    assert split_arguments("") == ((), -1)
    assert split_arguments(") = 0") == ((), 0)


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("munmap(0x1000, 8192) = 0", c.Unmap(0x1000, 8192)),
        ("brk(NULL) = 0x1000", c.SetBreak(0)),
        ("mprotect(0x1000, 1, PROT_NONE) = 0", c.Protect(0x1000, 1, 0)),
        (
            "mprotect(0x1000, 1, PROT_READ|PROT_WRITE|PROT_GROWSDOWN) = 0",
            c.Protect(0x1000, 1, 0x1000003),
        ),
        ("mprotect(0x1000, 1, PROT_READ|0x80) = 0", c.Protect(0x1000, 1, 0x81)),
        ("pkey_mprotect(0x1000, 1, PROT_READ, -1) = 0", c.Protect(0x1000, 1, 1)),
        ("pkey_mprotect(0x1000, 1, PROT_READ, 3) = 0", c.Ignored(True)),
        ("madvise(0x1000, 4096, MADV_DONTFORK) = 0", c.Advise(0x1000, 4096, 10)),
        ("madvise(0x1000, 4096, 0x63 /* MADV_??? */) = -1 EINVAL (I)", c.Advise(0x1000, 4096, 99)),
        ("mremap(0x1000, 1, 2, MREMAP_MAYMOVE) = 0x1000", c.Remap(0x1000, 1, 2, 1, 0)),
        (
            "mremap(0x1000, 1, 2, MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x5000) = 0x5000",
            c.Remap(0x1000, 1, 2, 7, 0x5000),
        ),
        (
            "mmap(0x1000, 4096, PROT_READ, MAP_SHARED|MAP_ANONYMOUS|MAP_HUGETLB|21<<MAP_HUGE_SHIFT,"
            " -1, 0) = 0x1000",
            c.Map(0x1000, 4096, 1, 1 | 0x20 | 0x40000 | 21 << 26, c.Descriptor(-1, None), 0),
        ),
        ("fork() = 5", c.Clone(False, False, False)),
        ("vfork() = 5", c.Clone(True, False, False)),
        ("clone(child_stack=NULL, flags=CLONE_VM|CLONE_VFORK|SIGCHLD) = 5",
         c.Clone(True, False, False)),
        ("clone3({flags=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_THREAD, exit_signal=0} => "
         "{parent_tid=[5]}, 88) = 5", c.Clone(True, True, True)),
        ("clone(child_stack=NULL, flags=0x100|SIGCHLD) = 5", c.Clone(True, False, False)),
        ('execve("/bin/a\\"b", ["x"], 0x7f /* 3 vars */) = 0', c.Exec('/bin/a"b')),
        ('execveat(3, "x", ["x"], NULL, 0) = 0', c.Exec("x")),
        ("exit(0) = ?", c.Exit(False)),
        ("exit_group(0) = ?", c.Exit(True)),
        ('openat(AT_FDCWD</tmp>, "x", O_RDONLY|O_CLOEXEC) = 3</tmp/x>',
         c.Open("x", c.FileAccess.READ_ONLY)),
        ('open("x", O_RDWR|O_CREAT, 0600) = 3', c.Open("x", c.FileAccess.READ_WRITE)),
        ('openat(3, "x", O_WRONLY) = 4', c.Open("x", c.FileAccess.WRITE_ONLY)),
        ('memfd_create("m", MFD_CLOEXEC) = 3',
         c.Open("/memfd:m", c.FileAccess.READ_WRITE)),
        ("close(3</x (deleted)>) = 0", c.Close(c.Descriptor(3, "/x"))),
        ("close(3</dev/null<char 1:3>>) = 0", c.Close(c.Descriptor(3, "/dev/null"))),
        (r"close(3</a\76\303\244>(deleted)) = 0", c.Close(c.Descriptor(3, "/a>ä"))),
        ("dup2(3, 5) = 5", c.Duplicate(c.Descriptor(3, None))),
        ("mincore(0x1000, 4096, [1]) = 0", c.Ignored(False)),
        ("mlock(0x1000, 4096) = 0", c.Ignored(True)),
        ("mlock(0x1000, 4096) = -1 ENOMEM (Cannot)", c.Ignored(False)),
    ],
)  # fmt: skip
def test_requests(text: str, request_: c.Request) -> None:
    assert request_of(text) == request_


@pytest.mark.parametrize(
    "text",
    ["munmap(0x1000) = 0", "mmap(NULL, 1, PROT_X, 0, -1, 0) = 0", "brk(x) = 0", "clone() = 5"],
)
def test_arguments_that_cannot_be_read(text: str) -> None:
    with pytest.raises(c.Unreadable, match="line 1: "):
        request_of(text)


def test_the_path_of_a_new_descriptor() -> None:
    call = call_of('1 openat(AT_FDCWD, "l", O_RDONLY) = 3</real/l> <0.000020>')
    assert (call.result, call.path) == (3, "/real/l")

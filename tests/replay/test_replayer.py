"""Processes, threads, differences and what is put right, over simulated spaces without a server."""

import json

import pytest
from forkstorm.replay import Report, Texts, parse, replay

from tests.replay.fake import MMAP_BASE, PAGE, FakeMachine

TOP = MMAP_BASE
START = f"""\
{0x400000:x}-{0x402000:x} r-xp 00000000 fe:00 5                          /bin/x
{0x402000:x}-{0x403000:x} rw-p 00002000 fe:00 5                          /bin/x
{TOP - 0x4000:x}-{TOP:x} r-xp 00000000 fe:00 6                          /lib/ld.so
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
""".encode()


def run(
    text: str, start: bytes = START, final: bytes | dict[int, bytes] = b"", touch: bool = True
) -> tuple[Report, FakeMachine]:
    machine = FakeMachine()
    finals = {0: final} if isinstance(final, bytes) and final else final or {}
    assert isinstance(finals, dict)
    trace = parse(text.splitlines())
    report = replay(trace, machine, Texts({0: start} if start else {}, finals), touch=touch)
    assert machine.alive == 0
    assert not report.unreadable_calls
    return report, machine


def mmap(addr: int, length: int = PAGE, flags: str = "MAP_PRIVATE|MAP_ANONYMOUS") -> str:
    return f"mmap(NULL, {length}, PROT_READ|PROT_WRITE, {flags}, -1, 0) = {addr:#x}"


def test_calls_of_one_process_and_its_final_maps() -> None:
    free = TOP - 0x4000
    final = START.decode().splitlines(keepends=True)
    final[2:2] = [
        f"{0x1000000:x}-{0x1001000:x} rw-p 00000000 00:00 0                      [heap]\n",
        f"{free - 0x3000:x}-{free - 0x2000:x} r--p 00000000 00:00 0 \n",
        f"{free - 0x2000:x}-{free - 0x1000:x} rw-p 00000000 00:00 0 \n",
    ]
    report, machine = run(
        f"""\
1 brk(NULL) = 0x1000000
1 brk(0x1000800) = 0x1000800
1 {mmap(free - 0x3000, 0x3000)}
1 mprotect({free - 0x3000:#x}, 4096, PROT_READ) = 0
1 munmap({free - 0x1000:#x}, 4096) = 0
1 munmap({free - 0x1000:#x}, 0) = -1 EINVAL (Invalid argument)
1 mincore({free - 0x1000:#x}, 0, NULL) = 0
1 exit_group(0) = ?
1 +++ exited with 0 +++
""",
        final="".join(final).encode(),
    )
    assert report.call_count == 6
    # The fake refuses nothing.
    assert [d.recorded for d in report.differences] == ["EINVAL"]
    (agreement,) = report.agreements
    assert (agreement.equal_count, agreement.kernel_vma_count) == (7, 7)
    assert agreement.complete
    assert not report.agrees
    assert report.ignored == {"mincore": 1}
    assert len(machine.spaces) == 1


def test_one_difference_is_one_difference() -> None:
    free = TOP - 0x4000
    report, machine = run(
        f"""\
1 {mmap(free - 0x10000, 0x2000)}
1 {mmap(free - 0x1000)}
1 {mmap(free - 0x11000)}
1 munmap({free - 0x10000:#x}, 8192) = 0
"""
    )
    # Where there was room for it, the trace went lower; all later calls fit the trace again.
    first, second = report.differences
    assert (first.line, first.recorded) == (1, f"{free - 0x10000:#x}")
    assert first.replayed == f"{free - 0x2000:#x}"
    assert (second.line, second.recorded) == (3, f"{free - 0x11000:#x}")
    assert sorted(page for page in machine.spaces[0].pages if 0x500000 < page < free) == [
        free - 0x11000,
        free - 0x1000,
    ]
    shown = "\n".join(report.lines(shown=5))
    assert (
        "difference 1: line 1: mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYM"
        in shown
    )
    found = json.loads(report.as_json())
    assert (found["agrees"], found["difference_count"], found["call_count"]) == (False, 2, 4)
    assert found["first_difference"]["line"] == 1


def test_brk_that_differs_is_put_right() -> None:
    report, machine = run(
        """\
1 brk(NULL) = 0x1000000
1 mmap(0x1001000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS, -1, 0) = 0x1001000
1 brk(0x1003000) = 0x1003000
1 brk(0x1004000) = 0x1004000
1 brk(0x1008000) = 0x1004000
1 brk(0x1005000) = 0x1005000
"""
    )
    assert [d.line for d in report.differences] == [3, 5]
    assert machine.spaces[0].brk == 0x1005000


def test_threads_and_vfork_share_memory_and_forks_do_not() -> None:
    free = TOP - 0x4000
    report, machine = run(
        f"""\
1 clone3({{flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, exit_signal=0}} => {{parent_tid=[2]}}, 88) = 2
2 {mmap(free - 0x1000)}
1 {mmap(free - 0x2000)}
1 vfork( <unfinished ...>
3 {mmap(free - 0x3000)}
3 exit_group(0) = ?
1 <... vfork resumed>) = 3
1 {mmap(free - 0x4000)}
1 fork() = 4
1 {mmap(free - 0x5000)}
4 {mmap(free - 0x5000)}
2 exit(0) = ?
2 +++ exited with 0 +++
1 fork() = 5
1 exit_group(0) = ?
4 {mmap(free - 0x6000)}
4 exit_group(0) = ?
"""
    )
    assert report.differences == []
    assert (report.process_count, report.fork_count) == (3, 2)
    # The fork that strace did not follow was made, and ended.
    assert len(machine.spaces) == 3


def test_exec_begins_anew_from_what_the_trace_tells() -> None:
    report, machine = run(
        """\
1 execve("/bin/y", ["y"], 0x7ff /* 3 vars */) = 0
1 brk(NULL) = 0x5555000
1 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f5000000000
1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f4ffffff000
1 mprotect(0x5550000, 4096, PROT_READ) = 0
1 execve("/bin/no", ["y"], 0x7ff /* 3 vars */) = -1 ENOENT (No such file or directory)
1 execve("/bin/z", ["z"], 0x7ff /* 3 vars */) = 0
1 brk(NULL) = 0x6666000
1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f6000000000
1 brk(0x6667000) = 0x6667000
1 exit_group(0) = ?
""",
        start=b"",
    )
    assert report.differences == []
    assert (report.exec_count, report.guessed_count, report.supposed_count) == (2, 2, 1)
    assert [space.mmap_base for space in machine.spaces] == [0x7F5000002000, 0x7F6000001000]
    assert "areas were supposed" in "\n".join(report.lines())


def test_maps_belong_to_the_exec_that_they_fit() -> None:
    report, machine = run(
        f"""\
1 execve("/bin/other", ["y"], 0x7ff /* 3 vars */) = 0
1 brk(NULL) = 0x555500000000
1 execve("/bin/x", ["x"], 0x7ff /* 3 vars */) = 0
1 brk(NULL) = 0x1000000
1 {mmap(TOP - 0x5000)}
1 mprotect(0x402000, 4096, PROT_READ) = 0
"""
    )
    assert report.differences == []
    assert (report.guessed_count, report.unused_texts) == (1, 0)
    assert 0x400000 in machine.spaces[1].pages
    unused, _ = run("1 brk(NULL) = 0x555500000000\n")
    assert (unused.guessed_count, unused.unused_texts) == (1, 1)
    assert "fit no process" in "\n".join(unused.lines())


def test_calls_that_overlap_are_tried_in_the_order_that_fits() -> None:
    free = TOP - 0x4000
    thread = "1 clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD|CLONE_FILES) = 2\n"
    # The second thread's mapping was first, though it ended last.
    later, _ = run(
        f"""{thread}\
2 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0 <unfinished ...>
1 {mmap(free - 0x2000)}
2 <... mmap resumed>) = {free - 0x1000:#x}
"""
    )
    assert later.differences == []
    # The place was free only after the other thread's munmap, which ended later.
    freed, machine = run(
        f"""{thread}\
1 {mmap(free - 0x1000)}
1 munmap({free - 0x1000:#x}, 4096 <unfinished ...>
2 {mmap(free - 0x1000)}
1 <... munmap resumed>) = 0
"""
    )
    assert freed.differences == []
    assert free - 0x1000 in machine.spaces[0].pages
    # And what fits no order is one difference.
    odd, _ = run(
        f"""{thread}\
2 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0 <unfinished ...>
1 {mmap(free - 0x1000)}
2 <... mmap resumed>) = {free - 0x9000:#x}
"""
    )
    (difference,) = odd.differences
    assert difference.overlapped
    assert "overlap" in str(difference)


def test_what_is_writable_is_written_to_unless_it_is_taken_away_at_once() -> None:
    free = TOP - 0x4000
    text = f"""\
1 {mmap(free - 0x1000)}
1 {mmap(free - 0x3000, 0x2000)}
1 mprotect({free - 0x3000:#x}, 8192, PROT_NONE) = 0
1 mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0) = {free - 0x4000:#x}
1 exit_group(0) = ?
"""
    _, machine = run(text)
    assert machine.spaces[0].writes == [0x402000, 0x7FFFFFFFE000, free - 0x1000]
    _, untouched = run(text, touch=False)
    assert untouched.spaces[0].writes == []


def test_the_stack_grows_to_what_the_final_maps_say() -> None:
    final = START.replace(b"7ffffffde000", b"7ffffffd0000")
    report, _ = run("1 brk(NULL) = 0x1000000\n1 exit_group(0) = ?\n", final=final)
    assert report.agrees
    assert report.grown_stacks == 1


def test_final_maps_that_differ_are_shown() -> None:
    final = START.replace(b"00402000-", b"00401000-").replace(b"402000-403000", b"402000-404000")
    report, _ = run("1 brk(NULL) = 0x1000000\n1 exit_group(0) = ?\n", final=final)
    (agreement,) = report.agreements
    assert (agreement.equal_count, agreement.kernel_vma_count) == (3, 4)
    lines = "\n".join(report.lines())
    assert "3 of 4 VMAs are equal" in lines
    assert "kernel: 402000-404000 rw-p" in lines
    assert "replay: 00402000-00403000 rw-p" in lines
    found = json.loads(report.as_json())
    assert found["final_maps"][0]["complete"] is False


@pytest.mark.parametrize("opens", [True, False])
def test_files_are_those_that_were_opened(opens: bool) -> None:
    text = """\
1 openat(AT_FDCWD, "/lib/a", O_RDONLY) = 3
1 mmap(0x10000000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED, 3, 0) = 0x10000000
1 close(3) = 0
1 openat(AT_FDCWD, "/lib/b", O_RDONLY) = 3
1 mmap(0x20000000, 4096, PROT_READ, MAP_PRIVATE|MAP_FIXED, 3, 0) = 0x20000000
1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, -1, 0) = -1 EBADF (Bad file descriptor)
"""
    lines = [line for line in text.splitlines() if opens or "mmap" in line]
    report, machine = run("\n".join(lines))
    assert report.differences == []
    names = [machine.spaces[0].pages[page][2] for page in (0x10000000, 0x20000000)]
    assert names == (["/lib/a", "/lib/b"] if opens else ["?", "?"])

"""VMAs as the text of /proc/PID/maps, byte for byte."""

from pathlib import Path

import pytest
from forkstorm import Vma, format_maps
from forkstorm.constants import VM_EXEC, VM_MAYSHARE, VM_READ, VM_WRITE
from forkstorm.maps import format_vma

# As Linux printed them.
LINES = [
    (
        Vma(0x10000, 0x100100000, 0, 0, "", 0, 0, 0),
        "00010000-100100000 ---p 00000000 00:00 0 ",
    ),
    (
        Vma(0x400000, 0xB6F000, VM_READ, 0, "/usr/bin/node", 0xFE, 0, 260689),
        "00400000-00b6f000 r--p 00000000 fe:00 260689                             /usr/bin/node",
    ),
    (
        Vma(0x7FFE00000000, 0x7FFE00021000, VM_READ | VM_WRITE, 0, "[stack]", 0, 0, 0),
        "7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0                          [stack]",
    ),
    (
        Vma(0x7F0000000000, 0x7F0000001000, VM_READ | VM_EXEC | VM_MAYSHARE, 0x1000, "", 0, 1, 42),
        "7f0000000000-7f0000001000 r-xs 00001000 00:01 42 ",
    ),
    (
        Vma(
            0xFFFFFFFFFF600000,
            0xFFFFFFFFFF601000,
            VM_READ | VM_WRITE | VM_EXEC | VM_MAYSHARE,
            0x123456789A000,
            "/a b\nc (deleted)",
            0x103,
            0xFFFFF,
            18446744073709551615,
        ),
        "ffffffffff600000-ffffffffff601000 rwxs 123456789a000 103:fffff 18446744073709551615 "
        "/a b\\012c (deleted)",
    ),
]


@pytest.mark.parametrize(("vma", "line"), LINES)
def test_lines_are_those_of_the_kernel(vma: Vma, line: str) -> None:
    assert format_vma(vma) == line
    assert str(vma) == line


def test_names_that_are_not_utf8_keep_their_bytes() -> None:
    name = b"/tmp/\xff\xfe".decode("utf-8", "surrogateescape")
    assert format_maps([Vma(0, 4096, 0, 0, name, 0, 0, 1)]).endswith(b" /tmp/\xff\xfe\n")


def test_no_vmas_are_no_text() -> None:
    assert format_maps([]) == b""


def reparse(line: str) -> Vma:
    """A line of this machine's kernel, read the simplest way."""
    span, rights, offset, device, rest = line.split(" ", 4)
    inode, _, name = rest.partition(" ")
    start, end = (int(x, 16) for x in span.split("-"))
    major, minor = (int(x, 16) for x in device.split(":"))
    bits = zip("rwxs", (VM_READ, VM_WRITE, VM_EXEC, VM_MAYSHARE), strict=True)
    flags = sum(bit for (letter, bit), shown in zip(bits, rights, strict=True) if shown == letter)
    name = name.lstrip(" ").replace("\\012", "\n")
    return Vma(start, end, flags, int(offset, 16), name, major, minor, int(inode))


def test_this_process_prints_as_its_kernel_prints_it(tmp_path: Path) -> None:
    text = Path("/proc/self/maps").read_bytes()
    lines = text.decode("utf-8", "surrogateescape").splitlines()
    assert format_maps(map(reparse, lines)) == text

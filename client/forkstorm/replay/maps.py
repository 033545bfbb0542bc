"""What the kernel printed as /proc/PID/maps or smaps, for holding it against a replay.

Only what a replay can know takes part: range, permissions, offset and name; with smaps, VmFlags.
Device and inode are of the machine that was recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from forkstorm.constants import VmFlag
from forkstorm.maps import Vma, format_vma

#: A name that the trace does not tell: fits every name.
UNKNOWN_NAME = "?"

_LINE = re.compile(
    r"([0-9a-f]+)-([0-9a-f]+) ([r-][w-][x-][ps]) ([0-9a-f]+) ([0-9a-f]+):[0-9a-f]+ \d+(?: +(.*))?"
)
# The mnemonics of show_smap_vma_flags() that this comparison knows.
_MNEMONICS = {
    "rd": VmFlag.READ, "wr": VmFlag.WRITE, "ex": VmFlag.EXEC, "sh": VmFlag.SHARED,
    "mr": VmFlag.MAYREAD, "mw": VmFlag.MAYWRITE, "me": VmFlag.MAYEXEC, "ms": VmFlag.MAYSHARE,
    "gd": VmFlag.GROWSDOWN, "lo": VmFlag.LOCKED, "sr": VmFlag.SEQ_READ, "rr": VmFlag.RAND_READ,
    "dc": VmFlag.DONTCOPY, "ac": VmFlag.ACCOUNT, "nr": VmFlag.NORESERVE,
    "wf": VmFlag.WIPEONFORK, "dd": VmFlag.DONTDUMP, "hg": VmFlag.HUGEPAGE,
    "nh": VmFlag.NOHUGEPAGE, "dp": VmFlag.DROPPABLE,
}  # fmt: skip
_COMPARED_FLAGS = sum(int(flag) for flag in _MNEMONICS.values())


class Line(NamedTuple):
    """One VMA of a text."""

    start: int
    end: int
    permissions: str
    offset: int
    dev_major: int
    name: str
    #: None without VmFlags.
    vm_flags: int | None
    text: str


class Agreement(NamedTuple):
    """How far a replay's map is the kernel's."""

    pid: int
    #: VMAs of the kernel's text, of the replay, and those that are the same in both.
    kernel_vma_count: int
    replay_vma_count: int
    equal_count: int
    #: Of the equal ones with VmFlags in the text: all, and those whose flags are equal.
    flagged_count: int
    flags_equal_count: int
    #: The lowest VMA that is not the same; "" where one side has none.
    first_kernel: str
    first_replay: str
    first_flags: str

    @property
    def complete(self) -> bool:
        """Whether all VMAs are the same."""
        return (
            self.equal_count == self.kernel_vma_count == self.replay_vma_count
            and self.flags_equal_count == self.flagged_count
        )


def read(text: bytes) -> list[Line]:
    """The VMAs of maps or smaps. ValueError when there are none. O(characters)."""
    lines: list[Line] = []
    for row in text.decode("utf-8", "surrogateescape").split("\n"):
        if match := _LINE.fullmatch(row):
            start, end, permissions, offset, major, name = match.groups()
            clean = (name or "").replace("\\012", "\n").removesuffix(" (deleted)")
            lines.append(
                Line(int(start, 16), int(end, 16), permissions, int(offset, 16), int(major, 16),
                     clean, None, row)
            )  # fmt: skip
        elif row.startswith("VmFlags:") and lines:
            flags = (_MNEMONICS.get(word, 0) for word in row.split()[1:])
            lines[-1] = lines[-1]._replace(vm_flags=sum(int(flag) for flag in flags))
    if not lines:
        raise ValueError("there are no lines of /proc/PID/maps in it")
    return lines


def compare(pid: int, kernel: list[Line], replay: Iterable[Vma]) -> Agreement:
    """Holds the kernel's map of a process against the replay's. O(n)."""
    ours = {vma.start: vma for vma in replay}
    equal: list[tuple[Line, Vma]] = []
    first: tuple[int, Line | None, Vma | None] | None = None
    for line in kernel:
        vma = ours.get(line.start)
        if vma is not None and same(line, vma):
            equal.append((line, vma))
        elif first is None:
            first = (line.start, line, _overlapping(line, ours.values()))
    starts = {line.start for line in kernel}
    extra = next((vma for start, vma in sorted(ours.items()) if start not in starts), None)
    if extra is not None and (first is None or extra.start < first[0]):
        inside = next((line for line in kernel if line.start < extra.end <= line.end), None)
        first = (extra.start, inside, extra)
    flagged = [(line, vma) for line, vma in equal if line.vm_flags is not None]
    odd = [pair for pair in flagged if (pair[0].vm_flags or 0) ^ _known_flags(pair[1])]
    return Agreement(
        pid,
        len(kernel),
        len(ours),
        len(equal),
        len(flagged),
        len(flagged) - len(odd),
        first[1].text if first is not None and first[1] is not None else "",
        format_vma(first[2]) if first is not None and first[2] is not None else "",
        _flags_text(*odd[0]) if odd else "",
    )


def same(line: Line, vma: Vma) -> bool:
    """Whether a VMA is that line."""
    return (
        (line.start, line.end) == (vma.start, vma.end)
        and line.permissions == _permissions(vma)
        and line.offset == vma.offset_bytes
        and vma.name.removesuffix(" (deleted)") in (line.name, UNKNOWN_NAME)
    )


def _overlapping(line: Line, vmas: Iterable[Vma]) -> Vma | None:
    return next((vma for vma in vmas if vma.start < line.end and vma.end > line.start), None)


def _permissions(vma: Vma) -> str:
    return format_vma(vma).split(" ", 2)[1]


def _known_flags(vma: Vma) -> int:
    return vma.vm_flags & _COMPARED_FLAGS


def _flags_text(line: Line, vma: Vma) -> str:
    odd = (line.vm_flags or 0) ^ _known_flags(vma)
    words = [
        f"{'+' if (line.vm_flags or 0) & flag else '-'}{word}"
        for word, flag in _MNEMONICS.items()
        if odd & flag
    ]
    return f"{' '.join(words)} in the kernel at {line.text}"

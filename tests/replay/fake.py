"""Simulated spaces without a server: enough of Linux for what tests ask of them.

Areas are pages in a dictionary; alike neighbours are one VMA, so it merges more than Linux.
Places are top-down, without guards and boundaries of 2 MiB.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from forkstorm.maps import Vma
from forkstorm.messages import File
from forkstorm.replay import maps

PAGE = 4096
MMAP_BASE = 0x7F0000000000
STACKS = 0x7FF000000000
MAY = 0x70
# (vm_flags, offset or 0, name)
Page = tuple[int, int, str]


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def pages(addr: int, length: int) -> range:
    return range(addr, addr + length, PAGE)


def is_file(name: str) -> bool:
    return name.startswith(("/", maps.UNKNOWN_NAME))


@dataclass(eq=False)
class FakeSpace:
    machine: FakeMachine
    mmap_base: int = MMAP_BASE
    brk: int = 0x1000000
    pages: dict[int, Page] = field(default_factory=dict)
    writes: list[int] = field(default_factory=list)

    def map(
        self, addr: int, length: int, prot: int, flags: int, file: File | None, offset: int
    ) -> int:
        self.machine.calls += 1
        if not flags & 0x20 and file is None:
            raise refuse(errno.EBADF)
        if length == 0:
            raise refuse(errno.EINVAL)
        if not flags & 0x10:
            addr = self._place(self._up(length))
        bits = prot & 7 | MAY | (0x88 if flags & 0xF == 1 else 0)
        name = file.path.decode() if file is not None else ""
        for page in pages(addr, length):
            self.pages[page] = (bits, offset + page - addr if is_file(name) else 0, name)
        return addr

    def unmap(self, addr: int, length: int) -> None:
        for page in pages(addr, length):
            self.pages.pop(page, None)

    def protect(self, addr: int, length: int, prot: int) -> None:
        for page in pages(addr, length):
            if page not in self.pages:
                raise refuse(errno.ENOMEM)
            bits, offset, name = self.pages[page]
            self.pages[page] = (bits & ~7 | prot, offset, name)

    def remap(self, addr: int, old_length: int, new_length: int, flags: int, new_addr: int) -> int:
        if addr not in self.pages:
            raise refuse(errno.EFAULT)
        bits, offset, name = self.pages[addr]
        self.unmap(addr, old_length)
        file = File(path=name.encode()) if name else None
        kind = (1 if bits & 8 else 2) | (0 if name else 0x20) | (0x10 if flags & 2 else 0)
        return self.map(new_addr, new_length, bits & 7, kind, file, offset)

    def advise(self, addr: int, length: int, advice: int) -> None:
        if any(page not in self.pages for page in pages(addr, length)):
            raise refuse(errno.ENOMEM)

    def set_break(self, addr: int) -> int:
        top = self._up(self.brk)
        if addr > self.brk and any(page in self.pages for page in pages(top, addr - top)):
            return self.brk
        if addr:
            self.unmap(self._up(addr), top - self._up(addr))
            for page in pages(top, addr - top):
                self.pages[page] = (3 | MAY, 0, "[heap]")
            self.brk = addr
        return self.brk

    def write(self, addr: int) -> None:
        below = next((self.pages[p] for p in sorted(self.pages) if p > addr), None)
        if addr not in self.pages and below is not None and below[2] == "[stack]":
            first = min(p for p in self.pages if p > addr)
            self.pages.update((page, below) for page in pages(addr, first - addr))
        self.writes.append(addr)

    def fork(self) -> FakeSpace:
        child = FakeSpace(self.machine, self.mmap_base, self.brk, dict(self.pages))
        self.machine.spaces.append(child)
        self.machine.alive += 1
        return child

    def vmas(self) -> list[Vma]:
        found: list[Vma] = []
        for page, (bits, offset, name) in sorted(self.pages.items()):
            last = found[-1] if found else None
            if (
                last is not None
                and (last.end, last.vm_flags, last.name) == (page, bits, name)
                and (not is_file(name) or last.offset_bytes + page - last.start == offset)
            ):
                found[-1] = last._replace(end=page + PAGE)
            else:
                found.append(Vma(page, page + PAGE, bits, offset, name, 0, 0, 0))
        return found

    def exit(self) -> None:
        self.machine.alive -= 1

    def _place(self, length: int) -> int:
        """The end of the highest gap that is long enough, less the length."""
        end = self.mmap_base
        for page in sorted((page for page in self.pages if page < end), reverse=True):
            if page + PAGE + length <= end:
                break
            end = page
        return end - length

    @staticmethod
    def _up(addr: int) -> int:
        return -(-addr // PAGE) * PAGE


@dataclass
class FakeMachine:
    #: All that were ever made.
    spaces: list[FakeSpace] = field(default_factory=list)
    alive: int = 0
    calls: int = 0

    def create(
        self, maps_text: bytes, *, mmap_base: int | None = None, start_brk: int | None = None
    ) -> FakeSpace:
        space = FakeSpace(self, mmap_base or MMAP_BASE, start_brk or 0x1000000)
        self.spaces.append(space)
        self.alive += 1
        for line in maps.read(maps_text) if maps_text else []:
            bits = MAY | sum(1 << at for at in range(3) if line.permissions[at] != "-")
            bits |= 0x88 if line.permissions[3] == "s" else 0
            for page in pages(line.start, line.end - line.start):
                offset = line.offset + page - line.start if is_file(line.name) else 0
                space.pages[page] = (bits, offset, line.name)
            if line.end < STACKS and mmap_base is None:
                space.mmap_base = line.end
        return space

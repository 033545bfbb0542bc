"""The core as a simulation of the kernel: an arena of its own, one fork strategy."""

from __future__ import annotations

import os
import tempfile
from types import TracebackType

from forkstormd.core.arena import Arena
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import Strategy, VmaSpec

from .calls import (
    ANON,
    FILES,
    PAGE,
    SHARED_ANON,
    SPECIAL,
    VM_FLAGS,
    WRITE,
    Area,
    Call,
    Outcome,
    Start,
)

_COMPARED = sum(VM_FLAGS.values())
_ARENA_BYTES = 256 << 20
_CHUNK = 256  # VMAs read at once


class CoreSimulation:
    """One family of spaces, the processes of a sequence. A context manager."""

    def __init__(self, strategy: Strategy) -> None:
        self.strategy = strategy
        self._folder = tempfile.TemporaryDirectory(prefix="forkstorm-kernel-", dir="/dev/shm")
        self._arena: Arena | None = None
        self._spaces: list[int] = []
        self.files: list[int] = []
        self._numbers: dict[int, int] = {}

    def __enter__(self) -> CoreSimulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        self._folder.cleanup()

    def begin(self, start: Start) -> None:
        # A new arena: what was written to a file stays in it for as long as the arena is there.
        self._close()
        path = os.path.join(self._folder.name, "arena")
        self._arena = Arena.create(path, _ARENA_BYTES, max_spaces=64, lanes=4)
        self.mm = MemoryManager(self._arena, 1)
        self.files = [
            self.mm.intern_file(
                FILES[file.same_as].name.encode(),
                inode=1 + file.same_as,
                open_id=1 + number,
                access=file.readable | file.writable << 1,
                thp_aligned=aligned,
            )
            for number, (file, aligned) in enumerate(zip(FILES, start.thp_aligned, strict=True))
        ]
        special = self.mm.intern_file(b"the executor")
        self._numbers = {name: number for number, name in enumerate(self.files)}
        self._numbers[special] = SPECIAL
        vmas = [
            VmaSpec(a.start, a.end, a.flags, a.offset, special if a.file == SPECIAL else 0)
            for a in start.areas
        ]
        self._spaces = [self.mm.create(start.params, vmas, brk=start.brk).value]
        # exec has written to the stack.
        self.mm.touch(self._spaces[0], start.areas[-1].end - PAGE, WRITE)

    def run(self, call: Call) -> Outcome:
        mm, mm_id, args = self.mm, self._spaces[call.process], call.args
        try:
            match call.name:
                case "map":
                    file = 0
                    if args[4] >= 0:
                        file = self.files[args[4]]
                    found = mm.map(mm_id, *args[:4], file=file, offset=args[5])
                case "unmap":
                    found = mm.unmap(mm_id, args[0], args[1])
                case "protect":
                    found = mm.protect(mm_id, args[0], args[1], args[2])
                case "remap":
                    found = mm.remap(mm_id, args[0], args[1], args[2], args[3], args[4])
                case "advise":
                    found = mm.advise(mm_id, args[0], args[1], args[2])
                case "brk":
                    found = mm.set_break(mm_id, args[0])
                case "touch":
                    found = mm.touch(mm_id, args[0] & -PAGE, args[1], args[2])
                case "fork":
                    self._spaces.append(mm.fork(mm_id, self.strategy).child)
                    return Outcome(len(self._spaces) - 1)
                case _:
                    mm.exit(mm_id)
                    self._spaces[call.process] = 0
                    return Outcome()
        except CoreError as error:
            return Outcome(0, error.errno)
        return Outcome(found.value)

    def space_of(self, process: int) -> int:
        """The id of a process's space."""
        return self._spaces[process]

    def living(self) -> list[int]:
        """The processes that have not exited."""
        return [number for number, space in enumerate(self._spaces) if space]

    def maps(self, process: int) -> list[Area]:
        areas: list[Area] = []
        with self.mm.snapshot(self._spaces[process]) as snapshot:
            while True:
                columns = snapshot.read(_CHUNK)
                for start, end, flags, offset, name in zip(*columns, strict=True):
                    file = self._number(name)
                    shown = 0 if file == ANON else offset
                    areas.append(Area(start, end, flags & _COMPARED, shown, file))
                if len(columns[0]) < _CHUNK:
                    return areas

    def end(self) -> list[str]:
        """What verify finds wrong in any space; then they are ended and nothing may be left."""
        living = [space for space in self._spaces if space]
        wrong = [text for space in living for text in self.mm.verify(space)]
        for space in living:
            self.mm.exit(space)
        self._spaces = []
        audit = self.mm.audit()
        left = (
            audit.allocated_nodes - audit.reachable_nodes,
            audit.page_table_count - audit.reachable_page_tables,
            audit.object_count - audit.reachable_objects,
            audit.extent_blocks,
            audit.allocated_records,
            audit.reachable_page_tables,
            audit.charged_pages,
        )
        return [*wrong, f"left behind: {audit}"] if any(left) else wrong

    def _number(self, name: int) -> int:
        """Area.file for a snapshot's name: 0 none, 1 the heap, 2 the stack, else 2 + a file.

        Shared anonymous memory has an object of its own in the place of a file.
        """
        if name <= 2:
            return ANON
        return self._numbers.get(name - 2, SHARED_ANON)

    def _close(self) -> None:
        if self._arena:
            self.mm.close()
            self._arena.close()
            self._arena.unlink()
        self._arena = None
        self._spaces = []

"""The naive model of the specification (tests/core/model.py) as a simulation of the kernel."""

from __future__ import annotations

from ..core import model
from .calls import (
    ANON,
    FILE_BYTES,
    FILES,
    PAGE,
    SHARED_ANON,
    SPECIAL,
    VM_FLAGS,
    VM_GROWSDOWN,
    WRITE,
    Area,
    Call,
    Outcome,
    Start,
)

_COMPARED = sum(VM_FLAGS.values())
_SPECIAL = len(FILES) + 1  # the id of what is not a file of ours; a file's is its number + 1


class ModelSimulation:
    """One family of spaces, the processes of a sequence."""

    def __init__(self) -> None:
        self._spaces: list[model.Space] = []

    def begin(self, start: Start) -> None:
        files = {_SPECIAL: model.File()}
        for number, (file, aligned) in enumerate(zip(FILES, start.thp_aligned, strict=True)):
            access = file.readable | file.writable << 1
            first = files.get(file.same_as + 1)
            pages: dict[int, int] = first.pages if first else {}
            files[number + 1] = model.File(
                access, aligned, pages, FILE_BYTES // PAGE, knows_sync=not file.on_tmpfs
            )
        space = model.Space(start.params, model.Family(files))
        space.vmas = [
            model.Vma(
                area.start,
                area.end,
                area.flags,
                _SPECIAL if area.file == SPECIAL else 0,
                (area.offset if area.file == SPECIAL else area.start) // PAGE,
            )
            for area in start.areas
        ]
        space.brk = start.brk
        for area in start.areas:
            if area.flags & VM_GROWSDOWN:
                # The stack has been written to, and has its anon_vma.
                space.touch(area.end - PAGE, WRITE)
        self._spaces = [space]

    def run(self, call: Call) -> Outcome:
        space, args = self._spaces[call.process], call.args
        value = 0
        try:
            match call.name:
                case "map":
                    addr, length, prot, flags, file, offset = args
                    value = space.map(addr, length, prot, flags, file + 1, offset)
                case "unmap":
                    space.unmap(*args)
                case "protect":
                    space.protect(*args)
                case "remap":
                    value = space.remap(*args)
                case "advise":
                    space.advise(*args)
                case "brk":
                    value = space.set_break(*args)
                case "touch":
                    value = space.touch(*args)
                case "fork":
                    self._spaces.append(space.fork())
                    value = len(self._spaces) - 1
                case _:
                    space.exit()
        except model.Errno as error:
            return Outcome(0, error.number)
        return Outcome(value)

    def maps(self, process: int) -> list[Area]:
        return [self._area(vma) for vma in self._spaces[process].vmas]

    def end(self) -> list[str]:
        """What is out of order in the lists: the model's only invariant."""
        return [
            f"process {number}: {lower} and {upper} are not in order"
            for number, space in enumerate(self._spaces)
            for lower, upper in zip(space.vmas, space.vmas[1:], strict=False)
            if not lower.start < lower.end <= upper.start
        ]

    @staticmethod
    def _area(vma: model.Vma) -> Area:
        file = SHARED_ANON if vma.file < 0 else vma.file - 1
        if vma.file == _SPECIAL:
            file = SPECIAL
        offset = 0 if file == ANON else vma.pgoff * PAGE
        return Area(vma.start, vma.end, vma.flags & _COMPARED, offset, file)

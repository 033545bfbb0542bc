"""One process's memory: each call of the trace done again, its result checked, and put right.

After a call whose result differs, the space is brought to what the trace says, as far as it can
be, so that one difference is counted once: the address in the trace is the truth.

Calls that overlap. strace tells when a call began and ended, not when it took effect. Such a mmap
is tried at its beginning and again after each call of another thread; where the address first
is that of the trace, it is taken to have happened there. At its end, calls that have begun and tell
nothing by their result (munmap, mprotect ...) are done first, one by one, before it counts
as different.

Writes. No trace shows them, but the first one gives an area its anon_vma, on which merges depend. A
thread is taken to write to what it has made writable before its next call on that memory, and
before a fork; but not where that call takes it away again from its beginning on, as guard pages are
made.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from typing import NamedTuple

from forkstorm.constants import PAGE_SIZE, MapFlag, Prot
from forkstorm.messages import File
from forkstorm.replay.calls import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    Advise,
    Map,
    MemoryCall,
    Protect,
    Remap,
    SetBreak,
    Unmap,
)
from forkstorm.replay.maps import UNKNOWN_NAME
from forkstorm.replay.space import Space
from forkstorm.replay.strace import Call

_FIXED_NOREPLACE = int(MapFlag.FIXED_NOREPLACE)
_PLACED = MAP_FIXED | _FIXED_NOREPLACE
_PRIVATE_TYPES = (int(MapFlag.PRIVATE), int(MapFlag.DROPPABLE))
_MAP_TYPE = 0xF
_WRITE = int(Prot.WRITE)
_READ_WRITE = int(Prot.READ | Prot.WRITE)
# Above all that a trace opens.
_SUPPOSED_OPEN_ID = 1 << 32


class Outcome(NamedTuple):
    """What a call came to: a value, or an errno that is not 0."""

    value: int
    error: int

    def __str__(self) -> str:
        if self.error:
            return errno.errorcode.get(self.error, str(self.error))
        return f"{self.value:#x}" if self.value else "0"


class Difference(NamedTuple):
    """A call that came to something else."""

    line: int
    pid: int
    #: As strace prints it.
    call: str
    recorded: str
    replayed: str
    #: Calls of other threads ran at the same time: perhaps only their order is not known.
    overlapped: bool

    def __str__(self) -> str:
        overlapped = " (other threads' calls overlap it)" if self.overlapped else ""
        return (
            f"line {self.line}: {self.call} = {self.recorded} in the trace, "
            f"{self.replayed} in the replay{overlapped}"
        )


class Attempt(NamedTuple):
    """A call to be replayed."""

    call: Call
    request: MemoryCall
    recorded: Outcome
    file: File | None


def recorded_outcome(call: Call) -> Outcome | None:
    """What the trace says; None when it does not, or names an error that no space has."""
    if call.result is None:
        return None
    if not call.error:
        return Outcome(call.result, 0)
    number: int | None = getattr(errno, call.error, None)
    # Of the file system, or of a signal.
    if number in (None, errno.ENODEV, errno.ENFILE, errno.EINTR, errno.ETXTBSY):
        return None
    return Outcome(0, number or 0)


class Memory:
    """A space, and the calls of its threads that have begun.

    complete: all that is mapped at the beginning is known. Otherwise what successful calls need and
    no call has made is supposed to have been there. touch: what becomes writable is written to.
    """

    def __init__(self, space: Space, *, complete: bool, touch: bool) -> None:
        self.space = space
        #: Areas that were supposed.
        self.supposed_count = 0
        self._complete = complete
        self._touch = touch
        self._pending: dict[int, Attempt] = {}
        self._done: set[int] = set()
        # Thread and range of what is writable and not yet written to.
        self._unwritten: list[tuple[int, int, int]] = []
        self._brk = 0

    def fork(self) -> Memory:
        """A child's memory."""
        self.settle()
        child = Memory(self.space.fork(), complete=self._complete, touch=self._touch)
        child._brk = self._brk
        return child

    def begin(self, attempt: Attempt) -> None:
        """A call that other calls will overlap."""
        self.settle(attempt)
        self._pending[attempt.call.line] = attempt
        self._try_pending()

    def pending(self, call: Call) -> Attempt | None:
        """The attempt of a call that has begun."""
        return self._pending.get(call.line)

    def end(self, attempt: Attempt) -> list[Difference]:
        """A call that has ended: the differences, of this and of calls done before it."""
        line = attempt.call.line
        self.settle(attempt)
        self._pending.pop(line, None)
        if line in self._done:
            self._done.remove(line)
            return []
        outcome = self._perform(attempt)
        earlier: list[Difference] = []
        for other in list(self._pending.values()):
            if outcome == attempt.recorded:
                break
            if not _is_placed_by_kernel(other) and _undo(self.space, attempt, outcome):
                self._done.add(other.call.line)
                earlier += self._check(other, self._perform(other), overlapped=True)
                outcome = self._perform(attempt)
        overlapped = attempt.call.begun < line
        differences = [*earlier, *self._check(attempt, outcome, overlapped=overlapped)]
        self._try_pending()
        return differences

    def write(self, addr: int) -> None:
        """A write fault, where one is possible and wanted."""
        if self._touch:
            with contextlib.suppress(OSError):
                self.space.write(addr)

    def settle(self, following: Attempt | None = None) -> None:
        """Writes to what is writable and not yet written to: of the following call's thread.

        Without a following call: of all threads.
        """
        waiting = []
        for pid, start, end in self._unwritten:
            if following is not None and following.call.pid != pid:
                waiting.append((pid, start, end))
            elif following is None or (kept := _still_writable(following, start)) == start:
                self.write(start)
            elif kept < end:
                waiting.append((pid, kept, end))
        self._unwritten = waiting

    def grow_stack(self, start: int) -> None:
        """Faults below the stack, down to where it then starts."""
        with contextlib.suppress(OSError):
            self.space.write(start)

    def _try_pending(self) -> None:
        """Does the mmaps that have begun and would now come to what the trace says."""
        for line, attempt in self._pending.items():
            if line in self._done or not _is_placed_by_kernel(attempt):
                continue
            outcome = self._perform(attempt)
            if outcome == attempt.recorded:
                self._done.add(line)
                self._note_writable(attempt)
            else:
                _undo(self.space, attempt, outcome)

    def _check(self, attempt: Attempt, outcome: Outcome, *, overlapped: bool) -> list[Difference]:
        """Compares, and puts the space right."""
        call, request, recorded, _ = attempt
        if outcome.error and not recorded.error and not self._complete and self._suppose(request):
            outcome = self._perform(attempt)
        differences = []
        if outcome != recorded:
            text = f"{call.name}({', '.join(call.arguments)})"
            differences.append(
                Difference(call.line, call.pid, text, str(recorded), str(outcome), overlapped)
            )
            self._put_right(attempt, outcome)
        if not recorded.error:
            self._note_writable(attempt)
        return differences

    def _perform(self, attempt: Attempt) -> Outcome:
        try:
            return Outcome(self._call(attempt.request, attempt.file), 0)
        except OSError as error:
            return Outcome(0, error.errno or 0)

    def _call(self, request: MemoryCall, file: File | None) -> int:
        space = self.space
        match request:
            case Map(addr, length, prot, flags, _, offset):
                return space.map(addr, length, prot, flags, file, offset)
            case Remap(addr, old_length, new_length, flags, new_addr):
                return space.remap(addr, old_length, new_length, flags, new_addr)
            case SetBreak(addr):
                return space.set_break(addr)
            case Unmap(addr, length):
                space.unmap(addr, length)
            case Protect(addr, length, prot):
                space.protect(addr, length, prot)
            case Advise(addr, length, advice):
                space.advise(addr, length, advice)
        return 0

    def _put_right(self, attempt: Attempt, outcome: Outcome) -> None:
        """Brings the space to what the trace says, as far as possible."""
        request, recorded = attempt.request, attempt.recorded
        with contextlib.suppress(OSError):
            if recorded.error or isinstance(request, Map):
                _undo(self.space, attempt, outcome)
            if recorded.error:
                return
            match request:
                case Map():
                    flags = request.flags & ~_FIXED_NOREPLACE | MAP_FIXED
                    fixed = request._replace(addr=recorded.value, flags=flags)
                    self._call(fixed, attempt.file)
                case Remap():
                    self._put_moved_right(attempt, outcome)
                case SetBreak():
                    top = _page_up(outcome.value)
                    if recorded.value > top:
                        self.space.unmap(top, _page_up(recorded.value) - top)
                    self.space.set_break(recorded.value)
                case Protect() | Advise():
                    if outcome.error and self._suppose(request):
                        self._call(request, None)
                case Unmap():
                    pass

    def _put_moved_right(self, attempt: Attempt, outcome: Outcome) -> None:
        request, recorded = attempt.request, attempt.recorded
        assert isinstance(request, Remap)
        if outcome.error and self._suppose(request):
            outcome = self._perform(attempt)
        if not outcome.error and outcome.value != recorded.value:
            length, flags = request.new_length, MREMAP_MAYMOVE | MREMAP_FIXED
            self.space.remap(outcome.value, length, length, flags, recorded.value)

    def _suppose(self, request: MemoryCall) -> bool:
        """Maps what a successful call must have found mapped; whether anything was missing."""
        if isinstance(request, Protect | Advise):
            start, end = request.addr, _page_up(request.addr + request.length)
        elif isinstance(request, Remap):
            start, end = request.addr, _page_up(request.addr + request.old_length)
        else:
            return False
        before = self.supposed_count
        for low, high in list(self._holes(start, end)):
            self.supposed_count += 1
            file = File(path=UNKNOWN_NAME.encode(), open_id=_SUPPOSED_OPEN_ID + self.supposed_count)
            flags = int(MapFlag.PRIVATE) | MAP_FIXED
            self.space.map(low, high - low, _READ_WRITE, flags, file, 0)
            self.write(low)
        return self.supposed_count > before

    def _holes(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        at = start
        for vma in self.space.vmas():
            if vma.end > at and vma.start < end:
                if vma.start > at:
                    yield at, vma.start
                at = vma.end
        if at < end:
            yield at, end

    def _note_writable(self, attempt: Attempt) -> None:
        """Notes what a successful call has made writable."""
        request, value = attempt.request, attempt.recorded.value
        match request:
            case Map(_, length, prot, flags, _, _):
                if prot & _WRITE and flags & _MAP_TYPE in _PRIVATE_TYPES:
                    self._unwritten.append((attempt.call.pid, value, value + length))
            case Protect(addr, length, prot):
                if prot & _WRITE and length:
                    self._unwritten.append((attempt.call.pid, addr, addr + length))
            case SetBreak():
                if self._brk and value > _page_up(self._brk):
                    self._unwritten.append((attempt.call.pid, _page_up(self._brk), value))
                self._brk = value
            case _:
                pass


def _is_placed_by_kernel(attempt: Attempt) -> bool:
    """Whether the address in the trace tells when a call took effect."""
    request = attempt.request
    return isinstance(request, Map) and not request.flags & _PLACED and not attempt.recorded.error


def _still_writable(attempt: Attempt, start: int) -> int:
    """What was writable from `start` on is so, after the call, from here on."""
    match attempt.request:
        case Protect(addr, length, prot) if not prot & _WRITE:
            taken = addr, addr + length
        case Unmap(addr, length):
            taken = addr, addr + length
        case Map(addr, length, _, flags, _, _) if flags & MAP_FIXED:
            taken = addr, addr + length
        case _:
            return start
    return _page_up(taken[1]) if taken[0] <= start < taken[1] else start


def _undo(space: Space, attempt: Attempt, outcome: Outcome) -> bool:
    """Takes back what a call did, if that is possible."""
    request = attempt.request
    if outcome.error:
        return True
    if isinstance(request, Map) and not request.flags & MAP_FIXED:
        space.unmap(outcome.value, request.length)
        return True
    if isinstance(request, Remap) and request.new_length > request.old_length > 0:
        if outcome.value == request.addr:
            space.remap(request.addr, request.new_length, request.old_length, 0, 0)
            return True
        if not request.flags & MREMAP_FIXED:
            length, flags = request.old_length, MREMAP_MAYMOVE | MREMAP_FIXED
            space.remap(outcome.value, request.new_length, length, flags, request.addr)
            return True
    return False


def is_of_file(request: MemoryCall) -> bool:
    """Whether a call maps a file."""
    return isinstance(request, Map) and not request.flags & MAP_ANONYMOUS


def _page_up(addr: int) -> int:
    return -(-addr // PAGE_SIZE) * PAGE_SIZE

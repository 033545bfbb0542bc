"""Replays a trace: its processes and threads, and which memory each of them has.

A fork has a space of its own; threads, vfork and whatever else shares memory (CLONE_VM) do not. An
exec begins a new space, from a text of maps that fits it, or from what its own calls tell: the
first brk and where the first mmap went.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from forkstorm.constants import PAGE_SIZE
from forkstorm.replay import calls as c
from forkstorm.replay import maps
from forkstorm.replay.files import Descriptors, Placing
from forkstorm.replay.memory import Attempt, Memory, is_of_file, recorded_outcome
from forkstorm.replay.order import moments
from forkstorm.replay.report import Report
from forkstorm.replay.space import Machine
from forkstorm.replay.strace import Call, Ended, Superseded, Trace

#: Stands for the first process of a trace.
FIRST_PROCESS = 0

# How far above a program its heap begins at most (arch_randomize_brk), generously.
_HEAP_DISTANCE_MAX = 4 << 30
_MEMORY_CALLS = (c.Map, c.Unmap, c.Protect, c.Remap, c.Advise, c.SetBreak)


@dataclass(frozen=True)
class Texts:
    """Texts of /proc/PID/maps or smaps by process; FIRST_PROCESS for the trace's first."""

    start: Mapping[int, bytes] = field(default_factory=dict)
    final: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(eq=False)
class _Process:
    pid: int
    descriptors: Descriptors
    threads: set[int]
    #: None until its first call of memory.
    memory: Memory | None = None


def replay(trace: Trace, machine: Machine, texts: Texts, *, touch: bool = True) -> Report:
    """Replays a whole trace. O(calls), each at the cost of its call.

    touch: private memory is written to as soon as it is writable, which gives it an anon_vma; no
    trace shows faults. ValueError for a text that is none. Spaces that an error leaves behind are
    the machine's.
    """
    replayer = _Replayer(trace, machine, texts, touch)
    replayer.run()
    return replayer.report


class _Replayer:
    def __init__(self, trace: Trace, machine: Machine, texts: Texts, touch: bool) -> None:
        self.report = Report(trace.line_count, trace.unreadable_line_count)
        self.report.first_unreadable_line = trace.first_unreadable_line
        self._machine = machine
        self._touch = touch
        self._start = {pid: (text, maps.read(text)) for pid, text in texts.start.items()}
        self._final = {pid: maps.read(text) for pid, text in texts.final.items()}
        self._placing = Placing()
        for lines in [lines for _, lines in self._start.values()] + list(self._final.values()):
            self._placing.learn(lines)
        self._moments = moments(trace)
        self._calls: defaultdict[int, list[Call]] = defaultdict(list)
        for event in trace.events:
            if isinstance(event, Call):
                self._calls[event.pid].append(event)
        # By thread. Threads that have gone may still have lines.
        self._threads: dict[int, _Process] = {}
        self._gone: set[int] = set()
        self._users: Counter[Memory] = Counter()
        self._first: _Process | None = None

    def run(self) -> None:
        for event, begins in self._moments:
            match event:
                case Call():
                    self._take_call(event, begins)
                case Ended(_, pid):
                    self._end_thread(pid)
                case Superseded(_, pid, by):
                    self._supersede(pid, by)
        for process in set(self._threads.values()):
            self._end_process(process)
        self.report.unused_texts = len(self._start) + len(self._final)

    # --- threads and processes ------------------------------------------------------------

    def _process(self, pid: int) -> _Process | None:
        """Of a thread; None when it has gone."""
        process = self._threads.get(pid)
        if process is None and pid not in self._gone:
            process = self._adopt(pid)
        return process

    def _adopt(self, pid: int) -> _Process:
        """The process of a thread that no call in the trace has made.

        It belongs to the first process, which strace was attached to, unless maps are given for it.
        """
        first = self._first
        if first is not None and first.threads and pid not in self._start:
            process = first
            process.threads.add(pid)
        else:
            process = _Process(pid, Descriptors(self._placing), {pid})
            self.report.process_count += 1
        if first is None:
            self._first = process
            if FIRST_PROCESS in self._start:
                self._start[pid] = self._start.pop(FIRST_PROCESS)
            if FIRST_PROCESS in self._final:
                self._final[pid] = self._final.pop(FIRST_PROCESS)
        self._threads[pid] = process
        return process

    def _end_thread(self, pid: int) -> None:
        process = self._threads.get(pid)
        if process is None:
            return
        if process.threads == {pid}:
            self._end_process(process)
        else:
            self._forget(process, pid)

    def _forget(self, process: _Process, pid: int) -> None:
        process.threads.discard(pid)
        self._threads.pop(pid, None)
        self._gone.add(pid)

    def _supersede(self, pid: int, by: int) -> None:
        """The thread `by` executes a program and becomes the leader."""
        process = self._threads.get(by)
        if process is not None:
            for thread in list(process.threads):
                self._forget(process, thread)
            process.threads = {pid}
            self._threads[pid] = process

    def _end_process(self, process: _Process) -> None:
        final = self._final.pop(process.pid, None)
        memory = process.memory
        if final is not None:
            self.report.agreements.append(self._compare(process.pid, memory, final))
        for thread in list(process.threads):
            self._forget(process, thread)
        self._leave(process)

    def _compare(self, pid: int, memory: Memory | None, final: list[maps.Line]) -> maps.Agreement:
        if memory is None:
            return maps.compare(pid, final, [])
        memory.settle()
        vmas = memory.space.vmas()
        for line in final:
            # Faults below the stack make it grow, and no trace shows faults.
            grown = any(
                vma.name == line.name == "[stack]"
                and vma.end == line.end
                and vma.start > line.start
                for vma in vmas
            )
            if grown:
                self.report.grown_stacks += 1
                memory.grow_stack(line.start)
                vmas = memory.space.vmas()
        return maps.compare(pid, final, vmas)

    def _leave(self, process: _Process) -> None:
        """The process has its memory no longer; nobody: it ends."""
        memory, process.memory = process.memory, None
        if memory is None:
            return
        self._users[memory] -= 1
        if not self._users[memory]:
            del self._users[memory]
            self.report.supposed_count += memory.supposed_count
            memory.space.exit()

    # --- calls ----------------------------------------------------------------------------

    def _take_call(self, call: Call, begins: bool) -> None:
        process = self._process(call.pid)
        if process is None:
            return
        try:
            request = c.request_of(call)
        except c.Unreadable as error:
            if not begins:
                self.report.unreadable_calls.append(str(error))
            return
        if isinstance(request, _MEMORY_CALLS):
            self._take_memory_call(process, call, request, begins)
        elif not begins:
            self._take_other(process, call, request)

    def _take_memory_call(
        self, process: _Process, call: Call, request: c.MemoryCall, begins: bool
    ) -> None:
        memory = self._memory(process, call)
        attempt = memory.pending(call)
        if attempt is None:
            recorded = recorded_outcome(call)
            if recorded is None:
                self.report.ignored[call.name] += not begins
                return
            file = None
            if is_of_file(request):
                assert isinstance(request, c.Map)
                file = process.descriptors.file_of(request, call.error)
            attempt = Attempt(call, request, recorded, file)
        if begins:
            memory.begin(attempt)
            return
        self.report.call_count += 1
        self.report.differences += memory.end(attempt)

    def _take_other(self, process: _Process, call: Call, request: c.Request) -> None:
        descriptors = process.descriptors
        match request:
            case c.Exit(whole_process):
                if whole_process:
                    self._end_process(process)
                else:
                    self._end_thread(call.pid)
            case c.Ignored(may_change_maps):
                counter = self.report.unreplayed if may_change_maps else self.report.ignored
                counter[call.name] += 1
            case _ if call.result is None or call.error:
                return
            case c.Clone():
                self._clone(process, call, request)
            case c.Exec():
                self._exec(process, call)
            case c.Open(path, access):
                shown = c.descriptor(f"{call.result}<{call.path}>").path if call.path else path
                descriptors.opened(call.result, shown, access)
            case c.Duplicate(descriptor):
                descriptors.duplicated(descriptor.number, call.result)
            case c.Close(descriptor):
                descriptors.closed(descriptor.number)
            case _:
                return

    def _clone(self, process: _Process, call: Call, request: c.Clone) -> None:
        child_pid = call.result or 0
        self._gone.discard(child_pid)
        if request.same_process:
            process.threads.add(child_pid)
            self._threads[child_pid] = process
            return
        memory = process.memory
        if not request.shares_memory:
            memory = self._memory(process, call).fork()
            self.report.fork_count += 1
            if child_pid not in self._calls:
                # strace did not follow it.
                memory.space.exit()
                return
        descriptors = process.descriptors
        if not request.shares_descriptors:
            descriptors = descriptors.copy()
        child = _Process(child_pid, descriptors, {child_pid}, memory)
        if memory is not None:
            self._users[memory] += 1
        self._threads[child_pid] = child
        self.report.process_count += 1

    def _exec(self, process: _Process, call: Call) -> None:
        for thread in process.threads - {call.pid}:
            self._forget(process, thread)
        self._leave(process)
        process.memory = self._new_memory(process.pid, call.line + 1)
        self._users[process.memory] += 1
        self.report.exec_count += 1

    # --- the beginning of a memory --------------------------------------------------------

    def _memory(self, process: _Process, call: Call) -> Memory:
        if process.memory is None:
            process.memory = self._new_memory(process.pid, call.begun)
            self._users[process.memory] += 1
        return process.memory

    def _new_memory(self, pid: int, line: int) -> Memory:
        """The memory whose first call is at that line or later."""
        brk = self._first_break(pid, line)
        given = self._start.get(pid)
        if given is not None and _fits(given[1], brk):
            del self._start[pid]
            return self._known_memory(*given, brk)
        self.report.guessed_count += 1
        space = self._machine.create(b"", mmap_base=self._first_end(pid, line), start_brk=brk)
        return Memory(space, complete=False, touch=self._touch)

    def _known_memory(self, text: bytes, lines: list[maps.Line], brk: int | None) -> Memory:
        has_heap = any(line.name == "[heap]" for line in lines)
        space = self._machine.create(text, start_brk=None if has_heap else brk)
        if has_heap and brk is not None:
            # maps tell it in pages only.
            space.set_break(brk)
        memory = Memory(space, complete=True, touch=self._touch)
        for line in lines:
            if line.permissions.startswith("rw") and line.permissions.endswith("p"):
                memory.write(line.end - PAGE_SIZE if line.name == "[stack]" else line.start)
        return memory

    def _calls_of(self, pid: int, line: int) -> Iterator[Call]:
        """The calls of a process's first thread from a line on, up to its next exec."""
        listed = self._calls[pid]
        at = bisect_left(listed, line, key=lambda call: call.line)
        for call in listed[at:]:
            if call.name in ("execve", "execveat") and not call.error:
                return
            yield call

    def _first_break(self, pid: int, line: int) -> int | None:
        """Where the heap ends at the beginning: what the first brk says, if it only asks."""
        for call in self._calls_of(pid, line):
            if call.name == "brk":
                return call.result if call.arguments in (("NULL",), ("0",), ("0x0",)) else None
        return None

    def _first_end(self, pid: int, line: int) -> int | None:
        """Where the first mapping that the kernel placed ends: all below is free."""
        for call in self._calls_of(pid, line):
            if call.name == "mmap" and not call.error and call.result:
                try:
                    request = c.request_of(call)
                except c.Unreadable:
                    continue
                if isinstance(request, c.Map) and not request.addr:
                    return -(-(call.result + request.length) // PAGE_SIZE) * PAGE_SIZE
        return None


def _fits(lines: list[maps.Line], brk: int | None) -> bool:
    """Whether a text may be of the program whose heap begins, or ends, there.

    Programs lie at random addresses, their heaps behind them.
    """
    if brk is None:
        return True
    return any(
        line.start <= brk <= line.end
        if line.name == "[heap]"
        else 0 <= brk - line.end <= _HEAP_DISTANCE_MAX
        for line in lines
    )

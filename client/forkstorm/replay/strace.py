"""The text that strace writes, as events.

Read is what `strace -f` writes with -o, -t, -tt, -ttt, -r, -T, -y, -yy and -Y, and what it writes
to a terminal: lines such as

    1234  12:00:01.5 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3</etc/x>, 0) = 0x7f0000000000 <0.1>
    [pid 1234] clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>
    [pid 1234] <... clone resumed>) = 1235
    1235  --- SIGCHLD {si_signo=SIGCHLD, ...} ---
    1235  +++ exited with 0 +++

A call that was cut in two is one event, at the line where it ended. A line without a pid belongs to
the only process that is alive. Lines that are none of this are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Call:
    """A system call of one thread."""

    #: Line numbers from 1: where the call ended, and where it began.
    line: int
    begun: int
    pid: int
    name: str
    #: As strace prints them.
    arguments: tuple[str, ...]
    #: None where strace says "?", or the trace ends before the call does.
    result: int | None
    #: The errno's name, "" for none.
    error: str
    #: Of a descriptor as the result, with `strace -y`: its path as strace escapes it.
    path: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A thread exited or was killed."""

    line: int
    pid: int


@dataclass(frozen=True, slots=True)
class Superseded:
    """The thread `by` executed a program and goes on under the number `pid` of its leader."""

    line: int
    pid: int
    by: int


Event = Call | Ended | Superseded


@dataclass
class Trace:
    """A whole trace: events in the order of their lines."""

    events: list[Event] = field(default_factory=list)
    line_count: int = 0
    #: Lines that are nothing of strace's, and the first of them.
    unreadable_line_count: int = 0
    first_unreadable_line: int = 0


_PREFIX = re.compile(
    r"(?:\[pid\s+(?P<bracketed>\d+)(?:<[^>]*>)?\]|(?P<plain>\d+)(?:<[^>]*>)?(?=\s+\D|\s+\d+[:.]))?\s*"
    r"(?:(?:\d{1,2}:\d\d:\d\d(?:\.\d+)?|\d+\.\d+|\(\+\s*\d+\.\d+\))\s+)*"
)
_BEGIN = re.compile(r"(?P<name>[a-z_][a-z0-9_]*)\(")
_RESUMED = re.compile(r"<\.\.\. \S+ resumed>")
_UNFINISHED = re.compile(r"<unfinished \.\.\.>$")
_RESULT = re.compile(
    r"\s*=\s(?P<value>\?|0x[0-9a-f]+|-?\d+)(?:<(?P<path>.*?)>(?=\s|\(|$))?"
    r"(?:\s+(?P<error>E[A-Z0-9]+))?(?P<rest>.*)$"
)
_THEIR_PID = re.compile(r"/\* (\d+) in strace's PID NS \*/")
_ENDED = re.compile(r"\+\+\+ (?:exited with|killed by)")
_SUPERSEDED = re.compile(r"\+\+\+ superseded by execve in pid (\d+)")
_ATTACHED = re.compile(r"(?:strace: )?Process (\d+) (attached|detached)")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def parse(lines: Iterable[str]) -> Trace:
    """The events of a trace. O(characters)."""
    parser = _Parser()
    for line in lines:
        parser.take(line)
    return parser.finish()


def split_arguments(text: str) -> tuple[tuple[str, ...], int]:
    """The arguments from behind the opening parenthesis, and where the closing one is.

    The place is -1 when there is none. Commas within strings, structures, comments and the paths
    of descriptors do not part arguments. O(characters).
    """
    arguments: list[str] = []
    closing: list[str] = []
    start = at = 0
    while at < len(text):
        character = text[at]
        if character == '"':
            at = _end_of_string(text, at)
        elif text.startswith("/*", at):
            end = text.find("*/", at + 2)
            at = end + 1 if end >= 0 else at
        elif character == "<" and at and (text[at - 1].isdigit() or text[:at].endswith("AT_FDCWD")):
            at = _end_of_path(text, at)
        elif character in _CLOSING:
            closing.append(_CLOSING[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == ")" and not closing:
            last = text[start:at].strip()
            return (*arguments, last) if last or arguments else (), at
        elif character == "," and not closing:
            arguments.append(text[start:at].strip())
            start = at + 1
        at += 1
    last = text[start:].strip()
    return (*arguments, last) if last or arguments else (), -1


def _end_of_string(text: str, at: int) -> int:
    """Where the string that begins at `at` has its closing quote."""
    at += 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at


def _end_of_path(text: str, at: int) -> int:
    """Where the bracket at `at` is closed: strace escapes brackets in paths, sockets have ->."""
    depth = 0
    for here in range(at, len(text)):
        if text[here] == "<" and text[here : here + 2] != "<<":
            depth += 1
        elif text[here] == ">" and text[here - 1] != "-":
            depth -= 1
            if not depth:
                return here
    # "1<<20", not a path.
    return at + 1 if text.startswith("<<", at) else at


class _Parser:
    def __init__(self) -> None:
        self._trace = Trace()
        # By thread: the line and text of a call that has not ended.
        self._unfinished: dict[int, tuple[int, str, str]] = {}
        # For lines without a pid.
        self._alive: list[int] = []

    def take(self, text: str) -> None:
        trace = self._trace
        trace.line_count += 1
        text = text.rstrip()
        if not text.strip():
            return
        prefix = _PREFIX.match(text)
        rest = text[prefix.end() :] if prefix is not None else text
        if attached := _ATTACHED.match(rest):
            self._attach(int(attached[1]), attached[2] == "attached")
            return
        given = (prefix["bracketed"] or prefix["plain"]) if prefix is not None else None
        pid = self._pid(int(given) if given else None)
        if not self._take_event(pid, rest):
            trace.unreadable_line_count += 1
            trace.first_unreadable_line = trace.first_unreadable_line or trace.line_count

    def finish(self) -> Trace:
        """The trace; a call that never ended comes last, without a result."""
        for pid, (begun, name, text) in sorted(self._unfinished.items(), key=lambda one: one[1][0]):
            arguments, _ = split_arguments(text)
            call = Call(self._trace.line_count, begun, pid, name, arguments, None, "")
            self._trace.events.append(call)
        return self._trace

    def _attach(self, pid: int, attached: bool) -> None:
        if attached and pid not in self._alive:
            self._alive.append(pid)
        elif not attached and pid in self._alive:
            self._alive.remove(pid)

    def _pid(self, given: int | None) -> int:
        if given is not None:
            if given not in self._alive:
                # The first process had no number while it was alone.
                if self._alive == [0] or (0 in self._alive and len(self._alive) == 2):
                    self._rename(0, given)
                else:
                    self._alive.append(given)
            return given
        if not self._alive:
            self._alive.append(0)
        return self._alive[0]

    def _rename(self, old: int, new: int) -> None:
        self._alive[self._alive.index(old)] = new
        if old in self._unfinished:
            self._unfinished[new] = self._unfinished.pop(old)
        self._trace.events = [
            _with_pid(event, new) if event.pid == old else event for event in self._trace.events
        ]

    def _take_event(self, pid: int, text: str) -> bool:
        line = self._trace.line_count
        if text.startswith("---"):
            return True
        if text.startswith("+++"):
            return self._take_end(pid, text)
        if text.startswith("<... "):
            resumed = _RESUMED.match(text)
            begun = self._unfinished.pop(pid, None)
            if resumed is None or begun is None:
                return False
            return self._take_call(pid, begun[0], begun[1], begun[2] + text[resumed.end() :])
        begin = _BEGIN.match(text)
        if begin is None:
            return False
        return self._take_call(pid, line, begin["name"], text[begin.end() :])

    def _take_call(self, pid: int, begun: int, name: str, text: str) -> bool:
        if unfinished := _UNFINISHED.search(text):
            self._unfinished[pid] = (begun, name, text[: unfinished.start()])
            return True
        arguments, end = split_arguments(text)
        result = _RESULT.match(text, end + 1) if end >= 0 else None
        if result is None:
            return False
        value = None if result["value"] == "?" else int(result["value"], 0)
        if value is not None and (theirs := _THEIR_PID.search(result["rest"])):
            value = int(theirs[1])
        line, error, path = self._trace.line_count, result["error"] or "", result["path"] or ""
        self._trace.events.append(Call(line, begun, pid, name, arguments, value, error, path))
        return True

    def _take_end(self, pid: int, text: str) -> bool:
        line = self._trace.line_count
        if superseded := _SUPERSEDED.match(text):
            by = int(superseded[1])
            self._trace.events.append(Superseded(line, pid, by))
            # The execve that `by` began ends under the leader's number.
            if by in self._unfinished:
                self._unfinished[pid] = self._unfinished.pop(by)
            self._attach(by, False)
            return True
        if _ENDED.match(text):
            self._unfinished.pop(pid, None)
            self._trace.events.append(Ended(line, pid))
            self._attach(pid, False)
            return True
        return False


def _with_pid(event: Event, pid: int) -> Event:
    return replace(event, pid=pid)

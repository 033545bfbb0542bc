"""When the calls of a trace took effect.

A line of strace says when a call ended. A call that was cut in two by other threads' lines took
effect somewhere between its two halves; a fork before the first line of its child, which may stand
above its own second half.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from typing import NamedTuple

from forkstorm.replay.strace import Call, Event, Trace

_FORKS = {"clone", "clone3", "fork", "vfork"}


class Moment(NamedTuple):
    """An event at its place. `begins`: the first half of a call that ends at a later moment."""

    event: Event
    begins: bool


def moments(trace: Trace) -> list[Moment]:
    """The events in the order in which to replay them. O(n log n)."""
    first_lines: defaultdict[int, list[int]] = defaultdict(list)
    for event in trace.events:
        first_lines[event.pid].append(event.begun if isinstance(event, Call) else event.line)
    for lines in first_lines.values():
        lines.sort()
    placed: list[tuple[float, Moment]] = []
    for event in trace.events:
        place: float = event.line
        if isinstance(event, Call) and event.begun < event.line:
            if event.name in _FORKS:
                place = _before_child(event, first_lines)
            else:
                placed.append((event.begun, Moment(event, begins=True)))
        placed.append((place, Moment(event, begins=False)))
    placed.sort(key=lambda one: one[0])
    return [moment for _, moment in placed]


def _before_child(fork: Call, first_lines: dict[int, list[int]]) -> float:
    """The place of a fork: its line, or just before its child's first."""
    lines = first_lines.get(fork.result or 0, [])
    at = bisect_left(lines, fork.begun)
    if at < len(lines) and lines[at] < fork.line:
        return lines[at] - 0.5
    return fork.line

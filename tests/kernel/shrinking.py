"""A failing sequence made short: delta debugging over its calls, then simpler arguments.

Calls name processes by the order of forks; when a fork is left out, the calls of its child and
of the child's children go with it and the later processes are numbered anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .calls import PAGE, Call

Fails = Callable[[Sequence[Call]], bool]


def shrink(calls: Sequence[Call], fails: Fails, seconds: float = 30.0) -> list[Call]:
    """A short sequence that still fails; calls must. Stops after about that many seconds."""
    end = time.monotonic() + seconds

    def failing(candidate: Sequence[Call]) -> bool:
        return time.monotonic() < end and fails(candidate)

    left = _fewer(list(calls), failing)
    while True:
        before = list(left)
        left = _simpler(left, failing)
        left = _fewer(left, failing)
        if left == before:
            return left


def without(calls: Sequence[Call], first: int, count: int) -> list[Call]:
    """The calls but for some of them, and what follows from their absence."""
    kept: list[Call] = []
    number: dict[int, int | None] = {0: 0}
    old_next, new_next = 1, 1
    for index, call in enumerate(calls):
        process = number.get(call.process)
        dropped = first <= index < first + count or process is None
        if call.name == "fork":
            number[old_next] = None if dropped else new_next
            old_next += 1
            new_next += not dropped
        if not dropped and process is not None:
            kept.append(call._replace(process=process))
    return kept


def _fewer(calls: list[Call], fails: Fails) -> list[Call]:
    size = max(1, len(calls) // 2)
    while True:
        index = len(calls) - size
        removed = False
        while index > -size:
            candidate = without(calls, max(0, index), size)
            if len(candidate) < len(calls) and fails(candidate):
                calls, removed = candidate, True
            index -= size
            index = min(index, len(calls) - 1)
        if size == 1 and not removed:
            return calls
        size = max(1, size // 2)


def _simpler(calls: list[Call], fails: Fails) -> list[Call]:
    """Each argument by a smaller one, where the sequence fails still."""
    for index, call in enumerate(calls):
        for which, value in enumerate(call.args):
            for smaller in _smaller(call.name, which, value):
                args = (*calls[index].args[:which], smaller, *calls[index].args[which + 1 :])
                changed = calls[index]._replace(args=args)
                candidate = [*calls[:index], changed, *calls[index + 1 :]]
                if fails(candidate):
                    calls = candidate
                    break
    return calls


def _smaller(name: str, which: int, value: int) -> list[int]:
    """Simpler values to try, the simplest first."""
    lengths = {"map": (1,), "unmap": (1,), "protect": (1,), "remap": (1, 2), "advise": (1,)}
    if which in lengths.get(name, ()):
        tries = [PAGE, 2 * PAGE, value // 2 & -PAGE]
        if value <= 16 * PAGE:
            tries.append(value - PAGE)
        return [smaller for smaller in tries if 0 < smaller < value]
    if name == "touch" and which == 2:
        return [1] if value != 1 else []
    if name == "map" and which == 5 and value:
        return [0]
    if name == "map" and which == 2:
        return [prot for prot in (0, 1, 3) if prot < value]
    return []


def as_test(calls: Sequence[Call], privileged: bool, comment: str) -> str:
    """A pytest function to paste into test_kernel.py."""
    lines = [f"def test_{_name(calls)}(replay: Replay) -> None:"]
    lines += [f"    # {line}" for line in comment.splitlines()]
    lines.append("    replay(")
    for call in calls:
        args = "".join(f", {_number(call, which)}" for which in range(len(call.args)))
        lines.append(f'        ({call.process}, "{call.name}"{args}),')
    if not privileged:
        lines.append("        privileged=False,")
    lines.append("    )")
    return "\n".join(lines) + "\n"


def _name(calls: Sequence[Call]) -> str:
    return "_".join(call.name for call in calls[-4:])


def _number(call: Call, which: int) -> str:
    value = call.args[which]
    return hex(value) if value > 9 else str(value)

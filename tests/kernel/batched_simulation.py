"""The core with its calls in batches: the same answers as one by one, and the same maps.

What comes next depends on the answers before, so calls cannot wait for each other. They are made
one by one, and at the end of the sequence once more in another arena, where all that one process
did in a row is one batch.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby
from types import TracebackType

from forkstormd.core.apply import OPERATIONS_MAX, Batch
from forkstormd.core.types import Strategy

from .calls import PAGE, Area, Call, Outcome, Start
from .core_simulation import CoreSimulation

_KINDS = {"map": 1, "unmap": 2, "protect": 3, "advise": 4, "remap": 5, "brk": 6, "touch": 7}
_ACCESS = {0: 1, 1: 2}  # TouchAccess of the API
Made = tuple[Call, Outcome]


class BatchedSimulation:
    """As CoreSimulation; what is other in batches is told by end()."""

    def __init__(self, strategy: Strategy) -> None:
        self._single = CoreSimulation(strategy)
        self._batched = CoreSimulation(strategy)
        self._made: list[Made] = []

    def __enter__(self) -> BatchedSimulation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._single.__exit__(kind, error, trace)
        self._batched.__exit__(kind, error, trace)

    def begin(self, start: Start) -> None:
        self._single.begin(start)
        self._batched.begin(start)
        self._made = []

    def run(self, call: Call) -> Outcome:
        outcome = self._single.run(call)
        self._made.append((call, outcome))
        return outcome

    def maps(self, process: int) -> list[Area]:
        return self._single.maps(process)

    def end(self) -> list[str]:
        wrong = [text for group in self._groups() for text in self._again(group)]
        for process in self._single.living():
            if not wrong and self._single.maps(process) != self._batched.maps(process):
                wrong.append(f"in batches, process {process} has another map")
        return wrong + self._single.end() + self._batched.end()

    def _groups(self) -> Iterator[list[Made]]:
        """Forks and exits by themselves, else what one process did in a row."""

        def key(made: Made) -> tuple[int, bool]:
            return made[0].process, made[0].name in _KINDS

        for (_, is_operation), group in groupby(self._made, key):
            calls = list(group)
            size = OPERATIONS_MAX if is_operation else 1
            for at in range(0, len(calls), size):
                yield calls[at : at + size]

    def _again(self, group: Sequence[Made]) -> Iterator[str]:
        if group[0][0].name not in _KINDS:
            outcomes = [self._batched.run(group[0][0])]
        else:
            outcomes = self._apply([call for call, _ in group])
        for (call, expected), outcome in zip(group, outcomes, strict=True):
            if outcome != expected:
                yield f"{call}: {expected}, in a batch {outcome}"

    def _apply(self, calls: Sequence[Call]) -> list[Outcome]:
        rows = [self._words(call) for call in calls]
        columns = [struct.pack(f"<{len(rows)}Q", *column) for column in zip(*rows, strict=True)]
        batch = Batch(
            bytes(_KINDS[call.name] for call in calls), columns, self._batched.files, True
        )
        answer = self._batched.mm.apply(self._batched.space_of(calls[0].process), batch)
        values = list(struct.unpack(f"<{answer.performed}Q", answer.results))
        outcomes = [Outcome(value) for value in values]
        for index in answer.failed:
            outcomes[index] = Outcome(0, (1 << 64) - values[index])
        return outcomes

    def _words(self, call: Call) -> tuple[int, ...]:
        args = list(call.args)
        if call.name == "map":
            args[4] = args[4] + 1 if args[4] >= 0 else 0
        elif call.name == "touch":
            args = [args[0] & -PAGE, _ACCESS[args[1]], args[2]]
        return (*args, *(0,) * (6 - len(args)))

"""What a replay found, as text for people and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from forkstorm.replay.maps import Agreement
from forkstorm.replay.memory import Difference


@dataclass
class Report:
    """Counts, differences in the order of the trace, and the agreement of maps."""

    line_count: int
    unreadable_line_count: int
    first_unreadable_line: int = 0
    #: Calls that were replayed and checked.
    call_count: int = 0
    process_count: int = 0
    fork_count: int = 0
    exec_count: int = 0
    #: Spaces that began without a text of maps, and areas they were supposed to have.
    guessed_count: int = 0
    supposed_count: int = 0
    #: Stacks that were as large as the final maps say.
    grown_stacks: int = 0
    #: Texts of maps that no process of the trace fits.
    unused_texts: int = 0
    differences: list[Difference] = field(default_factory=list)
    unreadable_calls: list[str] = field(default_factory=list)
    #: By name: calls that change no maps, and calls that may and were not replayed.
    ignored: Counter[str] = field(default_factory=Counter)
    unreplayed: Counter[str] = field(default_factory=Counter)
    agreements: list[Agreement] = field(default_factory=list)

    @property
    def agrees(self) -> bool:
        """Whether every result and every final map is the kernel's."""
        return not self.differences and all(one.complete for one in self.agreements)

    def as_json(self) -> str:
        """One object; addresses are in the texts."""
        first = self.differences[0] if self.differences else None
        counts = {
            name: value for name, value in vars(self).items() if isinstance(value, int | Counter)
        }
        return json.dumps(
            {
                "agrees": self.agrees,
                **counts,
                "difference_count": len(self.differences),
                "first_difference": first._asdict() if first is not None else None,
                "unreadable_call_count": len(self.unreadable_calls),
                "final_maps": [
                    {**one._asdict(), "complete": one.complete} for one in self.agreements
                ],
            },
            indent=2,
        )

    def lines(self, shown: int = 1) -> Iterator[str]:
        """The report for people; `shown`: how many differences."""
        same = self.call_count - len(self.differences)
        yield (
            f"{self.call_count} calls of {self.process_count} processes "
            f"({self.fork_count} forks, {self.exec_count} execs): "
            f"{same} as in the trace, {len(self.differences)} different"
        )
        for number, difference in enumerate(self.differences[:shown], 1):
            yield f"difference {number}: {difference}"
        for agreement in self.agreements:
            yield from _agreement_lines(agreement)
        yield from self._remarks()

    def _remarks(self) -> Iterator[str]:
        if self.guessed_count:
            yield (
                f"{self.guessed_count} spaces began without maps; {self.supposed_count} areas "
                "were supposed to be there because calls on them succeeded"
            )
        if self.grown_stacks:
            yield "the stack was grown to what the final maps say: traces do not show faults"
        if self.ignored:
            yield f"not of the map: {_counted(self.ignored)}"
        if self.unreplayed:
            yield f"not replayed, though maps may change by it: {_counted(self.unreplayed)}"
        if self.unreadable_calls:
            yield f"{len(self.unreadable_calls)} calls unreadable: {self.unreadable_calls[0]}"
        if self.unreadable_line_count:
            yield (
                f"{self.unreadable_line_count} of {self.line_count} lines are not strace's, "
                f"the first is line {self.first_unreadable_line}"
            )
        if self.unused_texts:
            yield f"{self.unused_texts} texts of maps fit no process of the trace"


def _agreement_lines(one: Agreement) -> Iterator[str]:
    flags = ""
    if one.flagged_count:
        flags = f"; VmFlags equal in {one.flags_equal_count} of {one.flagged_count}"
    extra = one.replay_vma_count - one.equal_count
    more = f", {extra} more in the replay" if extra else ""
    yield (
        f"final maps of {one.pid}: {one.equal_count} of {one.kernel_vma_count} VMAs are equal"
        f"{more}{flags}"
    )
    if one.first_kernel or one.first_replay:
        yield f"  first difference, kernel: {one.first_kernel or 'nothing'}"
        yield f"                    replay: {one.first_replay or 'nothing'}"
    if one.first_flags:
        yield f"  first other flags: {one.first_flags}"


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in names.most_common())

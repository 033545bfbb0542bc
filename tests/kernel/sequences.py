"""Sequences of calls, asked of the kernel and of simulations at the same time.

After every call its result or errno and the whole map of the process that made it must agree
with each simulation's; at the end the maps of all processes. The first that does not is a
Disagreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from traceback import format_exc

from .calls import PAGE, Area, Call, Outcome, Simulation, Start, normalised
from .generator import Generator, harmless, own_memory
from .machine import Kernel, Machine

SIGBUS = 5  # EIO: the executor's errno for it
MANY = 10_000  # pages of a stripe from which on maps are compared only now and then
NextCall = Callable[[dict[int, list[Area]]], Call | None]


@dataclass(frozen=True)
class Disagreement:
    """Where a simulation was other than the kernel: after the last of calls."""

    calls: tuple[Call, ...]
    privileged: bool
    simulation: str
    what: str

    def __str__(self) -> str:
        last = self.calls[-1] if self.calls else "no call"
        return f"{self.simulation} is not as the kernel after {last}:\n{self.what}"


@dataclass
class Totals:
    """What has been compared: calls by name, and their errnos (0: success)."""

    calls: Counter[str] = field(default_factory=Counter)
    errnos: Counter[tuple[str, int]] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return self.calls.total()

    def add(self, name: str, errno: int) -> None:
        self.calls[name] += 1
        self.errnos[name, errno] += 1


def simulate(simulation: Simulation, call: Call) -> Outcome:
    """Run a call; a stripe is the protect calls that it stands for."""
    if call.name != "stripe":
        return simulation.run(call)
    addr, pages, prot = call.args
    protects = (
        Call(call.process, "protect", (addr + page * PAGE, PAGE, prot))
        for page in range(1, pages, 2)
    )
    return Outcome(sum(simulation.run(protect).errno != 0 for protect in protects))


def run_generated(
    machine: Machine,
    simulations: Mapping[str, Simulation],
    seed: int,
    totals: Totals | None = None,
    *,
    kind: str | None = None,
    calls: int = 0,
) -> Disagreement | None:
    """One sequence drawn from a seed. Odd seeds have no privileges."""
    privileged = seed % 2 == 0
    kernel, start = machine.start(privileged)
    with kernel:
        generator = Generator(seed, start, kind, calls)
        left = generator.plan.calls

        def next_call(areas: dict[int, list[Area]]) -> Call | None:
            nonlocal left
            left -= 1
            return generator.next_call(areas) if left >= 0 else None

        run = _Run(
            kernel,
            start,
            simulations,
            Totals() if totals is None else totals,
            generator.plan.maps_every,
        )
        return run.all(next_call, privileged)


def run_calls(
    machine: Machine,
    simulations: Mapping[str, Simulation],
    calls: Sequence[Call],
    privileged: bool = True,
    totals: Totals | None = None,
) -> Disagreement | None:
    """A given sequence; calls of processes that do not live are left out."""
    kernel, start = machine.start(privileged)
    with kernel:
        own = own_memory(start)
        left = iter(calls)
        large = any(call.name == "stripe" and call.args[1] >= MANY for call in calls)

        def next_call(areas: dict[int, list[Area]]) -> Call | None:
            return next((c for c in left if c.process in areas and harmless(c, own)), None)

        run = _Run(
            kernel, start, simulations, Totals() if totals is None else totals, 40 if large else 1
        )
        return run.all(next_call, privileged)


class _Run:
    def __init__(
        self,
        kernel: Kernel,
        start: Start,
        simulations: Mapping[str, Simulation],
        totals: Totals,
        maps_every: int,
    ) -> None:
        self._kernel, self._simulations, self._totals = kernel, simulations, totals
        self._maps_every = maps_every
        for simulation in simulations.values():
            simulation.begin(start)

    def all(self, next_call: NextCall, privileged: bool) -> Disagreement | None:
        made: list[Call] = []
        found: tuple[str, str] | None = None
        while found is None:
            areas = {process: self._kernel.areas(process) for process in self._kernel.processes()}
            call = next_call(areas)
            if call is None:
                found = self._compare_all()
                break
            made.append(call)
            with_map = len(made) % self._maps_every == 0 or call.name == "fork"
            outcome = self._kernel.run(call, with_map)
            if call.name == "touch" and outcome.errno == SIGBUS:
                return None
            self._totals.add(call.name, outcome.errno)
            found = self._compare(call, outcome, with_map)
        if found is None:
            return None
        return Disagreement(tuple(made), privileged, *found)

    def _compare(self, call: Call, outcome: Outcome, with_map: bool) -> tuple[str, str] | None:
        for name, simulation in self._simulations.items():
            try:
                simulated = simulate(simulation, call)
                if simulated != outcome:
                    return name, f"the kernel answers {outcome}, {name} {simulated}"
                if call.name == "exit" or not with_map:
                    continue
                forked = call.name == "fork" and not outcome.errno
                if what := self._difference(outcome.value if forked else call.process, name):
                    return name, what
            except Exception:
                return name, f"the kernel answers {outcome}, {name} raises\n{format_exc()}"
        return None

    def _compare_all(self) -> tuple[str, str] | None:
        for process in self._kernel.processes():
            self._kernel.look(process)
            for name in self._simulations:
                if what := self._difference(process, name):
                    return name, f"at the end, {what}"
        for name, simulation in self._simulations.items():
            if wrong := simulation.end():
                return name, "at the end, " + "\n".join(wrong)
        return None

    def _difference(self, process: int, name: str) -> str:
        """The first difference between two maps, as text; empty where there is none."""
        real = self._kernel.areas(process)
        simulated = self._simulations[name].maps(process)
        if real == simulated:
            return ""
        simulated = normalised(simulated)
        if real == simulated:
            return ""
        ours, theirs = set(simulated), set(real)
        lines = [f"  kernel: {area}" for area in real if area not in ours]
        lines += [f"  {name}: {area}" for area in simulated if area not in theirs]
        return f"the map of process {process}\n" + "\n".join(lines[:20])

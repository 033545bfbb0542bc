"""A second process of the same kernel in the place of a simulation, to test the harness."""

from __future__ import annotations

from .calls import Area, Call, Outcome, Start
from .machine import Kernel, Machine


class Twin:
    """Answers as the kernel does. With a lie, unmap of several pages leaves the last one.

    Files are the same as the other process's: it changes them first, in the same way.
    """

    def __init__(self, machine: Machine, lies: bool = False) -> None:
        self._machine = machine
        self._lies = lies
        self._kernel: Kernel | None = None

    def begin(self, start: Start) -> None:
        self.close()
        self._kernel = self._machine.start(start.params.privileged)[0]

    def close(self) -> None:
        if self._kernel:
            self._kernel.close()
        self._kernel = None

    def run(self, call: Call) -> Outcome:
        if self._lies and call.name == "unmap" and call.args[1] > 0x1000:
            call = call._replace(args=(call.args[0], call.args[1] - 0x1000))
        return self._running().run(call)

    def maps(self, process: int) -> list[Area]:
        return self._running().look(process)

    def end(self) -> list[str]:
        self.close()
        return []

    def _running(self) -> Kernel:
        if self._kernel is None:
            raise RuntimeError("begin() comes first")
        return self._kernel

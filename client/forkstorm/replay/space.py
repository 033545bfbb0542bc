"""What a replay needs of simulated address spaces, and the same from a Forkstorm server.

A refusal of the simulated kernel is an OSError with its errno.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from forkstorm.client import AddressSpace, Client
from forkstorm.constants import TouchAccess
from forkstorm.errors import ForkstormError
from forkstorm.maps import Vma
from forkstorm.messages import File, SpaceParameters, Strategy

# Spaces that are left behind by a replay that was killed end by themselves.
_TTL_S = 3600.0


class Space(Protocol):
    """One simulated address space; the calls are Linux's."""

    def map(
        self, addr: int, length: int, prot: int, flags: int, file: File | None, offset: int
    ) -> int:
        """mmap(2): the address."""
        ...

    def unmap(self, addr: int, length: int) -> None:
        """munmap(2)."""
        ...

    def protect(self, addr: int, length: int, prot: int) -> None:
        """mprotect(2)."""
        ...

    def remap(self, addr: int, old_length: int, new_length: int, flags: int, new_addr: int) -> int:
        """mremap(2): the address."""
        ...

    def advise(self, addr: int, length: int, advice: int) -> None:
        """madvise(2)."""
        ...

    def set_break(self, addr: int) -> int:
        """brk(2): the break as it then is."""
        ...

    def write(self, addr: int) -> None:
        """A write to the page at an address."""
        ...

    def fork(self) -> Space:
        """fork(2): the child."""
        ...

    def vmas(self) -> list[Vma]:
        """All VMAs, ascending."""
        ...

    def exit(self) -> None:
        """Ends the space."""
        ...


class Machine(Protocol):
    """Where spaces are made."""

    def create(
        self, maps_text: bytes, *, mmap_base: int | None = None, start_brk: int | None = None
    ) -> Space:
        """A space from the text of /proc/PID/maps or smaps, empty without any.

        None leaves mmap_base and start_brk to the text and to Linux's defaults.
        """
        ...


class ServiceMachine:
    """Spaces on a Forkstorm server. A context manager that ends all that were made."""

    def __init__(self, client: Client, strategy: Strategy = None) -> None:
        self.client = client
        self.strategy = strategy
        self._alive: dict[int, ServiceSpace] = {}

    def __enter__(self) -> ServiceMachine:
        return self

    def __exit__(self, *_: object) -> None:
        for space in list(self._alive.values()):
            with contextlib.suppress(ForkstormError):
                space.exit()

    def create(
        self, maps_text: bytes, *, mmap_base: int | None = None, start_brk: int | None = None
    ) -> ServiceSpace:
        """Machine.create."""
        params = SpaceParameters(mmap_base=mmap_base, start_brk=start_brk)
        return self.add(self.client.create(maps_text, params=params, ttl_s=_TTL_S))

    def add(self, space: AddressSpace) -> ServiceSpace:
        """A space that ends with the machine."""
        return self._alive.setdefault(space.id, ServiceSpace(self, space))

    def remove(self, space: AddressSpace) -> None:
        """Forgets a space that is ending."""
        self._alive.pop(space.id, None)


class ServiceSpace:
    """A space on the server."""

    def __init__(self, machine: ServiceMachine, space: AddressSpace) -> None:
        self._machine = machine
        self._space = space
        self.unmap = space.unmap
        self.protect = space.protect
        self.remap = space.remap
        self.advise = space.advise
        self.set_break = space.set_break
        self.vmas = space.vmas

    def map(
        self, addr: int, length: int, prot: int, flags: int, file: File | None, offset: int
    ) -> int:
        """mmap(2): the address."""
        return self._space.map(length, prot, flags, addr=addr, file=file, offset=offset)

    def write(self, addr: int) -> None:
        """A write to the page at an address."""
        self._space.touch(addr, TouchAccess.WRITE, 1)

    def fork(self) -> ServiceSpace:
        """fork(2): the child."""
        result = self._space.fork(self._machine.strategy, ttl_s=_TTL_S)
        return self._machine.add(result.child)

    def exit(self) -> None:
        """Ends the space."""
        self._machine.remove(self._space)
        self._space.exit()

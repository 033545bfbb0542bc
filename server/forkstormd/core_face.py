"""The core as the server uses it, typed: it is compiled, and declares little by itself.

These protocols say what the docstrings of forkstormd.core say. Everything above the core gets its
arenas, memory managers and request tables here.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, cast

from forkstormd.core import arena as arenas
from forkstormd.core import dedupe as dedupes
from forkstormd.core import mm as managers
from forkstormd.core.types import (
    Audit,
    FileInfo,
    ForkResult,
    OpResult,
    SpaceInfo,
    SpaceParams,
    VmaInfo,
    VmaSpec,
    Work,
)


class Arena(Protocol):
    """arena.Arena."""

    @property
    def path(self) -> str: ...

    @property
    def instance_id(self) -> str: ...

    @property
    def build(self) -> str: ...

    def usage(self) -> dict[str, int]: ...

    def counter(self, i: int, /) -> int: ...

    def add_counter(self, i: int, n: int, /) -> None: ...

    def unlink(self) -> None: ...

    def close(self) -> None: ...


class Ticket(Protocol):
    """A request id that is being served (dedupe.Ticket)."""

    replay: bytes | None

    def done(self, answer: bytes) -> None: ...

    def abandon(self) -> None: ...


class Dedupe(Protocol):
    """dedupe.Dedupe."""

    def begin(self, request_id: bytes, payload_hash: int) -> Ticket: ...


class Snapshot(Protocol):
    """mm.Snapshot."""

    info: SpaceInfo

    def __enter__(self) -> Snapshot: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def read(
        self, limit: int
    ) -> tuple[array[int], array[int], array[int], array[int], array[int]]: ...


class Spaces(Protocol):
    """mm.MemoryManager."""

    def close(self) -> None: ...

    def create(
        self,
        params: SpaceParams,
        vmas: Sequence[VmaSpec],
        *,
        brk: int = 0,
        start_stack: int = 0,
        labels: bytes = b"",
        expires_ns: int = 0,
        request: Ticket | None = None,
    ) -> OpResult: ...

    def fork(
        self,
        mm_id: int,
        strategy: int,
        *,
        labels: bytes = b"",
        expires_ns: int = 0,
        with_phases: bool = False,
        deadline_ns: int = 0,
        request: Ticket | None = None,
    ) -> ForkResult: ...

    def exit(
        self, mm_id: int, *, deadline_ns: int = 0, request: Ticket | None = None
    ) -> OpResult: ...

    def map(
        self,
        mm_id: int,
        addr: int,
        length: int,
        prot: int,
        flags: int,
        *,
        file: int = 0,
        offset: int = 0,
        deadline_ns: int = 0,
        request: Ticket | None = None,
    ) -> OpResult: ...

    def unmap(
        self,
        mm_id: int,
        addr: int,
        length: int,
        *,
        deadline_ns: int = 0,
        request: Ticket | None = None,
    ) -> OpResult: ...

    def find_vma(
        self, mm_id: int, addr: int, *, deadline_ns: int = 0
    ) -> tuple[VmaInfo | None, OpResult]: ...

    def find_gap(
        self,
        mm_id: int,
        length: int,
        low: int,
        high: int,
        bottom_up: bool,
        *,
        deadline_ns: int = 0,
    ) -> OpResult: ...

    def repeat_fork(
        self, mm_id: int, strategy: int, count: int, *, deadline_ns: int = 0
    ) -> tuple[array[int], int, Work]: ...

    def info(self, mm_id: int) -> SpaceInfo: ...

    def list(self, after_slot: int, limit: int) -> Sequence[SpaceInfo]: ...

    def snapshot(self, mm_id: int, *, deadline_ns: int = 0) -> Snapshot: ...

    def intern_file(
        self,
        path: bytes,
        dev_major: int,
        dev_minor: int,
        inode: int,
        open_id: int = 0,
        access: int = 3,
    ) -> int: ...

    def file_info(self, file: int) -> FileInfo: ...

    def expired(self, now_ns: int, limit: int) -> Sequence[int]: ...

    def audit(self) -> Audit: ...

    def verify(self, mm_id: int) -> Sequence[str]: ...


def create_arena(path: str, capacity_bytes: int, max_spaces: int, lanes: int) -> Arena:
    """Make an arena file and map it. ArenaError when that fails."""
    made = arenas.Arena.create(path, capacity_bytes, max_spaces=max_spaces, lanes=lanes)
    return cast(Arena, made)


def attach_arena(path: str) -> Arena:
    """Map an existing arena. ArenaError when that fails."""
    return cast(Arena, arenas.Arena.attach(path))


def default_capacity(folder: str, configured: int | None) -> int:
    """The arena's size in bytes: what is configured, but no more than the machine has to spare."""
    return arenas.default_capacity(folder, configured)


def memory_manager(arena: Arena, lanes: int) -> Spaces:
    """This process's access to the spaces, for as many threads as lanes. CoreError EAGAIN when
    the arena has no more lanes."""
    return cast(Spaces, managers.MemoryManager(arena, lanes))


def request_table(arena: Arena, mm: Spaces) -> Dedupe:
    """This process's access to the table of request ids."""
    return cast(Dedupe, dedupes.Dedupe(arena, mm))

"""The core's compiled classes as this package uses them, for the type checkers.

forkstormd.core compiles to C and declares little; these protocols say what its docstrings say.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

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

    def list(self, after_slot: int, limit: int) -> list[SpaceInfo]: ...

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

    def audit(self) -> Audit: ...

    def verify(self, mm_id: int) -> list[str]: ...

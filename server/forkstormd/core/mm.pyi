import builtins
from array import array
from collections.abc import Iterable

from forkstormd.core.apply import Batch
from forkstormd.core.arena import Arena
from forkstormd.core.dedupe import Ticket
from forkstormd.core.snapshot import Snapshot
from forkstormd.core.types import (
    ApplyResult,
    Audit,
    FileInfo,
    ForkFault,
    ForkResult,
    OpResult,
    SpaceInfo,
    SpaceParams,
    VmaInfo,
    VmaSpec,
    Work,
)

class MemoryManager:
    def __init__(self, arena: Arena, lanes: int) -> None: ...
    @property
    def arena(self) -> Arena: ...
    @property
    def shard(self) -> int: ...
    def close(self) -> None: ...
    def create(
        self,
        params: SpaceParams | None = None,
        vmas: Iterable[VmaSpec] = (),
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
        fault: ForkFault | None = None,
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
    def protect(
        self,
        mm_id: int,
        addr: int,
        length: int,
        prot: int,
        *,
        deadline_ns: int = 0,
        request: Ticket | None = None,
    ) -> OpResult: ...
    def advise(
        self,
        mm_id: int,
        addr: int,
        length: int,
        advice: int,
        *,
        deadline_ns: int = 0,
        request: Ticket | None = None,
    ) -> OpResult: ...
    def remap(
        self,
        mm_id: int,
        addr: int,
        old_length: int,
        new_length: int,
        flags: int,
        new_addr: int = 0,
        *,
        deadline_ns: int = 0,
        request: Ticket | None = None,
    ) -> OpResult: ...
    def set_break(
        self,
        mm_id: int,
        addr: int,
        *,
        deadline_ns: int = 0,
        request: Ticket | None = None,
    ) -> OpResult: ...
    def touch(
        self,
        mm_id: int,
        addr: int,
        access: int,
        page_value: int = 0,
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
        bottom_up: bool = False,
        *,
        deadline_ns: int = 0,
    ) -> OpResult: ...
    def apply(
        self, mm_id: int, batch: Batch, *, deadline_ns: int = 0, request: Ticket | None = None
    ) -> ApplyResult: ...
    def repeat_fork(
        self, mm_id: int, strategy: int, count: int, *, alone: bool = True, deadline_ns: int = 0
    ) -> tuple[array[int], int, Work, int]: ...
    def info(self, mm_id: int) -> SpaceInfo: ...
    def list(self, after_slot: int = -1, limit: int = 1000) -> builtins.list[SpaceInfo]: ...
    def ids(self, after_slot: int = -1) -> builtins.list[int]: ...
    def expired(self, now_ns: int, limit: int = 1000) -> builtins.list[int]: ...
    def snapshot(self, mm_id: int, *, deadline_ns: int = 0) -> Snapshot: ...
    def parallel_vmas(self, strategy: int) -> int: ...
    def set_parallel_vmas(self, strategy: int, vmas: int) -> None: ...
    def help(self, number: int = 0) -> None: ...
    def stop_helping(self) -> None: ...
    def intern_file(
        self,
        path: bytes,
        dev_major: int = 0,
        dev_minor: int = 0,
        inode: int = 0,
        open_id: int = 0,
        access: int = 3,
        thp_aligned: bool = True,
    ) -> int: ...
    def file_info(self, file: int) -> FileInfo: ...
    def audit(self) -> Audit: ...
    def verify(self, mm_id: int) -> builtins.list[str]: ...

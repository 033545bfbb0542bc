"""The lanes of one process: who runs a core call, and what its failure is called.

A lane (layout.Lane) belongs to one process, and from start to end to one call. A process claims
as many as it has threads that call; lanes of dead processes are taken over with what they hold.
"""

import os
from errno import EAGAIN as EAGAIN_ERRNO
from errno import ESRCH as ESRCH_ERRNO
from errno import ETIMEDOUT as ETIMEDOUT_ERRNO

import cython

from forkstormd.core.errors import CoreError
from forkstormd.core.files import FileTable
from forkstormd.core.types import FaultSite, ForkFailure, Work

if not cython.compiled:
    from forkstormd.core.extents import extent_revive
    from forkstormd.core.heap import heap_flush
    from forkstormd.core.jobs import jobs_reap
    from forkstormd.core.layout import *
    from forkstormd.core.layout import Task
    from forkstormd.core.mutex import *

_FIELDS = (
    "",
    "mm_id",
    "addr",
    "length_bytes",
    "flags",
    "prot",
    "file",
    "offset_bytes",
    "strategy",
    "advice",
    "old_length_bytes",
    "new_length_bytes",
    "new_addr",
    "access",
    "fault",
)
_LIMITS = ("", "arena", "spaces", "max_map_count", "placement", "commit", "fault", "stack")


class Lanes:
    """Lanes of an arena, a task for each, and the interned files as this process knows them."""

    def __init__(self, arena: object, lanes: object) -> None:
        """Claim `lanes` lanes. Raises CoreError EAGAIN when the arena has no more."""
        self.arena = arena
        self.shard = 0
        self.files = FileTable(arena)
        self.idle = []
        self.lane_count = 0
        if cython.compiled:
            self.tasks = cython.cast(TaskP, calloc(lanes, cython.sizeof(Task)))
            if self.tasks == cython.NULL:
                raise MemoryError
        else:
            self.tasks = [Task() for _ in range(lanes)]
        self.task_count = lanes
        self.is_open = True
        self.stopping = False
        self.claim_lanes(lanes)

    def __dealloc__(self) -> None:
        i: cython.int
        if cython.compiled and self.tasks != cython.NULL:
            for i in range(self.task_count):
                c_free(self.tasks[i].retired)
            c_free(self.tasks)

    def task(self, index):
        if cython.compiled:
            return cython.address(self.tasks[index])
        else:
            return self.tasks[index]

    def claim_lanes(self, lanes):
        mem: MemP = self.arena.mem
        lane: LaneP
        task: TaskP
        index: u32
        start = _start_time(os.getpid())
        with cython.nogil:
            mutex_wait(mem.header.table_lock, 0)
        try:
            for index in range(mem.header.lane_max):
                if self.lane_count == lanes:
                    break
                lane = lane_at(mem, index)
                if lane.owner_pid != 0 and _start_time(lane.owner_pid) == lane.owner_start:
                    continue
                lane.owner_pid = os.getpid()
                lane.owner_start = start
                lane.owner_token += 1
                lane.in_op = 0
                task = self.task(self.lane_count)
                task.mem = mem
                task.lane = lane
                task.lane_index = index
                extent_revive(task)
                jobs_reap(task)
                self.idle.append(self.lane_count)
                self.lane_count += 1
        finally:
            mutex_release(mem.header.table_lock)
        if self.lane_count < lanes:
            self.close()
            raise CoreError(EAGAIN_ERRNO, f"no {lanes} free lanes in the arena", limit="lanes")
        return 0

    def close(self) -> None:
        """Give the lanes back. No call may be running."""
        i: cython.int
        if not self.is_open:
            return
        self.is_open = False
        for i in range(self.lane_count):
            heap_flush(self.task(i))
            self.task(i).lane.owner_pid = 0
        self.lane_count = 0
        self.idle = []

    def begin(self, request, labels):
        """Take a lane for a call: its index."""
        index: cython.int
        task: TaskP
        i: u32 = 0
        if not self.idle:
            raise CoreError(EAGAIN_ERRNO, "more threads call than there are lanes", limit="lanes")
        index = self.idle.pop()
        if request is not None or labels:
            task = self.task(index)
            if request is not None:
                task.request_high = request.high
                task.request_low = request.low
            for byte in labels:
                task.labels[i] = byte
                i += 1
            task.label_bytes = i
        return index

    def failed(self, index: object, result: object, mm_id: object = 0) -> Exception:
        """The CoreError for a negative result of the call that ran in this lane."""
        task: TaskP = self.task(index)
        field = _FIELDS[task.field]
        limit = _LIMITS[task.limit]
        if result == -ESRCH_ERRNO:
            return CoreError(0, f"no address space {mm_id:#x}", "mm_id", reason="NO_SUCH_SPACE")
        if result == -ETIMEDOUT_ERRNO:
            return CoreError(0, "the deadline passed", reason="DEADLINE")
        detail = os.strerror(-result)
        if limit:
            detail += f" (limit: {limit})"
        error = CoreError(-result, detail, field, limit)
        if task.failure.site != 0:
            error.fork = ForkFailure(
                FaultSite(task.failure.site),
                task.failure.ordinal,
                task.failure.duplicated,
                task.failure.undone,
                task.failure.undo_ns,
            )
        return error


def work_of(task):
    """The counted work of the call that ran in this lane."""
    work: WorkCountP = task_work(task)
    return Work(
        work.nodes_allocated,
        work.slots_written,
        work.levels_climbed,
        work.gap_updates,
        work.splits,
        work.records_copied,
        work.entries_erased,
    )


def _start_time(pid: object) -> int:
    """When a process started, in ticks since boot; 0 when there is none or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rsplit(b")", 1)[1].split()
    except OSError:
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])

"""The service Diagnostics: does it hold, and what does the server know of itself."""

from __future__ import annotations

import os
import platform
import statistics
from functools import cache, lru_cache
from itertools import pairwise, repeat, starmap
from time import monotonic, monotonic_ns

import grpc
import psutil
from forkstorm.v1 import diagnostics_pb2 as pb
from forkstorm.v1 import diagnostics_pb2_grpc

from forkstormd import registry
from forkstormd.core.apply import OPERATIONS_MAX
from forkstormd.core.errors import CoreError
from forkstormd.core.types import Strategy
from forkstormd.errors import Refusal, abort
from forkstormd.service.requests import LABEL_BYTES_MAX, STRATEGIES
from forkstormd.service.state import Turn, WorkerState
from forkstormd.service.streams import MAX_REPEAT_FORKS

_VIOLATIONS_MAX = 100
_WALK_SPACES = 1000
_SLOT_MASK = (1 << 20) - 1
_CLOCK_READINGS = 2001
_CALL_MEASUREMENTS = 5


class Diagnostics(diagnostics_pb2_grpc.DiagnosticsServicer):
    """See protos/forkstorm/v1/diagnostics.proto."""

    def __init__(self, state: WorkerState) -> None:
        self._state = state

    def Audit(self, request: pb.AuditRequest, context: grpc.ServicerContext) -> pb.AuditResponse:
        try:
            with self._state.long_turn(context):
                audit = self._state.mm.audit()
        except (CoreError, Refusal) as error:
            abort(context, error)
        return pb.AuditResponse(
            space_count=audit.space_count,
            vma_count=audit.vma_count,
            allocated_node_count=audit.allocated_nodes,
            allocated_record_count=audit.allocated_records,
            reachable_node_count=audit.reachable_nodes,
            reachable_record_count=audit.reachable_records,
            file_count=audit.file_count,
            charged_pages=audit.charged_pages,
            quiescent=audit.quiescent,
            arena_claimed_bytes=audit.claimed_bytes,
            arena_capacity_bytes=audit.capacity_bytes,
            page_table_count=audit.page_table_count,
            reachable_page_table_count=audit.reachable_page_tables,
            object_count=audit.object_count,
            reachable_object_count=audit.reachable_objects,
            extent_block_count=audit.extent_blocks,
            reachable_extent_block_count=audit.reachable_extent_blocks,
        )

    def Verify(self, request: pb.VerifyRequest, context: grpc.ServicerContext) -> pb.VerifyResponse:
        response = pb.VerifyResponse()
        try:
            with self._state.long_turn(context) as turn:
                if request.mm_id:
                    self._verify(request.mm_id, response)
                else:
                    self._verify_all(response, turn)
        except (CoreError, Refusal) as error:
            abort(context, error)
        return response

    def _verify_all(self, response: pb.VerifyResponse, turn: Turn) -> None:
        after_slot = -1
        while infos := self._state.mm.list(after_slot, _WALK_SPACES):
            for info in infos:
                if turn.is_cancelled():
                    raise Refusal("CANCELLED", "the call was cancelled")
                try:
                    self._verify(info.mm_id, response)
                except CoreError as error:
                    if error.reason != "NO_SUCH_SPACE":
                        raise
            after_slot = infos[-1].mm_id & _SLOT_MASK

    def _verify(self, mm_id: int, response: pb.VerifyResponse) -> None:
        violations = self._state.mm.verify(mm_id)
        response.verified_space_count += 1
        room = _VIOLATIONS_MAX - len(response.violations)
        response.violations.extend(f"{mm_id:#x}: {text}" for text in violations[:room])

    def GetServer(
        self, request: pb.GetServerRequest, context: grpc.ServicerContext
    ) -> pb.GetServerResponse:
        config = self._state.config
        arena = self._state.arena
        usage = arena.usage()
        return pb.GetServerResponse(
            version=config.version,
            instance_id=arena.instance_id,
            workers=[self._worker(index) for index in range(len(config.endpoints))],
            worker=config.index,
            default_strategy=self._state.default_strategy,
            strategies=STRATEGIES,
            limits=pb.Limits(
                arena_capacity_bytes=usage["capacity_bytes"],
                max_spaces=usage["max_spaces"],
                max_message_bytes=config.max_message_bytes,
                max_repeat_forks=MAX_REPEAT_FORKS,
                max_label_bytes=LABEL_BYTES_MAX,
                dedupe_window_requests=usage["dedupe_entries"],
                threads_per_worker=config.threads,
                max_apply_operations=OPERATIONS_MAX,
            ),
            host=_host(),
            core_build=arena.build,
            clock_overhead_ns=_clock_overhead_ns(),
            parallel_forks=pb.ParallelForks(
                tree_dup_vmas=self._state.mm.parallel_vmas(Strategy.TREE_DUP),
                extent_copy_vmas=self._state.mm.parallel_vmas(Strategy.EXTENT_COPY),
            ),
        )

    def _worker(self, index: int) -> pb.Worker:
        config = self._state.config
        worker = pb.Worker(
            index=index,
            endpoint=config.endpoints[index],
            pid=registry.pid(self._state.arena, index),
            restart_count=registry.restart_count(self._state.arena, index),
            pinned_cpu=config.cpus[index],
        )
        try:
            times = psutil.Process(worker.pid).cpu_times()
            worker.cpu_seconds = times.user + times.system
            worker.rss_bytes = _rss_beside(worker.pid, config.arena_path, int(monotonic()))
        except psutil.Error:
            pass  # it has died, and is not started again yet
        return worker


@lru_cache(maxsize=registry.WORKERS_MAX)
def _rss_beside(pid: int, arena_path: str, second: int) -> int:
    """Resident bytes of all mappings but the arena's, at most a second old.

    Asking takes some milliseconds, and every client that connects asks.
    """
    return sum(
        mapping.rss
        for mapping in psutil.Process(pid).memory_maps()
        if not mapping.path.startswith(arena_path)
    )


@cache
def _host() -> pb.Host:
    return pb.Host(
        cpu_model=_cpu_model(),
        cpu_count=os.cpu_count() or 0,
        kernel=platform.release(),
        python=platform.python_version(),
        grpcio=grpc.__version__,
    )


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


@cache
def _clock_overhead_ns() -> float:
    """What the two readings of the clock inside a core time cost, median, measured once.

    The readings follow each other without an interpreter in between; what calling anything at
    all costs is measured alike and taken off.
    """
    stamps = list(starmap(monotonic_ns, repeat((), _CLOCK_READINGS)))
    between_ns = statistics.median(after - before for before, after in pairwise(stamps))
    # The least of some: whoever is interrupted meanwhile has measured something else.
    call_ns = min(_call_ns() for _ in range(_CALL_MEASUREMENTS))
    return 2 * max(between_ns - call_ns, 0.0)


def _call_ns() -> float:
    """What calling something that does next to nothing costs, without an interpreter."""
    began_ns = monotonic_ns()
    list(starmap(int, repeat((), _CLOCK_READINGS)))
    return (monotonic_ns() - began_ns) / _CLOCK_READINGS

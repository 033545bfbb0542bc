"""A worker: one process that serves both services on the shared port and on one of its own.

Started by the supervisor as `python -m forkstormd.worker`, configured through the socket that is
its stdin (launch.py). Any worker serves any space; all state is in the arena.

It ends on SIGTERM: health says NOT_SERVING, a short pause lets clients and balancers see that, new
calls are refused while running ones get drain_seconds. It gets SIGTERM from the kernel too when the
supervisor dies; then it also removes the arena's file, which nobody else would.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
from forkstorm.v1 import address_spaces_pb2, diagnostics_pb2
from forkstorm.v1.address_spaces_pb2_grpc import add_AddressSpacesServicer_to_server
from forkstorm.v1.diagnostics_pb2_grpc import add_DiagnosticsServicer_to_server
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from forkstormd import calibrate, registry
from forkstormd.core.arena import Arena
from forkstormd.core.errors import ArenaError
from forkstormd.core.mm import MemoryManager
from forkstormd.launch import READY, WorkerConfig
from forkstormd.pinning import NOT_PINNED
from forkstormd.service.address_spaces import AddressSpaces
from forkstormd.service.diagnostics import Diagnostics
from forkstormd.service.state import WorkerState

_PR_SET_PDEATHSIG = 1
_DRAIN_PAUSE_S = 0.25
_ORPHAN_GRACE_S = 1.0
_ORPHAN_END_S = 10
_LOOK_S = 1.0
_SERVICES = (
    address_spaces_pb2.DESCRIPTOR.services_by_name["AddressSpaces"].full_name,
    diagnostics_pb2.DESCRIPTOR.services_by_name["Diagnostics"].full_name,
)


def main() -> None:
    """Serve until the supervisor says stop, or dies."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    link = socket.socket(fileno=0)
    with link.makefile("rb") as lines:
        line = lines.readline()
    if not line:
        return  # the supervisor is gone already
    config = WorkerConfig.from_line(line)
    _end_with_supervisor()
    try:
        arena = Arena.attach(config.arena_path)
    except ArenaError as error:
        sys.exit(f"forkstormd worker {config.index}: {error}")
    # Not before: the arena's helpers are as many as there are CPUs.
    if config.cpus[config.index] != NOT_PINNED:
        os.sched_setaffinity(0, {config.cpus[config.index]})
    with contextlib.closing(arena):
        # One lane more than calls have: the helper's.
        mm = MemoryManager(arena, config.threads + 1)
        with contextlib.closing(mm), _helping(mm, config.index):
            # One that is started again finds calls running, which it would measure.
            if config.index == 0 and registry.restart_count(arena, 0) == 0:
                calibrate.choose(mm, config.parallel_vmas if len(config.endpoints) > 1 else 0)
            _serve(config, arena, mm, link)


@contextlib.contextmanager
def _helping(mm: MemoryManager, number: int) -> Iterator[None]:
    """Help with the forks of other workers, while this one is idle."""
    helper = threading.Thread(target=mm.help, args=(number,), name="helper", daemon=True)
    helper.start()
    try:
        yield
    finally:
        mm.stop_helping()
        helper.join()


def _serve(config: WorkerConfig, arena: Arena, mm: MemoryManager, link: socket.socket) -> None:
    server = grpc.server(
        ThreadPoolExecutor(config.threads, thread_name_prefix="rpc"),
        options=[
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", config.max_message_bytes),
        ],
    )
    state = WorkerState(config, arena, mm)
    add_AddressSpacesServicer_to_server(AddressSpaces(state), server)
    add_DiagnosticsServicer_to_server(Diagnostics(state), server)
    checks = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checks, server)
    for service in _SERVICES:
        checks.set(service, health_pb2.HealthCheckResponse.SERVING)
    reflection.enable_server_reflection(
        (*_SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server
    )
    for address in config.bind_addresses:
        server.add_insecure_port(address)
    server.start()
    # What exists now lives as long as the process: collections need not look at it again.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(OSError):
        link.sendall(READY)
    orphaned = _wait_for_end(config.supervisor_pid)
    if orphaned:
        arena.unlink()
        # Whatever hangs from here on, the process ends.
        signal.alarm(_ORPHAN_END_S)
    checks.enter_graceful_shutdown()
    if not orphaned:
        time.sleep(_DRAIN_PAUSE_S)
    server.stop(_ORPHAN_GRACE_S if orphaned else config.drain_seconds).wait()


def _wait_for_end(supervisor_pid: int) -> bool:
    """Wait until this worker shall end; True when that is because the supervisor died."""
    while True:
        # Looked at as well as signalled: the supervisor may have died before prctl was called.
        if os.getppid() != supervisor_pid:
            return True
        if signal.sigtimedwait({signal.SIGTERM}, _LOOK_S) is not None:
            return os.getppid() != supervisor_pid


def _end_with_supervisor() -> None:
    """Let the kernel send SIGTERM when the supervisor dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main()

"""The process that starts the workers, keeps them running, and cleans up behind them.

It never imports grpc: fork and gRPC do not mix, and it shall be small and live long. One thread
waits for signals and looks after everything once a second:

    SIGTERM, SIGINT   drain and end; a second one ends at once
    SIGHUP            start the workers anew, one after the other, while the others serve
    SIGCHLD           a worker died: start it again, later each time it dies young
    each second       end the spaces whose time is up

It owns the ports (listen.py), the arena's file, and the registry of workers (registry.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from forkstormd import registry
from forkstormd.child import WorkerProcess
from forkstormd.core.arena import Arena, default_capacity
from forkstormd.core.errors import ArenaError, CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.launch import WorkerConfig
from forkstormd.listen import (
    ListenError,
    ReservedPort,
    advertised_host,
    join_address,
    reserve,
    split_address,
)
from forkstormd.pinning import choose_cpus
from forkstormd.settings import Settings

_log = logging.getLogger("forkstormd")

_START_S = 30.0
_TICK_S = 1.0
# Beyond drain_seconds: the pause before the drain, and the end of an interpreter.
_END_S = 5.0
_REAP_SPACES = 1000
_REAP_LOCK_NS = 50_000_000
_LANES_SPARE = 8
_STALE_S = 2.0
_ARENA_PREFIX, _ARENA_SUFFIX = "forkstorm-", ".arena"
_STOP = {signal.SIGTERM, signal.SIGINT}
_GO_ON = {signal.SIGCHLD, signal.SIGHUP}


class ServerError(Exception):
    """The server cannot start; the text says why."""


class Supervisor:
    """One start of one server. Build it, then run() once, in the main thread."""

    def __init__(self, settings: Settings, version: str) -> None:
        self._settings = settings
        self._version = version
        self._workers: list[WorkerProcess] = []

    def run(self) -> int:
        """Serve until a signal comes; the exit code. ServerError when it cannot start."""
        logging.basicConfig(format="%(name)s: %(message)s", level=logging.INFO)
        # Blocked, and fetched one at a time: there is no handler that could run in between.
        signal.pthread_sigmask(signal.SIG_BLOCK, {*_STOP, *_GO_ON})
        with contextlib.ExitStack() as stack:
            try:
                shared, own = self._reserve(stack)
                self._arena = stack.enter_context(_arena(self._settings))
            except (ListenError, ArenaError) as error:
                raise ServerError(str(error)) from None
            self._mm = MemoryManager(self._arena, 1)
            stack.callback(self._mm.close)
            self._prepare(shared, own)
            # From here on every way out ends the workers first.
            stack.callback(self._end_workers, drain=False)
            if not self._start_workers():
                return 0
            stack.enter_context(self._announced())
            self._watch()
            self._end_workers(drain=True)
        return 0

    # -- start --

    def _reserve(self, stack: contextlib.ExitStack) -> tuple[ReservedPort, list[ReservedPort]]:
        host, port = split_address(self._settings.listen)
        shared = reserve(host, port)
        stack.callback(shared.holder.close)
        own = []
        for _ in range(self._settings.workers):
            own.append(reserve(host, 0))
            stack.callback(own[-1].holder.close)
        return shared, own

    def _prepare(self, shared: ReservedPort, own: list[ReservedPort]) -> None:
        settings = self._settings
        host = advertised_host(shared.host, settings.advertise_host)
        self._address = shared.address(host)
        self._endpoints = [port.address(host) for port in own]
        cpus = choose_cpus(settings.workers, settings.pin)
        for index, port in enumerate(own):
            config = WorkerConfig(
                index=index,
                supervisor_pid=os.getpid(),
                version=self._version,
                arena_path=self._arena.path,
                bind_addresses=[
                    join_address(shared.host, shared.port),
                    join_address(port.host, port.port),
                ],
                endpoints=self._endpoints,
                cpus=cpus,
                threads=settings.threads,
                default_strategy=settings.default_strategy_number,
                parallel_vmas=None if settings.parallel_vmas == "auto" else settings.parallel_vmas,
                max_message_bytes=int(settings.max_message_bytes),
                drain_seconds=settings.drain_seconds,
            )
            self._workers.append(WorkerProcess(config))

    def _start_workers(self) -> bool:
        """Start all and wait until they serve; False when a signal asks to stop meanwhile."""
        deadline = time.monotonic() + _START_S
        for worker in self._workers:
            self._start(worker)
        for worker in self._workers:
            if not worker.wait_ready(deadline - time.monotonic()):
                if signal.sigpending() & _STOP:
                    return False
                raise ServerError(f"worker {worker.config.index} did not start")
        return True

    def _start(self, worker: WorkerProcess) -> None:
        registry.set_pid(self._arena, worker.config.index, worker.start())

    @contextlib.contextmanager
    def _announced(self) -> Iterator[None]:
        """Tell people, and whoever reads the announcement's file, where the server is."""
        settings = self._settings
        endpoints = " ".join(self._endpoints)
        capacity_mib = self._arena.usage()["capacity_bytes"] / (1 << 20)
        print(
            f"forkstormd {self._version} ready at {self._address} "
            f"(workers: {endpoints}; arena: {capacity_mib:,.0f} MiB)",
            flush=True,
        )
        if settings.announce is None:
            yield
            return
        text = json.dumps(
            {
                "address": self._address,
                "endpoints": self._endpoints,
                "pid": os.getpid(),
                "instance_id": self._arena.instance_id,
            }
        )
        # Renamed into place, so that nobody reads half of it.
        draft = settings.announce.with_name(f".{settings.announce.name}.{os.getpid()}")
        try:
            draft.write_text(text + "\n", encoding="utf-8")
            draft.replace(settings.announce)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise ServerError(f"cannot write {settings.announce}: {error.strerror}") from None
        try:
            yield
        finally:
            settings.announce.unlink(missing_ok=True)

    # -- run --

    def _watch(self) -> None:
        """Keep everything going until a signal asks to stop."""
        tick_at = time.monotonic() + _TICK_S
        while True:
            now = time.monotonic()
            wake_at = min([tick_at, *(w.restart_at for w in self._workers if not w.is_running())])
            got = signal.sigtimedwait({*_STOP, *_GO_ON}, max(wake_at - now, 0))
            if got is not None and got.si_signo in _STOP:
                return
            if got is not None and got.si_signo == signal.SIGHUP and not self._start_anew():
                return
            self._restart_dead()
            if time.monotonic() >= tick_at:
                self._end_expired()
                tick_at = time.monotonic() + _TICK_S

    def _start_anew(self) -> bool:
        """Drain and start each worker, one after the other; False when a signal asks to stop. A
        worker that does not come up again ends the round: the others go on as they are."""
        _log.info("starting %d workers anew", len(self._workers))
        for worker in self._workers:
            worker.signal(signal.SIGTERM)
            if not self._await_ends([worker]):
                return False
            worker.reap(0)
            registry.count_restart(self._arena, worker.config.index)
            self._start(worker)
            if not worker.wait_ready(_START_S):
                _log.error("worker %d does not start", worker.config.index)
                break
        return not signal.sigpending() & _STOP

    def _await_ends(self, workers: Sequence[WorkerProcess]) -> bool:
        """Wait until these workers have drained or their time is over; False when a signal asks to
        stop meanwhile."""
        deadline = time.monotonic() + self._settings.drain_seconds + _END_S
        while any(worker.is_running() for worker in workers) and time.monotonic() <= deadline:
            got = signal.sigtimedwait({*_STOP, signal.SIGCHLD}, 0.1)
            for worker in workers:
                worker.ended()
            if got is not None and got.si_signo in _STOP:
                return False
        return True

    def _restart_dead(self) -> None:
        for worker in self._workers:
            code = worker.ended()
            if code is not None:
                _log.warning("worker %d ended with %d", worker.config.index, code)
            if not worker.is_running() and time.monotonic() >= worker.restart_at:
                registry.count_restart(self._arena, worker.config.index)
                self._start(worker)

    def _end_expired(self) -> None:
        more = True
        while more and not signal.sigpending() & _STOP:
            mm_ids = self._mm.expired(time.monotonic_ns(), _REAP_SPACES)
            more = len(mm_ids) == _REAP_SPACES
            for mm_id in mm_ids:
                try:
                    self._mm.exit(mm_id, deadline_ns=time.monotonic_ns() + _REAP_LOCK_NS)
                except CoreError:
                    # Ended by somebody else meanwhile, or busy: looked at again in a second.
                    more = False

    # -- end --

    def _end_workers(self, *, drain: bool) -> None:
        """End all workers: politely first when `drain`, and all at once in any case."""
        for worker in self._workers:
            worker.signal(signal.SIGTERM if drain else signal.SIGKILL)
        if drain:
            self._await_ends(self._workers)
        for worker in self._workers:
            worker.reap(0)


@contextlib.contextmanager
def _arena(settings: Settings) -> Iterator[Arena]:
    """A new arena for the time of the block; its file is gone afterwards."""
    folder = settings.arena_dir
    if not folder.is_dir():
        raise ArenaError(f"{folder} is no directory")
    _remove_stale(folder)
    name = f"{_ARENA_PREFIX}{os.getpid()}-{secrets.token_hex(4)}{_ARENA_SUFFIX}"
    # A lane for every thread of a worker, one of which helps with the forks of others.
    lanes = settings.workers * (settings.threads + 1) + _LANES_SPARE
    configured = None if settings.arena_bytes is None else int(settings.arena_bytes)
    capacity = default_capacity(str(folder), configured)
    if configured is not None and capacity < configured:
        _log.warning(
            "the arena gets %.0f MiB of the %.0f asked for: half of the free memory at %s",
            capacity / (1 << 20),
            configured / (1 << 20),
            folder,
        )
    arena = Arena.create(
        str(folder / name),
        capacity,
        max_spaces=settings.max_spaces,
        lanes=max(lanes, 64),
    )
    try:
        yield arena
    finally:
        arena.unlink()
        arena.close()


def _remove_stale(folder: Path) -> None:
    """Remove arenas of servers that were killed with all their workers.

    Whoever has an arena open holds a shared lock on it; a lock of our own tells that nobody has.
    """
    for path in folder.glob(f"{_ARENA_PREFIX}*{_ARENA_SUFFIX}"):
        try:
            if time.time() - path.stat().st_ctime < _STALE_S:
                continue  # perhaps being made right now, and not locked yet
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # gone meanwhile, or another user's
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            _log.info("removed %s, which a killed server left", path)
        except OSError:
            pass
        finally:
            os.close(fd)

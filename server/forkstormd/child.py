"""One worker process as the supervisor sees it: started, ready, ended, started again."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

from forkstormd.launch import READY, WorkerConfig

_BACKOFF_FIRST_S = 0.05
_BACKOFF_LAST_S = 5.0
# A worker that lived this long did not die of how it starts.
_HEALTHY_S = 10.0

# Large messages come and go on several threads. With few arenas and a fixed threshold (mallopt(3)
# of glibc) their buffers return to the system: after batches of 65,536 operations a worker has
# 50 MB, not 70.
_ALLOCATOR = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(256 << 10)}


class WorkerProcess:
    """A worker and its successors. Not thread-safe."""

    def __init__(self, config: WorkerConfig) -> None:
        self.config = config
        self.restart_at = 0.0
        self._backoff_s = _BACKOFF_FIRST_S
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._started_at = 0.0

    def start(self) -> int:
        """Start the process and tell it what to do; its pid."""
        ours, theirs = socket.socketpair()
        with theirs:
            # A fresh interpreter, not a fork: nothing of the supervisor's state is inherited.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "forkstormd.worker"],
                stdin=theirs.fileno(),
                close_fds=True,
                env=_ALLOCATOR | os.environ,
            )
        self._started_at = time.monotonic()
        self._link = ours
        with contextlib.suppress(OSError):
            ours.sendall(self.config.to_line())
        return self._process.pid

    def wait_ready(self, timeout_s: float) -> bool:
        """Whether the worker said that it serves; False when it ended or the time is over."""
        assert self._link is not None
        self._link.settimeout(max(timeout_s, 0.001))
        try:
            return self._link.recv(len(READY)) == READY
        except OSError:
            return False

    def ended(self) -> int | None:
        """The exit code of a process that has just been found dead, once; else None."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        lived_s = time.monotonic() - self._started_at
        self._backoff_s = (
            _BACKOFF_FIRST_S if lived_s > _HEALTHY_S else min(self._backoff_s * 2, _BACKOFF_LAST_S)
        )
        self.restart_at = time.monotonic() + self._backoff_s
        self._forget()
        return code

    def is_running(self) -> bool:
        """Whether there is a process, as far as ended() has looked."""
        return self._process is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if there is anybody to get it."""
        if self._process is not None:
            self._process.send_signal(number)

    def reap(self, timeout_s: float) -> None:
        """Wait for the end, and enforce it when the time is over."""
        if self._process is None:
            return
        try:
            self._process.wait(max(timeout_s, 0))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        self._process = None
        if self._link is not None:
            self._link.close()
            self._link = None

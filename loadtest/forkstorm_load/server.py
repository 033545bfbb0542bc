"""A Forkstorm server of the storm's own: started on a free port, stopped and cleaned up after."""

from __future__ import annotations

import ctypes
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forkstorm_load.progress import Advance

_READY_S = 30.0
_STOP_S = 15.0
_PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """The server did not start; the text holds the end of what it wrote."""


@dataclass(frozen=True)
class RunningServer:
    """Where a server listens, and its supervisor's pid (0 when it is not ours)."""

    address: str
    pid: int


@contextmanager
def own_server(workers: int = 2, advance: Advance = lambda _: None) -> Iterator[RunningServer]:
    """A server on a free loopback port for the time of the block. ServerError when it cannot start.

    `advance` is told of the waiting until it is ready, and may interrupt it.
    Enter it before this process makes its first gRPC channel: fork and gRPC do not mix.
    """
    with tempfile.TemporaryDirectory(prefix="forkstorm-storm-") as scratch:
        announce, log = Path(scratch, "announce.json"), Path(scratch, "log")
        command = [sys.executable, "-m", "forkstormd", "serve", "--workers", str(workers)]
        command += ["--listen", "127.0.0.1:0", "--announce", str(announce)]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # Ctrl-C is for the storm, which stops the server when the load has ended.
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        try:
            yield RunningServer(_wait_ready(process, announce, log, advance), process.pid)
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes], first: int = signal.SIGTERM) -> int:
    """Asks a process of ours to end, kills it when it does not; its exit code."""
    if process.poll() is None:
        process.send_signal(first)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def _wait_ready(
    process: subprocess.Popen[bytes], announce: Path, log: Path, advance: Advance
) -> str:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline and process.poll() is None:
        advance(0.0)
        try:
            address: str = json.loads(announce.read_text())["address"]
            return address
        except (FileNotFoundError, ValueError):
            time.sleep(0.02)
    ended = f"ended with {process.poll()}" if process.poll() is not None else "is not ready"
    raise ServerError(f"the server {ended}:\n{log.read_text(errors='replace')[-2000:]}")


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """The supervisor gets SIGTERM even when the storm is killed with SIGKILL."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

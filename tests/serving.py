"""A Forkstorm server for tests: a subprocess on a free port, stopped and looked after."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

READY_S = 30.0
STOP_S = 20.0


@dataclass(frozen=True)
class Server:
    """A running server. `address` is the port all workers share, `endpoints` their own."""

    address: str
    endpoints: list[str]
    pid: int
    process: subprocess.Popen[bytes]
    log: Path
    announce: Path

    def stop(self) -> int:
        """SIGTERM, and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


@contextmanager
def running_server(
    *flags: str, workers: int = 2, env: dict[str, str] | None = None
) -> Iterator[Server]:
    """A server for the time of the block. Fails when it does not start."""
    with tempfile.TemporaryDirectory(prefix="forkstorm-test-") as scratch:
        announce, log = Path(scratch, "announce.json"), Path(scratch, "log")
        command = [sys.executable, "-m", "forkstormd", "serve", "--workers", str(workers)]
        command += ["--listen", "127.0.0.1:0", "--pin", "none", "--announce", str(announce), *flags]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # The server comes from where the tests' modules come from.
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                    **(env or {}),
                },
            )
        try:
            told = _wait_announced(process, announce, log)
            yield Server(told["address"], told["endpoints"], told["pid"], process, log, announce)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait_announced(process: subprocess.Popen[bytes], announce: Path, log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        if announce.exists():
            told: dict[str, Any] = json.loads(announce.read_text())
            return told
        time.sleep(0.01)
    raise AssertionError(f"the server did not start:\n{log.read_text(errors='replace')}")

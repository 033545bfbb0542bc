"""Records a program with strace: its maps right after exec, its calls, its maps as it ends.

The program is stopped at its exec, as a debugger would stop it; then its smaps is copied and
strace takes over. Its end is delayed at exit_group, which is when smaps is copied again. So both
texts belong to one instant of the trace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

# Opening and closing beside memory and process: whose file a mapping is.
CALLS = "memory,process,open,openat,close,dup,dup2,dup3,memfd_create"

_PTRACE_TRACEME, _PTRACE_DETACH = 0, 17
_EXIT_GROUP = "231"
_DELAY_S = 0.5
_LONGEST_S = 120.0
_ATTEMPTS = 3

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Recording(NamedTuple):
    """What was recorded of one program."""

    pid: int
    trace: Path
    #: smaps right after exec, and as the program ends.
    start: Path
    final: Path


class CannotRecord(Exception):
    """There is no strace here, or it may not trace."""


class _Missed(Exception):
    """The program ended before its maps were copied: a busy machine."""


def record(
    command: Sequence[str],
    directory: Path,
    *,
    calls: str = CALLS,
    paths: bool = True,
) -> Recording:
    """Runs the command under strace. Files lie in `directory`. CannotRecord without strace.

    calls: the system calls in the trace, as `strace -e trace=` takes them. paths: descriptors
    with their paths, `strace -y`.
    """
    strace = shutil.which("strace")
    if strace is None:
        raise CannotRecord("strace is not installed")
    options = ["-f", "-y"] if paths else ["-f"]
    delay = f"inject=exit_group:delay_enter={round(_DELAY_S * 1e6)}"
    options += ["-e", f"trace={calls}", "-e", "signal=none", "-e", delay]
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(_Missed):
            return _record(command, directory, [strace, *options])
    raise AssertionError(f"{command[0]} ended {_ATTEMPTS} times before its maps were copied")


def _record(command: Sequence[str], directory: Path, strace: Sequence[str]) -> Recording:
    recording = Recording(0, directory / "trace", directory / "start", directory / "final")
    program = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_be_traced,
    )
    tracer: subprocess.Popen[bytes] | None = None
    try:
        recording = recording._replace(pid=program.pid)
        _stop_at_exec(program, recording.start)
        tracer = subprocess.Popen(
            [*strace, "-o", str(recording.trace), "-p", str(program.pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _wait_attached(tracer, program.pid)
        os.kill(program.pid, signal.SIGCONT)
        _copy_smaps_at_exit(program, recording.final)
        program.wait(_LONGEST_S)
        tracer.wait(_LONGEST_S)
    finally:
        for process in (program, tracer):
            if process is not None:
                process.kill()
                process.wait()
        if tracer is not None and tracer.stderr is not None:
            tracer.stderr.close()
    return recording


def _be_traced() -> None:
    # A failure shows as a program that does not stop at its exec.
    _libc.ptrace(_PTRACE_TRACEME, 0, None, None)


def _stop_at_exec(program: subprocess.Popen[bytes], start: Path) -> None:
    """Copies smaps of the program, which has just been executed, and leaves it stopped."""
    _, status = os.waitpid(program.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        raise CannotRecord("ptrace is not allowed")
    start.write_bytes(Path(f"/proc/{program.pid}/smaps").read_bytes())
    if _libc.ptrace(_PTRACE_DETACH, program.pid, None, signal.SIGSTOP):
        raise CannotRecord(f"ptrace: {os.strerror(ctypes.get_errno())}")


def _wait_attached(tracer: subprocess.Popen[bytes], pid: int) -> None:
    status = Path(f"/proc/{pid}/status")
    deadline = time.monotonic() + 20
    while f"TracerPid:\t{tracer.pid}\n" not in status.read_text():
        if tracer.poll() is not None or time.monotonic() > deadline:
            assert tracer.stderr is not None
            said = tracer.stderr.read().decode() if tracer.poll() is not None else "nothing"
            raise CannotRecord(f"strace did not attach: {said.strip()}")
        time.sleep(0.005)


def _copy_smaps_at_exit(program: subprocess.Popen[bytes], final: Path) -> None:
    """Waits until the program is about to end, and copies its smaps."""
    deadline = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline and program.poll() is None:
        for syscall in Path(f"/proc/{program.pid}/task").glob("*/syscall"):
            try:
                number = syscall.read_text().split()[0]
            except OSError:
                continue
            if number == _EXIT_GROUP:
                final.write_bytes(Path(f"/proc/{program.pid}/smaps").read_bytes())
                return
        time.sleep(0.002)
    raise _Missed

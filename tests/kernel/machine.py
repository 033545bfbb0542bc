"""The running kernel as something to ask: processes that execute calls on their own memory.

A Machine holds what all sequences of calls share: the compiled executor (executor.c), the open
files, what was tried out about both. Machine.start() makes a Kernel: one executor process with
an address space as execve() left it, and its children.

Addresses are the same in every run: the executor turns randomisation off for itself, which a
container may forbid. Then, and without gcc or on another machine, there is Unavailable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import select
import shutil
import signal
import struct
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from forkstormd.core.types import SpaceParams

from .calls import (
    ANON,
    FILE_BYTES,
    FILES,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    PAGE,
    PMD,
    PROCESSES,
    PROT_EXEC,
    PROT_READ,
    READ,
    SHARED_ANON,
    SPECIAL,
    TASK_SIZE,
    VM_GROWSDOWN,
    Area,
    Call,
    Outcome,
    Start,
)

BUILD = Path(__file__).parents[2] / "build"
SOURCE = Path(__file__).with_name("executor.c")
COMPILE = [
    *("gcc", "-O2", "-static", "-nostdlib", "-ffreestanding", "-fno-pie", "-no-pie"),
    *("-fno-stack-protector", "-fcf-protection=none", "-Wl,--build-id=none", "-Wl,-z,noexecstack"),
    "-Wl,--section-start=.below_brk=0x20000000",
]
STACK_LIMIT_BYTES = 8 << 20
TIMEOUT_S = 60.0

# As in executor.c.
_COMMAND, _RESULT, _AREA = struct.Struct("<8Q"), struct.Struct("<4Q"), struct.Struct("<6Q")
_WHAT = {
    "maps": 0,
    "map": 1,
    "unmap": 2,
    "protect": 3,
    "remap": 4,
    "advise": 5,
    "brk": 6,
    "touch": 7,
    "fork": 8,
    "exit": 9,
    "unprivileged": 10,
    "stripe": 11,
    "no huge pages": 12,
}
_SPECIAL_DEVICE = (1 << 64) - 1
_U64 = (1 << 64) - 1
_FAILED = {4: "personality(ADDR_NO_RANDOMIZE) is refused here", 5: "/proc/self/exe cannot run"}


class Unavailable(Exception):
    """The kernel cannot be asked here; the text says why."""


class ExecutorDied(Exception):
    """A call ended the process that executed it, which no sequence should."""


class _Process:
    """One living executor, and its map as it was last seen."""

    def __init__(self, commands: int, results: int, pid: int) -> None:
        self.commands, self.results, self.pid = commands, results, pid
        self.raw = b""
        self.areas: list[Area] = []
        self._poll = select.poll()
        self._poll.register(results, select.POLLIN)

    def ask(self, what: str, args: tuple[int, ...] = (), want_map: bool = False) -> Outcome:
        words = [word & _U64 for word in args] + [0] * (6 - len(args))
        os.write(self.commands, _COMMAND.pack(_WHAT[what], want_map, *words))
        value, error, count, _ = _RESULT.unpack(self._read(_RESULT.size))
        if want_map:
            self.raw = self._read(count * _AREA.size)
        return Outcome(value, error)

    def _read(self, count: int) -> bytes:
        parts = []
        while count:
            if not self._poll.poll(TIMEOUT_S * 1000):
                raise ExecutorDied(f"process {self.pid} is silent")
            part = os.read(self.results, count)
            if not part:
                raise ExecutorDied(f"process {self.pid} has ended")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)


class Kernel:
    """One process as execve() left it, and its descendants; ended by close().

    run() answers a call; areas() is a process's map as seen after its last call with want_map.
    """

    def __init__(self, machine: Machine, privileged: bool) -> None:
        self._machine = machine
        self._pipes = [(*os.pipe(), *os.pipe()) for _ in range(PROCESSES)]
        theirs = [fd for pipe in self._pipes for fd in (pipe[0], pipe[3])]
        names = ",".join(f"{pipe[0]}:{pipe[3]}" for pipe in self._pipes)
        self._root = subprocess.Popen(
            ["executor", str(STACK_LIMIT_BYTES), names],
            executable=machine.executor,
            pass_fds=[*theirs, *machine.files],
            env={},
            stdin=subprocess.DEVNULL,
        )
        for fd in theirs:
            os.close(fd)
        self._alive: dict[int, _Process] = {}
        self._count = 0
        self._add(self._root.pid)
        try:
            if not privileged:
                self._alive[0].ask("unprivileged")
            if not machine.huge_pages:
                self._alive[0].ask("no huge pages")
            self._alive[0].ask("maps", (), True)
        except (ExecutorDied, BrokenPipeError):
            status = self._root.wait()
            self.close()
            raise Unavailable(_FAILED.get(status, f"the executor ended with {status}")) from None
        self._see(self._alive[0], b"")

    def __enter__(self) -> Kernel:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes and wait until they are gone."""
        for pipe in self._pipes:
            os.close(pipe[1])
            os.close(pipe[2])
        waiting = []
        for process in self._alive.values():
            if process.pid != self._root.pid:
                with contextlib.suppress(ProcessLookupError):
                    waiting.append(os.pidfd_open(process.pid))
        for pidfd in waiting:
            self._wait(pidfd)
        try:
            self._root.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._root.kill()
            self._root.wait()

    def processes(self) -> list[int]:
        """The numbers of the living, ascending."""
        return list(self._alive)

    def areas(self, process: int) -> list[Area]:
        return self._alive[process].areas

    def run(self, call: Call, want_map: bool = True) -> Outcome:
        process = self._alive[call.process]
        if call.name == "fork":
            return self._fork(process)
        if call.name == "exit":
            return self._exit(call.process)
        args = call.args
        if call.name == "map":
            file = self._machine.files[args[4]] if args[4] >= 0 else -1
            args = (*args[:4], file, args[5])
        elif call.name == "touch":
            args = (args[0] & -PAGE, *args[1:])
        before = process.raw
        outcome = process.ask(call.name, args, want_map)
        self._see(process, before)
        return outcome

    def raw(self, process: int) -> bytes:
        """The map as the executor sent it."""
        return self._alive[process].raw

    def look(self, process: int) -> list[Area]:
        """The map of a process now."""
        asked = self._alive[process]
        before = asked.raw
        asked.ask("maps", (), True)
        self._see(asked, before)
        return asked.areas

    def _add(self, pid: int) -> int:
        number = self._count
        pipe = self._pipes[number]
        self._alive[number] = _Process(pipe[1], pipe[2], pid)
        self._count += 1
        return number

    def _fork(self, parent: _Process) -> Outcome:
        if self._count == PROCESSES:
            raise ValueError(f"more than {PROCESSES} processes in one sequence")
        outcome = parent.ask("fork", (self._count,))
        if outcome.errno:
            return outcome
        child = self._add(outcome.value)
        self.look(child)
        return Outcome(child)

    def _exit(self, number: int) -> Outcome:
        """Wait for the process's end: only then is its memory no longer a part of anything."""
        process = self._alive.pop(number)
        pidfd = os.pidfd_open(process.pid)
        outcome = process.ask("exit")
        self._wait(pidfd)
        return outcome

    @staticmethod
    def _wait(pidfd: int) -> None:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(TIMEOUT_S * 1000):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)

    def _see(self, process: _Process, before: bytes) -> None:
        if process.raw == before:
            return
        file_of = self._machine.file_of
        process.areas = [
            Area(start, end, flags, offset, file_of(device, inode))
            for start, end, flags, offset, device, inode in _AREA.iter_unpack(process.raw)
        ]


class Machine:
    """The executor, the files, and what is known of this machine; a context manager."""

    def __init__(self) -> None:
        if platform.machine() != "x86_64" or platform.system() != "Linux":
            raise Unavailable("the calls are those of Linux on x86-64")
        if shutil.which("gcc") is None:
            raise Unavailable("there is no gcc to compile the executor")
        if "la57" in Path("/proc/cpuinfo").read_text():
            raise Unavailable("five levels of page tables: addresses of 57 bits")
        if _setting("vm/overcommit_memory") == 2:
            raise Unavailable("overcommit_memory is 2: what fits depends on all processes")
        # Where every mapping gets them, even reading decides what merges later.
        self.huge_pages = _huge_pages_when_advised()
        BUILD.mkdir(exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="kernel-", dir=BUILD)
        self.executor = os.path.join(self._folder.name, "executor")
        self.files: tuple[int, ...] = ()
        self._numbers: dict[tuple[int, int], int] = {}
        try:
            subprocess.run([*COMPILE, "-o", self.executor, str(SOURCE)], check=True)
            self.files = self._open_files()
            self._memfd_device = -1
            self._probe()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Machine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for fd in self.files:
            os.close(fd)
        self.files = ()
        self._folder.cleanup()

    def start(self, privileged: bool) -> tuple[Kernel, Start]:
        """A new process, and what a simulation has to know of it; all files are zeros."""
        for file, fd in zip(FILES, self.files, strict=True):
            if file.writable:
                os.ftruncate(fd, 0)
                os.ftruncate(fd, FILE_BYTES)
        kernel = Kernel(self, privileged)
        brk = kernel.run(Call(0, "brk", (0,)), want_map=False).value
        params = SpaceParams(
            task_size=TASK_SIZE,
            mmap_min_addr=_setting("vm/mmap_min_addr"),
            mmap_base=_mmap_base(kernel.areas(0)),
            start_brk=brk,
            max_map_count=_setting("vm/max_map_count"),
            privileged=privileged and self._has_rawio,
            thp_alignment=self._anon_aligned,
            overcommit=_setting("vm/overcommit_memory"),
            commit_limit_pages=_ram_and_swap_pages(),
            linux_version=linux_version(),
            stack_limit_bytes=STACK_LIMIT_BYTES,
            lsm_min_addr=self._lsm_min_addr,
            protection_keys=self._has_pku,
        )
        areas = tuple(kernel.areas(0))
        return kernel, Start(areas, params, brk, self._thp_aligned, self.huge_pages)

    def file_of(self, device: int, inode: int) -> int:
        """What Area.file is for a device and inode of maps."""
        if device == _SPECIAL_DEVICE:
            return SPECIAL
        if inode == 0:
            return ANON
        found = self._numbers.get((device, inode))
        if found is not None:
            return found
        return SHARED_ANON if device == self._memfd_device else SPECIAL

    def _open_files(self) -> tuple[int, ...]:
        paths = [os.path.join(self._folder.name, name) for name in ("one", "two")]
        first = os.open(paths[0], os.O_RDWR | os.O_CREAT, 0o600)
        memfd = os.memfd_create("kernel-tests")
        return (
            first,
            os.open(paths[0], os.O_RDONLY),
            os.open(paths[0], os.O_RDWR),
            os.open(paths[0], os.O_WRONLY),
            os.open(paths[1], os.O_RDWR | os.O_CREAT, 0o600),
            memfd,
            os.open(f"/proc/self/fd/{memfd}", os.O_RDONLY),
        )

    def _probe(self) -> None:
        """Find out what maps calls the files, and which mappings get 2 MiB alignment."""
        self._anon_aligned, self._has_rawio, self._lsm_min_addr = False, False, 0
        self._has_pku = False
        self._thp_aligned = (False,) * len(FILES)
        for spec, fd in zip(FILES, self.files, strict=True):
            if spec.writable:
                os.ftruncate(fd, FILE_BYTES)
        firsts = [number for number, file in enumerate(FILES) if file.same_as == number]
        with Kernel(self, privileged=True) as kernel:
            self._anon_aligned = self._is_aligned(kernel, ANON)
            aligned = {file: self._is_aligned(kernel, file) for file in firsts}
            for file in firsts:
                where = kernel.run(Call(0, "map", (0, PAGE, PROT_READ, MAP_PRIVATE, file, 0))).value
                raw = kernel.raw(0)
                device, inode = next(row[4:] for row in _AREA.iter_unpack(raw) if row[0] == where)
                self._numbers[device, inode] = file
                if FILES[file].on_tmpfs:
                    self._memfd_device = device
            low = Call(
                0, "map", (0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ANON, 0)
            )
            # A hint as low as can be is raised to what the kernel was configured with.
            hint = Call(0, "map", (PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, ANON, 0))
            self._lsm_min_addr = kernel.run(hint, False).value
            self._has_rawio = kernel.run(low, False).errno != errno.EPERM
            execute_only = Call(
                0, "map", (0, PAGE, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, ANON, 0)
            )
            where = kernel.run(execute_only, False).value
            self._has_pku = kernel.run(Call(0, "touch", (where, READ, 0)), False).errno != 0
        self._thp_aligned = tuple(aligned[file.same_as] for file in FILES)

    @staticmethod
    def _is_aligned(kernel: Kernel, file: int) -> bool:
        """Whether 4 MiB come to lie at a 2 MiB boundary, also when a page more is in the way."""
        flags = MAP_PRIVATE | (MAP_ANONYMOUS if file == ANON else 0)
        call = Call(0, "map", (0, 2 * PMD, PROT_READ, flags, file, 0))
        places = []
        for _ in range(2):
            places.append(kernel.run(call, False).value)
            kernel.run(Call(0, "unmap", (places[-1], 2 * PMD)), False)
            kernel.run(Call(0, "map", (0, PAGE, PROT_READ, flags | MAP_ANONYMOUS, ANON, 0)), False)
        return all(place % PMD == 0 for place in places)


def linux_version() -> int:
    """major * 1000 + minor of the running kernel."""
    major, minor = platform.release().split(".")[:2]
    return int(major) * 1000 + int("".join(c for c in minor if c.isdigit()))


def _setting(name: str) -> int:
    return int(Path("/proc/sys", name).read_text())


def _huge_pages_when_advised() -> bool:
    path = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return path.exists() and "[madvise]" in path.read_text()


def _ram_and_swap_pages() -> int:
    text = Path("/proc/meminfo").read_text()
    sizes = dict(line.split(":") for line in text.splitlines())
    return sum(int(sizes[name].split()[0]) * 1024 // PAGE for name in ("MemTotal", "SwapTotal"))


def _mmap_base(areas: list[Area]) -> int:
    """The end of what execve() placed from mmap_base downwards: the vdso, below the stack."""
    stack = next(area for area in areas if area.flags & VM_GROWSDOWN)
    return max(area.end for area in areas if area.end < stack.start)

"""The real fork() of the machine, with as many VMAs as a simulated space has (realfork.c)."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forkstorm_load.stats import fit_line

from forkstorm_bench.figures import Effort, Figures

SOURCE = Path(__file__).with_name("realfork.c")
SIZES = (21, 121, 421, 1621, 6421, 16_384, 32_768, 65_536)
# VMAs that the kernel itself keeps free of the limit, so that the program can still run.
SPARE = 6
# What is expected of a fork, exit and wait, to choose how many to make.
EXPECTED_NS, EXPECTED_NS_PER_VMA = 150_000, 1300
SIZE_S = 1.0
FORKS_MIN, FORKS_MAX = 3, 2000


class Unavailable(Exception):
    """The real fork cannot be measured here; the text says why."""


@dataclass(frozen=True)
class RealForks:
    """Nanoseconds of a process with this many VMAs: in fork(), and until its child was waited
    for."""

    vma_count: int
    fork_ns: list[int]
    total_ns: list[int]


@contextmanager
def program() -> Iterator[Path]:
    """The compiled program, gone afterwards. Unavailable where it cannot be compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise Unavailable("there is no C compiler")
    with tempfile.TemporaryDirectory(prefix="forkstorm-bench-") as folder:
        target = Path(folder, "realfork")
        # Static, so that it has few VMAs of its own.
        command = [compiler, "-O2", "-static", "-Wall", "-o", str(target), str(SOURCE)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise Unavailable(f"realfork.c does not compile: {result.stderr.strip()[-200:]}")
        yield target


def run(path: Path, vma_count: int, forks: int) -> RealForks:
    """So many forks of a process with so many VMAs, on the last CPU this process may use.
    Unavailable where one of its system calls is refused."""
    cpu = max(os.sched_getaffinity(0))
    result = subprocess.run(
        [str(path), str(vma_count), str(forks), str(cpu)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if result.returncode != 0:
        raise Unavailable(result.stderr.strip() or f"realfork ended with {result.returncode}")
    count, *lines = result.stdout.split("\n")
    pairs = [line.split() for line in lines if line]
    return RealForks(int(count), [int(pair[0]) for pair in pairs], [int(pair[1]) for pair in pairs])


def sizes() -> list[int]:
    """SIZES as far as the kernel lets a process have so many VMAs, and the most it may have."""
    most = int(Path("/proc/sys/vm/max_map_count").read_text()) - SPARE
    return sorted({min(size, most) for size in SIZES})


def real_fork(effort: Effort, vma_counts: Sequence[int] | None = None) -> Figures:
    """T(n) of fork() and of fork, exit and wait: medians and bests, and their line a + b·n."""
    found: Figures = {}
    budget_ns = SIZE_S * 1e9 * effort.part
    try:
        measured = []
        with program() as path:
            for n in vma_counts or sizes():
                each = EXPECTED_NS + EXPECTED_NS_PER_VMA * n
                forks = min(max(FORKS_MIN, int(budget_ns / each)), FORKS_MAX)
                measured.append(run(path, n, forks))
    except (Unavailable, OSError, subprocess.TimeoutExpired) as reason:
        return {"real_fork.skipped": str(reason)}
    for one in measured:
        n = one.vma_count
        found[f"real_fork.fork_ns.{n}"] = statistics.median(one.fork_ns)
        found[f"real_fork.fork_best_ns.{n}"] = min(one.fork_ns)
        found[f"real_fork.exit_wait_ns.{n}"] = statistics.median(one.total_ns)
    for what in ("fork_ns", "exit_wait_ns"):
        counts = [one.vma_count for one in measured]
        line = fit_line(counts, [float(found[f"real_fork.{what}.{n}"] or 0) for n in counts])
        found[f"real_fork.fit.{what}.a_ns"] = line.a
        found[f"real_fork.fit.{what}.b_ns"] = line.b
        found[f"real_fork.fit.{what}.residual_max"] = line.residual_max
    return found

"""The machine that figures were taken on: they are comparable on one machine only."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import forkstormd.core.arena

from forkstorm_bench.figures import Figures


def cpu_model() -> str:
    """As the kernel calls it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def cache_sizes() -> str:
    """Sizes of the first CPU's caches, from the innermost, as the kernel writes them."""
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        found.append(f"L{level} {kind.lower()} {size}")
    return ", ".join(found)


def machine() -> Figures:
    """What decides the figures, and is not Forkstorm."""
    return {
        "machine.cpu": cpu_model(),
        "machine.cpus": len(os.sched_getaffinity(0)),
        "machine.caches": cache_sizes(),
        "machine.memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "machine.kernel": platform.release(),
        "machine.python": platform.python_version(),
        "machine.build": forkstormd.core.arena.core_build(),
        "machine.load_before": os.getloadavg()[0],
    }

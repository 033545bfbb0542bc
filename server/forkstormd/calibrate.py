"""From how many VMAs on a fork is shared out between workers: measured when a server starts.

That depends on the machine: on what it takes to wake a process on another CPU, against what a fork
takes. The first worker measures it as soon as another one is there to help, with spaces that nobody
else sees, and only then says that it is ready. Where it never pays (one CPU, one worker, an arena
too small for a fork of so many VMAs) no fork is shared out.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Sequence

from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec
from forkstormd.core.yardstick import shared_out_ns

_log = logging.getLogger("forkstormd")

#: Those that can be shared out.
STRATEGIES = (Strategy.TREE_DUP, Strategy.EXTENT_COPY)
# Half octaves; a machine that needs more than the last is better off without.
_SIZES = (4096, 6144, 8192, 12288, 16384, 24576, 32768, 49152, 65536)
_FORKS = 21
_WARM_UP_FORKS = 50
# Sharing out shall be worth this much before it is done at all.
_WORTH = 1.05
# Of the arena per VMA: a space to fork, its child, and much that is others'.
_ROOM_BYTES = 1024
_WAIT_S = 3.0
_LOOK_S = 0.005
_PAGE = 4096


def choose(mm: MemoryManager, told: int | None) -> None:
    """Set parallel_vmas of all strategies: as told, or, for None, as measured. The helpers of other
    processes are there, or about to be."""
    sizes: list[int] = []
    if told is None:
        room = mm.arena.usage()["capacity_bytes"] // _ROOM_BYTES
        sizes = [size for size in _SIZES if size <= room]
    if sizes and not _is_helped(mm):
        sizes = []
    vmas: list[VmaSpec] = []
    for strategy in STRATEGIES:
        try:
            least = told or _break_even(mm, strategy, sizes, vmas)
        except CoreError as error:  # A file system that is full.
            _log.warning("forks by %s are not shared out: %s", strategy.name, error)
            least = 0
        mm.set_parallel_vmas(strategy, least)


def _break_even(
    mm: MemoryManager, strategy: Strategy, sizes: Sequence[int], vmas: list[VmaSpec]
) -> int:
    """From which of the sizes on a fork is faster with another process's help; 0: never. The first
    of two in a row at which it is, since the gain begins small. `vmas` is filled as needed."""
    least = 0
    for size in sizes:
        vmas += _layout(len(vmas), size)
        alone, together, helped = shared_out_ns(
            mm, SpaceParams(), vmas[:size], strategy, _FORKS, _WARM_UP_FORKS
        )
        # Pair by pair, because a machine that has just started a server is not quiet yet.
        gain = statistics.median(a / b for a, b in zip(alone, together, strict=True))
        if not helped or gain < _WORTH:
            least = 0
        elif least or size == sizes[-1]:
            return least or size
        else:
            least = size
    return 0


def _is_helped(mm: MemoryManager) -> bool:
    """Wait until another process helps; False when none does."""
    vmas = _layout(0, _SIZES[0])
    ends_at = time.monotonic() + _WAIT_S
    with contextlib.suppress(CoreError):
        while time.monotonic() < ends_at:
            if shared_out_ns(mm, SpaceParams(), vmas, Strategy.TREE_DUP, 1, 0)[2]:
                return True
            time.sleep(_LOOK_S)
    return False


def _layout(first: int, last: int) -> list[VmaSpec]:
    """VMAs first to last - 1 of runs of five of a page that cannot merge, with gaps between."""
    starts = ((i, _PAGE * (0x1_0000 + i + i // 5)) for i in range(first, last))
    return [VmaSpec(at, at + _PAGE, 0x73 if i % 2 else 0x71) for i, at in starts]

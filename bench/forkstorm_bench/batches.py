"""Apply: operations per second in batches against one call each, through the client library.

One connection to one worker, one thread that waits for each answer. What is counted includes making
the batch. Map and Unmap of two pages in turn, in a space of a real layout, so that the space stays
as it is.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import forkstorm
from forkstorm.constants import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE
from forkstorm_load.layouts import seed_layout
from forkstorm_load.server import own_server

from forkstorm_bench.figures import Effort, Figures, ratio

VMAS = 421
LENGTH = 8192
PLACE = 0x7000_0000_0000
FLAGS = int(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
# Operations in a batch, and batches in a round.
SIZES = {100: 100, 1000: 30}
CALLS = 300


def _place(i: int) -> int:
    return PLACE + i % 64 * 2 * LENGTH


def _batch(size: int) -> forkstorm.Batch:
    batch = forkstorm.Batch()
    for i in range(size // 2):
        batch.map(LENGTH, flags=FLAGS, addr=_place(i))
        batch.unmap(_place(i), LENGTH)
    return batch


def _calls(space: forkstorm.AddressSpace) -> int:
    for i in range(CALLS // 2):
        space.map(LENGTH, flags=FLAGS, addr=_place(i))
        space.unmap(_place(i), LENGTH)
    return CALLS


def _applied(space: forkstorm.AddressSpace, size: int) -> int:
    for _ in range(SIZES[size]):
        space.apply(_batch(size))
    return size * SIZES[size]


def _streamed(space: forkstorm.AddressSpace, size: int) -> int:
    batches = (_batch(size) for _ in range(SIZES[size]))
    return sum(len(result.results) for result in space.apply_stream(batches))


def _per_second(calls: Callable[[], int]) -> float:
    began = time.perf_counter()
    return calls() / (time.perf_counter() - began)


def batches(effort: Effort) -> Figures:
    """Figures of a server of its own with one worker."""
    with own_server(workers=1) as server, forkstorm.connect(server.address, retries=0) as client:
        space = client.create(seed_layout(VMAS))
        ways: dict[str, Callable[[], int]] = {
            "unary": lambda: _calls(space),
            "100": lambda: _applied(space, 100),
            "1000": lambda: _applied(space, 1000),
            "stream_1000": lambda: _streamed(space, 1000),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(effort.rounds):
            for name, calls in ways.items():
                rates[name].append(_per_second(calls))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        timing = space.apply(_batch(1000)).timing
    unary = rates.pop("unary")
    figures: Figures = {"unary_operations_per_s": statistics.median(unary)}
    for name, found in rates.items():
        figures[f"apply_over_unary.{name}"] = ratio(found, unary)
        figures[f"apply_operations_per_s.{name}"] = statistics.median(found)
    figures["apply_core_ns_per_operation"] = timing.core_ns / 1000
    figures["apply_client_cpu"] = cpu / wall
    return figures

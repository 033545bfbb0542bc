"""The RPCs: Fork + Exit against two Pings on the same worker, readiness, memory per worker.

The client sends and gets bytes, and parses only what it needs, so that it stays well below half
a core: above that it would measure its own queue.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from typing import cast
from uuid import uuid4

import forkstorm
import grpc
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2 as types
from forkstorm_load.layouts import seed_layout
from forkstorm_load.server import own_server

from forkstorm_bench.core import Figures
from forkstorm_bench.figures import ratio

SERVICE = "/forkstorm.v1.AddressSpaces/"
VMAS = 421
ROUNDS = 15
CALLS = 150


class Wire:
    """One connection to one worker, in bytes."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel(
            endpoint, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.ping = self._call("Ping")
        self.fork = self._call("Fork")
        self.exit = self._call("Exit")
        self.create = self._call("CreateAddressSpace")

    def _call(self, name: str) -> Callable[[bytes], bytes]:
        return cast(Callable[[bytes], bytes], self.channel.unary_unary(SERVICE + name))

    def space(self) -> int:
        request = pb.CreateAddressSpaceRequest(request_id=str(uuid4()), maps_text=seed_layout(VMAS))
        answer = pb.CreateAddressSpaceResponse.FromString(self.create(request.SerializeToString()))
        return answer.mm_id

    def pings(self) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            self.ping(b"")
            self.ping(b"")
        return time.perf_counter() - began

    def forks(self, mm_id: int, strategy: types.ForkStrategy) -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            fork = pb.ForkRequest(mm_id=mm_id, strategy=strategy, request_id=str(uuid4()))
            child = pb.ForkResponse.FromString(self.fork(fork.SerializeToString())).child
            self.exit(pb.ExitRequest(mm_id=child, request_id=str(uuid4())).SerializeToString())
        return time.perf_counter() - began


def rpc() -> Figures:
    """Figures of a server of its own with two workers."""
    began = time.monotonic()
    with own_server() as server:
        figures: Figures = {"server_ready_s": time.monotonic() - began}
        with forkstorm.connect(server.address) as client:
            workers = client.server().workers
        wire = Wire(workers[0].endpoint)
        mm_id = wire.space()
        wire.pings()
        cpu, wall = time.process_time(), time.monotonic()
        pings: list[float] = []
        forks: dict[types.ForkStrategy, list[float]] = {
            types.FORK_STRATEGY_BULK_INSERT: [],
            types.FORK_STRATEGY_TREE_DUP: [],
        }
        for _ in range(ROUNDS):
            pings.append(wire.pings())
            for strategy, times in forks.items():
                times.append(wire.forks(mm_id, strategy))
        figures["client_cpu"] = (time.process_time() - cpu) / (time.monotonic() - wall)
        figures["ping_us"] = statistics.median(pings) / (2 * CALLS) * 1e6
        for strategy in forks:
            name = types.ForkStrategy.Name(strategy).removeprefix("FORK_STRATEGY_")
            figures[f"fork_exit_us.{name}"] = statistics.median(forks[strategy]) / CALLS * 1e6
            figures[f"fork_over_ping.{name}"] = ratio(pings, forks[strategy])
        with forkstorm.connect(server.address) as client:
            rss = [worker.rss_bytes for worker in client.server().workers]
        figures["worker_rss_mb"] = max(rss) / 1e6
        wire.channel.close()
    figures["cpu_count"] = os.cpu_count()
    return figures

"""The RPCs: rates by one worker and by two, against Ping; readiness, memory per worker.

Each worker has a client process of its own, with one connection and one call at a time. Clients
send and get bytes, and parse only what they need, so that they stay well below half a core: above
that they would measure their own queue.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast
from uuid import uuid4

import forkstorm
import grpc
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm_load.layouts import seed_layout
from forkstorm_load.server import own_server
from forkstormd.core.types import Strategy

from forkstorm_bench.figures import Effort, Figures
from forkstorm_bench.processes import Piece, Rounds, processes
from forkstorm_bench.spaces import SMALL

SERVICE = "/forkstorm.v1.AddressSpaces/"
PAGE, PROT_READ, PRIVATE_ANONYMOUS = 4096, 1, 0x22
# Forks of one RepeatFork: some ten milliseconds, so that the call itself is a small part.
REPEATED_FORKS = {
    Strategy.BULK_INSERT: 4000,
    Strategy.TREE_DUP: 4000,
    Strategy.EXTENT_COPY: 40_000,
    Strategy.SHARE: 40_000,
}
# Calls between two looks at the clock.
CALLS = 20


def name_of(strategy: Strategy) -> str:
    """What the API calls a strategy of the core."""
    return f"FORK_STRATEGY_{strategy.name}"


class Wire:
    """One connection to one worker, in bytes, and a space of 421 VMAs."""

    def __init__(self, endpoint: str) -> None:
        self.channel = grpc.insecure_channel(
            endpoint, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self.ping = self._call("Ping")
        self.fork = self._call("Fork")
        self.exit = self._call("Exit")
        self.map = self._call("Map")
        self.unmap = self._call("Unmap")
        self.repeat = cast(
            Callable[[bytes], Iterator[bytes]], self.channel.unary_stream(SERVICE + "RepeatFork")
        )
        request = pb.CreateAddressSpaceRequest(
            request_id=str(uuid4()), maps_text=seed_layout(SMALL)
        )
        answer = self._call("CreateAddressSpace")(request.SerializeToString())
        self.mm_id = pb.CreateAddressSpaceResponse.FromString(answer).mm_id

    def _call(self, name: str) -> Callable[[bytes], bytes]:
        return cast(Callable[[bytes], bytes], self.channel.unary_unary(SERVICE + name))

    def pings(self) -> int:
        for _ in range(2 * CALLS):
            self.ping(b"")
        return 2 * CALLS

    def forks(self, strategy: Strategy) -> int:
        """Fork and Exit, with request ids."""
        how = name_of(strategy)
        for _ in range(CALLS):
            fork = pb.ForkRequest(mm_id=self.mm_id, strategy=how, request_id=str(uuid4()))
            child = pb.ForkResponse.FromString(self.fork(fork.SerializeToString())).child
            self.exit(pb.ExitRequest(mm_id=child, request_id=str(uuid4())).SerializeToString())
        return CALLS

    def maps(self) -> int:
        """Map a page where there is room, Unmap it."""
        for _ in range(CALLS):
            request = pb.MapRequest(
                mm_id=self.mm_id,
                length_bytes=PAGE,
                prot=PROT_READ,
                flags=PRIVATE_ANONYMOUS,
                request_id=str(uuid4()),
            )
            addr = pb.MapResponse.FromString(self.map(request.SerializeToString())).addr
            self.unmap(
                pb.UnmapRequest(
                    mm_id=self.mm_id, addr=addr, length_bytes=PAGE, request_id=str(uuid4())
                ).SerializeToString()
            )
        return CALLS

    def repeated(self, strategy: Strategy) -> int:
        """Forks and exits inside the server."""
        request = pb.RepeatForkRequest(
            mm_id=self.mm_id,
            strategies=[name_of(strategy)],
            forks_per_strategy=REPEATED_FORKS[strategy],
        )
        for _ in self.repeat(request.SerializeToString()):
            pass
        return REPEATED_FORKS[strategy]


def client_work(endpoint: str) -> dict[str, Piece]:
    """What a client can be told to do; each answers how often it was done."""
    wire = Wire(endpoint)
    work: dict[str, Piece] = {"ping": wire.pings}
    for strategy in Strategy:
        work[f"fork_exit.{strategy.name}"] = partial(wire.forks, strategy)
        work[f"repeat_fork.{strategy.name}"] = partial(wire.repeated, strategy)
    work["map_unmap"] = wire.maps
    return work


def rpc(effort: Effort) -> Figures:
    """Figures of a server of its own with two workers."""
    began = time.monotonic()
    with own_server() as server:
        found: Figures = {"server_ready_s": time.monotonic() - began}
        with forkstorm.connect(server.address) as client:
            endpoints = [worker.endpoint for worker in client.server().workers]
        arguments = [(endpoint,) for endpoint in endpoints]
        with processes(client_work, arguments, pinned=False) as pair:
            taken = pair.rounds(pair.names, effort)
        with forkstorm.connect(server.address) as client:
            rss = [worker.rss_bytes for worker in client.server().workers]
    found["worker_rss_mb"] = max(rss) / 1e6
    found["cpu_count"] = os.cpu_count()
    return found | figures_of(taken)


def figures_of(taken: dict[str, Rounds]) -> Figures:
    """Rates, and ratios pair by pair."""
    found: Figures = {}
    for name, rounds in taken.items():
        found[f"rpc_per_s.one_worker.{name}"] = statistics.median(rounds.one)
        found[f"rpc_per_s.two_workers.{name}"] = statistics.median(rounds.two)
        found[f"rpc_client_cpu.one_worker.{name}"] = statistics.median(rounds.cpu_one)
        found[f"rpc_client_cpu.two_workers.{name}"] = statistics.median(rounds.cpu_two)
    found["client_cpu"] = max(
        statistics.median(rounds.cpu_one)
        for name, rounds in taken.items()
        if name == "ping" or name.startswith("fork_exit.")
    )
    pings = taken["ping"].one
    found["ping_us"] = 1e6 / statistics.median(pings)
    for strategy in Strategy:
        forks = taken[f"fork_exit.{strategy.name}"].one
        found[f"fork_exit_us.{strategy.name}"] = 1e6 / statistics.median(forks)
        # A fork and an exit over two Pings.
        found[f"fork_over_ping.{strategy.name}"] = statistics.median(
            2 * fork / ping for fork, ping in zip(forks, pings, strict=True)
        )
    found["repeat_fork_per_s"] = statistics.median(taken["repeat_fork.EXTENT_COPY"].one)
    return found

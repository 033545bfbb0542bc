"""The server under test, as the orchestrating process sees it: layouts and repeated forks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from types import TracebackType

import grpc
import numpy as np
from forkstorm.v1 import (
    address_spaces_pb2 as pb,
)
from forkstorm.v1 import (
    address_spaces_pb2_grpc,
    diagnostics_pb2,
    diagnostics_pb2_grpc,
    types_pb2,
)

from forkstorm_load.measure import Block
from forkstorm_load.recorder import WORK_COUNTS

_CALL_S = 20.0
# The server ends what is loaded here even when this process is killed.
_TTL_NS = 3600 * 10**9


class Target:
    """A connection to the server; what is loaded through it ends with it."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self._spaces = address_spaces_pb2_grpc.AddressSpacesStub(self._channel)
        self._diagnostics = diagnostics_pb2_grpc.DiagnosticsStub(self._channel)
        self._labels = {"measure": uuid.uuid4().hex}

    def __enter__(self) -> Target:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._spaces.Exit(
                pb.ExitRequest(request_id=str(uuid.uuid4()), labels=pb.Labels(labels=self._labels)),
                timeout=_CALL_S,
            )
        except grpc.RpcError:
            # Nothing to end: nothing was loaded, or the server is gone with all it held.
            if error is None:
                raise
        finally:
            self._channel.close()

    def load(self, text: bytes) -> tuple[int, int]:
        """Makes a space from maps text: its id and number of VMAs."""
        answer = self._spaces.CreateAddressSpace(
            pb.CreateAddressSpaceRequest(
                request_id=str(uuid.uuid4()), maps_text=text, labels=self._labels, ttl_ns=_TTL_NS
            ),
            timeout=_CALL_S,
        )
        return answer.mm_id, answer.vma_count

    def repeat_fork(
        self, mm_id: int, strategies: Sequence[str], forks: int, block: int, warmup: int
    ) -> Iterator[Block]:
        """measure.RepeatFork."""
        request = pb.RepeatForkRequest(
            mm_id=mm_id,
            strategies=[
                types_pb2.ForkStrategy.Value(f"FORK_STRATEGY_{name}") for name in strategies
            ],
            forks_per_strategy=forks,
            block_fork_count=block,
            warmup_fork_count=warmup,
        )
        for answer in self._spaces.RepeatFork(request, timeout=_CALL_S):
            yield Block(
                strategy_index=answer.strategy_index,
                block=answer.block,
                core_ns=np.array(answer.core_ns, dtype=np.uint32),
                work={name: getattr(answer.work, name) for name in WORK_COUNTS},
            )

    def describe(self) -> str:
        """The server and its machine in half a line."""
        server = self._diagnostics.GetServer(diagnostics_pb2.GetServerRequest(), timeout=_CALL_S)
        return (
            f"{server.version}, {server.core_build} core, {len(server.workers)} workers; "
            f"{server.host.cpu_model}, {server.host.cpu_count} CPUs, Linux {server.host.kernel}"
        )

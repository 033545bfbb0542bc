"""The server streams: StreamVmas and RepeatFork.

Each holds a thread of its worker while it lasts, so it takes a long turn (state.py), and stops
between two pieces when its caller is gone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import partial
from time import monotonic_ns

import grpc
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import Work
from forkstormd.errors import Refusal, abort, invalid, limit_exceeded
from forkstormd.service import replies
from forkstormd.service.requests import strategy_of
from forkstormd.service.state import Turn, WorkerState

# --- StreamVmas ------------------------------------------------------------------------------

# 20 bytes and more per VMA: well below the 4 MiB that a client accepts by default.
_CHUNK_VMAS = 4096
_CHUNK_VMAS_MAX = 65_536
_NAME_HEAP, _NAME_STACK, _NAME_FILES = 1, 2, 2


def stream_vmas(
    state: WorkerState, request: pb.StreamVmasRequest, context: grpc.ServicerContext
) -> Iterator[pb.StreamVmasResponse]:
    """All VMAs of one instant, in columns; the last chunk carries the totals."""
    try:
        if request.chunk_vma_count > _CHUNK_VMAS_MAX:
            raise limit_exceeded(
                "chunk_vmas", f"a chunk has at most {_CHUNK_VMAS_MAX} VMAs", "chunk_vma_count"
            )
        with state.long_turn(context) as turn:
            yield from _chunks(state.mm, request, turn)
    except (CoreError, Refusal) as error:
        abort(context, error)


def _chunks(
    mm: MemoryManager, request: pb.StreamVmasRequest, turn: Turn
) -> Iterator[pb.StreamVmasResponse]:
    size = request.chunk_vma_count or _CHUNK_VMAS
    known: set[int] = {0}
    with mm.snapshot(request.mm_id, deadline_ns=turn.deadline_ns) as snapshot:
        left = snapshot.info.vma_count
        while True:
            if turn.is_cancelled():
                raise Refusal("CANCELLED", "the call was cancelled")
            start, end, vm_flags, offset_bytes, names = snapshot.read(size)
            chunk = pb.StreamVmasResponse(
                names=[_vma_name(mm, name) for name in sorted(set(names) - known)],
                columns=types_pb2.VmaColumns(
                    start=start,
                    end=end,
                    vm_flags=vm_flags,
                    offset_bytes=offset_bytes,
                    name_index=names,
                ),
            )
            known.update(names)
            left -= len(start)
            if left > 0 and start:
                yield chunk
                continue
            replies.fill_address_space(chunk.totals, snapshot.info)
            yield chunk
            return


def _vma_name(mm: MemoryManager, name: int) -> types_pb2.VmaName:
    """A name of the core's snapshot, under the same number."""
    if name == _NAME_HEAP:
        return types_pb2.VmaName(index=name, name=replies.HEAP)
    if name == _NAME_STACK:
        return types_pb2.VmaName(index=name, name=replies.STACK)
    return replies.vma_name(name, mm.file_info(name - _NAME_FILES))


# --- RepeatFork ------------------------------------------------------------------------------

MAX_REPEAT_FORKS = 10_000_000
_STRATEGIES_MAX = 8
_BLOCK_FORKS_MAX = 100_000
# The server's choice gives this many blocks per strategy, enough to resample them.
_BLOCKS = 40
# A core call repeats so many forks at first, then as many as take about _STRIDE_NS: between two
# calls there is a look at whether the caller is still there.
_STRIDE_FORKS = 100
_STRIDE_NS = 20_000_000
_U32_MAX = (1 << 32) - 1


def repeat_fork(
    state: WorkerState, request: pb.RepeatForkRequest, context: grpc.ServicerContext
) -> Iterator[pb.RepeatForkResponse]:
    """Fork and exit in blocks, strategies A B B A (and A B C D D C B A): one answer per block."""
    try:
        strategies = _checked_strategies(request, state.default_strategy)
        forks = request.forks_per_strategy
        size = request.block_fork_count or max(1, min(forks // _BLOCKS, _BLOCK_FORKS_MAX))
        with state.long_turn(context) as turn:
            block_of = partial(_block, state.mm, request.mm_id, not request.share_out, turn)
            for strategy in strategies:
                if request.warmup_fork_count:
                    block_of(strategy, request.warmup_fork_count)
            for block, (index, count) in enumerate(block_plan(len(strategies), forks, size)):
                durations, exit_ns, work, used = block_of(strategies[index], count)
                answer = pb.RepeatForkResponse(
                    strategy_index=index,
                    strategy=used,  # type: ignore[arg-type]
                    block=block,
                    core_ns=_fitting(durations),
                    exit_ns=exit_ns,
                    worker=state.config.index,
                )
                replies.fill_work(answer.work, work)
                yield answer
    except (CoreError, Refusal) as error:
        abort(context, error)


def _fitting(durations: array[int]) -> Sequence[int]:
    """Durations as 32 bits hold them. Nearly always they are as they are."""
    if max(durations) <= _U32_MAX:
        return durations
    return [min(duration, _U32_MAX) for duration in durations]


def block_plan(strategies: int, forks: int, size: int) -> Iterator[tuple[int, int]]:
    """Which strategy (by index) each block measures, and its number of forks.

    Every other round goes backwards, so that a drift of the machine meets all alike.
    """
    order = list(range(strategies))
    done = 0
    while done < forks:
        count = min(size, forks - done)
        for index in order:
            yield index, count
        order.reverse()
        done += count


def _checked_strategies(
    request: pb.RepeatForkRequest, default: types_pb2.ForkStrategy
) -> list[types_pb2.ForkStrategy]:
    if not 1 <= len(request.strategies) <= _STRATEGIES_MAX:
        raise invalid("strategies", f"needs 1 to {_STRATEGIES_MAX} strategies")
    strategies = [strategy_of(number, default, "strategies") for number in request.strategies]
    if request.forks_per_strategy == 0:
        raise invalid("forks_per_strategy", "needs at least one fork")
    if request.block_fork_count > _BLOCK_FORKS_MAX:
        raise limit_exceeded(
            "block_forks", f"a block has at most {_BLOCK_FORKS_MAX} forks", "block_fork_count"
        )
    forks = (request.forks_per_strategy + request.warmup_fork_count) * len(strategies)
    if forks > MAX_REPEAT_FORKS:
        raise limit_exceeded(
            "repeat_forks",
            f"{forks} forks; the limit is {MAX_REPEAT_FORKS}, warm-up and all strategies together",
            "forks_per_strategy",
        )
    return strategies


def _block(
    mm: MemoryManager, mm_id: int, alone: bool, turn: Turn, strategy: int, count: int
) -> tuple[array[int], int, Work, int]:
    """`count` forks in a row: ns of each, ns of their exits together, the work of one, and
    the strategy used."""
    durations = array("Q")
    exits_ns = 0
    stride = _STRIDE_FORKS
    while True:
        if turn.is_cancelled():
            raise Refusal("CANCELLED", "the call was cancelled")
        forks = min(stride, count - len(durations))
        began_ns = monotonic_ns()
        part, exit_ns, work, used = mm.repeat_fork(
            mm_id, strategy, forks, alone=alone, deadline_ns=turn.deadline_ns
        )
        durations.extend(part)
        exits_ns += exit_ns
        if len(durations) >= count:
            return durations, exits_ns, work, used
        stride = max(1, forks * _STRIDE_NS // (monotonic_ns() - began_ns))

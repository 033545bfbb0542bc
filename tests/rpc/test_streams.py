"""StreamVmas and RepeatFork."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb

from tests.rpc.calls import BULK_INSERT, EXTENT_COPY, SHARE, STRATEGIES, TREE_DUP, Api, refused
from tests.rpc.texts import many_vmas

CODE = grpc.StatusCode


def repeat(api: Api, mm_id: int, **fields: object) -> list[pb.RepeatForkResponse]:
    return list(api.spaces.RepeatFork(pb.RepeatForkRequest(mm_id=mm_id, **fields)))  # type: ignore[arg-type]


@pytest.fixture
def busy(api: Api) -> Iterator[int]:
    """A space of 421 VMAs."""
    mm_id = api.create(many_vmas(421))
    yield mm_id
    api.exit(mm_id)


@pytest.mark.parametrize("size", [1, 7, 421, 1000])
def test_chunks(api: Api, busy: int, size: int) -> None:
    vmas = api.vmas(busy, size)
    assert [vma.start for vma in vmas] == [0x1000_0000 + i * 0x2000 for i in range(421)]
    chunks = list(api.spaces.StreamVmas(pb.StreamVmasRequest(mm_id=busy, chunk_vma_count=size)))
    assert [chunk.HasField("totals") for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert all(len(chunk.columns.start) <= size for chunk in chunks)
    assert chunks[-1].totals.vma_count == 421


def test_a_stream_is_one_instant(api: Api, busy: int) -> None:
    stream = api.spaces.StreamVmas(pb.StreamVmasRequest(mm_id=busy, chunk_vma_count=10))
    seen = list(next(stream).columns.start)
    api.unmap(busy, 0x1000_0000, 0x2000 * 421)
    for chunk in stream:
        seen += chunk.columns.start
    assert len(seen) == 421
    assert api.vmas(busy) == []


def test_an_abandoned_stream_gives_its_memory_back(api: Api, busy: int) -> None:
    stream = api.spaces.StreamVmas(pb.StreamVmasRequest(mm_id=busy, chunk_vma_count=1))
    next(stream)
    stream.cancel()
    api.unmap(busy, 0x1000_0000, 0x2000 * 200)
    assert len(api.vmas(busy)) == 221


def test_chunks_have_a_limit(api: Api, busy: int) -> None:
    with refused(CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", limit="chunk_vmas"):
        api.vmas(busy, 70_000)


def test_blocks_go_a_b_b_a(api: Api, busy: int) -> None:
    blocks = repeat(
        api,
        busy,
        strategies=[BULK_INSERT, TREE_DUP],
        forks_per_strategy=50,
        block_fork_count=20,
        warmup_fork_count=5,
    )
    assert [block.strategy_index for block in blocks] == [0, 1, 1, 0, 0, 1]
    assert [block.strategy for block in blocks] == [1, 2, 2, 1, 1, 2]
    assert [block.block for block in blocks] == list(range(6))
    assert [len(block.core_ns) for block in blocks] == [20, 20, 20, 20, 10, 10]
    assert all(ns > 0 for block in blocks for ns in block.core_ns)
    assert all(block.exit_ns > 0 and block.work.records_copied == 421 for block in blocks)
    # Every fork of a strategy is alike, and the two differ as they should.
    works = [
        {block.work.SerializeToString() for block in blocks if block.strategy == s} for s in (1, 2)
    ]
    assert [len(each) for each in works] == [1, 1]
    assert blocks[0].work.levels_climbed > 0 == blocks[1].work.levels_climbed
    assert api.info(busy).vma_count == 421


def test_a_strategy_twice_is_a_control(api: Api, busy: int) -> None:
    blocks = repeat(api, busy, strategies=[TREE_DUP, TREE_DUP], forks_per_strategy=40)
    counts = [sum(len(b.core_ns) for b in blocks if b.strategy_index == i) for i in (0, 1)]
    assert counts == [40, 40]
    assert {block.strategy for block in blocks} == {TREE_DUP}


def test_all_strategies_go_there_and_back(api: Api, busy: int) -> None:
    blocks = repeat(
        api,
        busy,
        strategies=STRATEGIES,
        forks_per_strategy=60,
        block_fork_count=20,
        warmup_fork_count=5,
    )
    order = [BULK_INSERT, TREE_DUP, EXTENT_COPY, SHARE, SHARE, EXTENT_COPY, TREE_DUP, BULK_INSERT]
    assert [block.strategy for block in blocks] == [*order, *STRATEGIES]
    assert [block.block for block in blocks] == list(range(12))
    assert all(ns > 0 for block in blocks for ns in block.core_ns)
    works = {block.strategy: block.work for block in blocks}
    assert all(block.work == works[block.strategy] for block in blocks)
    copied = [works[strategy].records_copied for strategy in STRATEGIES]
    assert copied == [421, 421, 421, 0]
    # As many nodes as its parent has, in one run of memory; or none.
    nodes = [works[strategy].nodes_allocated for strategy in (TREE_DUP, EXTENT_COPY, SHARE)]
    assert nodes == [api.info(busy).node_count] * 2 + [0]
    assert works[EXTENT_COPY].slots_written == 0


def test_a_share_of_too_much_that_is_special_says_what_it_became(api: Api) -> None:
    mm_id = api.create(many_vmas(60))
    api.advise(mm_id, api.vmas(mm_id)[0].start, 4096, 10)
    (block,) = repeat(api, mm_id, strategies=[SHARE], forks_per_strategy=3, block_fork_count=3)
    assert (block.strategy_index, block.strategy) == (0, EXTENT_COPY)
    assert block.work.records_copied == 60
    api.exit(mm_id)


def test_three_strategies_and_the_default(api: Api, busy: int) -> None:
    blocks = repeat(
        api, busy, strategies=[0, BULK_INSERT, TREE_DUP], forks_per_strategy=2, block_fork_count=1
    )
    assert [b.strategy_index for b in blocks] == [0, 1, 2, 2, 1, 0]
    assert blocks[0].strategy == TREE_DUP


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"forks_per_strategy": 1}, "INVALID_REQUEST", "strategies"),
        ({"strategies": [1] * 9, "forks_per_strategy": 1}, "INVALID_REQUEST", "strategies"),
        ({"strategies": [77], "forks_per_strategy": 1}, "INVALID_REQUEST", "strategies"),
        ({"strategies": [1]}, "INVALID_REQUEST", "forks_per_strategy"),
        (
            {"strategies": [1], "forks_per_strategy": 10_000_001},
            "LIMIT_EXCEEDED",
            "forks_per_strategy",
        ),
        (
            {"strategies": [1], "forks_per_strategy": 1, "warmup_fork_count": 10_000_000},
            "LIMIT_EXCEEDED",
            "forks_per_strategy",
        ),
        (
            {"strategies": [1], "forks_per_strategy": 1, "block_fork_count": 100_001},
            "LIMIT_EXCEEDED",
            "block_fork_count",
        ),
    ],
)
def test_limits_of_repeat_fork(
    api: Api, busy: int, fields: dict[str, object], reason: str, field: str
) -> None:
    code = CODE.INVALID_ARGUMENT if reason == "INVALID_REQUEST" else CODE.RESOURCE_EXHAUSTED
    with refused(code, reason, field=field):
        repeat(api, busy, **fields)


def test_a_deadline_ends_a_repetition(api: Api, busy: int) -> None:
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        for _ in api.spaces.RepeatFork(
            pb.RepeatForkRequest(
                mm_id=busy, strategies=[BULK_INSERT], forks_per_strategy=5_000_000
            ),
            timeout=0.5,
        ):
            pass
    assert caught.value.code() is CODE.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 5
    assert _soon_idle(api, busy)


def test_cancelling_ends_a_repetition(api: Api, busy: int) -> None:
    stream = api.spaces.RepeatFork(
        pb.RepeatForkRequest(
            mm_id=busy, strategies=[TREE_DUP], forks_per_strategy=5_000_000, block_fork_count=100
        )
    )
    for block in itertools.islice(stream, 3):
        assert len(block.core_ns) == 100
    stream.cancel()
    assert _soon_idle(api, busy)


def test_ping_is_served_while_all_other_threads_are_busy(api: Api, busy: int) -> None:
    request = pb.RepeatForkRequest(
        mm_id=busy, strategies=[TREE_DUP], forks_per_strategy=5_000_000, block_fork_count=10
    )
    streams = [api.spaces.RepeatFork(request) for _ in range(3)]
    for stream in streams:
        next(stream)
    with refused(CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", limit="threads"):
        next(api.spaces.RepeatFork(request))
    api.spaces.Ping(pb.PingRequest(), timeout=5)
    for stream in streams:
        stream.cancel()
    assert _soon_idle(api, busy)


def _soon_idle(api: Api, mm_id: int) -> bool:
    """Whether the worker takes as many streams again as it can."""
    request = pb.RepeatForkRequest(mm_id=mm_id, strategies=[TREE_DUP], forks_per_strategy=1)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            streams = [api.spaces.RepeatFork(request) for _ in range(3)]
            for stream in streams:
                list(stream)
            return True
        except grpc.RpcError:
            time.sleep(0.05)
    return False


def test_one_thread_does_not_wait_for_a_busy_space(api: Api) -> None:
    """Forks of one large space wait for each other; the worker's last thread gives up soon."""
    text = many_vmas(300_000)

    def pieces() -> Iterator[pb.ImportAddressSpaceRequest]:
        yield pb.ImportAddressSpaceRequest(create=pb.CreateAddressSpaceRequest(ttl_ns=60 * 10**9))
        for at in range(0, len(text), 1 << 20):
            yield pb.ImportAddressSpaceRequest(maps_text=text[at : at + (1 << 20)])

    mm_id = api.spaces.ImportAddressSpace(pieces()).mm_id
    request = pb.ForkRequest(mm_id=mm_id, strategy=BULK_INSERT, ttl_ns=60 * 10**9)
    calls = [api.spaces.Fork.future(request) for _ in range(8)]
    began = time.monotonic()
    api.spaces.Ping(pb.PingRequest(), timeout=10)
    waited_s = time.monotonic() - began
    children, limits = [], []
    for call in calls:
        try:
            children.append(call.result().child)
        except grpc.RpcError:
            with refused(CODE.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", limit="threads"):
                call.result()
            limits.append("threads")
    assert children
    assert limits
    assert waited_s < 5
    for space in (mm_id, *children):
        api.exit(space)

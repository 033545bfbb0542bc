"""Fork through the API: every strategy, what a child inherits, deadlines and cancellation."""

from __future__ import annotations

import time
from pathlib import Path

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import types_pb2

from tests.rpc.calls import (
    BULK_INSERT,
    EXTENT_COPY,
    NO_SPACE,
    SHARE,
    STRATEGIES,
    TREE_DUP,
    Api,
    refused,
    request_id,
)
from tests.rpc.texts import many_vmas

LAYOUTS = Path(__file__).parents[2] / "loadtest" / "layouts"


@pytest.fixture
def java(api: Api) -> int:
    return api.create((LAYOUTS / "java17.maps").read_bytes(), ttl_ns=600 * 10**9)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_child_is_its_parent_s_copy(api: Api, java: int, strategy: int) -> None:
    answer = api.fork(java, strategy=strategy, with_phases=True)
    assert answer.strategy == strategy
    assert answer.vma_count == api.info(java).vma_count
    if strategy == SHARE:
        assert answer.work == types_pb2.WorkCounts()
    else:
        assert answer.work.records_copied == answer.vma_count
        assert answer.work.nodes_allocated > 0
    assert answer.timing.core_ns > 0
    assert answer.timing.server_ns > answer.timing.core_ns
    assert answer.phases.prepare_ns + answer.phases.entries_ns <= answer.timing.core_ns
    assert api.vmas(answer.child) == api.vmas(java)
    parent, child = api.info(java), api.info(answer.child)
    for name in ("brk", "total_vm_pages", "data_vm_pages", "stack_vm_pages", "charged_pages"):
        assert getattr(parent, name) == getattr(child, name)
    api.exit(answer.child)
    assert len(api.vmas(java)) == answer.vma_count


def test_phases_only_when_asked_for(api: Api, java: int) -> None:
    answer = api.fork(java)
    assert not answer.HasField("phases")
    api.exit(answer.child)


def test_an_unset_strategy_is_the_server_s_default(api: Api, java: int) -> None:
    answer = api.fork(java)
    assert answer.strategy == TREE_DUP
    api.exit(answer.child)


@pytest.mark.parametrize("strategy", [5, 99, -1])
def test_an_unknown_strategy(api: Api, java: int, strategy: int) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST", field="strategy"):
        api.fork(java, strategy=strategy)


def test_dontcopy_is_left_out_and_wipeonfork_kept(api: Api) -> None:
    text = (
        b"10000-11000 rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac dc \n"
        b"20000-21000 rw-p 00000000 00:00 0 \nVmFlags: rd wr mr mw me ac wf \n"
    )
    mm_id = api.create(text)
    for strategy in STRATEGIES:
        answer = api.fork(mm_id, strategy=strategy)
        # Both of its VMAs are special: too much to share.
        assert answer.strategy == (EXTENT_COPY if strategy == SHARE else strategy)
        assert answer.vma_count == 1
        vmas = api.vmas(answer.child)
        assert [(vma.start, bool(vma.vm_flags & 1 << 25)) for vma in vmas] == [(0x20000, True)]
        assert api.info(answer.child).charged_pages == 1
        api.exit(answer.child)
    assert len(api.vmas(mm_id)) == 2
    api.exit(mm_id)


def test_any_worker_serves_any_space(workers: list[Api]) -> None:
    first, second = workers
    mm_id = first.create(b"10000-11000 rw-p 00000000 00:00 0 \n")
    answers = [second.fork(mm_id), first.fork(mm_id)]
    assert [answer.timing.worker for answer in answers] == [1, 0]
    second.map(answers[1].child, addr=0x5000_0000)
    assert len(first.vmas(answers[1].child)) == 2
    for answer in answers:
        first.exit(answer.child)
    second.exit(mm_id)


def test_a_deadline_that_has_passed(api: Api) -> None:
    mm_id = api.create(many_vmas(20_000))
    before = api.page(page_size=1000, labels={"of": "deadline"}).address_spaces
    assert not before
    with pytest.raises(grpc.RpcError) as caught:
        api.spaces.Fork(
            pb.ForkRequest(
                request_id=request_id(),
                mm_id=mm_id,
                strategy=BULK_INSERT,
                labels={"of": "deadline"},
            ),
            timeout=0.0005,
        )
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    time.sleep(0.2)
    assert not api.page(labels={"of": "deadline"}).address_spaces
    assert api.info(mm_id).vma_count == 20_000
    api.exit(mm_id)


def test_a_cancelled_fork_publishes_no_child(api: Api) -> None:
    mm_id = api.create(many_vmas(50_000))
    for wait_s in (0.0, 0.0005, 0.001, 0.002, 0.003):
        call = api.spaces.Fork.future(
            pb.ForkRequest(mm_id=mm_id, strategy=BULK_INSERT, labels={"of": "cancelled"})
        )
        time.sleep(wait_s)
        if call.cancel():
            assert call.cancelled()
    deadline = time.monotonic() + 5
    while api.page(labels={"of": "cancelled"}).address_spaces and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not api.page(labels={"of": "cancelled"}).address_spaces
    api.exit(mm_id)


def test_fork_of_nothing(api: Api) -> None:
    with refused(grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE", field="mm_id") as told:
        api.fork(NO_SPACE)
    assert f"{NO_SPACE:#x}" in told.detail

"""Forks that are made to fail: what the error tells, and that nothing is left of them."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from forkstorm.v1 import types_pb2

from tests.rpc.calls import (
    BULK_INSERT,
    EXTENT_COPY,
    SHARE,
    STRATEGIES,
    TREE_DUP,
    Api,
    refused,
    request_id,
)
from tests.rpc.texts import many_vmas

CODE = grpc.StatusCode
SITES = [number for number in types_pb2.ForkFaultSite.values() if number]
RECOVERIES = [number for number in types_pb2.ForkRecovery.values() if number]
SIGNAL = types_pb2.FORK_FAULT_SITE_FATAL_SIGNAL
RECORD = types_pb2.FORK_FAULT_SITE_VMA_RECORD
COMMIT = types_pb2.FORK_FAULT_SITE_COMMIT_LIMIT
# What a strategy does for no VMA: the column of docs/faults.md.
NO_STEP = {
    BULK_INSERT: {"DONTCOPY_ERASE"},
    TREE_DUP: set[str](),
    EXTENT_COPY: {"VMA_RECORD"},
    SHARE: {"TREE_NODE", "VMA_RECORD", "POLICY", "ANON_VMA"},
}
ACCOUNT = 0x100000
LAYOUT = Path(__file__).parents[2] / "loadtest" / "layouts" / "bash.maps"


def fault(site: int, ordinal: int, recovery: int = 0) -> types_pb2.ForkFault:
    return types_pb2.ForkFault(site=site, ordinal=ordinal, recovery=recovery)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("recovery", [0, *RECOVERIES])
def test_the_error_tells_what_was_done_and_undone(api: Api, recovery: int, strategy: int) -> None:
    mm_id = api.create(LAYOUT.read_bytes())
    before = api.vmas(mm_id), api.info(mm_id)
    # A step that all strategies take, at a VMA that is charged.
    at = [vma.vm_flags & ACCOUNT != 0 for vma in before[0]].index(True, 5)
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", errno="12", limit="fault") as told:
        api.fork(mm_id, strategy=strategy, fault=fault(COMMIT, at, recovery))
    assert told.metadata["fault_site"] == "COMMIT_LIMIT"
    assert told.metadata["fault_ordinal"] == str(at)
    assert told.metadata["duplicated_vma_count"] == told.metadata["undone_vma_count"] == str(at)
    assert int(told.metadata["undo_ns"]) > 0
    after = api.info(mm_id)
    assert (api.vmas(mm_id), after.version) == (before[0], before[1].version)
    assert api.violations(mm_id) == []
    answer = api.fork(mm_id, strategy=strategy)
    assert api.vmas(answer.child) == before[0]
    for space in (answer.child, mm_id):
        api.exit(space)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fatal_signal_is_an_eintr(api: Api, space: int, strategy: int) -> None:
    api.map(space)
    with refused(CODE.ABORTED, "EINTR", errno="4", fault_site="FATAL_SIGNAL", fault_ordinal="0"):
        api.fork(space, strategy=strategy, fault=fault(SIGNAL, 0))


def test_a_step_that_is_not_taken_does_not_fail(api: Api, space: int) -> None:
    api.map(space)
    # No second VMA; no anon_vma, as nobody wrote; nothing to erase.
    for site, ordinal in (
        (RECORD, 1),
        (RECORD, (1 << 64) - 1),
        (types_pb2.FORK_FAULT_SITE_ANON_VMA, 0),
        (types_pb2.FORK_FAULT_SITE_DONTCOPY_ERASE, 0),
        (types_pb2.FORK_FAULT_SITE_PAGE_TABLE, 0),
    ):
        api.exit(api.fork(space, fault=fault(site, ordinal)).child)


def test_no_page_table_and_no_anon_vma_fail_a_fork_of_written_pages(api: Api, space: int) -> None:
    addr = api.map(space)
    api.write(space, addr, 1)
    for name in ("ANON_VMA", "PAGE_TABLE", "COMMIT_LIMIT", "POLICY", "TREE_NODE", "VMA_RECORD"):
        site = types_pb2.ForkFaultSite.Value(f"FORK_FAULT_SITE_{name}")
        for strategy in STRATEGIES:
            if name in NO_STEP[strategy]:
                answer = api.fork(space, strategy=strategy, fault=fault(site, 0))
                assert answer.strategy == strategy
                api.exit(answer.child)
                continue
            with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", fault_site=name, fault_ordinal="0"):
                api.fork(space, strategy=strategy, fault=fault(site, 0))


def test_erasing_fails_where_something_is_erased(api: Api) -> None:
    """One DONTCOPY VMA in 70: few enough to be shared."""
    mm_id = api.create(many_vmas(70))
    erased = api.vmas(mm_id)[40]
    api.advise(mm_id, erased.start, 4096, 10)
    site = types_pb2.FORK_FAULT_SITE_DONTCOPY_ERASE
    for strategy in STRATEGIES:
        for recovery in RECOVERIES:
            if "DONTCOPY_ERASE" in NO_STEP[strategy]:
                answer = api.fork(mm_id, strategy=strategy, fault=fault(site, 40, recovery))
                assert (answer.strategy, answer.vma_count) == (strategy, 69)
                api.exit(answer.child)
                continue
            with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="fault") as told:
                api.fork(mm_id, strategy=strategy, fault=fault(site, 40, recovery))
            assert told.metadata["fault_site"] == "DONTCOPY_ERASE"
            assert told.metadata["duplicated_vma_count"] == "40"
            assert told.metadata["undone_vma_count"] == "40"
    assert api.violations(mm_id) == []
    api.exit(mm_id)


def test_a_share_that_becomes_an_extent_copy_fails_like_one(api: Api) -> None:
    mm_id = api.create(many_vmas(63))
    api.advise(mm_id, api.vmas(mm_id)[0].start, 4096, 10)
    policy = types_pb2.FORK_FAULT_SITE_POLICY
    with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", fault_site="POLICY", fault_ordinal="9"):
        api.fork(mm_id, strategy=SHARE, fault=fault(policy, 9))
    answer = api.fork(mm_id, strategy=SHARE, fault=fault(RECORD, 9))
    assert answer.strategy == EXTENT_COPY
    for space in (answer.child, mm_id):
        api.exit(space)


def test_nothing_is_left_of_it(api: Api) -> None:
    mm_id = api.create(LAYOUT.read_bytes())
    for vma in api.vmas(mm_id):
        if vma.vm_flags & 2:
            api.write(mm_id, vma.start, 1)
    before = api.audit()
    for strategy in STRATEGIES:
        for recovery in RECOVERIES:
            for site in SITES:
                for ordinal in (0, 1, 20):
                    try:
                        child = api.fork(
                            mm_id, strategy=strategy, fault=fault(site, ordinal, recovery)
                        ).child
                    except grpc.RpcError:
                        continue
                    api.exit(child)
    after = api.audit()
    api.exit(mm_id)
    if before.quiescent and after.quiescent:
        for message in (before, after):
            # Room that was claimed is not given back; nor is it lost.
            message.ClearField("arena_claimed_bytes")
        assert after == before


@pytest.mark.parametrize(
    ("number", "field"),
    [((0, 1), "site"), ((9, 1), "site"), ((-1, 1), "site"), ((2, 4), "recovery")],
)
def test_an_unknown_fault_is_named(
    api: Api, space: int, number: tuple[int, int], field: str
) -> None:
    site, recovery = number
    with refused(CODE.INVALID_ARGUMENT, "INVALID_REQUEST", field=f"fault.{field}"):
        api.fork(space, fault=fault(site, 0, recovery))


def test_a_failed_fork_is_tried_again_under_its_request_id(workers: list[Api]) -> None:
    first, second = workers
    mm_id = first.create(many_vmas(3), labels={"of": "faults"})
    again = request_id()
    for api in (first, second):
        with refused(CODE.RESOURCE_EXHAUSTED, "ENOMEM", limit="fault"):
            api.fork(mm_id, request_id=again, fault=fault(RECORD, 2))
    first.exit(mm_id)

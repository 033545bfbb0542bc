"""Making, looking at, listing and ending spaces."""

from __future__ import annotations

import time

import grpc
import psutil
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb

from tests.rpc.calls import NO_SPACE, Api, refused, request_id

MMAP_BASE = 0x7FFF_F7FF_F000
INVALID = grpc.StatusCode.INVALID_ARGUMENT


def test_an_empty_space_has_linux_s_defaults(api: Api, space: int) -> None:
    info = api.info(space)
    assert (info.mm_id, info.vma_count, info.tree_height, info.brk) == (space, 0, 0, 0)
    assert info.parameters.task_size == 0x7FFF_FFFF_F000
    assert info.parameters.mmap_base == MMAP_BASE
    assert info.parameters.mmap_min_addr == 4096
    assert info.parameters.max_map_count == 65_530
    assert (info.parameters.privileged, info.parameters.thp_alignment) == (False, True)
    assert info.parameters.overcommit == 0
    machine = psutil.virtual_memory().total + psutil.swap_memory().total
    assert info.parameters.commit_limit_pages == machine // 4096
    assert info.parameters.linux_version == 6018
    assert info.parameters.stack_limit_bytes == 8 << 20
    assert info.parameters.lsm_min_addr == 0
    assert (info.page_table_count, info.touched_page_count, info.committed_pages) == (0, 0, 0)
    assert info.ttl_ns == 0
    assert api.vmas(space) == []


def test_parameters_are_kept(api: Api) -> None:
    given = {
        "task_size": 1 << 40,
        "mmap_min_addr": 1 << 16,
        "mmap_base": 1 << 39,
        "start_brk": 12_345,
        "max_map_count": 7,
        "privileged": True,
        "thp_alignment": False,
        "overcommit": 2,
        "commit_limit_pages": 1 << 33,
        "linux_version": 6008,
        "stack_limit_bytes": (1 << 64) - 1,
        "lsm_min_addr": 1 << 17,
        "protection_keys": True,
    }
    mm_id = api.create(parameters=given)
    child = api.fork(mm_id).child
    for space in (mm_id, child):
        parameters = api.info(space).parameters
        assert {name: getattr(parameters, name) for name in given} == given
        assert api.info(space).brk == 12_345
        api.exit(space)


def test_a_small_task_gets_a_fitting_mmap_base(api: Api) -> None:
    small, large = (api.create(parameters={"task_size": size}) for size in (1 << 20, 1 << 40))
    assert api.info(small).parameters.mmap_base == 1 << 20
    assert api.info(large).parameters.mmap_base == (1 << 40) - (128 << 20)
    for mm_id in (small, large):
        api.exit(mm_id)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_size", 0),
        ("task_size", 4097),
        ("task_size", 1 << 63),
        ("mmap_min_addr", 100),
        ("mmap_min_addr", 1 << 50),
        ("mmap_base", 1 << 50),
        ("mmap_base", 5000),
        ("start_brk", 1 << 50),
        ("overcommit", 3),
        ("commit_limit_pages", (1 << 52) + 1),
        ("linux_version", 618),
        ("linux_version", 618_000),
        ("lsm_min_addr", 100),
        ("lsm_min_addr", 1 << 50),
    ],
)
def test_impossible_parameters_are_named(api: Api, name: str, value: int) -> None:
    with refused(INVALID, "INVALID_REQUEST", field=f"parameters.{name}"):
        api.create(parameters={name: value})


def test_labels_come_back_and_select(api: Api) -> None:
    run = request_id()
    one = api.create(labels={"run": run, "n": "1", "ключ": "значение"})
    two = api.create(labels={"run": run, "n": "2"})
    assert dict(api.info(one).labels) == {"run": run, "n": "1", "ключ": "значение"}
    assert {s.mm_id for s in api.page(labels={"run": run}).address_spaces} == {one, two}
    assert [s.mm_id for s in api.page(labels={"run": run, "n": "2"}).address_spaces] == [two]
    answer = api.spaces.Exit(
        pb.ExitRequest(request_id=request_id(), labels=pb.Labels(labels={"run": run}))
    )
    assert answer.exited_count == 2
    assert not api.page(labels={"run": run}).address_spaces
    again = api.spaces.Exit(
        pb.ExitRequest(request_id=request_id(), labels=pb.Labels(labels={"run": run}))
    )
    assert again.exited_count == 0


@pytest.mark.parametrize("labels", [{"": "x"}, {"a\0b": "x"}, {"a": "\0"}])
def test_bad_labels(api: Api, labels: dict[str, str]) -> None:
    with refused(INVALID, "INVALID_REQUEST", field="labels"):
        api.create(labels=labels)


def test_labels_have_a_limit(api: Api) -> None:
    mm_id = api.create(labels={"k": "v" * 253})
    assert dict(api.info(mm_id).labels) == {"k": "v" * 253}
    with refused(
        grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", limit="label_bytes", field="labels"
    ):
        api.create(labels={"k": "v" * 254})
    with refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_EXCEEDED", limit="label_bytes"):
        api.fork(mm_id, labels={"k": "é" * 127})
    api.exit(mm_id)


def test_pages_survive_spaces_that_come_and_go(api: Api) -> None:
    run = request_id()
    made = {api.create(labels={"run": run}) for _ in range(7)}
    first = api.page(page_size=3, labels={"run": run})
    seen = [s.mm_id for s in first.address_spaces]
    assert len(seen) == 3
    gone = next(iter(made - set(seen)))
    api.exit(gone)
    api.exit(seen[0])
    while first.next_page_token:
        first = api.page(page_size=3, labels={"run": run}, page_token=first.next_page_token)
        seen += [s.mm_id for s in first.address_spaces]
    assert sorted(seen) == sorted(made - {gone})
    slots = [mm_id & 0xFFFFF for mm_id in seen]
    assert slots == sorted(slots)
    api.spaces.Exit(pb.ExitRequest(labels=pb.Labels(labels={"run": run})))


@pytest.mark.parametrize("token", ["x", "AAAA", "Zg==", "ZnNsMQAAAAEAAAAA", "ü", "ZnNsMQAAAAH2"])
def test_a_bad_page_token(api: Api, token: str) -> None:
    with refused(INVALID, "INVALID_REQUEST", field="page_token"):
        api.page(page_token=token)


def test_unknown_and_stale_ids(api: Api, space: int) -> None:
    child = api.fork(space).child
    api.exit(child)
    for mm_id in (NO_SPACE, 0, child, space | 1 << 56):
        with refused(grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE", field="mm_id"):
            api.info(mm_id)
        with refused(grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE", field="mm_id"):
            api.exit(mm_id)
        with refused(grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE", field="mm_id"):
            api.fork(mm_id)


def test_exit_needs_a_target(api: Api) -> None:
    with refused(INVALID, "INVALID_REQUEST", field="target"):
        api.spaces.Exit(pb.ExitRequest(request_id=request_id()))
    with refused(INVALID, "INVALID_REQUEST", field="labels"):
        api.spaces.Exit(pb.ExitRequest(request_id=request_id(), labels=pb.Labels()))


def test_spaces_end_when_their_time_is_up(api: Api) -> None:
    mortal = api.create(ttl_ns=300_000_000)
    child = api.fork(mortal, ttl_ns=300_000_000).child
    survivor = api.fork(mortal).child
    far = api.fork(mortal, ttl_ns=(1 << 64) - 1).child
    assert 0 < api.info(mortal).ttl_ns <= 300_000_000
    deadline = time.monotonic() + 10
    gone: set[int] = set()
    while gone != {mortal, child} and time.monotonic() < deadline:
        time.sleep(0.05)
        alive = {s.mm_id for s in api.page(page_size=1000).address_spaces}
        gone = {mortal, child, survivor, far} - alive
    assert gone == {mortal, child}
    assert api.info(survivor).ttl_ns == 0
    api.exit(survivor)
    api.exit(far)


def test_thousands_of_spaces_end_within_seconds(api: Api) -> None:
    labels = {"run": request_id()}
    parent = api.create()
    calls = [
        api.spaces.Fork.future(pb.ForkRequest(mm_id=parent, labels=labels, ttl_ns=10**9))
        for _ in range(2500)
    ]
    children = {call.result().child for call in calls}
    assert len(children) == 2500
    deadline = time.monotonic() + 15
    while api.page(labels=labels).address_spaces and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not api.page(labels=labels).address_spaces
    api.exit(parent)

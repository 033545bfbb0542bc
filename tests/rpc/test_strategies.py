"""Four strategies, one behaviour: what is done to a child never tells how it was made."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import cast

import grpc
import pytest
from forkstorm.v1 import address_spaces_pb2 as pb
from forkstorm.v1 import diagnostics_pb2, types_pb2

from tests.rpc.calls import (
    EXTENT_COPY,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_SHARED,
    PRIVATE_ANONYMOUS,
    SHARE,
    STRATEGIES,
    TREE_DUP,
    Api,
    request_id,
)
from tests.rpc.texts import many_vmas
from tests.serving import running_server

PAGE = 4096
DONTFORK, WIPEONFORK = 10, 18
SHARED_ANONYMOUS = MAP_SHARED | MAP_ANONYMOUS
LAYOUTS = sorted((Path(__file__).parents[2] / "loadtest" / "layouts").glob("*.maps"))


@pytest.fixture
def own() -> Iterator[list[Api]]:
    """Two workers of a server that nobody else uses, so that its audit is this test's."""
    with running_server() as server:
        apis = [Api(endpoint) for endpoint in server.endpoints]
        yield apis
        # Whatever the test did: nothing is broken, and when all have ended nothing is left.
        verified = apis[0].diagnostics.Verify(diagnostics_pb2.VerifyRequest())
        assert not verified.violations
        assert apis[0].leaks() == {}
        page = apis[1].page(page_size=1000)
        for space in page.address_spaces:
            apis[1].exit(space.mm_id)
        audit = apis[0].audit()
        assert (audit.space_count, audit.charged_pages) == (0, 0)
        assert (audit.allocated_node_count, audit.allocated_record_count) == (0, 0)
        assert (audit.page_table_count, audit.object_count, audit.extent_block_count) == (0, 0, 0)
        for api in apis:
            api.channel.close()


def used_space(api: Api, count: int = 200) -> int:
    """A space with something of everything that a fork looks at, and few special VMAs."""
    mm_id = api.create(many_vmas(count))
    vmas = api.vmas(mm_id)
    for vma in vmas[::10]:
        api.write(mm_id, vma.start, vma.start)
    api.advise(mm_id, vmas[count // 2].start, PAGE, DONTFORK)
    api.advise(mm_id, vmas[count // 3].start, PAGE, WIPEONFORK)
    shared = api.map(mm_id, 4 * PAGE, flags=SHARED_ANONYMOUS)
    api.write(mm_id, shared + PAGE, 7)
    return mm_id


def facts(api: Api, mm_id: int) -> tuple[object, ...]:
    """What an info tells of a space, but for its tree's shape, its id and its history."""
    info = api.info(mm_id)
    return (
        *(info.vma_count, info.brk, info.total_vm_pages, info.data_vm_pages),
        *(info.exec_vm_pages, info.stack_vm_pages, info.charged_pages, info.committed_pages),
        *(info.page_table_count, info.touched_page_count),
    )


def shown(api: Api, mm_id: int) -> list[types_pb2.Vma]:
    """All VMAs; each new object of shared memory has a number of its own, which is left out."""
    vmas = api.vmas(mm_id)
    for vma in vmas:
        vma.inode = 0
    return vmas


def outcome(api: Api, mm_id: int, what: tuple[object, ...]) -> object:
    """What one call answers: its value, or the code and the errno."""
    name, *arguments = what
    try:
        answer = getattr(api, str(name))(mm_id, *arguments)
    except grpc.RpcError as error:
        call = cast(grpc.Call, error)
        return call.code(), call.details()
    return answer if isinstance(answer, int) else None


def random_call(rng: random.Random, places: list[int]) -> tuple[object, ...]:
    at = rng.choice(places) + rng.choice((0, 0, 1, 2)) * PAGE
    length = rng.choice((1, 1, 2, 5, 40)) * PAGE
    flags = rng.choice((PRIVATE_ANONYMOUS, SHARED_ANONYMOUS)) | rng.choice((0, MAP_FIXED))
    return rng.choice(
        (
            ("map", length, at, rng.choice((1, 3)), flags),
            ("unmap", at, length),
            ("protect", at, length, rng.choice((0, 1, 3))),
            ("remap", at, length, length + rng.choice((-1, 0, 3)) * PAGE, 1),
            ("advise", at, length, rng.choice((DONTFORK, 11, WIPEONFORK, 19, 4))),
            ("write", at, rng.randrange(1 << 64)),
            ("touch", at),
        )
    )


@pytest.mark.parametrize("path", LAYOUTS, ids=lambda path: path.stem)
def test_children_of_real_layouts_are_alike(workers: list[Api], path: Path) -> None:
    first, second = workers
    mm_id = first.create(path.read_bytes())
    told = facts(first, mm_id)
    for strategy in STRATEGIES:
        answer = second.fork(mm_id, strategy=strategy)
        assert (answer.strategy, facts(first, answer.child)) == (strategy, told)
        assert first.maps_text(answer.child) == path.read_bytes()
        second.exit(answer.child)
    assert first.violations(mm_id) == []
    first.exit(mm_id)


@pytest.mark.parametrize("seed", range(4))
def test_children_behave_alike_ever_after(own: list[Api], seed: int) -> None:
    """The same random calls on a child of each strategy and on their forks: the same answers."""
    rng = random.Random(seed)
    parent = used_space(own[0])
    places = [vma.start for vma in own[0].vmas(parent)]
    families = [[own[i % 2].fork(parent, strategy=s).child] for i, s in enumerate(STRATEGIES)]
    for _ in range(150):
        if rng.random() < 0.08:
            at = rng.randrange(len(families[0]))
            for strategy, family in zip(STRATEGIES, families, strict=True):
                family.append(rng.choice(own).fork(family[at], strategy=strategy).child)
            continue
        if rng.random() < 0.1:
            # The one that they all come from changes too, and none of them.
            outcome(own[0], parent, random_call(rng, places))
        at, call = rng.randrange(len(families[0])), random_call(rng, places)
        answers = [outcome(rng.choice(own), family[at], call) for family in families]
        assert all(answer == answers[0] for answer in answers), (call, answers)
    for at in range(len(families[0])):
        children = [family[at] for family in families]
        for one, other in pairwise(children):
            assert shown(own[0], one) == shown(own[1], other)
            assert facts(own[0], one) == facts(own[1], other)


def test_contents_are_copied_or_shared_as_after_any_fork(own: list[Api]) -> None:
    first, second = own
    parent = used_space(first)
    vmas = first.vmas(parent)
    written = vmas[0].start
    shared = next(vma.start for vma in vmas if vma.vm_flags & 0x8)
    for number, strategy in enumerate(STRATEGIES):
        child = second.fork(parent, strategy=strategy).child
        assert second.touch(child, written) == written
        second.write(child, written, 1)
        assert first.touch(parent, written) == written
        second.write(child, shared + PAGE, number)
        assert first.touch(parent, shared + PAGE) == number


@pytest.mark.parametrize(("count", "used"), [(63, EXTENT_COPY), (64, SHARE), (200, SHARE)])
def test_one_vma_in_64_may_be_special(api: Api, count: int, used: int) -> None:
    mm_id = api.create(many_vmas(count))
    special = api.vmas(mm_id)[count // 2]
    api.advise(mm_id, special.start, PAGE, DONTFORK)
    answer = api.fork(mm_id, strategy=SHARE, with_phases=True)
    assert (answer.strategy, answer.vma_count) == (used, count - 1)
    assert answer.work.entries_erased == 1
    assert answer.work.records_copied == (count if used == EXTENT_COPY else 0)
    assert answer.phases.prepare_ns + answer.phases.entries_ns <= answer.timing.core_ns
    expected = [vma for vma in api.vmas(mm_id) if vma.start != special.start]
    assert api.vmas(answer.child) == expected
    for space in (answer.child, mm_id):
        api.exit(space)


def test_a_replay_tells_the_strategy_that_was_used(workers: list[Api]) -> None:
    first, second = workers
    mm_id = first.create(many_vmas(10))
    first.advise(mm_id, first.vmas(mm_id)[3].start, PAGE, DONTFORK)
    request = pb.ForkRequest(request_id=request_id(), mm_id=mm_id, strategy=SHARE)
    answer = first.spaces.Fork(request)
    assert answer.strategy == EXTENT_COPY
    # The parent would be shared now.
    first.advise(mm_id, first.vmas(mm_id)[3].start, PAGE, 11)
    again = second.spaces.Fork(request)
    assert (again.replayed, again.child, again.strategy) == (True, answer.child, EXTENT_COPY)
    other = first.fork(mm_id, strategy=SHARE)
    assert other.strategy == SHARE
    for space in (answer.child, other.child, mm_id):
        second.exit(space)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_fork_of_nothing_at_all(api: Api, space: int, strategy: int) -> None:
    answer = api.fork(space, strategy=strategy)
    assert (answer.strategy, answer.vma_count) == (strategy, 0)
    assert api.vmas(answer.child) == []
    api.exit(answer.child)


def test_a_child_of_a_share_outlives_its_parent(own: list[Api]) -> None:
    """And the child's child both: whoever shares a tree holds it, on whichever worker."""
    first, second = own
    text = many_vmas(500)
    parent = first.create(text)
    child = second.fork(parent, strategy=SHARE).child
    grandchild = first.fork(child, strategy=SHARE)
    assert grandchild.strategy == SHARE
    first.exit(parent)
    # Others take what the parent would have given back.
    for _ in range(20):
        first.exit(first.create(many_vmas(500, start=0x7000_0000)))
    assert second.maps_text(child) == text
    second.exit(child)
    assert second.maps_text(grandchild.child) == text
    kept = second.vmas(grandchild.child)
    second.unmap(grandchild.child, kept[0].start, 2 * PAGE)
    assert first.vmas(grandchild.child) == kept[1:]


@pytest.mark.parametrize("seed", range(6))
def test_families_end_in_any_order(own: list[Api], seed: int) -> None:
    """Forks of forks by all strategies; each changes a little; then they end, shuffled."""
    rng = random.Random(seed)
    spaces = [used_space(own[0], 150)]
    for _ in range(24):
        api, parent = rng.choice(own), rng.choice(spaces)
        answer = api.fork(parent, strategy=rng.choice(STRATEGIES))
        spaces.append(answer.child)
        for _ in range(rng.randrange(4)):
            space = rng.choice(spaces)
            vma = rng.choice(api.vmas(space))
            outcome(rng.choice(own), space, random_call(rng, [vma.start]))
    assert own[0].leaks() == {}
    rng.shuffle(spaces)
    texts = {space: own[0].maps_text(space) for space in spaces}
    while spaces:
        rng.choice(own).exit(spaces.pop())
        for space in spaces[::5]:
            assert own[1].maps_text(space) == texts[space]


def test_an_extent_is_shared_copied_and_left(own: list[Api]) -> None:
    """Forks of an EXTENT_COPY's child hold its extent or make their own; Audit counts it once."""
    first, second = own
    parent = first.create(many_vmas(421))
    child = first.fork(parent, strategy=EXTENT_COPY).child
    blocks = first.audit().extent_block_count
    # 256 bytes a node and 64 a record.
    room = 256 * first.info(child).node_count + 64 * 421
    assert room <= blocks * PAGE < room + 2 * PAGE
    shared = second.fork(child, strategy=SHARE).child
    assert second.audit().extent_block_count == blocks
    copied = second.fork(child, strategy=EXTENT_COPY).child
    assert second.audit().extent_block_count == 2 * blocks
    first.exit(child)
    assert first.audit().extent_block_count == 2 * blocks
    # A single change keeps the whole extent.
    vma = first.vmas(shared)[0]
    first.unmap(shared, vma.start, PAGE)
    assert first.audit().extent_block_count == 2 * blocks
    again = first.fork(shared, strategy=TREE_DUP).child
    first.exit(shared)
    assert first.audit().extent_block_count == blocks
    assert first.vmas(again) == first.vmas(copied)[1:]
    first.exit(copied)
    assert first.audit().extent_block_count == 0

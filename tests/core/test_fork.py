"""What a fork's child is, under every strategy, and what it is not when the fork fails."""

import random

import pytest
from forkstormd.core.arena import Arena
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec

from . import linux
from .helpers import PAGE, assert_no_leak, assert_sound, maps, runs_of_five, scattered

every = pytest.mark.parametrize("strategy", list(Strategy))
WIPEONFORK = 0x2000000


@every
@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 21, 121, 421, 700])
def test_a_child_is_its_parent(mm: MemoryManager, strategy: Strategy, count: int) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(count)).value
    before = mm.info(parent)
    child = mm.fork(parent, strategy).child
    assert maps(mm, child) == maps(mm, parent)
    assert_sound(mm, child, parent)
    after = mm.info(child)
    for name in ("vma_count", "brk", "total_vm", "data_vm", "exec_vm", "stack_vm", "charged_pages"):
        assert getattr(after, name) == getattr(before, name)
    assert mm.info(parent) == before
    assert_no_leak(mm)


@every
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 1.0])
def test_dontcopy_is_absent_from_the_child(
    mm: MemoryManager, strategy: Strategy, share: float
) -> None:
    rng = random.Random(int(share * 100))
    for count in (1, 9, 40, 300):
        parent = mm.create(SpaceParams(), scattered(rng, count, special=share)).value
        kept = [vma for vma in maps(mm, parent) if not vma[2] & linux.DONTCOPY]
        result = mm.fork(parent, strategy)
        assert maps(mm, result.child) == kept
        assert result.vma_count == len(kept)
        assert result.work.entries_erased == count - len(kept)
        assert_sound(mm, result.child, parent)
        info = mm.info(result.child)
        assert info.total_vm == sum((end - start) // PAGE for start, end, *_ in kept)
        mm.exit(result.child)
    assert_no_leak(mm)


@every
def test_wipeonfork_is_kept_as_a_flag_and_locked_is_not(
    mm: MemoryManager, strategy: Strategy
) -> None:
    locked = 0x2000
    specs = [
        VmaSpec(PAGE, 2 * PAGE, 0x73 | WIPEONFORK),
        VmaSpec(4 * PAGE, 5 * PAGE, 0x73 | locked),
        VmaSpec(6 * PAGE, 7 * PAGE, 0x73 | WIPEONFORK | linux.DONTCOPY),
    ]
    parent = mm.create(SpaceParams(), specs).value
    flags = [vma[2] for vma in maps(mm, mm.fork(parent, strategy).child)]
    assert flags == [0x73 | WIPEONFORK, 0x73]


def test_brk_and_parameters_are_carried_over(mm: MemoryManager) -> None:
    params = SpaceParams(
        task_size=0x4000_0000,
        mmap_min_addr=65536,
        mmap_base=0x3000_0000,
        start_brk=0x1234_5678,
        max_map_count=99,
        commit_limit_pages=1 << 20,
    )
    parent = mm.create(params, brk=0x1240_0001, start_stack=0x3FFF_0000).value
    for strategy in Strategy:
        info = mm.info(mm.fork(parent, strategy).child)
        assert (info.params, info.brk, info.start_stack) == (params, 0x1240_0001, 0x3FFF_0000)


def test_all_strategies_give_children_that_behave_alike(mm: MemoryManager, effort: int) -> None:
    """The same random calls on all children: same results, same maps, whatever their shape."""
    rng = random.Random(7)
    parent = mm.create(SpaceParams(), scattered(rng, 20 * effort, special=0.1)).value
    children = [mm.fork(parent, strategy).child for strategy in Strategy]
    for _ in range(20 * effort):
        addr = 0x1000_0000 + rng.randrange(100 * effort) * PAGE
        length = rng.randint(1, 20) * PAGE
        if rng.random() < 0.5:
            for child in children:
                mm.unmap(child, addr, length)
        else:
            flags = 0x22 | rng.choice((0, 0x10))
            assert len({mm.map(child, addr, length, 3, flags).value for child in children}) == 1
    for child in children[1:]:
        assert maps(mm, child) == maps(mm, children[0])
    assert_sound(mm, *children)


def test_the_work_is_that_of_the_kernels_algorithms(mm: MemoryManager) -> None:
    """TREE_DUP neither splits nor climbs; BULK_INSERT climbs more per entry the higher the tree."""
    climbed = {}
    for count in (21, 121, 421):
        parent = mm.create(SpaceParams(), runs_of_five(count)).value
        new = mm.fork(parent, Strategy.TREE_DUP).work
        old = mm.fork(parent, Strategy.BULK_INSERT).work
        assert (new.splits, new.levels_climbed, new.gap_updates) == (0, 0, 0)
        assert new.nodes_allocated == mm.info(parent).node_count
        assert new.records_copied == old.records_copied == count
        climbed[count] = old.levels_climbed / count
        assert 0.03 < old.splits / count < 0.15
    assert climbed[21] < climbed[121] < climbed[421]


@pytest.mark.parametrize("strategy", [s for s in Strategy if s != Strategy.SHARE])
def test_a_fork_that_finds_no_memory_leaves_nothing(arena_path: str, strategy: Strategy) -> None:
    arena = Arena.create(arena_path, 4 << 20, max_spaces=64, lanes=4)
    mm = MemoryManager(arena, 1)
    parent = mm.create(SpaceParams(), runs_of_five(6000)).value
    before = maps(mm, parent)
    children: list[int] = []

    def fill() -> None:
        while True:
            children.append(mm.fork(parent, strategy).child)

    with pytest.raises(CoreError) as caught:
        fill()
    assert (caught.value.reason, caught.value.limit) == ("ENOMEM", "arena")
    assert children, "the arena was meant to hold some"
    assert maps(mm, parent) == before
    assert_sound(mm, parent, *children)
    assert_no_leak(mm)
    mm.exit(children.pop())
    children.append(mm.fork(parent, strategy).child)
    assert_sound(mm, children[-1])
    mm.close()
    arena.close()


@every
def test_a_fork_past_its_deadline_leaves_nothing(mm: MemoryManager, strategy: Strategy) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(9000)).value
    with pytest.raises(CoreError) as caught:
        mm.fork(parent, strategy, deadline_ns=1)
    assert caught.value.reason == "DEADLINE"
    assert_no_leak(mm)
    assert len(mm.ids()) == 1


def test_repeat_fork_times_every_fork_and_leaves_nothing(mm: MemoryManager) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(121)).value
    durations, exit_ns, work, used = mm.repeat_fork(parent, Strategy.TREE_DUP, 5)
    assert used == Strategy.TREE_DUP
    assert len(durations) == 5
    assert all(durations)
    assert exit_ns > 0
    assert work == mm.fork(parent, Strategy.TREE_DUP).work
    assert len(mm.ids()) == 2
    assert_no_leak(mm)


def test_softdirty_does_not_keep_vmas_apart(mm: MemoryManager) -> None:
    softdirty = 0x8000000
    flags = 0x73 | linux.ACCOUNT
    space = mm.create(SpaceParams(), [VmaSpec(8 * PAGE, 9 * PAGE, flags | softdirty)]).value
    mm.map(space, 9 * PAGE, PAGE, 3, 0x32)
    assert [vma[:2] for vma in maps(mm, space)] == [(8 * PAGE, 10 * PAGE)]
    assert_sound(mm, space)

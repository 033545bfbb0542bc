"""One duplication by several processes: the same child as ever, whoever helps, stops or dies."""

import dataclasses
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

import pytest
from forkstormd.core.arena import Arena, core_build
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec

from . import linux
from .helpers import ANON, PAGE, assert_no_leak, assert_sound, maps, runs_of_five, scattered

spawn = multiprocessing.get_context("spawn")
shared_out = pytest.mark.parametrize("strategy", [Strategy.TREE_DUP, Strategy.EXTENT_COPY])
alone = pytest.mark.skipif(
    core_build() == "uncompiled", reason="the uncompiled core has its arena to itself"
)
WIPEONFORK = 0x2000000
LOCKED = 0x2000
ACCOUNT = 0x100000
# How long a fork waits for a helper that does not run (parts.PATIENCE_NS).
PATIENCE_S = 0.02
# Enough for several parts (parts.PART_VMAS).
MANY = 6000


@pytest.fixture
def mm(mm: MemoryManager) -> MemoryManager:
    """Shares out whatever can be."""
    for strategy in (Strategy.TREE_DUP, Strategy.EXTENT_COPY):
        mm.set_parallel_vmas(strategy, 1)
    return mm


def help_on(path: str, ready: Event) -> None:
    mm = MemoryManager(Arena.attach(path), 1)
    ready.set()
    mm.help()


@contextmanager
def helper(path: str) -> Iterator[int]:
    """A process that helps; its pid."""
    ready = spawn.Event()
    process = spawn.Process(target=help_on, args=(path, ready), daemon=True)
    process.start()
    try:
        assert ready.wait(30)
        assert process.pid is not None
        yield process.pid
    finally:
        process.kill()
        process.join(10)


def with_flags(spec: VmaSpec, flags: int) -> VmaSpec:
    return dataclasses.replace(spec, vm_flags=spec.vm_flags | flags)


def of_every_kind(rng: random.Random, count: int) -> list[VmaSpec]:
    """VMAs of which every tenth is treated specially by a fork."""
    kinds = (linux.DONTCOPY, WIPEONFORK, LOCKED, LOCKED | linux.DONTCOPY)
    return [
        with_flags(spec, rng.choice(kinds) if rng.random() < 0.1 else 0)
        for spec in scattered(rng, count)
    ]


@shared_out
@pytest.mark.parametrize("count", [1, 700, 1500, 3000, 6000])
def test_a_child_in_parts_is_like_any_other(
    mm: MemoryManager, strategy: Strategy, count: int
) -> None:
    rng = random.Random(count)
    parent = mm.create(SpaceParams(), of_every_kind(rng, count)).value
    mm.map(parent, 0x100_0000, 8 * PAGE, 3, linux.MAP_SHARED | linux.MAP_ANONYMOUS)
    children = []
    for _ in range(3):
        # The child of a child has a source in parts, and then a compact one.
        mm.set_parallel_vmas(strategy, 0)
        expected = mm.fork(parent, strategy)
        mm.set_parallel_vmas(strategy, 1)
        found = mm.fork(parent, strategy)
        assert maps(mm, found.child) == maps(mm, expected.child)
        assert found.vma_count == expected.vma_count
        assert_sound(mm, parent, found.child)
        mm.exit(expected.child)
        children.append(parent)
        parent = found.child
    while children:
        mm.exit(children.pop(0))
        assert_sound(mm, *children, parent)
        assert_no_leak(mm)
    mm.exit(parent)
    assert_no_leak(mm)


@shared_out
def test_in_parts_it_is_the_same_work(mm: MemoryManager, strategy: Strategy) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(MANY)).value
    work = mm.fork(parent, strategy).work
    mm.set_parallel_vmas(strategy, 0)
    assert mm.fork(parent, strategy).work == work


@shared_out
def test_an_aged_source(mm: MemoryManager, strategy: Strategy, effort: int) -> None:
    """A tree with nodes in its extent and outside, uneven below every node."""
    rng = random.Random(4)
    first = mm.create(SpaceParams(), runs_of_five(MANY)).value
    parent = mm.fork(first, Strategy.EXTENT_COPY).child
    for _ in range(15 * effort):
        addr = 0x1000_0000 + rng.randrange(2000) * PAGE
        if rng.random() < 0.6:
            mm.unmap(parent, addr, rng.randint(1, 9) * PAGE)
        else:
            mm.map(parent, addr, PAGE, 3, ANON | linux.MAP_FIXED)
    child = mm.fork(parent, strategy).child
    assert maps(mm, child) == maps(mm, parent)
    assert_sound(mm, parent, child)
    mm.exit(parent)
    mm.exit(first)
    assert_sound(mm, child)
    assert_no_leak(mm)


@shared_out
@pytest.mark.parametrize("limit", ["no limit", "over the limit"])
def test_what_is_charged(mm: MemoryManager, strategy: Strategy, limit: str) -> None:
    rng = random.Random(5)
    specs = of_every_kind(rng, 3000)
    specs = [with_flags(spec, ACCOUNT) for spec in specs]
    inherited = sum(
        (spec.end - spec.start) // PAGE for spec in specs if not spec.vm_flags & linux.DONTCOPY
    )
    own = sum((spec.end - spec.start) // PAGE for spec in specs)
    pages = own + inherited // 2 if limit == "over the limit" else own + 2 * inherited
    params = SpaceParams(overcommit=2, commit_limit_pages=pages)
    parent = mm.create(params, specs).value
    if limit == "over the limit":
        with pytest.raises(CoreError) as caught:
            mm.fork(parent, strategy)
        assert caught.value.limit == "commit"
    else:
        child = mm.fork(parent, strategy).child
        assert mm.info(child).charged_pages == inherited
        assert mm.info(child).committed_pages == own + inherited
        mm.exit(child)
    assert mm.info(parent).committed_pages == own
    assert_no_leak(mm)


@shared_out
def test_parts_that_find_no_memory_leave_nothing(arena_path: str, strategy: Strategy) -> None:
    arena = Arena.create(arena_path, 4 << 20, max_spaces=64, lanes=4)
    mm = MemoryManager(arena, 1)
    mm.set_parallel_vmas(strategy, 1)
    parent = mm.create(SpaceParams(), runs_of_five(MANY)).value
    children: list[int] = []

    def fill() -> None:
        while True:
            children.append(mm.fork(parent, strategy).child)

    with pytest.raises(CoreError) as caught:
        fill()
    assert (caught.value.reason, caught.value.limit) == ("ENOMEM", "arena")
    assert_sound(mm, parent, *children)
    assert_no_leak(mm)
    for mm_id in children:
        mm.exit(mm_id)
    assert mm.fork(parent, strategy).vma_count == MANY
    assert_no_leak(mm)
    mm.close()
    arena.close()


@pytest.mark.parametrize("apart", [1, 15])
def test_the_first_call_of_a_lane_erases(arena: Arena, mm: MemoryManager, apart: int) -> None:
    """A lane that has never retired anything, and erasures that need no node."""
    specs = [
        with_flags(spec, linux.DONTCOPY if i % apart == 3 % apart and i % 5 == 3 else 0)
        for i, spec in enumerate(runs_of_five(60_000 if arena.build != "uncompiled" else 6000))
    ]
    parent = mm.create(SpaceParams(), specs).value
    new = MemoryManager(arena, 1)
    child = new.fork(parent, Strategy.TREE_DUP).child
    assert maps(mm, child) == [vma for vma in maps(mm, parent) if not vma[2] & linux.DONTCOPY]
    assert_sound(mm, child)
    mm.exit(child)
    new.close()
    assert_no_leak(mm)


@pytest.mark.parametrize("least", [0, 1])
def test_a_copy_past_the_caches(arena: Arena, mm: MemoryManager, least: int) -> None:
    arena.stream_from(0)
    mm.set_parallel_vmas(Strategy.EXTENT_COPY, least)
    rng = random.Random(10)
    parent = mm.create(SpaceParams(), of_every_kind(rng, 3000)).value
    expected = maps(mm, mm.fork(parent, Strategy.TREE_DUP).child)
    for _ in range(2):
        # From a tree of nodes here and there, then from an extent.
        parent = mm.fork(parent, Strategy.EXTENT_COPY).child
        assert maps(mm, parent) == expected
        assert_sound(mm, parent)


def test_a_bulk_insert_cannot_be_shared_out(mm: MemoryManager) -> None:
    with pytest.raises(CoreError, match="sequential"):
        mm.set_parallel_vmas(Strategy.BULK_INSERT, 1)


def test_helping_ends_when_it_is_told_to(mm: MemoryManager) -> None:
    thread = threading.Thread(target=mm.help)
    thread.start()
    mm.stop_helping()
    thread.join(10)
    assert not thread.is_alive()


@alone
@shared_out
def test_another_process_helps(arena: Arena, mm: MemoryManager, strategy: Strategy) -> None:
    parent = mm.create(SpaceParams(), of_every_kind(random.Random(6), 20_000)).value
    mm.set_parallel_vmas(strategy, 0)
    expected = maps(mm, mm.fork(parent, strategy).child)
    mm.set_parallel_vmas(strategy, 1)
    helped = 0
    with helper(arena.path):
        for _ in range(100):
            result = mm.fork(parent, strategy)
            helped += result.processes == 2
            assert maps(mm, result.child) == expected
            assert_sound(mm, result.child)
            mm.exit(result.child)
            if helped == 5:
                break
    assert helped == 5, "one CPU, or nobody came"


@alone
@shared_out
def test_a_helper_may_die_at_any_instant(
    arena: Arena, mm: MemoryManager, strategy: Strategy
) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(MANY)).value
    expected = maps(mm, parent)
    rng = random.Random(7)
    helped = 0
    for _ in range(6):
        with helper(arena.path) as pid:
            killer = threading.Timer(rng.random() / 20, os.kill, (pid, signal.SIGKILL))
            killer.start()
            while killer.is_alive():
                result = mm.fork(parent, strategy)
                helped += result.processes == 2
                mm.exit(result.child)
            result = mm.fork(parent, strategy)
            assert maps(mm, result.child) == expected
            assert_sound(mm, parent, result.child)
            mm.exit(result.child)
    assert helped
    # Whoever comes next takes over the dead processes' lanes.
    MemoryManager(arena, 1).close()
    audit = mm.audit()
    assert audit.quiescent
    assert audit.extent_blocks == 0
    # What a helper died with in its hands, and only that, is lost until the sweep.
    assert audit.allocated_nodes >= audit.reachable_nodes


@alone
@shared_out
def test_a_helper_that_stops_is_not_waited_for(
    arena: Arena, mm: MemoryManager, strategy: Strategy
) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(30_000)).value
    expected = maps(mm, parent)
    left = 0
    rng = random.Random(8)
    deadline = time.monotonic() + 60
    with helper(arena.path) as pid:
        while left < 3 and time.monotonic() < deadline:
            stopper = threading.Timer(rng.random() / 100, os.kill, (pid, signal.SIGSTOP))
            stopper.start()
            slowest = 0.0
            while stopper.is_alive() or slowest == 0.0:
                began = time.monotonic()
                child = mm.fork(parent, strategy).child
                slowest = max(slowest, time.monotonic() - began)
                if not stopper.is_alive() and slowest > PATIENCE_S:
                    # A job that was left holds a reference on the parent's tree.
                    left += not mm.audit().quiescent
                    assert maps(mm, child) == expected
                    assert_sound(mm, child)
                mm.exit(child)
            assert slowest < 5
            os.kill(pid, signal.SIGCONT)
            # Whoever forks next gives back what was left.
            mm.exit(mm.fork(parent, strategy).child)
    MemoryManager(arena, 1).close()
    audit = mm.audit()
    assert (audit.quiescent, audit.extent_blocks) == (True, 0)
    assert left == 3, "never caught it inside a part"
    assert_sound(mm, parent)


def fork_on(path: str, mm_id: int, strategy: Strategy, ready: Event) -> None:
    mm = MemoryManager(Arena.attach(path), 1)
    ready.set()
    while True:
        mm.repeat_fork(mm_id, strategy, 100, alone=False)


@alone
@shared_out
def test_a_leader_that_dies_leaves_its_helpers_nothing_to_break(
    arena: Arena, mm: MemoryManager, strategy: Strategy
) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(20_000)).value
    expected = maps(mm, parent)
    one = 20_000 * 64 // PAGE + 20_000 // 10 * 256 // PAGE
    rng = random.Random(9)
    with helper(arena.path):
        for _ in range(10):
            ready = spawn.Event()
            leader = spawn.Process(
                target=fork_on, args=(arena.path, parent, strategy, ready), daemon=True
            )
            leader.start()
            assert ready.wait(30)
            time.sleep(rng.random() / 20)
            leader.kill()
            leader.join(10)
            # The next to come gives back what it had begun, once the helper is out of it.
            time.sleep(0.05)
            MemoryManager(arena, 1).close()
            child = mm.fork(parent, strategy).child
            assert maps(mm, child) == expected
            assert_sound(mm, parent, child)
            mm.exit(child)
    # Lost is what was just being taken or given at that instant: never two of ten.
    assert mm.audit().extent_blocks <= one

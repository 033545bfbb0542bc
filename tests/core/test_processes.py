"""Many processes on one arena: any of them serves any space, and one may die at any instant."""

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event

import pytest
from forkstormd.core.arena import Arena, core_build
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy

from .helpers import ANON, PAGE, assert_no_leak, assert_sound, maps, runs_of_five

pytestmark = pytest.mark.skipif(
    core_build() == "uncompiled", reason="the uncompiled core has its arena to itself"
)
spawn = multiprocessing.get_context("spawn")


def hammer(path: str, shared: list[int], seed: int, steps: int, endless: bool = False) -> None:
    """Random calls on spaces that others work on too, and on children of one's own."""
    arena = Arena.attach(path)
    mm = MemoryManager(arena, 1)
    rng = random.Random(seed)
    own: list[int] = []
    done = 0
    while endless or done < steps:
        done += 1
        mm_id = rng.choice(shared)
        addr = 0x2000_0000 + rng.randrange(300) * PAGE
        what = rng.random()
        try:
            if what < 0.35:
                own.append(mm.fork(mm_id, rng.choice(list(Strategy))).child)
            elif what < 0.55:
                mm.map(mm_id, addr, rng.randint(1, 5) * PAGE, rng.choice((1, 3)), ANON | 0x10)
            elif what < 0.75:
                mm.unmap(mm_id, addr, rng.randint(1, 9) * PAGE)
            elif what < 0.85:
                with mm.snapshot(mm_id) as snapshot:
                    start, *_ = snapshot.read(100_000)
                    assert list(start) == sorted(start)
                    assert len(start) == snapshot.info.vma_count
            elif own:
                mm.map(own[-1], 0, PAGE, 3, ANON)
            if len(own) > 5:
                mm.exit(own.pop(rng.randrange(len(own))))
        except CoreError as error:
            assert error.reason == "ENOMEM", error
    for mm_id in own:
        mm.exit(mm_id)
    mm.close()
    arena.close()


def pid_of(process: SpawnProcess) -> int:
    assert process.pid is not None
    return process.pid


def start(
    arena: Arena, shared: list[int], seeds: range, steps: int, endless: bool = False
) -> list[SpawnProcess]:
    workers = [
        spawn.Process(target=hammer, args=(arena.path, shared, seed, steps, endless), daemon=True)
        for seed in seeds
    ]
    for worker in workers:
        worker.start()
    return workers


def test_processes_hammer_one_arena(arena: Arena, mm: MemoryManager) -> None:
    shared = [mm.create(SpaceParams(), runs_of_five(n)).value for n in (0, 40, 200)]
    workers = start(arena, shared, range(3), 20_000)
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    assert_sound(mm, *shared)
    assert mm.ids() == sorted(shared, key=lambda mm_id: mm_id & 0xFFFFF)
    assert_no_leak(mm)


def test_a_killed_process_leaves_whole_trees(arena: Arena, mm: MemoryManager) -> None:
    """kill -9 at random instants: every space stays sound, nobody waits for the dead, and what is
    leaked is only what the dead had in hand, never given out twice."""
    shared = [mm.create(SpaceParams(), runs_of_five(n)).value for n in (40, 421)]
    rng = random.Random(5)
    for round_number in range(6):
        workers = start(arena, shared, range(round_number * 10, round_number * 10 + 2), 0, True)
        time.sleep(0.8 + rng.random() / 4)
        os.kill(pid_of(workers[0]), signal.SIGKILL)
        workers[0].join(10)
        assert_sound(mm, *shared)  # while the other one goes on
        time.sleep(0.05)
        os.kill(pid_of(workers[1]), signal.SIGKILL)
        workers[1].join(10)
        ids = mm.ids()
        assert set(shared) <= set(ids)
        assert_sound(mm, *ids)
        for mm_id in set(ids) - set(shared):
            mm.exit(mm_id)
    audit = mm.audit()
    # Nothing reachable is free (verify says so); what is allocated beyond it was in flight.
    assert audit.allocated_records >= audit.reachable_records
    assert audit.allocated_nodes >= audit.reachable_nodes


def test_an_extent_that_a_dead_process_was_filling_comes_back(
    arena: Arena, mm: MemoryManager
) -> None:
    parent = mm.create(SpaceParams(), runs_of_five(9000)).value
    child = mm.fork(parent, Strategy.EXTENT_COPY).child
    one = mm.audit().extent_blocks
    mm.exit(child)
    rng = random.Random(8)
    for _ in range(8):
        forking = spawn.Event()
        worker = spawn.Process(
            target=fork_on, args=(arena.path, parent, Strategy.EXTENT_COPY, forking), daemon=True
        )
        worker.start()
        assert forking.wait(30)
        time.sleep(rng.random() / 50)
        os.kill(pid_of(worker), signal.SIGKILL)
        worker.join(10)
        # Whoever comes next takes over the dead process's lane.
        MemoryManager(arena, 1).close()
    # Lost is what was just being taken or given at that instant: never two of eight.
    assert mm.audit().extent_blocks <= one
    assert_sound(mm, parent)


def test_a_wait_for_a_space_ends_at_the_deadline(arena: Arena, mm: MemoryManager) -> None:
    """A stopped process holds a space; another's call gives up when its time is over."""
    shared = [mm.create(SpaceParams(), runs_of_five(9000)).value]
    worker = spawn.Process(
        target=fork_on, args=(arena.path, shared[0], Strategy.BULK_INSERT), daemon=True
    )
    worker.start()
    try:
        assert _stop_inside(pid_of(worker), mm, shared[0]), "never caught it inside a fork"
        with pytest.raises(CoreError) as caught:
            mm.fork(shared[0], Strategy.TREE_DUP, deadline_ns=time.monotonic_ns() + 50_000_000)
        assert caught.value.reason == "DEADLINE"
    finally:
        os.kill(pid_of(worker), signal.SIGKILL)
        worker.join(10)
    assert maps(mm, mm.fork(shared[0], Strategy.TREE_DUP).child) == maps(mm, shared[0])


def fork_on(path: str, mm_id: int, strategy: Strategy, forking: Event | None = None) -> None:
    arena = Arena.attach(path)
    mm = MemoryManager(arena, 1)
    while True:
        mm.repeat_fork(mm_id, strategy, 100)
        if forking is not None:
            forking.set()


def _stop_inside(pid: int, mm: MemoryManager, mm_id: int) -> bool:
    """SIGSTOP a process while it holds the space's mutex."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.05)
        os.kill(pid, signal.SIGSTOP)
        try:
            mm.find_vma(mm_id, 0, deadline_ns=time.monotonic_ns() + 20_000_000)
        except CoreError as error:
            if error.reason == "DEADLINE":
                return True
        os.kill(pid, signal.SIGCONT)
    return False

"""Many threads of one process: none waits for a space with the GIL that its holder needs."""

import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from forkstormd.core.arena import Arena, core_build
from forkstormd.core.dedupe import Dedupe, RequestInProgress
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy

from .helpers import ANON, PAGE, assert_no_leak, assert_sound, runs_of_five

pytestmark = pytest.mark.skipif(
    core_build() == "uncompiled", reason="the uncompiled core has its arena to itself"
)
THREADS = 6


@pytest.fixture(autouse=True)
def switching_often() -> Iterator[None]:
    """Threads change at nearly every bytecode, so that a lock order that is wrong shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None]) -> None:
    """Run work in several threads; fails when one raises, or has not ended after a minute."""
    failures: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(i,), daemon=True) for i in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "the threads wait for each other"
    assert not failures, failures


def test_threads_share_a_space(arena: Arena, effort: int) -> None:
    mm = MemoryManager(arena, THREADS)
    mm_id = mm.create(SpaceParams(), runs_of_five(40), labels=b"a\0b\0").value

    def work(i: int) -> None:
        for step in range(20 * effort):
            mm.info(mm_id)
            addr = mm.map(mm_id, 0, PAGE, 3, ANON | 0x4000 * (step % 2)).value
            with mm.snapshot(mm_id) as snapshot:
                assert len(snapshot.read(10_000)[0]) == snapshot.info.vma_count
            mm.exit(mm.fork(mm_id, Strategy(1 + i % 2)).child)
            mm.unmap(mm_id, addr, PAGE)
            mm.intern_file(b"/file/%d" % (step % 50), i)

    in_threads(work)
    assert_sound(mm, mm_id)
    assert mm.info(mm_id).vma_count == 40
    assert_no_leak(mm)
    mm.close()


def test_threads_share_the_request_table(arena: Arena, mm: MemoryManager, effort: int) -> None:
    dedupe = Dedupe(arena, mm)

    def work(i: int) -> None:
        for step in range(100 * effort):
            try:
                ticket = dedupe.begin(step.to_bytes(16, "big"), 1)
            except RequestInProgress:
                continue
            if ticket.replay is None:
                ticket.done(b"answer")
            else:
                assert ticket.replay == b"answer"

    in_threads(work)


def test_more_threads_than_lanes_are_refused(arena: Arena) -> None:
    mm = MemoryManager(arena, 1)
    mm_id = mm.create(SpaceParams(), runs_of_five(400)).value
    refused: list[str] = []

    def work(i: int) -> None:
        for _ in range(50):
            try:
                mm.info(mm_id)
            except CoreError as error:
                refused.append(error.limit)

    in_threads(work)
    assert set(refused) <= {"lanes"}
    assert mm.info(mm_id).vma_count == 400
    with pytest.raises(OverflowError):
        mm.fork(-1, Strategy.TREE_DUP)
    with pytest.raises(CoreError):
        mm.find_gap(mm_id, 0, 0, 0)
    assert mm.info(mm_id).vma_count == 400, "a refused argument must not cost the lane"
    assert_no_leak(mm)
    mm.close()

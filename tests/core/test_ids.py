"""Ids, request ids and time to live: what names a space, and for how long."""

import time

import pytest
from forkstormd.core.arena import Arena
from forkstormd.core.dedupe import Dedupe, RequestIdReused, RequestInProgress
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy

from .helpers import ANON, PAGE, runs_of_five


def no_such_space(mm: MemoryManager, mm_id: int) -> None:
    for call in (
        lambda: mm.info(mm_id),
        lambda: mm.exit(mm_id),
        lambda: mm.fork(mm_id, Strategy.TREE_DUP),
        lambda: mm.map(mm_id, 0, PAGE, 3, ANON),
        lambda: mm.unmap(mm_id, 0, PAGE),
        lambda: mm.find_vma(mm_id, 0),
        lambda: mm.find_gap(mm_id, PAGE, 0, 0),
        lambda: mm.snapshot(mm_id),
        lambda: mm.repeat_fork(mm_id, Strategy.TREE_DUP, 1),
        lambda: mm.verify(mm_id),
    ):
        with pytest.raises(CoreError) as caught:
            call()
        assert (caught.value.reason, caught.value.field) == ("NO_SUCH_SPACE", "mm_id")


def test_a_stale_id_never_names_another_space(mm: MemoryManager) -> None:
    stale = mm.create(SpaceParams(), runs_of_five(5)).value
    mm.exit(stale)
    fresh = [mm.create(SpaceParams(), runs_of_five(7)).value for _ in range(40)]
    assert any(mm_id & 0xFFFFF == stale & 0xFFFFF for mm_id in fresh), "the slot was not reused"
    no_such_space(mm, stale)


@pytest.mark.parametrize("mm_id", [0, 1, 0xFFFFF, 1 << 20, (1 << 64) - 1, 1 << 56])
def test_an_unknown_id_names_nothing(mm: MemoryManager, mm_id: int) -> None:
    mm.create()
    no_such_space(mm, mm_id if mm_id != 1 << 20 else (1 << 20) | 0xFF)


def test_spaces_expire_at_their_time(mm: MemoryManager) -> None:
    now = time.monotonic_ns()
    mm.create()
    soon = mm.create(expires_ns=now + 1000).value
    later = mm.fork(soon, Strategy.TREE_DUP, expires_ns=now + 10**12).child
    assert mm.expired(now + 1000) == [soon]
    assert sorted(mm.expired(now + 10**12)) == sorted([soon, later])


def test_a_commit_counts_and_a_failure_does_not(mm: MemoryManager) -> None:
    mm_id = mm.create().value
    first = mm.info(mm_id).version
    mm.map(mm_id, 0, PAGE, 3, ANON)
    assert mm.info(mm_id).version == first + 1
    with pytest.raises(CoreError):
        mm.map(mm_id, 0, 0, 3, ANON)
    assert mm.info(mm_id).version == first + 1


@pytest.fixture
def dedupe(arena: Arena, mm: MemoryManager) -> Dedupe:
    return Dedupe(arena, mm)


def test_a_retry_gets_the_first_answer_in_any_process(
    arena: Arena, mm: MemoryManager, dedupe: Dedupe
) -> None:
    ticket = dedupe.begin(b"0123456789abcdef", 42)
    assert ticket.replay is None
    with pytest.raises(RequestInProgress):
        dedupe.begin(b"0123456789abcdef", 42)
    ticket.done(b"answer")
    other_arena = Arena.attach(arena.path)
    other = Dedupe(other_arena, mm)
    assert other.begin(b"0123456789abcdef", 42).replay == b"answer"
    with pytest.raises(RequestIdReused):
        other.begin(b"0123456789abcdef", 43)
    other_arena.close()


def test_a_failed_request_is_forgotten(dedupe: Dedupe) -> None:
    dedupe.begin(b"0123456789abcdef", 42).abandon()
    assert dedupe.begin(b"0123456789abcdef", 43).replay is None


def test_the_window_is_bounded_and_keeps_the_newest(dedupe: Dedupe, arena: Arena) -> None:
    entries = arena.usage()["dedupe_entries"]
    ids = [(0x9E3779B97F4A7C15 * i % (1 << 64)).to_bytes(8, "big") * 2 for i in range(2 * entries)]
    for request_id in ids:
        dedupe.begin(request_id, 1).done(b"x")
    remembered = [
        dedupe.begin(request_id, 1).replay is not None for request_id in ids[-entries // 4 :]
    ]
    assert sum(remembered) > 0.95 * len(remembered)
    with pytest.raises(ValueError, match="bytes"):
        dedupe.begin(b"fedcba9876543210", 1).done(bytes(385))

"""What the benchmark does to spaces leaves them what they were, and sound."""

from __future__ import annotations

import pytest
from forkstormd.core import yardstick
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy

from .helpers import assert_no_leak, assert_sound, maps, runs_of_five


@pytest.mark.parametrize("count", [1, 21, 130])
def test_an_aged_space_has_the_same_vmas(mm: MemoryManager, count: int) -> None:
    mm_id = mm.create(SpaceParams(), runs_of_five(count)).value
    before = mm.info(mm_id)
    shown = maps(mm, mm_id)
    yardstick.age(mm, mm_id, 1)
    after = mm.info(mm_id)
    assert maps(mm, mm_id) == shown
    assert after.charged_pages == before.charged_pages
    # Five stores per VMA, each a call; a tenth as many pairs of calls as VMAs, at least one.
    assert after.version - before.version == 5 * count + 2 * -(-count // 10)
    assert_sound(mm, mm_id)
    assert_no_leak(mm)


def test_pairs_are_timed_one_by_one(mm: MemoryManager) -> None:
    times = yardstick.pair_ns(mm, mm.create(SpaceParams(), runs_of_five(30)).value, 7, 1)
    assert len(times) == 7
    assert min(times) > 0


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("stores", [0, 1, 10, 50])
def test_lives_of_children_leave_nothing(
    mm: MemoryManager, strategy: Strategy, stores: int
) -> None:
    mm_id = mm.create(SpaceParams(), runs_of_five(50)).value
    shown = maps(mm, mm_id)
    forks, writes, exits = yardstick.life_ns(mm, mm_id, strategy, stores, 3)
    assert [len(times) for times in (forks, writes, exits)] == [3, 3, 3]
    assert all(min(times) > 0 for times in (forks, exits))
    assert mm.ids() == [mm_id]
    assert maps(mm, mm_id) == shown
    assert_sound(mm, mm_id)
    assert_no_leak(mm)


def test_a_space_that_is_gone_is_told(mm: MemoryManager) -> None:
    mm_id = mm.create(SpaceParams(), runs_of_five(5)).value
    mm.exit(mm_id)
    for call in (
        lambda: yardstick.age(mm, mm_id, 1),
        lambda: yardstick.pair_ns(mm, mm_id, 1, 1),
        lambda: yardstick.life_ns(mm, mm_id, Strategy.TREE_DUP, 0, 1),
    ):
        with pytest.raises(CoreError) as error:
            call()
        assert error.value.reason == "NO_SUCH_SPACE"
    assert_no_leak(mm)


def test_what_cannot_be_measured_is_refused(mm: MemoryManager) -> None:
    empty = mm.create(SpaceParams()).value
    yardstick.age(mm, empty, 1)
    with pytest.raises(ValueError, match="empty"):
        yardstick.pair_ns(mm, empty, 1, 1)
    with pytest.raises(ValueError, match="more stores"):
        yardstick.life_ns(mm, empty, Strategy.TREE_DUP, 1, 1)
    assert len(yardstick.life_ns(mm, empty, Strategy.TREE_DUP, 0, 1)[0]) == 1

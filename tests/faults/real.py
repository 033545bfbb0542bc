"""Forks that fail of themselves, at the commit limit and in a full arena, and the wrong ceiling."""

from __future__ import annotations

import errno
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import product
from typing import cast

from forkstormd.core.arena import CAPACITY_MIN, Arena
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import (
    FaultSite,
    ForkFailure,
    ForkFault,
    Recovery,
    SpaceParams,
    Strategy,
    VmaSpec,
)

from ..core import linux
from ..core.helpers import ANON, PAGE
from .cases import Before, Tally, check_after
from .scenes import Scene, made_scene

# TREE_END as it was first posted (undo.py); not in the API.
TREE_END_V3 = cast(Recovery, 4)
WAYS = tuple(product(Strategy, Recovery))
# The spans of the page tables that are counted: PTE, PMD and PUD pages.
TABLE_SPANS = (2 << 20, 1 << 30, 1 << 39)
# Pages this far apart take a node each.
STRIP_BYTES = 64 << 10


@contextmanager
def room(capacity_bytes: int, max_spaces: int = 256) -> Iterator[MemoryManager]:
    """A new arena and a manager for it."""
    with tempfile.TemporaryDirectory(prefix="forkstorm-faults-", dir="/dev/shm") as folder:
        arena = Arena.create(os.path.join(folder, "arena"), capacity_bytes, max_spaces, 4)
        mm = MemoryManager(arena, 1)
        try:
            yield mm
        finally:
            mm.close()
            arena.close()


def never(recovery: Recovery) -> ForkFault:
    """A fault that fires at no VMA: it only says how a real failure is undone."""
    return ForkFault(FaultSite.FATAL_SIGNAL, (1 << 64) - 1, recovery)


def _failure(scene: Scene, strategy: Strategy, fault: ForkFault) -> CoreError | None:
    """How a fork fails, or None; a child that there is has ended again."""
    try:
        child = scene.mm.fork(scene.parent, strategy, fault=fault).child
    except CoreError as error:
        return error
    scene.mm.exit(child)
    return None


def _check(
    where: str,
    error: CoreError,
    told: tuple[int, str, ForkFailure | None],
    before: Before,
    scene: Scene,
    tally: Tally,
) -> None:
    """Count a real failure: the error is as told, and nothing is left of the fork."""
    tally.cases += 1
    failure = error.fork
    found = (error.errno, error.limit, failure and failure._replace(undo_ns=0))
    if found != told:
        tally.wrong(where, f"{found}, not {told}")
    if failure is not None:
        tally.real[failure.site] = tally.real.get(failure.site, 0) + 1
    after = Before.of(scene)
    if after.audit != before.audit:
        tally.leaks += 1
        tally.wrong(where, f"Audit was {before.audit}, is {after.audit}")
    if after != before:
        tally.wrong(where, f"the parent was {before.info}, is {after.info}")
    tally.problems += [f"{where}: Verify: {line}" for line in scene.mm.verify(scene.parent)]


def reach_commit_limit(mm: MemoryManager, name: str, tally: Tally, every: int = 1) -> None:
    """A layout in domains whose limit is reached at each VMA that is charged, and in one whose
    limit suffices to the page."""
    scene = made_scene(mm, name)
    limit = mm.info(scene.parent).committed_pages
    mm.exit(scene.parent)
    charged = [
        (ordinal, area)
        for ordinal, area in enumerate(scene.areas)
        if area.flags & linux.ACCOUNT and not area.flags & linux.DONTCOPY
    ]
    for number, (ordinal, area) in enumerate(charged):
        limit += area.page_count
        if number % every and number != len(charged) - 1:
            continue
        short = made_scene(mm, name, commit_limit_pages=limit - 1)
        before = Before.of(short)
        done = short.copied_before(ordinal)
        told = ForkFailure(FaultSite.COMMIT_LIMIT, ordinal, done, done, 0)
        for strategy, recovery in WAYS:
            where = f"{name}, {strategy.name}, {recovery.name}, limit {limit - 1} pages"
            error = _failure(short, strategy, never(recovery))
            if error is None:
                tally.wrong(where, "the fork succeeded")
            else:
                _check(where, error, (errno.ENOMEM, "commit", told), before, short, tally)
        mm.exit(short.parent)
    enough = made_scene(mm, name, commit_limit_pages=limit)
    for strategy, recovery in WAYS:
        if _failure(enough, strategy, never(recovery)) is not None:
            tally.wrong(f"{name}, limit {limit} pages", "the fork failed")
    mm.exit(enough.parent)


def fill_arena(name: str, seed: int, tally: Tally) -> None:
    """A layout in an arena that is full, and then has a little more room after each failure,
    until every fork finds enough. An even seed makes room for nodes rather
    than for records, an odd one the other way round."""
    rng = random.Random(seed)
    with room(CAPACITY_MIN, 4096) as mm:
        scene = made_scene(mm, name)
        ballast = _ballast(mm)
        ways = set(WAYS)
        while ways:
            before = Before.of(scene)
            for strategy, recovery in sorted(ways):
                where = f"{name}, {strategy.name}, {recovery.name}, arena full (seed {seed})"
                error = _failure(scene, strategy, never(recovery))
                if error is None:
                    ways.remove((strategy, recovery))
                    check_after(where, scene, before, strategy, tally)
                    continue
                told = (errno.ENOMEM, "arena", _plausible(scene, strategy, error.fork))
                _check(where, error, told, before, scene, tally)
            rather, else_ = ballast if seed % 2 == 0 else ballast[::-1]
            from_ = rather if rather and (rng.random() < 0.9 or not else_) else else_
            mm.exit(from_.pop(rng.randrange(len(from_))))


def _ballast(mm: MemoryManager) -> tuple[list[int], list[int]]:
    """Fill the arena; the ids of small spaces, which together hold enough for a fork: those of
    many nodes, and those of many records."""
    nodes = [_touched(mm) for _ in range(20)]
    records = [mm.create(SpaceParams(), _vmas(14)).value for _ in range(20)]
    # Many pages are the quickest to audit.
    large = mm.create().value
    at = mm.map(large, 0, 1 << 36, 3, ANON | linux.MAP_NORESERVE).value
    with suppress(CoreError):
        while True:
            mm.touch(large, at, 1, 1)
            at += STRIP_BYTES
    # A Touch is refused before the arena is full, a fork or an empty space only then.
    one = nodes[0]
    nodes += _as_many(lambda: mm.fork(one, Strategy.TREE_DUP).child)
    records += _as_many(lambda: mm.create(SpaceParams(), _vmas(1)).value)
    return nodes, records


def _as_many(make: Callable[[], int]) -> list[int]:
    """What is made until the arena has no room for another."""
    made: list[int] = []
    try:
        while True:
            made.append(make())
    except CoreError as error:
        if error.limit != "arena":
            raise
    return made


def _vmas(count: int) -> list[VmaSpec]:
    """VMAs that touch and cannot merge."""
    return [VmaSpec((1 + i) * PAGE, (2 + i) * PAGE, 0x71 + 2 * (i % 2)) for i in range(count)]


def _touched(mm: MemoryManager) -> int:
    """A space of one record and the nodes of a page and its tables."""
    space = mm.create().value
    mm.touch(space, mm.map(space, 0, PAGE, 3, ANON).value, 1, 1)
    return space


def _plausible(scene: Scene, strategy: Strategy, failure: ForkFailure | None) -> ForkFailure | None:
    """What an error has to tell, given where the fork says that it failed."""
    if failure is None:
        return ForkFailure(FaultSite.VMA_RECORD, 0, 0, 0, 0)
    done = scene.copied_before(failure.ordinal) + (failure.site == FaultSite.PAGE_TABLE)
    if failure.site == FaultSite.TREE_NODE and strategy != Strategy.BULK_INSERT:
        done = 0
    return ForkFailure(failure.site, failure.ordinal, done, done, 0)


def straddling_tables(scene: Scene, tree_end: int) -> set[tuple[int, int]]:
    """The page tables (start, span) that a fork has built below tree_end and that reach above it:
    what is lost when tree_end is their ceiling."""
    copied = [
        at
        for area in scene.areas
        if area.faulted and not area.flags & (linux.DONTCOPY | linux.WIPEONFORK)
        for at in area.mapped
        if at < tree_end
    ]
    spans = {(at // span * span, span) for at in copied for span in TABLE_SPANS}
    return {(start, span) for start, span in spans if start + span > tree_end}


def lost_tables(scene: Scene, ordinal: int, recovery: Recovery) -> int:
    """Let a tree duplication fail at a VMA's record: page tables that nobody reaches any more."""
    before = scene.mm.audit()
    fault = ForkFault(FaultSite.VMA_RECORD, ordinal, recovery)
    if _failure(scene, Strategy.TREE_DUP, fault) is None:
        raise ValueError(f"VMA {ordinal} is not duplicated")
    after = scene.mm.audit()
    assert after.reachable_page_tables == before.reachable_page_tables
    return after.page_table_count - before.page_table_count

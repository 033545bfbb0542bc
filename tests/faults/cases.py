"""One fork that is made to fail: what is to happen, by the rules alone, and whether it does.

A case is a site, a recovery, a strategy and the ordinal of a VMA. After it everything has to be as
it was: the audit in every counter, the parent, the pages committed; and a fork without a fault
has to give a child that is its parent.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field, replace
from itertools import product
from typing import NamedTuple

from forkstormd.core.errors import CoreError
from forkstormd.core.types import (
    Audit,
    FaultSite,
    ForkFailure,
    ForkFault,
    Recovery,
    SpaceInfo,
    Strategy,
)

from ..core import linux
from ..core.helpers import maps
from ..core.model import Shown
from .scenes import Area, Scene

CELLS = tuple(product(FaultSite, Strategy, Recovery))

# What a strategy does not do: the records of an EXTENT_COPY come with its nodes; what a VMA has of
# its own, and what holds it, SHARE puts off.
LEFT_OUT = {
    Strategy.EXTENT_COPY: (FaultSite.VMA_RECORD,),
    Strategy.SHARE: (
        FaultSite.TREE_NODE,
        FaultSite.VMA_RECORD,
        FaultSite.POLICY,
        FaultSite.ANON_VMA,
    ),
}


class Expected(NamedTuple):
    """How a fork fails."""

    errno: int
    duplicated: int


def expected(scene: Scene, strategy: Strategy, fault: ForkFault) -> Expected | None:
    """What a fault is to do; None: its step is not taken at that VMA. Section 13 of the rules."""
    site, ordinal, _ = fault
    if strategy == Strategy.SHARE and not scene.is_shared():
        strategy = Strategy.EXTENT_COPY
    if ordinal >= len(scene.areas) or not _takes(site, strategy, scene.areas[ordinal]):
        return None
    before = scene.copied_before(ordinal)
    if site == FaultSite.TREE_NODE and strategy != Strategy.BULK_INSERT:
        # The clone, or the extent, fails, before there is a VMA of the child's.
        return Expected(errno.ENOMEM, 0)
    if site == FaultSite.PAGE_TABLE:
        # The VMA is in the child's tree already.
        return Expected(errno.ENOMEM, before + 1)
    return Expected(errno.EINTR if site == FaultSite.FATAL_SIGNAL else errno.ENOMEM, before)


def _takes(site: FaultSite, strategy: Strategy, area: Area) -> bool:
    """Whether a fork takes this step for a VMA."""
    if site in LEFT_OUT.get(strategy, ()):
        return False
    if area.flags & linux.DONTCOPY:
        # Cloned with its leaf and then erased, or never looked at again.
        cloned = (FaultSite.TREE_NODE, FaultSite.DONTCOPY_ERASE)
        return strategy != Strategy.BULK_INSERT and site in cloned
    match site:
        case FaultSite.DONTCOPY_ERASE:
            return False
        case FaultSite.COMMIT_LIMIT:
            return bool(area.flags & linux.ACCOUNT)
        case FaultSite.ANON_VMA:
            return area.faulted and not area.flags & linux.WIPEONFORK
        case FaultSite.PAGE_TABLE:
            # Without anonymous memory faults would build the tables again (vma_needs_copy).
            return area.faulted and not area.flags & linux.WIPEONFORK and bool(area.mapped)
        case _:
            return True


class Before(NamedTuple):
    """Everything that has to be the same afterwards."""

    audit: Audit
    info: SpaceInfo
    maps: list[Shown]

    @classmethod
    def of(cls, scene: Scene) -> Before:
        # Room that was claimed for the heap is not given back.
        audit = replace(scene.mm.audit(), claimed_bytes=0)
        return cls(audit, scene.mm.info(scene.parent), maps(scene.mm, scene.parent))


@dataclass
class Tally:
    """What was found out; problems are sentences."""

    cases: int = 0
    leaks: int = 0
    problems: list[str] = field(default_factory=list)
    # By cell: how often the fault fired, and how often its step was not taken.
    fired: dict[tuple[FaultSite, Strategy, Recovery], int] = field(default_factory=dict)
    idle: dict[tuple[FaultSite, Strategy, Recovery], int] = field(default_factory=dict)
    # Nanoseconds of the undo per VMA undone, by strategy and recovery.
    undo_ns: dict[tuple[Strategy, Recovery], list[float]] = field(default_factory=dict)
    # Failures for real, by site.
    real: dict[FaultSite, int] = field(default_factory=dict)

    def wrong(self, where: str, what: str) -> None:
        self.problems.append(f"{where}: {what}")


def run_case(
    scene: Scene,
    before: Before,
    strategy: Strategy,
    fault: ForkFault,
    tally: Tally,
    *,
    thorough: bool = False,
) -> None:
    """One case, counted in the tally. thorough: Verify too, and the values of the child's pages."""
    mm, where = scene.mm, f"{scene.name}, {strategy.name}, {fault}"
    awaited = expected(scene, strategy, fault)
    tally.cases += 1
    cell = (fault.site, strategy, fault.recovery)
    try:
        child = mm.fork(scene.parent, strategy, fault=fault).child
    except CoreError as error:
        tally.fired[cell] = tally.fired.get(cell, 0) + 1
        _check_error(where, error, awaited, fault, tally)
        if error.fork is not None and error.fork.undone:
            times = tally.undo_ns.setdefault((strategy, fault.recovery), [])
            times.append(error.fork.undo_ns / error.fork.undone)
    else:
        tally.idle[cell] = tally.idle.get(cell, 0) + 1
        if awaited is not None:
            tally.wrong(where, "the fork succeeded")
        mm.exit(child)
    check_after(where, scene, before, strategy, tally, thorough=thorough)


def _check_error(
    where: str, error: CoreError, awaited: Expected | None, fault: ForkFault, tally: Tally
) -> None:
    if awaited is None:
        tally.wrong(where, f"not a step here, and yet {error} {error.fork}")
        return
    found = (error.errno, error.limit, error.fork and error.fork._replace(undo_ns=0))
    told = ForkFailure(fault.site, fault.ordinal, awaited.duplicated, awaited.duplicated, 0)
    if found != (awaited.errno, "fault", told):
        tally.wrong(where, f"{found}, not {(awaited.errno, 'fault', told)}")


def check_after(
    where: str,
    scene: Scene,
    before: Before,
    strategy: Strategy,
    tally: Tally,
    *,
    thorough: bool = False,
) -> None:
    """That a fork which failed, or whose child has ended, has left nothing behind."""
    mm = scene.mm
    child = mm.fork(scene.parent, strategy).child
    copied = [vma for vma in before.maps if not vma[2] & linux.DONTCOPY]
    if maps(mm, child) != copied:
        tally.wrong(where, "the next child is not as its parent")
    if thorough:
        tally.problems += [f"{where}: Verify: {line}" for line in mm.verify(scene.parent)]
        tally.problems += [f"{where}: Verify of the child: {line}" for line in mm.verify(child)]
        read = {at: mm.touch(child, at, 0).value for at in scene.values}
        if read != scene.values:
            tally.wrong(where, "the next child's pages do not hold what the parent's do")
    mm.exit(child)
    after = Before.of(scene)
    if after.audit != before.audit:
        tally.leaks += 1
        tally.wrong(where, f"Audit was {before.audit}, is {after.audit}")
    if (after.info, after.maps) != (before.info, before.maps):
        tally.wrong(where, f"the parent was {before.info}, is {after.info}")

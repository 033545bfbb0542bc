"""Forks that fail half way leave exactly what was there: a sample of what `make faults` does, and
what is wrong with the ceiling that was posted first."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import (
    FaultSite,
    ForkFault,
    Recovery,
    SpaceParams,
    Strategy,
    VmaSpec,
)

from tests.faults.cases import CELLS, Before, Tally, expected, run_case
from tests.faults.real import (
    TREE_END_V3,
    fill_arena,
    lost_tables,
    reach_commit_limit,
    straddling_tables,
)
from tests.faults.scenes import Area, Scene, made_scene

from . import linux
from .helpers import ANON, PAGE, assert_no_leak, assert_sound, maps

PAGE_TEXT = (Path(__file__).parents[2] / "docs" / "faults.md").read_text()
MATRIX_HEADING = "## Which step is whose"
# What the page calls the recoveries.
DESIGNS = {f"F{recovery}": recovery for recovery in Recovery}


@pytest.fixture
def tally() -> Iterator[Tally]:
    """Whatever it gathers has to be nothing wrong."""
    tally = Tally()
    yield tally
    assert tally.problems == []
    assert tally.leaks == 0


@pytest.mark.parametrize("inherited", [False, True])
@pytest.mark.parametrize("layout", ["bash", "java17", "python3"])
def test_nothing_is_left_of_a_failed_fork(
    mm: MemoryManager, tally: Tally, effort: int, layout: str, inherited: bool
) -> None:
    scene = made_scene(mm, layout, inherited=inherited, sparse=layout == "java17")
    before = Before.of(scene)
    ordinals = range(len(scene.areas) + 1)
    count = 1 + effort // (3 if layout == "bash" else 9)
    for ordinal in random.Random(layout).sample(ordinals, min(len(ordinals), count)):
        for site, strategy, recovery in CELLS:
            fault = ForkFault(site, ordinal, recovery)
            run_case(scene, before, strategy, fault, tally, thorough=recovery == ordinal % 3 + 1)


def page_matrix() -> dict[tuple[FaultSite, Strategy, Recovery], bool]:
    """The matrix of docs/faults.md: whether a site's fault can fire, by strategy and recovery."""
    section = PAGE_TEXT.split(f"\n{MATRIX_HEADING}\n")[1].split("\n## ")[0]
    table = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    (_, *strategies), _, *rows = table
    matrix = {}
    for name, *cells in rows:
        for strategy, cell in zip(strategies, cells, strict=True):
            assert cell == "no step" or set(cell.split()) <= set(DESIGNS), (name, strategy, cell)
            for design, recovery in DESIGNS.items():
                key = (FaultSite[name.strip("`")], Strategy[strategy], recovery)
                assert key not in matrix, f"{name} stands there twice"
                matrix[key] = design in cell.split()
    return matrix


def fires(scene: Scene, strategy: Strategy, fault: ForkFault) -> bool:
    """Whether a fork fails at this fault; a child that there is has ended again."""
    try:
        child = scene.mm.fork(scene.parent, strategy, fault=fault).child
    except CoreError as error:
        assert error.fork is not None
        assert error.fork[:2] == fault[:2]
        return True
    scene.mm.exit(child)
    return False


def test_every_cell_fires_or_is_no_step_of_its_strategy(mm: MemoryManager, effort: int) -> None:
    """The matrix of docs/faults.md is what forks do, and what the rules say."""
    scene = made_scene(mm, "java17", inherited=True, sparse=True)
    assert scene.is_shared()
    ordinals = range(len(scene.areas))
    fired, ruled = {}, {}
    rng = random.Random(1)
    for site, strategy, recovery in CELLS:
        faults = [ForkFault(site, ordinal, recovery) for ordinal in ordinals]
        cell = (site, strategy, recovery)
        firing = [fault for fault in faults if expected(scene, strategy, fault)]
        ruled[cell] = bool(firing)
        # The uncompiled core takes a millisecond per VMA: one that has to fire, and some others.
        tried = faults if effort > 6 else [*firing[:1], *rng.sample(faults, 4)]
        fired[cell] = any(fires(scene, strategy, fault) for fault in tried)
    assert page_matrix() == fired == ruled


def test_the_commit_limit_is_reached_at_each_vma(
    mm: MemoryManager, tally: Tally, effort: int
) -> None:
    reach_commit_limit(mm, "bash", tally, every=1 if effort > 6 else 5)
    assert tally.real == {FaultSite.COMMIT_LIMIT: tally.cases}
    assert_no_leak(mm)


def test_the_arena_is_full_at_many_points(tally: Tally, effort: int) -> None:
    if effort <= 6:
        pytest.skip("to fill an arena takes the uncompiled core minutes")
    for seed in (0, 1):
        fill_arena("bash", seed, tally)
    assert {FaultSite.TREE_NODE, FaultSite.VMA_RECORD} <= set(tally.real)


def neighbours(mm: MemoryManager) -> Scene:
    """Two VMAs within one span of 2 MiB, each with a written page."""
    space = mm.create(SpaceParams()).value
    low = 0x2000_0000
    for start in (low, low + 8 * PAGE):
        mm.map(space, start, 4 * PAGE, 3, ANON | linux.MAP_FIXED)
        mm.touch(space, start, 1, 7)
    areas = [Area(start, end, flags, True, (start,)) for start, end, flags, *_ in maps(mm, space)]
    return Scene("neighbours", mm, space, areas, {})


@pytest.mark.parametrize("recovery", list(Recovery))
def test_the_right_ceilings_lose_no_page_table(mm: MemoryManager, recovery: Recovery) -> None:
    scene = neighbours(mm)
    assert lost_tables(scene, 1, recovery) == 0
    assert_no_leak(mm)


def test_the_wrong_ceiling_loses_the_tables_that_straddle_it(mm: MemoryManager) -> None:
    """Version 3 of the review freed page tables up to the first VMA that was not duplicated: the
    PTE page that both VMAs share, and the PMD and PUD page above it, were never freed."""
    scene = neighbours(mm)
    boundary = scene.areas[1].start
    assert straddling_tables(scene, boundary) == {
        (0x2000_0000, 2 << 20),
        (0, 1 << 30),
        (0, 1 << 39),
    }
    assert lost_tables(scene, 1, TREE_END_V3) == 3
    audit = mm.audit()
    assert audit.page_table_count == audit.reachable_page_tables + 3
    assert audit.allocated_nodes > audit.reachable_nodes
    # Only the child's tables are lost: the parent is as it was, and so is a fork of it.
    child = mm.fork(scene.parent, Strategy.TREE_DUP).child
    assert mm.touch(child, scene.areas[0].start, 0).value == 7
    assert_sound(mm, scene.parent, child)


def test_a_ceiling_where_no_table_straddles_it_loses_nothing(mm: MemoryManager) -> None:
    """Why the review did not see it at once: with nothing touched below, there is nothing to
    lose."""
    specs = [VmaSpec((1 + 2 * i) * PAGE, (2 + 2 * i) * PAGE, 0x73) for i in range(3)]
    space = mm.create(SpaceParams(), specs).value
    areas = [Area(spec.start, spec.end, spec.vm_flags, False, ()) for spec in specs]
    scene = Scene("untouched", mm, space, areas, {})
    assert lost_tables(scene, 2, TREE_END_V3) == 0
    mm.touch(space, specs[2].start, 1, 7)
    # Nor is there where the only touched VMA is the one that fails.
    assert lost_tables(scene, 2, TREE_END_V3) == 0
    assert_no_leak(mm)


def test_the_wrong_ceiling_in_a_real_layout(mm: MemoryManager, effort: int) -> None:
    scene = made_scene(mm, "bash")
    ordinals = [i for i, area in enumerate(scene.areas) if not area.flags & linux.DONTCOPY]
    for ordinal in ordinals[:: 1 if effort > 6 else 8]:
        tables = straddling_tables(scene, scene.areas[ordinal].start)
        assert lost_tables(scene, ordinal, TREE_END_V3) == len(tables)
        for recovery in Recovery:
            assert lost_tables(scene, ordinal, recovery) == 0

"""All cases: python -m tests.faults. Totals in build/faults/summary.json; 1 if anything is wrong.

Every ordinal of four layouts, each as a space of its own and as a fork's child, and a sample of
the ordinals of a big one; then the failures that nobody has to inject.
"""

from __future__ import annotations

import json
import statistics
import time
from itertools import product
from pathlib import Path

import click
from forkstormd.core.arena import core_build
from forkstormd.core.types import ForkFault

from ..core import linux
from .cases import CELLS, Before, Tally, run_case
from .real import TREE_END_V3, fill_arena, lost_tables, reach_commit_limit, room, straddling_tables
from .scenes import Scene, made_scene

SUMMARY = Path(__file__).parents[2] / "build" / "faults" / "summary.json"
# How many ordinals there are to one that is tried.
LAYOUTS = {"bash": 1, "node": 1, "python3": 1, "java17": 1, "chromium_renderer": 16}
# Large enough to have a VMA of each special kind and be shared all the same.
SPARSE = ("java17", "chromium_renderer")
REAL = ("bash", "node")
ARENA_SEEDS = 3
CAPACITY_BYTES = 64 << 20
SHOWN = 20


def exhaust(scene: Scene, tally: Tally, every: int) -> None:
    """Every cell at every ordinal, or at every so manieth; the one behind the last included."""
    before = Before.of(scene)
    ordinals = sorted({*range(0, len(scene.areas), every), len(scene.areas)})
    for ordinal in ordinals:
        for site, strategy, recovery in CELLS:
            fault = ForkFault(site, ordinal, recovery)
            run_case(scene, before, strategy, fault, tally, thorough=True)


def lose_tables(tally: Tally) -> dict[str, int]:
    """The wrong ceiling at every VMA of a layout: it has to lose what straddles, the three
    recoveries nothing. What was lost, in pages."""
    found = {"forks": 0, "forks_that_leak": 0, "page_tables_lost": 0}
    with room(CAPACITY_BYTES) as mm:
        scene = made_scene(mm, "bash")
        for ordinal, area in enumerate(scene.areas):
            if area.flags & linux.DONTCOPY:
                continue
            lost = lost_tables(scene, ordinal, TREE_END_V3)
            if lost != len(straddling_tables(scene, area.start)):
                tally.wrong(f"wrong ceiling at VMA {ordinal}", f"{lost} page tables lost")
            found["forks"] += 1
            found["forks_that_leak"] += lost > 0
            found["page_tables_lost"] += lost
    return found


def summary(
    tally: Tally, scenes: dict[str, dict[str, int]], lost: dict[str, int]
) -> dict[str, object]:
    """What summary.json holds."""
    matrix: dict[str, dict[str, dict[str, dict[str, int]]]] = {}
    for cell in CELLS:
        site, strategy, recovery = cell
        row = matrix.setdefault(site.name, {}).setdefault(strategy.name, {})
        row[recovery.name] = {
            "fired": tally.fired.get(cell, 0),
            "not_a_step": tally.idle.get(cell, 0),
        }
    undo: dict[str, dict[str, float]] = {}
    for (strategy, recovery), times in sorted(tally.undo_ns.items()):
        median = round(statistics.median(times), 1)
        undo.setdefault(strategy.name, {})[recovery.name] = median
    return {
        "cases": tally.cases,
        "leaks": tally.leaks,
        "problems": len(tally.problems),
        "fired": sum(tally.fired.values()),
        "not_a_step": sum(tally.idle.values()),
        "real_failures": {site.name: count for site, count in sorted(tally.real.items())},
        "matrix": matrix,
        "undo_ns_per_vma_p50": undo,
        "wrong_ceiling": lost,
        "scenes": scenes,
        "core": core_build(),
    }


@click.command()
@click.option(
    "--layout", "layouts", multiple=True, type=click.Choice(list(LAYOUTS)), help="Only this one."
)
def main(layouts: tuple[str, ...]) -> None:
    """Let forks fail at every VMA, in every way, and look for what is left of them."""
    began = time.monotonic()
    tally = Tally()
    scenes: dict[str, dict[str, int]] = {}
    for name in layouts or LAYOUTS:
        for inherited, sparse in product((False, True), (False, True)):
            if sparse and name not in SPARSE:
                continue
            with room(CAPACITY_BYTES) as mm:
                scene = made_scene(mm, name, inherited=inherited, sparse=sparse)
                scenes[scene.name] = scene.counts() | {"ordinals_tried_1_in": LAYOUTS[name]}
                before = tally.cases
                exhaust(scene, tally, LAYOUTS[name])
                click.echo(f"{scene.name}: {tally.cases - before} cases")
    for name in REAL:
        with room(CAPACITY_BYTES) as mm:
            reach_commit_limit(mm, name, tally)
        for seed in range(ARENA_SEEDS):
            fill_arena(name, seed, tally)
    told = summary(tally, scenes, lose_tables(tally))
    told["seconds"] = round(time.monotonic() - began, 1)
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps(told, indent=2) + "\n")
    for problem in tally.problems[:SHOWN]:
        click.echo(problem)
    real = ", ".join(f"{count} {site.name}" for site, count in sorted(tally.real.items()))
    click.echo(f"real failures: {real}")
    click.echo(
        f"{tally.cases} cases in {told['seconds']} s: {tally.leaks} leaks, "
        f"{len(tally.problems)} problems; totals: build/faults/summary.json"
    )
    raise SystemExit(bool(tally.problems))


if __name__ == "__main__":
    main()

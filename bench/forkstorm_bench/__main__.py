"""`make bench`: measure, print the report, write build/bench/: summary.json, report.txt, plots."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
from forkstorm_load.measure import StealClock
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from forkstorm_bench import (
    batches,
    builds,
    duplication,
    figures,
    mutation,
    parallel,
    peers,
    plots,
    processes,
    realfork,
    report,
    rpc,
    spaces,
    steps,
)
from forkstorm_bench.figures import FULL, QUICK, Effort, Figures, number
from forkstorm_bench.machine import machine

# Rounds at this size take seconds.
HUGE, HUGE_ROUNDS = 1_000_000, 3


@dataclass(frozen=True)
class Stage:
    """A part of the run; expected_s is what it takes on the machine of docs/benchmarks.md."""

    name: str
    run: Callable[[Effort], Figures]
    expected_s: float


def one_size(vma_count: int, effort: Effort) -> Figures:
    """All that is measured on spaces of one size; the aged one last (spaces.Sources)."""
    reason = spaces.does_not_fit(vma_count)
    if reason is not None:
        return {f"skipped.{vma_count}_VMAs": reason}
    if vma_count >= HUGE:
        effort = effort.fewer(HUGE_ROUNDS)
    with spaces.sources(vma_count) as place:
        found = duplication.from_fresh(place, effort)
        found |= duplication.from_compact(place, effort)
        found |= duplication.shared(place, effort)
        if vma_count in mutation.SIZES:
            found |= mutation.lives(place, effort) | mutation.calls(place, effort)
        found |= duplication.from_aged(place, effort)
        specs = place.specs
    return found | duplication.cold(specs, effort)


def work(_: Effort) -> Figures:
    found: Figures = {}
    for vma_count in duplication.WORK_SIZES:
        found |= duplication.work(vma_count)
    return found


def stages(sizes: tuple[int, ...]) -> list[Stage]:
    """What is measured, in order; each in an arena or with a server of its own."""
    expected = {65_536: 12.0, 1_000_000: 60.0}
    return [
        *(Stage(f"{n:,} VMAs", partial(one_size, n), expected.get(n, 4.0)) for n in sizes),
        Stage("work counts", work, 0.5),
        Stage("fixed costs", duplication.fixed, 0.5),
        Stage("touched spaces", duplication.touched, 1.0),
        Stage("lookups, stores and calls", steps.steps, 4.0),
        Stage("memory per space", lambda _: steps.footprint(), 0.5),
        Stage("the uncompiled core", lambda _: builds.uncompiled(), 3.0),
        Stage("the real fork", realfork.real_fork, 12.0),
        Stage("Python libraries", peers.peers, 15.0),
        Stage("two processes", processes.two_processes, 30.0),
        Stage(
            "one duplication by two processes",
            partial(parallel.parallel, large=[n for n in parallel.LARGE if n in sizes]),
            20.0,
        ),
        Stage("RPCs", rpc.rpc, 45.0),
        Stage("batches", batches.batches, 6.0),
    ]


def derived(found: Figures) -> Figures:
    """What follows from figures of several stages."""
    more = duplication.fits(found)
    for n in spaces.SIZES:
        shared_out = number(found, f"parallel_dup_scaling.{n}")
        copies = number(found, f"memcpy_two_process_scaling.{n}")
        if shared_out is not None and copies is not None:
            more[f"parallel_dup_over_memcpy.{n}"] = shared_out / copies
    return more


def measure(console: Console, todo: list[Stage], effort: Effort) -> Figures:
    """Carry out stages, with a bar on a terminal and a line per stage elsewhere. A stage that
    fails is told and left out."""
    found: Figures = machine()
    steal = StealClock()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=sum(stage.expected_s for stage in todo))
        for i, stage in enumerate(todo, 1):
            progress.update(bar, description=f"[{i}/{len(todo)}] {stage.name}".replace("[", r"\["))
            if not console.is_terminal:
                console.print(f"[{i}/{len(todo)}] {stage.name}", markup=False, highlight=False)
            began = time.monotonic()
            key = stage.name.replace(" ", "_").replace(",", "")
            try:
                found |= stage.run(effort)
            except Exception as error:
                console.print(f"{stage.name}: {type(error).__name__}: {error}", markup=False)
                found[f"failed.{key}"] = str(error)
            found[f"seconds.{key}"] = time.monotonic() - began
            progress.advance(bar, stage.expected_s)
    found["steal"] = steal.share()
    return found | derived(found)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True
)
@click.option("--quick", is_flag=True, help="Only see that it works: the figures mean nothing.")
@click.option("--only", metavar="TEXT", help="Only stages whose name contains this.")
@click.option("--redraw", is_flag=True, help="Do not measure: report and plots from summary.json.")
def main(out: Path, quick: bool, only: str | None, redraw: bool) -> None:
    """Measure the figures of docs/benchmarks.md, in less than five minutes."""
    console = Console()
    summary = out / "summary.json"
    if redraw:
        found = figures.read(summary)
    else:
        sizes = spaces.SIZES[:-2] if quick else spaces.SIZES
        todo = [stage for stage in stages(sizes) if only is None or only in stage.name]
        if not todo:
            raise click.UsageError(f"no stage is named like {only!r}")
        found = measure(Console(stderr=True), todo, QUICK if quick else FULL)
        figures.write(summary, found)
    width = min(console.width, report.WIDTH) if console.is_terminal else report.WIDTH
    report.show(Console(width=width), found)
    with (out / "report.txt").open("w") as file:
        report.show(Console(file=file, width=report.WIDTH, color_system=None), found)
    drawn = plots.draw(found, out)
    console.print(
        f"written: {out}/: {', '.join(path.name for path in [summary, *drawn])}", highlight=False
    )
    if any(key.startswith("failed.") for key in found):
        sys.exit(1)


if __name__ == "__main__":
    main()

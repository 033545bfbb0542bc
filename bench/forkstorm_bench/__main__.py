"""`make bench`: measure, print a table, write build/bench/summary.json."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
from forkstorm_load.server import own_server
from rich.console import Console
from rich.table import Table

from forkstorm_bench import batches, core, figures, processes, rpc
from forkstorm_bench.core import Figures

# What the project has set itself, by key: (bound, whether the figure is to stay below it).
BOUNDS: dict[str, tuple[float, bool]] = {
    "ns_per_vma.TREE_DUP.421": (12, True),
    "ns_per_vma.TREE_DUP.6421": (12, True),
    "tree_dup_over_memcpy.421": (4, True),
    "tree_dup_over_memcpy.6421": (4, True),
    "find_ns.6421": (60, True),
    "store_ns.6421": (300, True),
    "map_ns.6421": (1500, True),
    "unmap_ns.6421": (1500, True),
    "protect_split_ns.6421": (2000, True),
    "find_vma_ns.6421": (100, True),
    "release_over_uncompiled.BULK_INSERT": (100, False),
    "release_over_uncompiled.TREE_DUP": (100, False),
    "fork_over_ping.TREE_DUP": (0.85, False),
    "fork_over_ping.BULK_INSERT": (0.85, False),
    "apply_100_over_unary": (45, False),
    "apply_1000_over_unary": (130, False),
    "client_cpu": (0.5, True),
    "two_process_scaling": (1.7, False),
    "server_ready_s": (2, True),
    "worker_rss_mb": (70, True),
    "arena_kib_per_space.421": (48, True),
}


def stages() -> list[tuple[str, Callable[[], Figures]]]:
    """What is measured, in order; each in an arena or with a server of its own."""

    def duplications() -> Figures:
        found: Figures = {}
        with core.own_arena() as (_, mm):
            for vma_count in core.SIZES:
                found.update(core.duplication(mm, vma_count))
            for vma_count in core.WORK_SIZES:
                found.update(core.work(mm, vma_count))
        return found

    def single_steps() -> Figures:
        with core.own_arena() as (_, mm):
            return core.steps(mm) | core.calls(mm)

    def over_the_wire() -> Figures:
        # Both servers start before this process makes its first channel.
        with own_server(workers=1) as server:
            return rpc.rpc() | batches.batches(server.address)

    return [
        ("duplication, against memcpy", duplications),
        ("lookups, stores and calls", single_steps),
        ("memory per space", core.footprint),
        ("the uncompiled core", core.uncompiled),
        ("two processes", processes.two_processes),
        ("RPCs", over_the_wire),
    ]


def table(found: Figures) -> Table:
    """All figures, those with a bound beside it."""
    rows = Table(box=None, pad_edge=False)
    for title, justify in (
        ("figure", "left"),
        ("measured", "right"),
        ("aim", "right"),
        ("", "left"),
    ):
        rows.add_column(title, justify=justify)  # type: ignore[arg-type]
    for key in sorted(found):
        value = found[key]
        shown = f"{value:,.4g}" if isinstance(value, float) else str(value)
        aim, verdict = "", ""
        if key in BOUNDS and isinstance(value, (int, float)):
            bound, below = BOUNDS[key]
            aim = f"{'≤' if below else '≥'} {bound:g}"
            verdict = "ok" if (value <= bound if below else value >= bound) else "falls short"
        rows.add_row(key, shown, aim, verdict)
    return rows


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True
)
def main(out: Path) -> None:
    """Measure the figures of docs/benchmarks.md, in about a minute."""
    console = Console()
    found: Figures = {}
    todo = stages()
    for number, (name, stage) in enumerate(todo, 1):
        console.print(f"[{number}/{len(todo)}] {name}", markup=False)
        found.update(stage())
    figures.write(out / "summary.json", found)
    console.print(table(found))
    console.print(f"written: {out / 'summary.json'}")


if __name__ == "__main__":
    main()

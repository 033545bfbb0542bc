"""The plots, drawn from the figures: T(n), nanoseconds per VMA, what SHARE defers, the peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from forkstorm_bench.figures import Figures, number
from forkstorm_bench.mutation import FRACTIONS
from forkstorm_bench.mutation import SIZES as LIFE_SIZES
from forkstorm_bench.peers import EXACT_PEERS, PEERS
from forkstorm_bench.spaces import MEDIUM, SIZES

# Okabe and Ito's colours: told apart with any colour vision.
COLOURS = {
    "BULK_INSERT": "#D55E00",
    "TREE_DUP": "#0072B2",
    "EXTENT_COPY": "#009E73",
    "SHARE": "#CC79A7",
    "MEMCPY": "#777777",
    "real fork()": "#000000",
}
MARKERS = {
    "BULK_INSERT": "o",
    "TREE_DUP": "s",
    "EXTENT_COPY": "^",
    "SHARE": "D",
    "MEMCPY": "x",
    "real fork()": "v",
}
STRATEGIES = ("BULK_INSERT", "TREE_DUP", "EXTENT_COPY", "SHARE")
# Labels at the ends of lines keep this distance, in the height of the axes.
LABEL_DISTANCE = 0.055

Points = list[tuple[float, float]]


def points(found: Figures, key: str, sizes: Sequence[int]) -> Points:
    """(n, figure) where it was measured."""
    pairs = [(n, number(found, key.format(n))) for n in sizes]
    return [(float(n), value) for n, value in pairs if value is not None]


def real_forks(found: Figures) -> Points:
    """(n, nanoseconds in fork())."""
    prefix = "real_fork.fork_ns."
    taken = [(int(key.removeprefix(prefix)), key) for key in found if key.startswith(prefix)]
    return [(float(n), number(found, key) or 0.0) for n, key in sorted(taken)]


def dress(axes: Axes, title: str, x: str, y: str) -> None:
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.set_title(title, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def sizes_axis(axes: Axes, sizes: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes], rotation=20, ha="right")
    axes.xaxis.set_minor_locator(NullLocator())


def plain_numbers(axes: Axes) -> None:
    """1,000 instead of 10³, and what lies between where an axis spans little."""
    low, high = axes.get_ylim()
    between = (1.0,) if high > 300 * low else (1.0, 2.0, 5.0)
    axes.yaxis.set_major_locator(LogLocator(subs=between))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def time_text(ns: float) -> str:
    return f"{ns:.1f} ns" if abs(ns) < 1000 else f"{ns / 1e3:.3g} µs"


def name_lines(axes: Axes, ends: dict[str, tuple[float, float]], notes: dict[str, str]) -> None:
    """Write each line's name beside its right end, apart from its neighbours'."""
    low, high = axes.get_ylim()
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = {name: float(to_axes.transform((x, y))[1]) for name, (x, y) in ends.items()}
    upwards = sorted(heights, key=lambda one: heights[one])
    apart = LABEL_DISTANCE * (2 if notes else 1)
    for lower, upper in pairwise(upwards):
        heights[upper] = max(heights[upper], heights[lower] + apart)
    # From the top down again, where that left the axes.
    ceiling = 1.0
    for name in reversed(upwards):
        heights[name] = min(heights[name], ceiling)
        ceiling = heights[name] - apart
    for name, height in heights.items():
        axes.annotate(
            name + notes.get(name, ""),
            xy=(1.01, height),
            xycoords="axes fraction",
            va="center",
            color=COLOURS[name],
            fontweight="bold",
            fontsize=9,
            annotation_clip=False,
        )
    axes.set_ylim(low, high)


def t_of_n(found: Figures, figure: Figure) -> None:
    axes = figure.subplots()
    lines: dict[str, Points] = {}
    for name in (*STRATEGIES, "MEMCPY"):
        lines[name] = [(n, n * ns) for n, ns in points(found, f"ns_per_vma_p50.{name}.{{}}", SIZES)]
    lines["real fork()"] = real_forks(found)
    lines = {name: line for name, line in lines.items() if line}
    for name, line in lines.items():
        axes.plot(
            [n for n, _ in line],
            [ns / 1e3 for _, ns in line],
            marker=MARKERS[name],
            color=COLOURS[name],
            linewidth=1.5,
            linestyle="--" if name == "MEMCPY" else "-",
        )
    axes.set_yscale("log")
    sizes_axis(axes, SIZES)
    plain_numbers(axes)
    dress(
        axes,
        "T(n): duplicating a tree of VMAs, and a whole real fork",
        "VMAs in the address space, n",
        "one fork, µs (median)",
    )
    figure.canvas.draw()
    notes = {}
    for name in lines:
        key = "real_fork.fit.fork_ns" if name == "real fork()" else f"fit.{name}"
        a, b = number(found, f"{key}.a_ns"), number(found, f"{key}.b_ns")
        if a is not None and b is not None:
            off = number(found, f"{key}.residual_max") or 0.0
            notes[name] = f"\n{time_text(a)} + {b:.3g} ns·n (±{off:.0%})"
    name_lines(
        axes, {name: (line[-1][0], line[-1][1] / 1e3) for name, line in lines.items()}, notes
    )


def ns_per_vma(found: Figures, figure: Figure) -> None:
    axes = figure.subplots()
    ends = {}
    # A SHARE fork costs the same at any size.
    for name in (*STRATEGIES[:-1], "MEMCPY"):
        fresh = points(found, f"ns_per_vma.{name}.{{}}", SIZES)
        aged = points(found, f"ns_per_vma_aged.{name}.{{}}", SIZES)
        compact = points(found, f"ns_per_vma_compact.{name}.{{}}", SIZES)
        for line, style in ((fresh, "-"), (aged, "--"), (compact, ":")):
            axes.plot(
                [n for n, _ in line],
                [ns for _, ns in line],
                marker=MARKERS[name],
                color=COLOURS[name],
                linestyle=style,
                linewidth=1.5,
            )
        if fresh:
            ends[name] = fresh[-1]
    for style, what in (("-", "fresh source"), ("--", "aged source"), (":", "compact source")):
        axes.plot([], [], color="black", linestyle=style, label=what)
    axes.legend(frameon=False, loc="upper left")
    axes.set_yscale("log")
    sizes_axis(axes, SIZES)
    plain_numbers(axes)
    dress(
        axes,
        "Core time of a fork per VMA, by size and state of the source",
        "VMAs in the address space, n",
        "ns per VMA (best)",
    )
    figure.canvas.draw()
    name_lines(axes, ends, {})


def deferred(found: Figures, figure: Figure) -> None:
    places = figure.subplots(2, 2)
    labels = ["none", "one", "1 %", "10 %", "all"]
    for axes, n in zip(places.flat, LIFE_SIZES, strict=True):
        for name in STRATEGIES[1:]:
            taken = [number(found, f"life_ns.{name}.{fraction}.{n}") for fraction in FRACTIONS]
            line = [(i, ns / 1e3) for i, ns in enumerate(taken) if ns is not None]
            axes.plot(
                [i for i, _ in line],
                [us for _, us in line],
                marker=MARKERS[name],
                color=COLOURS[name],
                label=name if line else None,
            )
        if not axes.lines or not any(len(line.get_xdata()) for line in axes.lines):
            axes.set_axis_off()
            continue
        axes.set_xticks(range(len(labels)), labels)
        axes.set_yscale("log")
        plain_numbers(axes)
        dress(axes, f"{n:,} VMAs", "VMAs of the child that are written to", "µs")
    if places.flat[0].axison:
        places.flat[0].legend(frameon=False)
    figure.suptitle("A child's whole life: fork, stores, exit (best)", x=0.02, ha="left")


def peers(found: Figures, figure: Figure) -> None:
    shown = (
        ("copy", f"copy_ns_per_vma.{MEDIUM}", "ns per VMA"),
        ("store into a range", f"store_ns.{MEDIUM}", "ns"),
        ("lookup", f"lookup_ns.{MEDIUM}", "ns"),
    )
    places = figure.subplots(1, len(shown), sharey=True)
    names = [name for name in PEERS if f"peers.{name}.note" in found][::-1]
    labels = [name + ("*" if name in EXACT_PEERS else "") for name in names]
    for axes, (title, key, unit) in zip(places, shown, strict=True):
        values = [number(found, f"peers.{name}.{key}") for name in names]
        for i, (name, value) in enumerate(zip(names, values, strict=True)):
            if value is None:
                axes.annotate(
                    "too slow at this size",
                    (0.02, i),
                    xycoords=("axes fraction", "data"),
                    va="center",
                    color="#777777",
                    fontsize=8,
                )
                continue
            axes.barh(i, value, color="#009E73" if name == "forkstorm" else "#BBBBBB")
            axes.annotate(
                f" {value:,.3g}" if value < 1000 else f" {value:,.0f}",
                (value, i),
                va="center",
                fontsize=8,
            )
        axes.set_xscale("log")
        axes.set_yticks(range(len(names)), labels)
        axes.margins(x=0.25)
        dress(axes, title, unit, "")
        axes.grid(False, axis="y")
    figure.suptitle(
        f"Python libraries with the same {MEDIUM:,} VMAs (* finds exact first addresses only)",
        x=0.02,
        ha="left",
    )


PLOTS: dict[str, tuple[Callable[[Figures, Figure], None], tuple[float, float]]] = {
    "t_of_n": (t_of_n, (9, 5.5)),
    "ns_per_vma": (ns_per_vma, (9, 5.5)),
    "deferred": (deferred, (9, 7)),
    "peers": (peers, (10, 4)),
}


def draw(found: Figures, folder: Path) -> list[Path]:
    """Write each plot as PNG and SVG; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    with mpl.rc_context({"font.size": 10, "svg.fonttype": "path", "svg.hashsalt": "forkstorm"}):
        for name, (plot, size) in PLOTS.items():
            figure = Figure(figsize=size, layout="constrained")
            plot(found, figure)
            for suffix in ("png", "svg"):
                paths.append(folder / f"{name}.{suffix}")
                figure.savefig(paths[-1], dpi=160)
    return paths

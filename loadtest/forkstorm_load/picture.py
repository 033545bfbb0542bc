"""The picture of T(n): the strategies, measured and fitted, with a and b written at the lines."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from forkstorm_load.outcome import Outcome
from forkstorm_load.seed import BOUNDS, BULK_INSERT, EXTENT_COPY, MEASURED, SHARE, TREE_DUP

# Of Okabe and Ito's: told apart with any colour vision, and by their markers.
_COLOURS = {
    BULK_INSERT: "#D55E00",
    TREE_DUP: "#0072B2",
    EXTENT_COPY: "#007A5E",
    SHARE: "#AA4499",
}
_MARKERS = {BULK_INSERT: "o", TREE_DUP: "s", EXTENT_COPY: "^", SHARE: "D"}
# Labels stand behind the ends of their lines, at least so many decades apart.
_LABEL_DECADES = 0.62
# A line that misses a point by more than this says so.
_GOOD_FIT = 0.1


def draw(outcome: Outcome, folder: Path) -> list[Path]:
    """Writes t_of_n.png and t_of_n.svg; the paths."""
    with mpl.rc_context({"font.size": 11, "svg.fonttype": "path", "svg.hashsalt": "forkstorm"}):
        figure = Figure(figsize=(9, 5.5), layout="constrained")
        axes = figure.subplots()
        _dress(axes, [size.vma_count for size in outcome.sizes])
        heights = _label_heights(outcome)
        for strategy in MEASURED:
            _strategy(axes, outcome, strategy, heights[strategy])
        if not outcome.valid:
            axes.text(0.02, 0.94, "not valid: see the report", transform=axes.transAxes)
        paths = [folder / "t_of_n.png", folder / "t_of_n.svg"]
        for path in paths:
            figure.savefig(path, dpi=160)
    return paths


def _label_heights(outcome: Outcome) -> dict[str, float]:
    """Where each label stands, in µs: at its line's end, or moved down below the one above it."""
    n = outcome.sizes[-1].vma_count
    ends = {}
    for strategy in MEASURED:
        fit = outcome.fit(strategy)
        ends[strategy] = max((fit.a + fit.b * n) / 1e3, 1e-3)
    heights: dict[str, float] = {}
    above = math.inf
    for strategy in sorted(ends, key=lambda strategy: -ends[strategy]):
        above = heights[strategy] = min(ends[strategy], above / 10**_LABEL_DECADES)
    return heights


def _strategy(axes: Axes, outcome: Outcome, strategy: str, label_us: float) -> None:
    colour = _COLOURS[strategy]
    n = np.array([size.vma_count for size in outcome.sizes], dtype=float)
    core = [size.sides[strategy].core.scaled(1e-3) for size in outcome.sizes]
    value = np.array([interval.value for interval in core])
    spread = [
        value - [interval.low for interval in core],
        [interval.high for interval in core] - value,
    ]
    axes.errorbar(
        n, value, yerr=spread, fmt=_MARKERS[strategy], color=colour, capsize=3, markersize=6
    )
    fit = outcome.fit(strategy)
    line = np.geomspace(n.min(), n.max(), 200)
    # Dashed: no kernel has it.
    style = "--" if strategy in BOUNDS else "-"
    axes.plot(line, (fit.a + fit.b * line) / 1e3, color=colour, linewidth=1.5, linestyle=style)
    label = f"{strategy}\n{fit.a / 1e3:.2f} µs + {fit.b:.1f} ns · n"
    if fit.residual_max > _GOOD_FIT:
        label += f"\n(points up to {fit.residual_max:.0%} off)"
    axes.annotate(
        label,
        xy=(n.max(), label_us),
        xytext=(12, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        color=colour,
        fontweight="bold",
        annotation_clip=False,
    )


def _dress(axes: Axes, sizes: list[int]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda us, _: f"{us:,g}"))
    axes.grid(True, which="major", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)
    axes.set_xlabel("VMAs in the address space, n")
    axes.set_ylabel("core time of one fork, µs (median)")
    axes.set_title(
        "T(n) = a + b·n: duplicating the VMA tree and its records\n"
        "solid: Linux up to 6.7 and since 6.8; dashed: lower bounds that no kernel has",
        loc="left",
        fontsize=11,
    )

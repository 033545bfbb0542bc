"""The picture of T(n): both strategies, measured and fitted, with a and b written at the lines."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from forkstorm_load.outcome import Outcome
from forkstorm_load.seed import BULK_INSERT, STRATEGIES, TREE_DUP

# Okabe and Ito's vermilion and blue: told apart with any colour vision, and in grey.
_COLOURS = {BULK_INSERT: "#D55E00", TREE_DUP: "#0072B2"}
_MARKERS = {BULK_INSERT: "o", TREE_DUP: "s"}
# Where each line's label stands, above or below it.
_LABEL_SIDE = {BULK_INSERT: 1, TREE_DUP: -1}
_LABEL_AT = 421
# A line that misses a point by more than this says so.
_GOOD_FIT = 0.1


def draw(outcome: Outcome, folder: Path) -> list[Path]:
    """Writes t_of_n.png and t_of_n.svg; the paths."""
    with mpl.rc_context({"font.size": 11, "svg.fonttype": "path", "svg.hashsalt": "forkstorm"}):
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.subplots()
        _dress(axes, [size.vma_count for size in outcome.sizes])
        for strategy in STRATEGIES:
            _strategy(axes, outcome, strategy)
        if not outcome.valid:
            axes.text(0.98, 0.02, "not valid: see the report", transform=axes.transAxes, ha="right")
        paths = [folder / "t_of_n.png", folder / "t_of_n.svg"]
        for path in paths:
            figure.savefig(path, dpi=160)
    return paths


def _strategy(axes: Axes, outcome: Outcome, strategy: str) -> None:
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
    axes.plot(line, (fit.a + fit.b * line) / 1e3, color=colour, linewidth=1.5)
    side = _LABEL_SIDE[strategy]
    label = f"{strategy}\n{fit.a / 1e3:.2f} µs + {fit.b:.1f} ns · n"
    if fit.residual_max > _GOOD_FIT:
        label += f"\n(points up to {fit.residual_max:.0%} off this line)"
    axes.annotate(
        label,
        xy=(_LABEL_AT, (fit.a + fit.b * _LABEL_AT) / 1e3),
        xytext=(-side * 14, side * 14),
        textcoords="offset points",
        ha="right" if side > 0 else "left",
        va="bottom" if side > 0 else "top",
        color=colour,
        fontweight="bold",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
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
    axes.set_title("T(n) = a + b·n: duplicating the VMA tree and its records", loc="left")

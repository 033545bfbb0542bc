"""What the command line prints: tables for people on a terminal, tab-separated lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table

Cell = str | int | float


def table(headers: Sequence[str], rows: Iterable[Sequence[Cell]], to: TextIO | None = None) -> None:
    """Prints rows under headers; numbers stand to the right."""
    out = to or sys.stdout
    listed = [list(row) for row in rows]
    if not out.isatty():
        print(*headers, sep="\t", file=out)
        for row in listed:
            print(*(_text(cell) for cell in row), sep="\t", file=out)
        return
    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, header in enumerate(headers):
        numbers = bool(listed) and not isinstance(listed[0][at], str)
        drawn.add_column(header, justify="right" if numbers else "left", overflow="fold")
    for row in listed:
        drawn.add_row(*map(_text, row))
    Console(file=out, highlight=False, markup=False).print(drawn)


def facts(pairs: Iterable[tuple[str, Cell]], to: TextIO | None = None) -> None:
    """Prints a name and its value on each line."""
    out = to or sys.stdout
    listed = [(name, _text(value)) for name, value in pairs]
    width = max((len(name) for name, _ in listed), default=0) if out.isatty() else 0
    for name, value in listed:
        print(f"{name:<{width}}  {value}" if width else f"{name}\t{value}", file=out)


def percentiles(rows: Mapping[str, Sequence[int]], to: TextIO | None = None) -> None:
    """Prints percentiles of durations in nanoseconds, as microseconds; by name of a row."""
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    lines: list[list[Cell]] = []
    for name, durations_ns in rows.items():
        ordered = sorted(durations_ns)
        last = len(ordered) - 1
        # Nearest rank: every figure is one that was measured.
        picked = [ordered[min(last, int(rank * len(ordered)))] for rank in ranks.values()]
        lines.append([name, *(ns / 1e3 for ns in picked)])
    table(["µs", *ranks], lines, to)


def hex_id(mm_id: int) -> str:
    """An id as it is written everywhere: 0x…"""
    return f"{mm_id:#x}"


def labels(pairs: Mapping[str, str]) -> str:
    """Labels in one cell: k=v,k=v."""
    return ",".join(f"{key}={value}" for key, value in sorted(pairs.items()))


def _text(cell: Cell) -> str:
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)

"""The report: one small table per topic, and what was aimed at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from forkstorm_bench.aims import MISSING, OK, SHORT, Aim
from forkstorm_bench.figures import Figure, Figures
from forkstorm_bench.topics import TOPICS, Table, Topic

WIDTH = 100
STYLES = {OK: "green", SHORT: "bold red", MISSING: "dim"}


def shown(value: Figure) -> str:
    """A figure in three significant digits, or all of a large one."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == 0:
        return "0"
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.{2 if abs(value) >= 1 else 3}f}" if abs(value) < 10 else f"{value:.1f}"


def table(of: Table, found: Figures) -> RichTable | None:
    """A table without the rows and columns of which nothing was measured; None without any."""
    columns = [
        (title, key)
        for title, key in of.columns
        if any(key.format(*parts) in found for _, *parts in of.rows)
    ]
    rows = [
        [label, *(shown(found.get(key.format(*parts))) for _, key in columns)]
        for label, *parts in of.rows
        if any(key.format(*parts) in found for _, key in columns)
    ]
    if not rows:
        return None
    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    made.add_column(of.first)
    for title, _ in columns:
        made.add_column(title, justify="right")
    for row in rows:
        made.add_row(*row)
    return made


def aims(of: Sequence[Aim], found: Figures) -> RichTable:
    """A line per aim: the figure that decides, the bound, the verdict."""
    made = RichTable(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    for justify in ("left", "left", "right", "left"):
        made.add_column(justify=justify)
    for aim in of:
        verdict, worst = aim.verdict(found), aim.worst(found)
        where = ""
        if worst is not None and len(aim.rows) > 1:
            row = aim.rows[aim.names().index(worst[0])]
            where = f", at {row:,}" if isinstance(row, int) else f", {row}"
        made.add_row(
            Text(verdict, STYLES[verdict]),
            aim.what + where,
            shown(worst[1]) if worst is not None else "",
            f"{'≤' if aim.at_most else '≥'} {aim.bound:,g}",
        )
    return made


def topic(of: Topic, found: Figures) -> RenderableType | None:
    """A topic's tables and aims under its title; None when nothing of it was measured."""
    tables = [made for made in (table(one, found) for one in of.tables) if made is not None]
    if not tables and all(aim.worst(found) is None for aim in of.aims):
        return None
    parts: list[RenderableType] = [Text(of.title, "bold")]
    if of.note:
        parts.append(Text(of.note, "dim"))
    for made in tables:
        parts += [made, Text()]
    if of.aims:
        parts += [aims(of.aims, found), Text()]
    return Group(*parts)


def notes(found: Figures) -> Iterator[str]:
    """What could not be measured, and why."""
    for key, value in found.items():
        kind, _, stage = key.partition(".")
        if kind in ("skipped", "failed"):
            yield f"not measured: {stage.replace('_', ' ')}: {value}"
    if "real_fork.skipped" in found:
        yield f"not measured: the real fork: {found['real_fork.skipped']}"


def machine_line(found: Figures) -> str:
    return (
        f"{found.get('machine.cpu', '?')}, {found.get('machine.cpus', '?')} CPUs, "
        f"Linux {found.get('machine.kernel', '?')}, Python {found.get('machine.python', '?')}"
    )


def summary_line(found: Figures) -> str:
    """How many aims were reached."""
    verdicts = [aim.verdict(found) for one in TOPICS for aim in one.aims]
    counts = {verdict: verdicts.count(verdict) for verdict in (OK, SHORT, MISSING)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def show(console: Console, found: Figures) -> None:
    """Print the report."""
    console.print(Text(machine_line(found)))
    console.print()
    for one in TOPICS:
        made = topic(one, found)
        if made is not None:
            console.print(made)
    for note in notes(found):
        console.print(Text(note))
    console.print(Text(f"Aims: {summary_line(found)}", "bold"))

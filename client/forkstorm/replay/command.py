"""The command `forkstorm replay`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from forkstorm.constants import STRATEGY_NAMES
from forkstorm.replay.replayer import FIRST_PROCESS, Texts, replay
from forkstorm.replay.space import ServiceMachine
from forkstorm.replay.strace import Trace, parse

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _text(given: str) -> tuple[int, Path]:
    """[PID=]FILE."""
    pid, equals, name = given.partition("=")
    numbered = bool(equals) and pid.isdecimal()
    path: Path = _FILE.convert(name if numbered else given, None, None)
    return int(pid) if numbered else FIRST_PROCESS, path


def _texts(given: tuple[tuple[int, Path], ...]) -> dict[int, bytes]:
    return {pid: path.read_bytes() for pid, path in given}


def _trace(name: str) -> Trace:
    if name == "-":
        return parse(sys.stdin)
    # A path in a trace may have any bytes.
    with open(name, encoding="utf-8", errors="surrogateescape") as lines:
        return parse(lines)


@click.command("replay")
@click.argument("trace", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "start",
    "--maps",
    multiple=True,
    type=_text,
    metavar="[PID=]FILE",
    help="maps or smaps to start from: of the first process, or of PID. May be repeated.",
)
@click.option(
    "final",
    "--final",
    multiple=True,
    type=_text,
    metavar="[PID=]FILE",
    help="maps or smaps of a process as it ended, to compare with. May be repeated.",
)
@click.option(
    "--strategy",
    type=click.Choice([name for name in STRATEGY_NAMES if name.islower()]),
    help="How forks duplicate; the server's default unless given.",
)
@click.option(
    "--touch",
    type=click.Choice(["writable", "none"]),
    default="writable",
    show_default=True,
    help="Which private memory counts as written to: all as soon as it is writable, or none.",
)
@click.option(
    "--show", type=click.IntRange(min=0), default=1, show_default=True, help="Differences to show."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_context
def replay_command(
    ctx: click.Context,
    trace: str,
    start: tuple[tuple[int, Path], ...],
    final: tuple[tuple[int, Path], ...],
    strategy: str | None,
    touch: str,
    show: int,
    as_json: bool,
) -> None:
    """Replay what strace recorded, and compare with what the kernel did.

    TRACE is the output of `strace -f -e trace=memory,process`, or - for standard input. Every call
    is made in a simulated space, one per process, and its result held against the trace. Exit code
    1 when anything differs.
    """
    parsed, texts = _trace(trace), Texts(_texts(start), _texts(final))
    with ServiceMachine(ctx.obj(), strategy) as machine:
        report = replay(parsed, machine, texts, touch=touch == "writable")
    for line in [report.as_json()] if as_json else report.lines(show):
        click.echo(line)
    if not report.agrees:
        ctx.exit(1)

"""`forkstorm-storm`, which is `make storm`: one storm, its report, its files.

Exit code 0 also when the machine was too noisy (3 under --strict); 1 when requests failed, when
forks that were made to fail left something behind, or the storm could not be carried out; 130
after Ctrl-C.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import click
from forkstorm import ForkstormError

from forkstorm_load.outcome import Outcome, summary
from forkstorm_load.picture import draw
from forkstorm_load.plan import (
    BOTH,
    FAULT_RECOVERIES,
    FAULT_SITES,
    RANDOM,
    FaultPlan,
    parse_strategies,
)
from forkstorm_load.progress import StageDisplay
from forkstorm_load.report import report_lines, verdict_lines
from forkstorm_load.server import ServerError
from forkstorm_load.storm import Settings, StormError, run_storm

EXIT_FAILED, EXIT_INVALID, EXIT_INTERRUPTED = 1, 3, 130


def _strategies(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    try:
        return parse_strategies(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command()
@click.option("--seconds", default=54.0, show_default=True, help="Length of the Locust storm.")
@click.option("--users", default=8, show_default=True, help="Locust users.")
@click.option("--think-ms", default=40.0, show_default=True, help="Mean think time of a user.")
@click.option(
    "--strategy",
    "strategies",
    default=BOTH,
    show_default=True,
    callback=_strategies,
    help="What Locust's users fork with, comma-separated: bulk-insert, tree-dup, extent-copy,"
    " share; both: the kernel's two; all. Core times are measured of all in any case.",
)
@click.option("--seed", default=1, show_default=True, help="Seed of the plan.")
@click.option(
    "--fault-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="This share of the storm's forks is to fail.",
)
@click.option("--fault-site", type=click.Choice(FAULT_SITES), default=RANDOM, show_default=True)
@click.option(
    "--fault-recovery", type=click.Choice(FAULT_RECOVERIES), default=RANDOM, show_default=True
)
@click.option("--address", help="HOST:PORT of a running server; by default one is started.")
@click.option("--strict", is_flag=True, help=f"Exit {EXIT_INVALID} when the run is not valid.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/storm"),
    show_default=True,
    help="Folder for the summary, the pictures and Locust's files.",
)
def main(
    seconds: float,
    users: int,
    think_ms: float,
    strategies: tuple[str, ...],
    seed: int,
    fault_rate: float,
    fault_site: str,
    fault_recovery: str,
    address: str | None,
    strict: bool,
    output: Path,
) -> None:
    """Storms a server with forks under the kernel's two strategies and prints what each costs,
    and beside them the lower bounds of two that no kernel has."""
    faults = FaultPlan(fault_rate, fault_site, fault_recovery)
    settings = Settings(seconds, users, think_ms, seed, address, output, faults, strategies)
    display = StageDisplay()
    # A terminated storm stops what it started, as after Ctrl-C.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: display.interrupt())
    try:
        outcome = run_storm(settings, display)
    except KeyboardInterrupt:
        click.echo("interrupted; everything that was started has been stopped", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except (StormError, ServerError, ForkstormError) as error:
        where = f"{address}: " if address else ""
        click.echo(f"forkstorm-storm: {where}{error}", err=True)
        sys.exit(EXIT_FAILED)
    _write(outcome, output)
    if outcome.storm.failures or outcome.leaks:
        sys.exit(EXIT_FAILED)
    if strict and not outcome.valid:
        sys.exit(EXIT_INVALID)


def _write(outcome: Outcome, output: Path) -> None:
    text = json.dumps(summary(outcome), indent=2, allow_nan=False)
    (output / "summary.json").write_text(text + "\n", encoding="utf-8")
    lines = report_lines(outcome)
    (output / "report.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(outcome, output)
    told = set(verdict_lines(outcome))
    for line in lines:
        click.secho(line, bold=line in told or None)
    click.echo(f"Written to {output}/: summary.json, t_of_n.png, t_of_n.svg, locust.html, *.csv")


if __name__ == "__main__":
    main()

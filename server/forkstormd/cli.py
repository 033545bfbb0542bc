"""The command `forkstormd`. Flags that are not given fall back to settings.py."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from forkstormd.settings import DEFAULT_PORT, STRATEGY_NAMES, Settings
from forkstormd.supervisor import ServerError, Supervisor


def package_version() -> str:
    """The distribution's version; "unknown" in a checkout that is not installed."""
    try:
        return version("forkstorm")
    except PackageNotFoundError:
        return "unknown"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_version(), prog_name="forkstormd")
def main() -> None:
    """Hosts simulated Linux address spaces behind gRPC."""


@main.command()
@click.option("--workers", type=int, help="Worker processes. [2]")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help=f"Where all workers listen; port 0 chooses a free one. [127.0.0.1:{DEFAULT_PORT}]",
)
@click.option("--advertise-host", metavar="HOST", help="What clients dial; else the listen host.")
@click.option("--threads", type=int, help="Threads per worker. [4]")
@click.option(
    "--pin",
    type=click.Choice(["auto", "none"]),
    help="Pin workers to CPUs where this server owns them. [auto]",
)
@click.option(
    "--default-strategy",
    type=click.Choice(list(STRATEGY_NAMES)),
    help="For forks that name none. [TREE_DUP]",
)
@click.option(
    "--parallel-vmas",
    metavar="auto|N",
    help="Share forks of N VMAs and more out between idle workers; 0: never. [as measured]",
)
@click.option(
    "--arena-bytes",
    metavar="SIZE",
    help="Memory for spaces, e.g. 512MiB. [1 GiB, at most half of what is free]",
)
@click.option(
    "--arena-dir", type=click.Path(path_type=Path), help="Where the arena lies. [/dev/shm]"
)
@click.option("--max-spaces", type=int, help="Spaces alive at a time. [65536]")
@click.option("--max-message-bytes", metavar="SIZE", help="Largest request. [4MiB]")
@click.option("--drain-seconds", type=float, help="What running calls get at the end. [5]")
@click.option(
    "--announce",
    type=click.Path(path_type=Path),
    help="Write a JSON file with address and endpoints once the server is ready.",
)
def serve(**flags: Any) -> None:
    """Serve until SIGTERM or SIGINT. SIGHUP starts the workers anew, one after the other.

    Every flag has a variable: --arena-bytes is FORKSTORMD_ARENA_BYTES. Prints one line when all
    workers serve.
    """
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()
        )
        raise click.UsageError(problems) from None
    try:
        sys.exit(Supervisor(settings, package_version()).run())
    except ServerError as error:
        raise click.ClickException(str(error)) from None

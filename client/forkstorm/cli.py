"""The command `forkstorm`: load a process's maps, fork them, look at them.

Exit codes: 0 done; 1 refused by the server, or a violation found; 2 wrong usage; 3 the server did
not answer (in time). Errors are one line on standard error.
"""

from __future__ import annotations

import contextlib
import errno
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import click

from forkstorm import arguments, printing
from forkstorm.batch import Batch
from forkstorm.client import AddressSpace, Client, connect
from forkstorm.connection import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_S
from forkstorm.constants import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    STRATEGY_NAMES,
    FaultSite,
    ForkStrategy,
    Recovery,
    TouchAccess,
)
from forkstorm.errors import DeadlineExceeded, ForkFailure, ForkstormError, Unavailable
from forkstorm.messages import File, ForkFault, ForkResult, read_maps
from forkstorm.replay.command import replay_command

# Children that are not kept end by themselves when the command is killed between fork and exit.
_CHILD_TTL_S = 60.0


class _Failed(click.ClickException):
    """Ends the command with one line."""

    def __init__(self, error: Exception) -> None:
        super().__init__(" ".join(str(error).split()))

    def show(self, file: Any = None) -> None:
        click.echo(f"forkstorm: {self.message}", file=file or sys.stderr)


class _NoAnswer(_Failed):
    exit_code = 3


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"forkstorm: {message}", err=True)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        # The shell is no place for a stack trace, nor for Python's form of a warning.
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (Unavailable, DeadlineExceeded) as error:
            raise _NoAnswer(error) from error
        except (ForkstormError, OSError, ValueError) as error:
            raise _Failed(error) from error


_id_argument = click.argument("mm_id", metavar="ID", type=arguments.number)
_label_option = click.option(
    "labels",
    "--label",
    "-l",
    multiple=True,
    type=arguments.label,
    metavar="KEY=VALUE",
    help="A label; may be repeated.",
)
_ttl_option = click.option(
    "ttl_s", "--ttl", type=click.FloatRange(min=0), default=0, help="Seconds to live; 0: for ever."
)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="forkstorm")
@click.option(
    "--address",
    envvar="FORKSTORM_ADDRESS",
    default=DEFAULT_ADDRESS,
    show_default=True,
    show_envvar=True,
    help="The server, HOST:PORT.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Seconds until a call is given up.",
)
@click.pass_context
def main(ctx: click.Context, address: str, timeout: float) -> None:
    """Simulated Linux address spaces on a Forkstorm server, and what forking them costs.

    An ID is what `load` printed.
    """
    # Connected at the first use: `forkstorm fork --help` needs no server.
    ctx.obj = lambda: ctx.with_resource(connect(address, timeout=timeout))


def _client() -> Client:
    client: Client = click.get_current_context().obj()
    return client


@main.command()
@click.argument("source", required=False, type=click.Path(allow_dash=True))
@click.option("--pid", type=click.IntRange(min=1), help="The process with this pid.")
@click.option(
    "pairs",
    "--set",
    multiple=True,
    type=arguments.parameter,
    metavar="NAME=NUMBER",
    help="A parameter, as `info` names them: overcommit=2, linux_version=6.8; may be repeated.",
)
@_label_option
@_ttl_option
def load(
    source: str | None,
    pid: int | None,
    pairs: tuple[tuple[str, int], ...],
    labels: tuple[tuple[str, str], ...],
    ttl_s: float,
) -> None:
    """Make a space from maps text, print its ID.

    SOURCE is a file in the format of /proc/PID/maps or smaps, or - for standard input.
    """
    if (source is None) == (pid is None):
        raise click.UsageError("give either SOURCE or --pid")
    text = sys.stdin.buffer.read() if source == "-" else read_maps(pid or source or "")
    params = arguments.parameters(pairs)
    space = _client().create(text, params=params, labels=dict(labels), ttl_s=ttl_s)
    click.echo(printing.hex_id(space.id))


@main.command()
@_id_argument
@click.option(
    "--strategy",
    type=click.Choice([name for name in STRATEGY_NAMES if name.islower()]),
    help="How to duplicate; the server's default unless given.",
)
@click.option("--count", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--keep", is_flag=True, help="Do not exit the children; print their IDs.")
@click.option(
    "fault",
    "--fault",
    type=arguments.fault,
    metavar="SITE@ORDINAL",
    help=f"Fail at a VMA, counted from 0; SITE: {', '.join(site.alias for site in FaultSite)}.",
)
@click.option(
    "--recovery",
    type=click.Choice([recovery.alias for recovery in Recovery]),
    default=Recovery.MARKER.alias,
    show_default=True,
    help="How a fork that fails is undone.",
)
@_label_option
@_ttl_option
def fork(
    mm_id: int,
    strategy: str | None,
    count: int,
    keep: bool,
    fault: tuple[FaultSite, int] | None,
    recovery: str,
    labels: tuple[tuple[str, str], ...],
    ttl_s: float,
) -> None:
    """Fork a space COUNT times, one after the other, and print what it cost.

    With --keep the children's IDs go to standard output and the table to standard error. A fork
    that fails half way prints what was done and undone, and is the last.
    """
    parent = _client().get(mm_id)
    planned = None if fault is None else ForkFault(*fault, recovery)
    if not keep:
        ttl_s = ttl_s or _CHILD_TTL_S
    durations: dict[str, list[int]] = {"core": [], "lock wait": [], "server": [], "wire": []}
    result: ForkResult[AddressSpace] | None = None
    # Ctrl-C ends the forking; what was measured so far is printed.
    with contextlib.suppress(KeyboardInterrupt):
        for _ in range(count):
            started_ns = time.perf_counter_ns()
            try:
                result = parent.fork(strategy, labels=dict(labels), ttl_s=ttl_s, fault=planned)
            except ForkstormError as error:
                if error.fork is not None:
                    _print_failure(error.fork)
                raise
            wire_ns = time.perf_counter_ns() - started_ns
            timing = result.timing
            measured = (timing.core_ns, timing.lock_wait_ns, timing.server_ns, wire_ns)
            for column, duration_ns in zip(durations.values(), measured, strict=True):
                column.append(duration_ns)
            if keep:
                click.echo(printing.hex_id(result.child.id))
            else:
                result.child.exit()
    if result is not None and durations["wire"]:
        _print_forks(result, durations, to=sys.stderr if keep else sys.stdout)


def _print_failure(failure: ForkFailure) -> None:
    printing.facts([("site", failure.site.name), *list(failure._asdict().items())[1:]])


def _print_forks(
    last: ForkResult[AddressSpace], durations: Mapping[str, Sequence[int]], to: TextIO
) -> None:
    forks = len(durations["wire"])
    printing.facts(
        [
            ("strategy", last.strategy.name),
            ("forks", forks),
            ("VMAs", last.vma_count),
            ("processes of the last", last.process_count),
        ],
        to,
    )
    printing.percentiles(durations, to)
    work = last.work
    printing.facts(
        ((field.name, getattr(work, field.name)) for field in work.DESCRIPTOR.fields), to
    )


@main.command()
@_id_argument
def maps(mm_id: int) -> None:
    """Print a space in the format of /proc/PID/maps."""
    click.echo(_client().get(mm_id).maps(), nl=False)


@main.command()
@_label_option
def ls(labels: tuple[tuple[str, str], ...]) -> None:
    """List the spaces, or those that have all the labels."""
    printing.table(
        ["ID", "VMAs", "pages", "nodes", "height", "ttl", "labels"],
        [
            (
                printing.hex_id(info.mm_id),
                info.vma_count,
                info.total_vm_pages,
                info.node_count,
                info.tree_height,
                f"{info.ttl_ns / 1e9:.0f}s" if info.ttl_ns else "-",
                printing.labels(info.labels),
            )
            for info in _client().list(dict(labels))
        ],
    )


@main.command("exit")
@click.argument("mm_ids", metavar="[ID]...", nargs=-1, type=arguments.number)
@_label_option
def exit_(mm_ids: tuple[int, ...], labels: tuple[tuple[str, str], ...]) -> None:
    """End spaces: by ID, or all that have all the labels."""
    if bool(mm_ids) == bool(labels):
        raise click.UsageError("give either IDs or --label")
    client = _client()
    if labels:
        click.echo(f"exited {client.exit_labelled(dict(labels))}")
        return
    for mm_id in mm_ids:
        client.get(mm_id).exit()


@main.command("map")
@_id_argument
@click.argument("length", type=arguments.size)
@click.option(
    "--addr",
    type=arguments.number,
    metavar="ADDR",
    default="0",
    help="A hint, or with --fixed the place.",
)
@click.option("--prot", type=arguments.prot, metavar="RWX", default="rw-", show_default=True)
@click.option("--shared", is_flag=True, help="MAP_SHARED instead of MAP_PRIVATE.")
@click.option("--fixed", is_flag=True, help="MAP_FIXED.")
@click.option("--fixed-noreplace", is_flag=True, help="MAP_FIXED_NOREPLACE.")
@click.option("--noreserve", is_flag=True, help="MAP_NORESERVE.")
@click.option("--file", "path", help="Map this (simulated) file instead of anonymous memory.")
@click.option(
    "--offset", type=arguments.size, metavar="SIZE", default="0", help="Where in the file."
)
def map_(
    mm_id: int,
    length: int,
    addr: int,
    prot: int,
    shared: bool,
    fixed: bool,
    fixed_noreplace: bool,
    noreserve: bool,
    path: str | None,
    offset: int,
) -> None:
    """mmap(2) in a space: print the address. LENGTH in bytes, or with K, M, G."""
    flags = _map_flags(shared, fixed, fixed_noreplace, noreserve, path)
    file = _file(path)
    space = _client().get(mm_id)
    click.echo(f"{space.map(length, prot, flags, addr=addr, file=file, offset=offset):#x}")


def _map_flags(
    shared: bool, fixed: bool, fixed_noreplace: bool, noreserve: bool, path: str | None
) -> int:
    chosen = [
        (shared, MAP_SHARED),
        (not shared, MAP_PRIVATE),
        (path is None, MAP_ANONYMOUS),
        (fixed, MAP_FIXED),
        (fixed_noreplace, MAP_FIXED_NOREPLACE),
        (noreserve, MAP_NORESERVE),
    ]
    return sum(flag.value for yes, flag in chosen if yes)


def _file(path: str | None) -> File | None:
    return None if path is None else File(path=path.encode("utf-8", "surrogateescape"))


@main.command()
@_id_argument
@click.argument("addr", type=arguments.number)
@click.argument("length", type=arguments.size)
def unmap(mm_id: int, addr: int, length: int) -> None:
    """munmap(2) in a space. LENGTH in bytes, or with K, M, G."""
    _client().get(mm_id).unmap(addr, length)


@main.command()
@_id_argument
@click.argument("addr", type=arguments.number)
@click.argument("length", type=arguments.size)
@click.argument("prot", metavar="RWX", type=arguments.prot)
def protect(mm_id: int, addr: int, length: int, prot: int) -> None:
    """mprotect(2) in a space. RWX as in maps: r--, rw-, ---."""
    _client().get(mm_id).protect(addr, length, prot)


@main.command()
@_id_argument
@click.argument("addr", type=arguments.number)
@click.argument("old_length", type=arguments.size)
@click.argument("new_length", type=arguments.size)
@click.option("--maymove", is_flag=True, help="MREMAP_MAYMOVE.")
@click.option("--fixed", is_flag=True, help="MREMAP_FIXED.")
@click.option("--dontunmap", is_flag=True, help="MREMAP_DONTUNMAP.")
@click.option(
    "--to",
    "new_addr",
    type=arguments.number,
    metavar="ADDR",
    default="0",
    help="With --fixed the place, with --dontunmap a hint.",
)
def remap(
    mm_id: int,
    addr: int,
    old_length: int,
    new_length: int,
    maymove: bool,
    fixed: bool,
    dontunmap: bool,
    new_addr: int,
) -> None:
    """mremap(2) in a space: print the address."""
    flags = _remap_flags(maymove, fixed, dontunmap)
    moved = _client().get(mm_id).remap(addr, old_length, new_length, flags, new_addr)
    click.echo(f"{moved:#x}")


def _remap_flags(maymove: bool, fixed: bool, dontunmap: bool) -> int:
    chosen = [(maymove, MREMAP_MAYMOVE), (fixed, MREMAP_FIXED), (dontunmap, MREMAP_DONTUNMAP)]
    return sum(flag.value for yes, flag in chosen if yes)


@main.command()
@_id_argument
@click.argument("addr", type=arguments.number)
@click.argument("length", type=arguments.size)
@click.argument("advice", type=arguments.advice)
def advise(mm_id: int, addr: int, length: int, advice: int) -> None:
    """madvise(2) in a space. ADVICE is a name such as dontfork, wipeonfork, or a number."""
    _client().get(mm_id).advise(addr, length, advice)


@main.command()
@_id_argument
@click.argument("addr", type=arguments.number, default="0")
def brk(mm_id: int, addr: int) -> None:
    """brk(2) in a space: print the break as it then is. Without ADDR it stays."""
    click.echo(f"{_client().get(mm_id).set_break(addr):#x}")


@main.command()
@_id_argument
@click.argument("addr", type=arguments.number)
@click.option(
    "--write", "value", type=arguments.number, metavar="VALUE", help="Write this; else read."
)
def touch(mm_id: int, addr: int, value: int | None) -> None:
    """Read or write a page of a space: print its value."""
    access = TouchAccess.READ if value is None else TouchAccess.WRITE
    click.echo(f"{_client().get(mm_id).touch(addr, access, value or 0):#x}")


@main.command()
@_id_argument
@click.argument("source", metavar="FILE", type=click.File("r", encoding="utf-8"))
@click.option("--skip", is_flag=True, help="Go on after an operation that failed.")
@click.pass_context
def apply(ctx: click.Context, mm_id: int, source: TextIO, skip: bool) -> None:
    """Perform the operations in FILE (-: standard input) as one transaction.

    Each line is one of map, unmap, protect, remap, advise, brk and touch as this command knows
    them, without the ID; # begins a comment. Prints a line for each: what it returned, or its
    errno.
    """
    batch = Batch()
    for number, line in enumerate(source, 1):
        words = shlex.split(line, comments=True)
        if words:
            try:
                _add_operation(batch, *words)
            except click.UsageError as error:
                raise click.UsageError(f"line {number}: {error.format_message()}") from None
    outcome = _client().get(mm_id).apply(batch, "skip" if skip else "stop")
    for index, result in enumerate(outcome.results):
        failed = outcome.failed.get(index)
        click.echo(f"{result:#x}" if failed is None else errno.errorcode.get(failed, failed))
    if outcome.failed:
        ctx.exit(1)


def _add_operation(batch: Batch, name: str, *words: str) -> None:
    """A line of a batch, parsed as the command of that name is."""
    command = main.commands.get(name)
    if command is None or name not in _OPERATIONS:
        raise click.UsageError(f"{name!r} is none of {', '.join(_OPERATIONS)}")
    given = command.make_context(name, ["0", *words]).params
    del given["mm_id"]
    _OPERATIONS[name](batch, **given)


def _add_map(
    batch: Batch, length: int, addr: int, prot: int, path: str | None, offset: int, **flags: bool
) -> None:
    file = _file(path)
    batch.map(length, prot, _map_flags(path=path, **flags), addr=addr, file=file, offset=offset)


def _add_remap(
    batch: Batch, addr: int, old_length: int, new_length: int, new_addr: int, **flags: bool
) -> None:
    batch.remap(addr, old_length, new_length, _remap_flags(**flags), new_addr)


def _add_touch(batch: Batch, addr: int, value: int | None) -> None:
    batch.touch(addr, TouchAccess.READ if value is None else TouchAccess.WRITE, value or 0)


_OPERATIONS: dict[str, Callable[..., object]] = {
    "map": _add_map,
    "unmap": Batch.unmap,
    "protect": Batch.protect,
    "remap": _add_remap,
    "advise": Batch.advise,
    "brk": Batch.set_break,
    "touch": _add_touch,
}


@main.command()
@_id_argument
def info(mm_id: int) -> None:
    """Show what a space consists of."""
    found = _client().get(mm_id).info()
    parameters = found.parameters
    printing.facts(
        [
            ("ID", printing.hex_id(found.mm_id)),
            ("labels", printing.labels(found.labels)),
            ("ttl_s", found.ttl_ns / 1e9 if found.ttl_ns else "-"),
            ("VMAs", found.vma_count),
            ("version", found.version),
            ("total_vm_pages", found.total_vm_pages),
            ("data_vm_pages", found.data_vm_pages),
            ("exec_vm_pages", found.exec_vm_pages),
            ("stack_vm_pages", found.stack_vm_pages),
            ("charged_pages", found.charged_pages),
            ("committed_pages", found.committed_pages),
            ("touched_page_count", found.touched_page_count),
            ("page_table_count", found.page_table_count),
            ("node_count", found.node_count),
            ("tree_height", found.tree_height),
            ("brk", f"{found.brk:#x}"),
            ("start_brk", f"{parameters.start_brk:#x}"),
            ("mmap_base", f"{parameters.mmap_base:#x}"),
            ("mmap_min_addr", f"{parameters.mmap_min_addr:#x}"),
            ("task_size", f"{parameters.task_size:#x}"),
            ("max_map_count", parameters.max_map_count),
            ("privileged", int(parameters.privileged)),
            ("thp_alignment", int(parameters.thp_alignment)),
            ("overcommit", parameters.overcommit),
            ("commit_limit_pages", parameters.commit_limit_pages),
            ("linux_version", parameters.linux_version),
            ("stack_limit_bytes", parameters.stack_limit_bytes),
            ("lsm_min_addr", f"{parameters.lsm_min_addr:#x}"),
            ("protection_keys", int(parameters.protection_keys)),
        ]
    )


@main.command()
@click.argument("mm_id", metavar="[ID]", type=arguments.number, default="0")
@click.pass_context
def verify(ctx: click.Context, mm_id: int) -> None:
    """Check every invariant of a space, or of all."""
    report = _client().verify(mm_id)
    for violation in report.violations:
        click.echo(violation)
    click.echo(f"verified {report.verified_space_count}, violations {len(report.violations)}")
    if report.violations:
        ctx.exit(1)


@main.command()
def server() -> None:
    """Show the server, its workers, limits and machine."""
    found = _client().server()
    limits, host = found.limits, found.host
    printing.facts(
        [
            ("version", found.version),
            ("core", found.core_build),
            ("instance", found.instance_id),
            ("default strategy", ForkStrategy(found.default_strategy).name),
            ("strategies", " ".join(ForkStrategy(number).name for number in found.strategies)),
            ("clock_overhead_ns", found.clock_overhead_ns),
            *((field.name, getattr(limits, field.name)) for field in limits.DESCRIPTOR.fields),
            *(
                (f"parallel {field.name}", getattr(found.parallel_forks, field.name) or "never")
                for field in found.parallel_forks.DESCRIPTOR.fields
            ),
            ("CPU", f"{host.cpu_count} x {host.cpu_model}"),
            ("kernel", host.kernel),
            ("python", host.python),
            ("grpcio", host.grpcio),
        ]
    )
    printing.table(
        ["worker", "endpoint", "pid", "MiB", "CPU s", "restarts", "pinned"],
        [
            (
                worker.index,
                worker.endpoint,
                worker.pid,
                worker.rss_bytes / (1 << 20),
                worker.cpu_seconds,
                worker.restart_count,
                "-" if worker.pinned_cpu < 0 else str(worker.pinned_cpu),
            )
            for worker in found.workers
        ],
    )


@main.command()
@click.option("--count", type=click.IntRange(min=1), default=100, show_default=True)
def ping(count: int) -> None:
    """Time the empty call, the baseline of every ratio."""
    client = _client()
    wire_ns: list[int] = []
    with contextlib.suppress(KeyboardInterrupt):
        for _ in range(count):
            started_ns = time.perf_counter_ns()
            client.ping()
            wire_ns.append(time.perf_counter_ns() - started_ns)
    if wire_ns:
        printing.percentiles({"ping": wire_ns})


main.add_command(replay_command)

if __name__ == "__main__":
    main()

"""Sequences for as long as wanted: python -m tests.kernel.fuzz --seconds 60 --seed 1

What disagrees is shrunk and printed as a test to paste into test_kernel.py. The totals are
written to build/fuzz-kernel/summary.json.
"""

from __future__ import annotations

import json
import platform
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from errno import errorcode

import click
from forkstormd.core.arena import core_build
from forkstormd.core.types import Strategy

from .batched_simulation import BatchedSimulation
from .calls import Call, Simulation
from .core_simulation import CoreSimulation
from .machine import BUILD, Machine, Unavailable
from .sequences import Disagreement, Totals, run_calls, run_generated
from .shrinking import as_test, shrink

SUMMARY = BUILD / "fuzz-kernel" / "summary.json"
LIMIT_EVERY = 150  # sequences, of which one is close to max_map_count
THP_EVERY = 20  # sequences, of which one reads where huge pages may be
SHRUNK = 3  # disagreements that are shrunk; more are only counted
STRATEGIES = {strategy.name.lower().replace("_", "-"): strategy for strategy in Strategy}


def _kind_of(number: int) -> str | None:
    """The kind of a sequence that is not drawn by its weight."""
    if number % LIMIT_EVERY == LIMIT_EVERY - 1:
        return "limit"
    return "thp" if number % THP_EVERY == 0 else None


def shortened(
    machine: Machine,
    simulations: Mapping[str, Simulation],
    found: Disagreement,
    seconds: float = 60.0,
) -> str:
    """A disagreement as a test: few calls after which the same simulation is not as the kernel."""
    one = {found.simulation: simulations[found.simulation]}

    def again(calls: Sequence[Call]) -> Disagreement | None:
        return run_calls(machine, one, calls, found.privileged)

    if again(found.calls) is None:
        return f"{found}\nNot again when the calls are repeated:\n" + as_test(
            found.calls, found.privileged, _first_lines(found.what)
        )
    calls = shrink(found.calls, lambda calls: again(calls) is not None, seconds)
    final = again(calls) or found
    return f"{final}\n\n" + as_test(final.calls, found.privileged, _first_lines(final.what))


def _first_lines(text: str) -> str:
    return "\n".join(text.splitlines()[:6])


def summary(
    totals: Totals, disagreements: int, seeds: range, simulations: list[str], seconds: float
) -> dict[str, object]:
    """What summary.json holds. seeds: first and last of consecutive sequences."""
    errnos: dict[str, dict[str, int]] = {}
    for (name, errno), count in sorted(totals.errnos.items()):
        errnos.setdefault(name, {})[errorcode[errno] if errno else "0"] = count
    return {
        "calls": totals.count,
        "disagreements": disagreements,
        "seeds": [seeds.start, seeds.stop - 1],
        "sequences": len(seeds),
        "kernel": platform.release(),
        "core": core_build(),
        "strategies": simulations,
        "seconds": round(seconds, 1),
        "calls_by_name": dict(sorted(totals.calls.items())),
        "errnos_by_name": errnos,
    }


@click.command()
@click.option("--seconds", default=60.0, help="How long new sequences are begun.")
@click.option("--seed", type=int, help="Of the first sequence; they count upwards. [default: time]")
@click.option(
    "--calls", "at_least", default=0, help="Go on until so many calls, whatever the time."
)
@click.option("--kind", help="Only this kind of sequence (see generator.py).")
def main(seconds: float, seed: int | None, at_least: int, kind: str | None) -> None:
    """Ask the kernel and the core the same, and tell where they differ."""
    # Ended from outside, it takes its files with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    first = time.time_ns() // 1_000_000 if seed is None else seed
    began = time.monotonic()
    totals, disagreements, number = Totals(), 0, first
    with ExitStack() as stack:
        try:
            machine = stack.enter_context(Machine())
        except Unavailable as reason:
            raise click.ClickException(str(reason)) from None
        simulations: dict[str, Simulation] = {}
        for name, strategy in STRATEGIES.items():
            simulations[name] = stack.enter_context(CoreSimulation(strategy))
        simulations["batches"] = stack.enter_context(BatchedSimulation(Strategy.TREE_DUP))
        while time.monotonic() < began + seconds or totals.count < at_least:
            found = run_generated(
                machine, simulations, number, totals, kind=kind or _kind_of(number)
            )
            if found:
                disagreements += 1
                click.echo(f"seed {number}:")
                if disagreements <= SHRUNK:
                    click.echo(shortened(machine, simulations, found))
                else:
                    click.echo(str(found))
            number += 1
    told = summary(
        totals, disagreements, range(first, number), [*simulations], time.monotonic() - began
    )
    SUMMARY.parent.mkdir(parents=True, exist_ok=True)
    SUMMARY.write_text(json.dumps(told, indent=2) + "\n")
    click.echo(
        f"{totals.count} calls in {number - first} sequences, seeds {first} to {number - 1}, "
        f"on Linux {platform.release()}: {disagreements} disagreements"
    )
    click.echo("totals: build/fuzz-kernel/summary.json")
    raise SystemExit(disagreements > 0)


if __name__ == "__main__":
    main()

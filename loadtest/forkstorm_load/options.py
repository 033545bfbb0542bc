"""Locust's custom arguments of a storm, on the command line and in the web UI."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass

from locust.argument_parser import LocustArgumentParser

from forkstorm_load.layouts import layout_text, parse_names
from forkstorm_load.plan import (
    BOTH,
    FAULT_RECOVERIES,
    FAULT_SITES,
    RANDOM,
    FaultPlan,
    parse_strategies,
)

CLOSED, OPEN = "closed", "open"

# An open loop that waits for a free place is a closed one, so its default is generous.
_IN_FLIGHT_DEFAULT = {CLOSED: 1, OPEN: 100}


def add_arguments(parser: LocustArgumentParser) -> None:
    """Adds the storm's arguments to Locust's."""
    add = parser.add_argument
    add(
        "--strategy",
        default=BOTH,
        help="which strategies fork, comma-separated: bulk-insert, tree-dup, extent-copy, share;"
        " both: the kernel's two; all",
    )
    add(
        "--layouts",
        default="python3",
        help="comma-separated: java17, ... (loadtest/layouts), self, seed:N, path/to/maps",
    )
    add("--vma-counts", default="", help="comma-separated sizes of the seed table's process")
    add(
        "--pacing",
        choices=[CLOSED, OPEN],
        default=CLOSED,
        help="closed: think, then the next scenario; open: on a schedule, timed from the schedule",
    )
    add("--think-ms", type=float, default=50.0, help="closed: mean think time (exponential)")
    add("--rate", type=float, default=10.0, help="open: scenarios per second of each user")
    add(
        "--in-flight",
        type=int,
        default=0,
        help="scenarios' children each user holds at once; 0: 1 when closed, 100 when open",
    )
    add("--levels", type=int, default=2, help="levels of children below the layout")
    add("--touches", type=int, default=1, help="Map and Unmap pairs in each child")
    add("--fault-rate", type=float, default=0.0, help="this share of all forks is to fail")
    add("--fault-site", choices=FAULT_SITES, default=RANDOM, help="the step they fail at")
    add("--fault-recovery", choices=FAULT_RECOVERIES, default=RANDOM, help="how they are undone")
    add("--storm-seed", type=int, default=1, help="what is planned is drawn from this seed")
    add("--child-ttl-s", type=float, default=60.0, help="the server ends a child after this")
    add("--result-json", default="", include_in_web_ui=False, help="where the merged result goes")


@dataclass(frozen=True)
class StormOptions:
    """The arguments, checked. ValueError from `parse` names the argument at fault."""

    strategies: tuple[str, ...]
    layouts: tuple[str, ...]
    pacing: str
    think_s: float
    rate_per_s: float
    in_flight: int
    levels: int
    touches: int
    faults: FaultPlan
    seed: int
    child_ttl_s: float
    result_json: str

    @classmethod
    def parse(cls, namespace: Namespace) -> StormOptions:
        try:
            strategies = parse_strategies(namespace.strategy)
        except ValueError as error:
            raise ValueError(f"--strategy: {error}") from None
        layouts = tuple(parse_names(namespace.layouts, namespace.vma_counts))
        if not layouts:
            raise ValueError("--layouts: at least one layout or VMA count is needed")
        for layout in layouts:
            layout_text(layout)
        for name in ("think_ms", "touches", "in_flight"):
            _at_least(namespace, name, 0)
        for name in ("levels", "child_ttl_s"):
            _at_least(namespace, name, 1)
        if not 0 <= namespace.fault_rate <= 1:
            raise ValueError(f"--fault-rate: {namespace.fault_rate} is no share, 0 to 1")
        if namespace.rate <= 0:
            raise ValueError(f"--rate: {namespace.rate} is not a rate")
        return cls(
            strategies=strategies,
            layouts=layouts,
            pacing=namespace.pacing,
            think_s=namespace.think_ms / 1e3,
            rate_per_s=namespace.rate,
            in_flight=namespace.in_flight or _IN_FLIGHT_DEFAULT[namespace.pacing],
            levels=namespace.levels,
            touches=namespace.touches,
            faults=FaultPlan(namespace.fault_rate, namespace.fault_site, namespace.fault_recovery),
            seed=namespace.storm_seed,
            child_ttl_s=namespace.child_ttl_s,
            result_json=namespace.result_json,
        )


def _at_least(namespace: Namespace, name: str, least: float) -> None:
    value = getattr(namespace, name)
    if value < least:
        raise ValueError(f"--{name.replace('_', '-')}: {value} is less than {least}")

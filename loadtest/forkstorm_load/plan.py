"""What a run will do, drawn from a seed before it runs: which fork comes next, and when.

Nothing here looks at the load. A slow strategy is not asked for less often than a fast one, and an
open-loop arrival does not wait for the answer before it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from forkstorm import FaultSite, ForkFault, ForkStrategy, Recovery

from forkstorm_load.seed import STRATEGIES

# For strategies: the kernel's two, and all that there are.
BOTH, ALL = "both", "all"

# For a fault's site or recovery: another one each time.
RANDOM = "random"
FAULT_SITES = (RANDOM, *(site.alias for site in FaultSite))
FAULT_RECOVERIES = (RANDOM, *(recovery.alias for recovery in Recovery))


@dataclass(frozen=True)
class Cell:
    """One combination under test."""

    strategy: str
    layout: str


# A scenario of its own: one Ping in a fork's place, so that both meet the server in the same state.
PING = Cell("PING", "server")


def parse_strategies(text: str) -> tuple[str, ...]:
    """The strategies of a comma-separated list of names and aliases, BOTH or ALL, each once, in the
    API's order. ValueError if there is none, or one that is unknown."""
    if text == BOTH:
        return STRATEGIES
    if text == ALL:
        return tuple(strategy.name for strategy in ForkStrategy)
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ValueError("at least one strategy is needed")
    return tuple(strategy.name for strategy in sorted({ForkStrategy.parse(n) for n in names}))


def random_stream(seed: int, *place: object) -> random.Random:
    """A generator of its own for each place (purpose, process, user), alike in every run."""
    # A str seeds through SHA-512: neighbouring places get unrelated streams.
    return random.Random(":".join(map(str, (seed, *place))))


def scenario_plan(
    strategies: Sequence[str], layouts: Sequence[str], rng: random.Random
) -> Iterator[Cell]:
    """Endless decks; each holds every cell once and a PING per layout, in an order of its own.

    The strategies of a layout are therefore used equally often, up to the last, unfinished deck.
    """
    deck = [Cell(strategy, layout) for layout in layouts for strategy in strategies]
    deck += [PING] * len(layouts)
    while True:
        rng.shuffle(deck)
        yield from list(deck)


@dataclass(frozen=True)
class FaultPlan:
    """Which forks are to fail: a share of all, at a step and undone by a design, by their aliases
    or RANDOM."""

    rate: float = 0.0
    site: str = RANDOM
    recovery: str = RANDOM

    def draw(self, vma_count: int, rng: random.Random) -> ForkFault | None:
        """The next fork's fault, at any of so many VMAs; None when it is to succeed."""
        if not self.rate or rng.random() >= self.rate:
            return None
        sites, recoveries = list(FaultSite), list(Recovery)
        site = rng.choice(sites) if self.site == RANDOM else FaultSite.parse(self.site)
        recovery = (
            rng.choice(recoveries) if self.recovery == RANDOM else Recovery.parse(self.recovery)
        )
        return ForkFault(site, rng.randrange(vma_count), recovery)


def arrivals(rate_per_s: float, rng: random.Random) -> Iterator[float]:
    """Seconds from the start of the run to each arrival of a Poisson process, endless."""
    at = 0.0
    while True:
        at += rng.expovariate(rate_per_s)
        yield at

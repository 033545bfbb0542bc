"""What a child costs after its fork: its first writes, and its whole life.

A child's tree differs by strategy in shape and place: calls on it may cost more or less, and a
SHARE fork pays then for what it did not copy.
"""

from __future__ import annotations

from forkstormd.core import yardstick
from forkstormd.core.types import Strategy

from forkstorm_bench.figures import Effort, Figures, Times, ratio
from forkstorm_bench.spaces import Sources

SIZES = (421, 6421, 65_536, 1_000_000)
# 1,000 calls: an Unmap and a Map each.
PAIRS = 500
# VMAs of the child that are written to before it exits, by name.
FRACTIONS = {"none": 0.0, "one_vma": 0.0, "one_percent": 0.01, "ten_percent": 0.1, "all": 1.0}
# One life of a child that writes to all of a million VMAs takes seconds.
LIFE_S = 0.02


def stores_of(fraction: str, vma_count: int) -> int:
    """The VMAs that are written to: at least one, but for none."""
    if fraction == "none":
        return 0
    return max(1, round(FRACTIONS[fraction] * vma_count))


def calls(place: Sources, effort: Effort) -> Figures:
    """A call at a random place of a child that was just forked, mean of 1,000: Unmap a VMA, map
    it again. Best of several children, strategies in turn."""
    times = {strategy: Times() for strategy in Strategy}
    for _ in range(effort.rounds):
        for strategy, taken in times.items():
            child = place.mm.fork(place.fresh(), strategy).child
            durations = yardstick.pair_ns(place.mm, child, PAIRS, len(taken.best) + 1)
            taken.add([sum(durations) / (2 * PAIRS)])
            place.mm.exit(child)
    n = place.vma_count
    return {f"child_call_ns.{key.name}.{n}": taken.least for key, taken in times.items()}


def lives(place: Sources, effort: Effort) -> Figures:
    """Fork, stores into some of the child's VMAs, exit; all together and the stores by
    themselves. BULK_INSERT, whose fork alone would take all the time, is left out."""
    strategies: list[Strategy] = [
        strategy for strategy in Strategy if strategy != Strategy.BULK_INSERT
    ]
    n = place.vma_count
    found: Figures = {}
    for fraction in FRACTIONS:
        stores = stores_of(fraction, n)
        whole = {strategy: Times() for strategy in strategies}
        written = {strategy: Times() for strategy in strategies}
        # About 0.3 µs per VMA written and 0.03 per VMA copied.
        count = min(max(1, int(LIFE_S / (stores * 3e-7 + n * 3e-8))), 500)
        for _ in range(effort.rounds):
            for strategy in strategies:
                forks, writes, exits = yardstick.life_ns(
                    place.mm, place.fresh(), strategy, stores, count
                )
                whole[strategy].add(
                    [sum(parts) for parts in zip(forks, writes, exits, strict=True)]
                )
                written[strategy].add(writes)
        for strategy in strategies:
            found[f"life_ns.{strategy.name}.{fraction}.{n}"] = whole[strategy].least
            if stores:
                found[f"life_store_ns.{strategy.name}.{fraction}.{n}"] = (
                    written[strategy].least / stores
                )
        found[f"share_over_eager.{fraction}.{n}"] = ratio(
            whole[Strategy.SHARE].best, whole[Strategy.EXTENT_COPY].best
        )
    return found

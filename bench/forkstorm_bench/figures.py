"""Figures under dotted keys, as build/bench/summary.json has them, and contenders timed in turn."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

Figure = float | int | str | None
Figures = dict[str, Figure]
Tree = dict[str, "Tree | Figure"]


def nested(figures: Figures) -> Tree:
    """{"a.b": 1} as {"a": {"b": 1}}. ValueError when a key is both a figure and a group."""
    tree: Tree = {}
    for key, value in figures.items():
        *groups, name = key.split(".")
        place = tree
        for group in groups:
            below = place.setdefault(group, {})
            if not isinstance(below, dict):
                raise ValueError(f"{key}: {group} is a figure")
            place = below
        if name in place:
            raise ValueError(f"{key} comes twice")
        place[name] = value
    return tree


def flat(tree: Mapping[str, Any], prefix: str = "") -> Figures:
    """The inverse of nested."""
    figures: Figures = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            figures.update(flat(value, f"{prefix}{name}."))
        else:
            figures[prefix + name] = value
    return figures


def write(path: Path, figures: Figures) -> None:
    """Write the summary; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(nested(figures), indent=2, sort_keys=True) + "\n")


def read(path: Path) -> Figures:
    """The figures of a summary."""
    return flat(json.loads(path.read_text()))


def number(figures: Figures, key: str) -> float | None:
    """A figure that is a number, or None."""
    value = figures.get(key)
    return float(value) if isinstance(value, (int, float)) else None


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of ratios taken pair by pair: what drifts, drifts in both."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))


@dataclass(frozen=True)
class Effort:
    """How long things are measured.

    A contender runs for about round_s in each of `rounds` rounds; load of several processes for
    load_s in each of load_rounds.
    """

    rounds: int = 15
    round_s: float = 0.02
    load_rounds: int = 7
    load_s: float = 0.3

    @property
    def part(self) -> float:
        """How much of the full effort this is, where things are counted and not timed."""
        return self.rounds / FULL.rounds

    def fewer(self, rounds: int) -> Effort:
        """The same with at most so many rounds."""
        return replace(self, rounds=min(rounds, self.rounds))


FULL = Effort()
# Whether it works at all; its figures mean nothing.
QUICK = Effort(rounds=2, round_s=0.001, load_rounds=1, load_s=0.05)

# A round counts at least and at most so many runs of a contender.
RUNS_MIN, RUNS_MAX = 2, 2000
# Runs that make memory hot before the first round.
WARM_UP_RUNS = 2


@dataclass
class Times:
    """A contender's nanoseconds: the best and the median run of each round."""

    best: list[float] = field(default_factory=list)
    median: list[float] = field(default_factory=list)

    def add(self, durations: Sequence[float]) -> None:
        self.best.append(min(durations))
        self.median.append(statistics.median(durations))

    @property
    def least(self) -> float:
        """The best run of all."""
        return min(self.best)

    @property
    def typical(self) -> float:
        """The median round's median run."""
        return statistics.median(self.median)


# Runs something so many times; nanoseconds of each.
Contender = Callable[[int], Sequence[float]]


def race(contenders: Mapping[str, Contender], effort: Effort) -> dict[str, Times]:
    """Time contenders in turn, round by round; every second round backwards, so that a steady
    drift favours none. What each does in its warm-up says how often it runs in a round."""
    runs = {}
    for name, contender in contenders.items():
        contender(1)
        began = time.perf_counter()
        contender(WARM_UP_RUNS)
        each = (time.perf_counter() - began) / WARM_UP_RUNS
        runs[name] = min(max(RUNS_MIN, int(effort.round_s / each)), RUNS_MAX)
    times = {name: Times() for name in contenders}
    order = list(contenders)
    for _ in range(effort.rounds):
        for name in order:
            times[name].add(contenders[name](runs[name]))
        order.reverse()
    return times

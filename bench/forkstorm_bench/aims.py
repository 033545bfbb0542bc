"""What the project has set itself, and whether it was reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forkstorm_bench.figures import Figures, number

OK, SHORT, MISSING = "ok", "falls short", "not measured"


@dataclass(frozen=True)
class Aim:
    """A bound on figures that mean the same in several rows; the worst of them decides.

    `rows` are put into the key's {}; `at_most` tells whether figures are to stay below the bound.
    """

    what: str
    key: str
    bound: float
    at_most: bool
    rows: Sequence[str | int] = ("",)

    def names(self) -> list[str]:
        """The keys of its figures."""
        return [self.key.format(row) for row in self.rows]

    def worst(self, found: Figures) -> tuple[str, float] | None:
        """The key that decides and its figure, or None where none was measured."""
        measured = [(key, number(found, key)) for key in self.names()]
        known = [(key, value) for key, value in measured if value is not None]
        if not known:
            return None
        return (max if self.at_most else min)(known, key=lambda pair: pair[1])

    def verdict(self, found: Figures) -> str:
        worst = self.worst(found)
        if worst is None:
            return MISSING
        reached = worst[1] <= self.bound if self.at_most else worst[1] >= self.bound
        return OK if reached else SHORT


def at_most(what: str, key: str, bound: float, rows: Sequence[str | int] = ("",)) -> Aim:
    return Aim(what, key, bound, True, rows)


def at_least(what: str, key: str, bound: float, rows: Sequence[str | int] = ("",)) -> Aim:
    return Aim(what, key, bound, False, rows)

"""Figures under dotted keys, as build/bench/summary.json has them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

Tree = dict[str, "Tree | float | int | str | None"]


def nested(figures: dict[str, float | int | str | None]) -> Tree:
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


def write(path: Path, figures: dict[str, float | int | str | None]) -> None:
    """Write the summary; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(nested(figures), indent=2, sort_keys=True) + "\n")


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> float:
    """The median of ratios taken pair by pair: what drifts, drifts in both."""
    return statistics.median(a / b for a, b in zip(numerators, denominators, strict=True))

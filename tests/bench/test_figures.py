"""Keys, ratios, contenders in turn."""

from __future__ import annotations

from pathlib import Path

import pytest
from forkstorm_bench.aims import MISSING, OK, SHORT, Aim, at_least, at_most
from forkstorm_bench.figures import Effort, Figures, flat, nested, number, race, ratio, read, write


def test_keys_nest_and_come_back(tmp_path: Path) -> None:
    figures: Figures = {"a.b.1": 1, "a.b.2": 2.5, "c": "text", "d.e": None}
    assert nested(figures) == {"a": {"b": {"1": 1, "2": 2.5}}, "c": "text", "d": {"e": None}}
    assert flat(nested(figures)) == figures
    write(tmp_path / "deep" / "summary.json", figures)
    assert read(tmp_path / "deep" / "summary.json") == figures


@pytest.mark.parametrize("keys", [("a", "a.b"), ("a.b", "a")])
def test_a_key_is_a_figure_or_a_group(keys: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="a"):
        nested(dict.fromkeys(keys, 1))


def test_only_numbers_are_numbers() -> None:
    figures: Figures = {"a": 1, "b": "1", "c": None}
    assert [number(figures, key) for key in "abcd"] == [1.0, None, None, None]


def test_a_ratio_is_taken_pair_by_pair() -> None:
    # The second round was slower for both.
    assert ratio([2, 20, 2], [1, 10, 1]) == 2


def test_contenders_run_in_turn_and_back() -> None:
    order: list[str] = []

    def contender(name: str, ns: int) -> list[int]:
        order.append(name)
        return [ns, ns + 2, ns + 1]

    times = race(
        {"a": lambda _: contender("a", 10), "b": lambda _: contender("b", 20)},
        Effort(rounds=2, round_s=0.0),
    )
    assert "".join(order[-4:]) == "abba"
    assert (times["a"].least, times["a"].typical) == (10, 11)
    assert times["b"].best == [20, 20]


@pytest.mark.parametrize(
    ("aim", "verdict", "worst"),
    [
        (at_most("", "x.{}", 2, [1, 2]), SHORT, ("x.2", 3.0)),
        (at_most("", "x.{}", 3, [1, 2]), OK, ("x.2", 3.0)),
        (at_least("", "x.{}", 1.5, [1, 2, 3]), SHORT, ("x.1", 1.0)),
        (at_least("", "x.1", 1), OK, ("x.1", 1.0)),
        (at_least("", "y", 1), MISSING, None),
    ],
)
def test_the_worst_figure_decides(aim: Aim, verdict: str, worst: tuple[str, float] | None) -> None:
    figures: Figures = {"x.1": 1, "x.2": 3}
    assert aim.verdict(figures) == verdict
    assert aim.worst(figures) == worst

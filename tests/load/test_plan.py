"""The plan: seeded, balanced, blind to the load."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
from forkstorm import FaultSite, Recovery
from forkstorm_load.plan import (
    PING,
    Cell,
    FaultPlan,
    arrivals,
    parse_strategies,
    random_stream,
    scenario_plan,
)
from hypothesis import given
from hypothesis import strategies as st

STRATEGIES = ("BULK_INSERT", "TREE_DUP")


@given(st.integers(), st.integers(1, 5), st.integers(1, 100))
def test_every_prefix_is_balanced(seed: int, layout_count: int, length: int) -> None:
    layouts = [f"layout{i}" for i in range(layout_count)]
    plan = scenario_plan(STRATEGIES, layouts, random_stream(seed, "plan"))
    counts = Counter(islice(plan, length))
    for layout in layouts:
        old, new = (counts[Cell(strategy, layout)] for strategy in STRATEGIES)
        assert abs(old - new) <= 1
    assert abs(counts[PING] - length / 3) <= layout_count


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("both", ["BULK_INSERT", "TREE_DUP"]),
        ("all", ["BULK_INSERT", "TREE_DUP", "EXTENT_COPY", "SHARE"]),
        ("share, extent-copy,SHARE", ["EXTENT_COPY", "SHARE"]),
        ("linux-6.8", ["TREE_DUP"]),
    ],
)
def test_strategies_by_name_and_alias(text: str, names: list[str]) -> None:
    assert parse_strategies(text) == tuple(names)


@pytest.mark.parametrize("text", ["", " , ", "vfork", "both,vfork"])
def test_strategies_that_there_are_not(text: str) -> None:
    with pytest.raises(ValueError, match="strategy"):
        parse_strategies(text)


def test_the_same_seed_gives_the_same_plan_and_another_another() -> None:
    def plan(seed: int, user: int) -> list[Cell]:
        return list(
            islice(scenario_plan(STRATEGIES, "abc", random_stream(seed, "plan", 0, user)), 60)
        )

    assert plan(1, 0) == plan(1, 0)
    assert plan(1, 0) != plan(2, 0)
    assert plan(1, 0) != plan(1, 1)


def test_decks_are_not_all_alike() -> None:
    plan = scenario_plan(STRATEGIES, "abc", random_stream(1))
    decks = {tuple(islice(plan, 9)) for _ in range(20)}
    assert len(decks) > 10


def test_arrivals_are_a_poisson_process_of_the_rate() -> None:
    times = list(islice(arrivals(50.0, random_stream(1, "arrivals")), 20_000))
    assert times == sorted(times)
    assert len(times) / times[-1] == pytest.approx(50, rel=0.03)
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    # Of an exponential distribution, the share 1/e lies beyond the mean.
    assert sum(gap > 1 / 50 for gap in gaps) / len(gaps) == pytest.approx(0.3679, abs=0.02)


def test_faults_are_a_share_of_all_forks_and_fall_on_every_vma() -> None:
    rng = random_stream(1, "faults")
    drawn = [FaultPlan(0.2).draw(10, rng) for _ in range(10_000)]
    faults = [fault for fault in drawn if fault is not None]
    assert len(faults) / len(drawn) == pytest.approx(0.2, abs=0.02)
    assert {fault.site for fault in faults} == set(FaultSite)
    assert {fault.recovery for fault in faults} == set(Recovery)
    ordinals = Counter(fault.ordinal for fault in faults)
    assert sorted(ordinals) == list(range(10))
    assert max(ordinals.values()) < 1.5 * min(ordinals.values())


def test_faults_are_as_told() -> None:
    rng = random_stream(1)
    for _ in range(20):
        assert FaultPlan().draw(10, rng) is None
        fault = FaultPlan(1.0, "vma-record", "marker").draw(1, rng)
        assert fault == (FaultSite.VMA_RECORD, 0, Recovery.MARKER)

"""Blocks, groups and the control, on a server whose times are known."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from forkstorm_load.measure import (
    CONTROL_TOLERANCE,
    Series,
    StealClock,
    control_of,
    sample_rounds,
)
from forkstorm_load.plan import FaultPlan
from forkstorm_load.progress import Advance, StageDisplay
from forkstorm_load.seed import BULK_INSERT, MEASURED, STRATEGIES, TREE_DUP
from forkstorm_load.storm import Settings, measure_control

from .outcomes import LINES, FakeSpace, sampled


def test_estimates_find_the_true_times() -> None:
    found = sampled(421).estimates()
    for side, strategy in enumerate(STRATEGIES):
        a, b = LINES[strategy]
        truth = a + b * 421
        assert found.p50[side].low <= found.p50[side].value <= found.p50[side].high
        assert found.p50[side].value == pytest.approx(truth, rel=0.01)
        assert found.p50[side].half_width < 0.02 * truth
    assert found.difference.value == pytest.approx(700 + 75 * 421, rel=0.01)


def test_estimates_of_all_strategies() -> None:
    series = sampled(421, MEASURED)
    found = series.estimates()
    for side, strategy in enumerate(MEASURED):
        a, b = LINES[strategy]
        assert found.p50[side].value == pytest.approx(a + b * 421, rel=0.02)
    # The first two are compared, whatever stands beside them.
    assert found.difference.value == pytest.approx(700 + 75 * 421, rel=0.01)
    assert all(len({len(side) for side in group}) == 1 for group in series.groups)
    assert series.work[3].per_vma("records_copied") == 0


def test_a_drift_hits_all_strategies_alike() -> None:
    series = Series(FakeSpace(421, noise=0.001, drift=0.01), 421, (TREE_DUP,) * 4)
    series.sample()
    p50 = [interval.value for interval in series.estimates().p50]
    assert max(p50) < 1.02 * min(p50)


def test_a_drift_hits_both_strategies_alike() -> None:
    # Within one call the machine slows down by a third; A B B A must cancel it.
    series = Series(FakeSpace(421, noise=0.001, drift=0.02), 421, (TREE_DUP, TREE_DUP))
    series.sample()
    assert abs(series.estimates().relative.value) < 0.02


def test_groups_hold_both_sides_and_work_adds_up() -> None:
    series = sampled(121)
    assert len(series.groups) == 20
    assert all(len(a) == len(b) == 2 * series.block_forks for a, b in series.groups)
    forks = sum(len(a) for a, _ in series.groups)
    assert series.work[0].forks == forks
    assert series.work[0].per_vma("levels_climbed") == pytest.approx(2)
    assert series.work[1].per_vma("levels_climbed") == 0


def test_the_control_is_clean_on_a_quiet_server_and_not_on_a_noisy_one() -> None:
    quiet = control_of([sampled(421, (name, name)) for name in STRATEGIES], 0.0)
    assert quiet.clean
    noisy = control_of([sampled(421, (TREE_DUP, TREE_DUP), noise=1.0)], 0.0)
    assert not noisy.clean
    assert noisy.reach > CONTROL_TOLERANCE


def test_a_real_difference_would_not_pass_as_clean() -> None:
    assert not control_of([sampled(421, (BULK_INSERT, TREE_DUP))], 0.0).clean


def test_stolen_time_makes_the_control_unclean() -> None:
    assert not control_of([sampled(421, (TREE_DUP, TREE_DUP))], 0.2).clean


class StageNames(StageDisplay):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    @contextmanager
    def stage(self, title: str) -> Iterator[Advance]:
        self.names.append(title)
        yield lambda _: None


@pytest.mark.parametrize("noise", [0.01, 1.5])
def test_an_unclean_control_samples_longer(noise: float) -> None:
    series = {f"seed:{n}": Series(FakeSpace(n, noise), n) for n in (21, 421, 6421)}
    settings = Settings(0.2, 1, 1.0, 1, None, Path(), FaultPlan())
    display = StageNames()
    control = measure_control(series, settings, display)
    longer = "A/A control is not clean: sampling longer"
    assert control.clean == (noise == 0.01)
    assert display.names == ["A/A control", longer][: 1 if control.clean else 2]


def test_every_series_is_sampled_even_without_time() -> None:
    all_series = [Series(FakeSpace(n), n) for n in (21, 121)]
    shares: list[float] = []
    sample_rounds(all_series, 0.0, shares.append)
    assert all(len(series.groups) == 8 for series in all_series)
    assert len(shares) == 4


def test_steal_is_a_share() -> None:
    clock = StealClock()
    assert 0 <= clock.share() <= 1

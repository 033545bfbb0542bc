"""The statistics of a storm against numpy and against what must hold of any sample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from forkstorm_load.stats import (
    BUCKET_RATIO,
    LogHistogram,
    block_weights,
    bucket_index,
    bucket_middle,
    fit_line,
    median_difference,
    merged,
    percentile_interval,
    resampled_medians,
)
from hypothesis import given, settings
from hypothesis import strategies as st

durations = st.integers(min_value=1, max_value=10**12)
samples = st.lists(durations, min_size=1, max_size=200)


def histogram(values: list[int]) -> LogHistogram:
    result = LogHistogram()
    for value in values:
        result.add(value)
    return result


@given(durations)
def test_a_value_lies_in_its_bucket(value: int) -> None:
    low = BUCKET_RATIO ** bucket_index(value)
    assert low * (1 - 1e-9) <= value <= low * BUCKET_RATIO * (1 + 1e-9)
    assert bucket_middle(bucket_index(value)) == pytest.approx(value, rel=0.0101)


@given(samples, st.floats(0, 1))
def test_a_quantile_is_within_a_bucket_of_the_samples(values: list[int], q: float) -> None:
    found = histogram(values).quantile(q)
    least, most = (
        np.quantile(values, q, method=method) for method in ("inverted_cdf", "closest_observation")
    )
    # Between the neighbouring order statistics, give or take one bucket.
    low, high = min(least, most), max(least, most, np.quantile(values, q, method="higher"))
    assert low / BUCKET_RATIO * (1 - 1e-9) <= found <= high * BUCKET_RATIO * (1 + 1e-9)


@given(st.lists(samples, min_size=1, max_size=5))
def test_merging_is_the_histogram_of_all(parts: list[list[int]]) -> None:
    together = histogram([value for part in parts for value in part])
    assert merged(map(histogram, parts)).counts == together.counts
    assert together.total == sum(map(len, parts))


def test_an_empty_histogram_has_no_quantile() -> None:
    assert math.isnan(LogHistogram().quantile(0.5))


@settings(max_examples=50)
@given(st.lists(samples, min_size=1, max_size=8), st.integers(0, 100))
def test_resampled_medians_agree_with_numpy(blocks: list[list[int]], seed: int) -> None:
    weights = block_weights(len(blocks), 20, seed)
    assert (weights.sum(axis=1) == len(blocks)).all()
    expected = [
        np.median(np.concatenate([blocks[i] for i, times in enumerate(row) for _ in range(times)]))
        for row in weights
    ]
    found = resampled_medians([np.array(block) for block in blocks], weights)
    np.testing.assert_allclose(found, expected)


def test_the_bootstrap_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(7)
    covered = 0
    for run in range(200):
        # Blocks with an offset of their own: single values would seem far too sure.
        blocks = [100 + rng.normal(0, 3) + rng.normal(0, 1, 20) for _ in range(30)]
        medians = resampled_medians(blocks, block_weights(30, 200, run))
        interval = percentile_interval(float(np.median(np.concatenate(blocks))), medians)
        covered += interval.low <= 100 <= interval.high
    assert 180 <= covered <= 200


@given(st.floats(1, 1e5), st.floats(0.1, 1e3))
def test_a_line_is_fitted_exactly(a: float, b: float) -> None:
    n = [21, 121, 421, 1621, 6421]
    fit = fit_line(n, [a + b * x for x in n])
    assert fit.residual_max < 1e-6
    assert fit.a == pytest.approx(a, rel=1e-4, abs=1e-3)
    assert fit.b == pytest.approx(b, rel=1e-6)


def test_the_fit_minimises_relative_residuals() -> None:
    rng = np.random.default_rng(3)
    n = np.array([21, 121, 221, 421, 821, 1621, 3221, 6421])
    t = (500 + 25 * n) * rng.lognormal(0, 0.05, len(n))
    fit = fit_line(list(n), list(t))

    def loss(a: float, b: float) -> float:
        return float((((t - a - b * n) / t) ** 2).sum())

    best = loss(fit.a, fit.b)
    for da, db in ((1, 0), (-1, 0), (0, 0.01), (0, -0.01)):
        assert loss(fit.a + da, fit.b + db) > best
    assert fit.residual_max == pytest.approx(np.abs((t - fit.a - fit.b * n) / t).max())


def slices(rng: np.random.Generator, median: float, count: int = 30) -> list[LogHistogram]:
    return [
        histogram([max(1, int(v)) for v in rng.lognormal(math.log(median), 0.3, 20)])
        for _ in range(count)
    ]


def test_a_large_difference_is_detected_and_none_is_not() -> None:
    rng = np.random.default_rng(5)
    different = median_difference(slices(rng, 800_000), slices(rng, 500_000))
    assert different is not None
    assert different.detected
    assert different.value == pytest.approx(300_000, rel=0.3)
    false_alarms = 0
    for _ in range(50):
        same = median_difference(slices(rng, 500_000), slices(rng, 500_000))
        assert same is not None
        assert 0 < same.minimum_detectable < 100_000
        false_alarms += same.detected
    assert false_alarms <= 3


def test_the_minimum_detectable_difference_is_detected_about_as_often_as_promised() -> None:
    rng = np.random.default_rng(6)
    reference = median_difference(slices(rng, 500_000), slices(rng, 500_000))
    assert reference is not None
    shift = reference.minimum_detectable
    significant = 0
    for _ in range(60):
        found = median_difference(slices(rng, 500_000 + shift), slices(rng, 500_000))
        assert found is not None
        # Significant at 95 %: beyond 1.96 standard errors, of which the MDD holds 2.80.
        significant += abs(found.value) > found.minimum_detectable * 1.96 / 2.80
    assert 38 <= significant <= 60


def test_too_few_slices_say_nothing() -> None:
    rng = np.random.default_rng(1)
    assert median_difference(slices(rng, 100, 3), slices(rng, 100, 3)) is None
    empty = [LogHistogram()] * 5
    assert median_difference(empty, empty) is None

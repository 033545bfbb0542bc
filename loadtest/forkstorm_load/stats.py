"""Statistics of a storm: log histograms, quantiles, bootstrap, line fit, detectable difference.

All functions are pure. Times are in nanoseconds unless a name says otherwise. Histograms are merged
across processes, never averaged: an average of medians is nobody's median.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A bucket is 2 % wide, so that no quantile is off by more than 1 % from its bucket's middle.
BUCKET_RATIO = 1.02
_LOG_RATIO = math.log(BUCKET_RATIO)

# Two-sided 95 % confidence and 80 % power, as quantiles of the normal distribution.
_Z_CONFIDENCE = 1.959964
_Z_POWER = 0.841621

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def bucket_index(value: float) -> int:
    """The bucket of a positive value; anything below 1 falls into bucket 0. O(1)."""
    return 0 if value < 1 else int(math.log(value) / _LOG_RATIO)


def bucket_middle(index: int) -> float:
    """The geometric middle of a bucket."""
    return math.exp((index + 0.5) * _LOG_RATIO)


@dataclass
class LogHistogram:
    """Counts in buckets 2 % wide; merging is exact, a quantile is within 2 % of the sample's."""

    counts: dict[int, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    def add(self, value: float, count: int = 1) -> None:
        index = bucket_index(value)
        self.counts[index] = self.counts.get(index, 0) + count

    def merge(self, other: Mapping[int, int]) -> None:
        """Adds another histogram's counts."""
        for index, count in other.items():
            self.counts[index] = self.counts.get(index, 0) + count

    def quantile(self, q: float) -> float:
        """The q-quantile (0 ≤ q ≤ 1), spread evenly within its bucket; nan when empty."""
        return counts_quantile(self.counts, q)


def counts_quantile(counts: Mapping[int, int], q: float) -> float:
    """The q-quantile of bucket counts; nan when there are none."""
    total = sum(counts.values())
    if not total:
        return math.nan
    rank = q * total
    below = 0
    for index in sorted(counts):
        count = counts[index]
        if below + count >= rank:
            return math.exp((index + (rank - below) / count) * _LOG_RATIO)
        below += count
    return math.exp((max(counts) + 1) * _LOG_RATIO)


def merged(histograms: Iterable[LogHistogram]) -> LogHistogram:
    """One histogram of all."""
    result = LogHistogram()
    for histogram in histograms:
        result.merge(histogram.counts)
    return result


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return max(self.high - self.value, self.value - self.low)

    def scaled(self, factor: float) -> Interval:
        """The same in another unit; the factor is positive."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


def percentile_interval(value: float, resampled: Floats, confidence: float = 0.95) -> Interval:
    """The percentile bootstrap interval around an estimate."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, min(float(low), value), max(float(high), value))


def block_weights(block_count: int, resample_count: int, seed: int) -> Ints:
    """How often each block is drawn in each resample: shape (resample_count, block_count)."""
    rng = np.random.default_rng(seed)
    even = np.full(block_count, 1 / block_count)
    return rng.multinomial(block_count, even, size=resample_count).astype(np.int64)


def resampled_medians(blocks: Sequence[NDArray[Any]], weights: Ints) -> Floats:
    """The median of all values of the drawn blocks, for each row of `weights`.

    Blocks of one measurement share caches, clock and neighbours, so blocks are drawn and not single
    values. Values are sorted once; a resample is then one cumulative sum over their weights.
    """
    values = np.concatenate([np.asarray(block, dtype=np.float64) for block in blocks])
    owner = np.repeat(np.arange(len(blocks)), [len(block) for block in blocks])
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    medians = np.empty(len(weights))
    for row, weight in enumerate(weights):
        seen = np.cumsum(weight[owner])
        # The middle of an even number of values lies between two of them.
        lower = np.searchsorted(seen, seen[-1] / 2, side="left")
        upper = np.searchsorted(seen, seen[-1] / 2, side="right")
        medians[row] = (values[lower] + values[min(upper, len(values) - 1)]) / 2
    return medians


@dataclass(frozen=True)
class LineFit:
    """T(n) = a + b·n."""

    a: float
    b: float
    # Largest |T - fit| / T over the points.
    residual_max: float


def fit_line(n: Sequence[float], t: Sequence[float]) -> LineFit:
    """Least squares of the relative residuals, (T - a - b·n) / T.

    Relative, because the sizes span a factor of 300 and so do the times: absolute residuals would
    let the largest size alone decide, and `a` would be its rounding error. The seed's table is
    fitted the same way (docs/storm.md), so that both fits may stand side by side.
    """
    x, y = np.asarray(n, dtype=np.float64), np.asarray(t, dtype=np.float64)
    design = np.stack([1 / y, x / y], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, np.ones_like(y), rcond=None)
    residual = np.abs(y - a - b * x) / y
    return LineFit(float(a), float(b), float(residual.max()))


@dataclass(frozen=True)
class Difference:
    """The difference of two medians and what could have been seen of one."""

    value: float
    # The smallest true difference that such a sample shows as significant at 95 % in 80 % of runs.
    minimum_detectable: float

    @property
    def detected(self) -> bool:
        return abs(self.value) > self.minimum_detectable


def median_difference(
    a: Sequence[LogHistogram], b: Sequence[LogHistogram], resample_count: int = 400, seed: int = 1
) -> Difference | None:
    """median(a) - median(b), slices of time resampled together; None with fewer than 4 slices.

    `a[i]` and `b[i]` hold what was measured in the same slice of time. Neighbours in time wait in
    the same queues, so single requests are not independent; slices very nearly are.
    """
    paired = [(x, y) for x, y in zip(a, b, strict=True) if x.counts and y.counts]
    if len(paired) < 4:
        return None
    sides = []
    for side in zip(*paired, strict=True):
        columns = sorted(set().union(*(h.counts for h in side)))
        table = np.array([[h.counts.get(c, 0) for c in columns] for h in side], dtype=np.int64)
        sides.append((np.array(columns), table))
    weights = block_weights(len(paired), resample_count, seed)
    (columns_a, table_a), (columns_b, table_b) = sides
    diffs = _weighted_median(columns_a, table_a, weights) - _weighted_median(
        columns_b, table_b, weights
    )
    value = merged(p[0] for p in paired).quantile(0.5) - merged(p[1] for p in paired).quantile(0.5)
    error = float(np.std(diffs, ddof=1))
    return Difference(float(value), (_Z_CONFIDENCE + _Z_POWER) * error)


def _weighted_median(columns: Ints, table: Ints, weights: Ints) -> Floats:
    """Medians of resampled bucket counts; `table` has a row per slice, a column per bucket."""
    counts = weights @ table
    seen = np.cumsum(counts, axis=1)
    half = seen[:, -1:] / 2
    at = np.argmax(seen >= half, axis=1)
    rows = np.arange(len(counts))
    inside = (half[:, 0] - (seen[rows, at] - counts[rows, at])) / np.maximum(counts[rows, at], 1)
    result: Floats = np.exp((columns[at] + inside) * _LOG_RATIO)
    return result

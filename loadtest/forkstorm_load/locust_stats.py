"""Locust's own statistics below a millisecond: log buckets, and no rounding to integers.

Locust rounds response times under 100 ms to whole milliseconds, in its histogram and again in its
CSV. A fork takes less than one. Master and workers must both be patched: the worker fills the
histogram, the master reads it.
"""

from __future__ import annotations

import locust.stats

from forkstorm_load.stats import bucket_index, bucket_middle

# Buckets of 2 % start at a microsecond; Locust counts in milliseconds.
_BUCKETS_PER_MS = 1e3
_PERCENTILES = [0.5, 0.9, 0.99, 0.999, 1.0]


def bucket_response_time(response_time_ms: float) -> float:
    """The middle of the 2 % bucket, in ms with four digits: the key of Locust's histogram."""
    middle_ms = bucket_middle(bucket_index(response_time_ms * _BUCKETS_PER_MS)) / _BUCKETS_PER_MS
    return float(f"{middle_ms:.4g}")


def _percentile_fields(
    self: locust.stats.StatsCSV, stats_entry: locust.stats.StatsEntry, use_current: bool = False
) -> list[float] | list[str]:
    """As StatsCSV._percentile_fields, without its int()."""
    if not stats_entry.num_requests:
        return self.percentiles_na
    current = use_current and stats_entry.use_response_times_cache
    of = (
        stats_entry.get_current_response_time_percentile
        if current
        else stats_entry.get_response_time_percentile
    )
    return [of(q) or 0.0 for q in self.percentiles_to_report]


def install() -> None:
    """Patches Locust in this process; before it makes its first statistics."""
    # By name, since Locust declares both with int.
    setattr(locust.stats, "bucket_response_time", bucket_response_time)  # noqa: B010
    setattr(locust.stats.StatsCSV, "_percentile_fields", _percentile_fields)  # noqa: B010
    # StatsCSV is given this very list, so it is changed in place.
    locust.stats.PERCENTILES_TO_REPORT[:] = _PERCENTILES

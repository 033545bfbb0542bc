"""What load processes record, and that merging loses and invents nothing."""

from __future__ import annotations

import json

import locust.stats
import pytest
from forkstorm_load.locust_stats import bucket_response_time
from forkstorm_load.recorder import (
    CORE,
    FAULT_WIRE,
    IDLE_WIRE,
    UNDO,
    WIRE,
    CpuClock,
    FaultKey,
    ForkKey,
    Recorder,
)
from forkstorm_load.stats import merged
from hypothesis import given
from hypothesis import strategies as st

from .outcomes import work

KEYS = [
    ForkKey(s, layout, level) for s in ("A", "B") for layout in ("x", "seed:21") for level in (1, 2)
]
forks = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(1, 10**9)), max_size=60)


def record(recorder: Recorder, key: ForkKey, wire_ns: int) -> None:
    recorder.fork(key, wire_ns, wire_ns // 2, 0, 21, work("BULK_INSERT", 21))


@given(forks, forks, st.integers(0, 60))
def test_the_master_has_what_all_workers_recorded(
    first: list[tuple[ForkKey, int]], second: list[tuple[ForkKey, int]], reported_after: int
) -> None:
    alone, master, workers = Recorder(), Recorder(), (Recorder(), Recorder())
    for worker, done in zip(workers, (first, second), strict=True):
        for i, (key, wire_ns) in enumerate(done):
            record(alone, key, wire_ns)
            record(worker, key, wire_ns)
            if i == reported_after:
                master.merge(json.loads(json.dumps(worker.take())))
        master.merge(worker.take())
        assert worker.take()["histograms"] == {}
    for key in KEYS:
        for what in (WIRE, CORE):
            expected, found = (
                merged(r.slices(what, [key.text()])[0]).counts for r in (alone, master)
            )
            assert found == expected
        assert master.work.get(key.text()) == alone.work.get(key.text())


def test_faults_are_merged_and_are_no_forks() -> None:
    master, workers = Recorder(), (Recorder(), Recorder())
    keys = FaultKey("A", "MARKER"), FaultKey("B", "IMMEDIATE")
    for worker in workers:
        worker.fault(keys[0], 1000, 100)
        worker.fault(keys[0], 1000, 0)  # Failed before there was anything to undo.
        worker.idle_fault(keys[1], 2000)
        master.merge(json.loads(json.dumps(worker.take())))
    (wire,), (undo,), (idle,) = (
        [merged(parts).total for parts in master.slices(what, [key.text()])]
        for what, key in ((FAULT_WIRE, keys[0]), (UNDO, keys[0]), (IDLE_WIRE, keys[1]))
    )
    assert (wire, undo, idle) == (4, 2, 2)
    assert WIRE not in master.histograms
    assert not master.work


@given(st.sampled_from(KEYS))
def test_a_key_survives_its_text(key: ForkKey) -> None:
    assert ForkKey.parse(key.text()) == key


def test_cpu_is_that_of_the_busiest_process() -> None:
    master = Recorder()
    for process, share in (("a", 0.2), ("b", 0.6), ("a", 0.3), ("b", 0.4)):
        master.merge({"histograms": {}, "work": {}, "cpu": {process: share}})
    assert master.client_cpu == pytest.approx(0.4)


def test_the_cpu_clock_sees_work() -> None:
    clock = CpuClock()
    sum(range(3_000_000))
    assert 0.1 < clock.share() <= 1.5


@given(st.floats(0.0011, 60_000))
def test_locusts_buckets_are_two_percent_wide(response_time_ms: float) -> None:
    assert bucket_response_time(response_time_ms) == pytest.approx(response_time_ms, rel=0.0105)
    assert not isinstance(bucket_response_time(response_time_ms), int)


def test_locust_still_has_what_is_patched() -> None:
    assert callable(locust.stats.bucket_response_time)
    assert callable(locust.stats.StatsCSV._percentile_fields)
    assert isinstance(locust.stats.PERCENTILES_TO_REPORT, list)

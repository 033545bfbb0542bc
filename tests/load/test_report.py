"""What a storm prints, writes and concludes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from forkstorm import Recovery
from forkstorm_load.measure import Control
from forkstorm_load.outcome import Outcome, summary
from forkstorm_load.picture import draw
from forkstorm_load.report import fidelity, report_lines, verdict
from forkstorm_load.seed import (
    BULK_INSERT,
    EXTENT_COPY,
    MEASURED,
    SHARE,
    STRATEGIES,
    TREE_DUP,
    VMA_COUNTS,
)
from forkstorm_load.stats import Interval

from .outcomes import REAL, outcome

NOISY = Control(Interval(0.2, -0.1, 0.4), 0.0)


@pytest.fixture(scope="module")
def clean() -> Outcome:
    return outcome()


@pytest.mark.parametrize(
    "made", ["clean", "noisy", "failed", "busy", "faults", "leak", "all", "all faults", "one"]
)
def test_the_report_fits_a_screen(made: str, clean: Outcome) -> None:
    one = {
        "clean": lambda: clean,
        "noisy": lambda: outcome(control=NOISY),
        "failed": lambda: outcome(failures=3),
        "busy": lambda: outcome(client_cpu=0.8),
        "faults": lambda: outcome(control=NOISY, faults=1200, leaks={}),
        "leak": lambda: outcome(faults=1, leaks={"nodes": 3, "records": 7, "page tables": 12}),
        "all": lambda: outcome(strategies=MEASURED),
        "all faults": lambda: outcome(strategies=MEASURED, faults=1200, leaks={}),
        "one": lambda: outcome(strategies=(SHARE,)),
    }[made]()
    lines = report_lines(one)
    assert len(lines) <= 39  # and one more for where the files are
    assert "\n" not in "".join(lines)
    assert max(map(len, lines)) <= 100
    assert not any("nan" in line for line in lines)


def test_the_report_holds_what_was_measured(clean: Outcome) -> None:
    text = "\n".join(report_lines(clean))
    for count in VMA_COUNTS:
        assert any(line.split()[:1] == [str(count)] for line in text.splitlines())
    for name in REAL:
        assert name in text
    # The kernel's saving, its anchors' line and the seed's fits.
    assert " 134  " in text
    assert "0.93 at 121" in text
    assert "77.6 µs + 486 ns·n" in text
    assert "not a whole fork" in text
    assert "failures: none" in text


def test_fit_and_fidelity_follow_from_the_times(clean: Outcome) -> None:
    fit = clean.fit(BULK_INSERT)
    assert fit.a == pytest.approx(1200, rel=0.05)
    assert fit.b == pytest.approx(100, rel=0.02)
    factors = fidelity(clean, BULK_INSERT)
    assert set(factors) == {421, 6421}
    assert factors[6421] == pytest.approx((1200 / 6421 + 100) / 124, rel=0.02)


def test_the_bounds_have_their_lines(clean: Outcome) -> None:
    assert clean.fit(EXTENT_COPY).b == pytest.approx(4, rel=0.05)
    assert clean.fit(SHARE).b == pytest.approx(0, abs=0.01)
    (line,) = (line for line in report_lines(clean) if line.startswith("  SHARE"))
    assert "0.09 µs + " in line
    assert "lower bound" in line
    # What nobody used over the wire has no figures there, and is in no comparison.
    side = summary(clean)["sizes"][0]["strategies"][SHARE]  # type: ignore[index]
    assert (side["wire_ms_p50"], side["core_ns_p50"]) == (None, pytest.approx(90, abs=1))


def test_other_strategies_over_the_wire() -> None:
    lines = report_lines(outcome(strategies=(TREE_DUP, SHARE)))
    (head,) = (line for line in lines if line.split()[:2] == ["VMAs", TREE_DUP])
    assert head.split() == ["VMAs", TREE_DUP, SHARE]
    (row,) = (line for line in lines if line.startswith("java17"))
    assert len(row.split()) == 4
    said = verdict(outcome(strategies=(TREE_DUP, SHARE)))
    assert "faster at all 8 sizes" in said
    assert "no difference between TREE_DUP and SHARE is detectable on any of 6" in said
    shown = verdict(outcome(strategies=MEASURED, extra_ns=400_000))
    assert "the difference between BULK_INSERT and TREE_DUP shows on all 6" in shown
    assert "nothing to compare SHARE with" in verdict(outcome(strategies=(SHARE,)))


def test_the_verdict_follows_the_data(clean: Outcome) -> None:
    said = verdict(clean)
    assert "faster at all 8 sizes" in said
    assert "no difference is detectable on any of 6" in said
    assert clean.valid
    shown = verdict(outcome(extra_ns=400_000))
    assert "the difference shows on all 6 real layouts" in shown


def test_no_verdict_on_a_noisy_machine() -> None:
    for noisy in (outcome(control=NOISY), outcome(steal=0.3)):
        assert not noisy.valid
        assert verdict(noisy).startswith("none, because the machine was too noisy")
        assert "NOT CLEAN" in report_lines(noisy)[1]


def test_a_busy_client_invalidates_the_wire_only() -> None:
    busy = outcome(client_cpu=0.8)
    assert not busy.valid
    said = verdict(busy)
    assert "faster at all 8 sizes" in said
    assert "too busy" in said


def test_failed_requests_are_named() -> None:
    failed = outcome(failures=3)
    assert not failed.valid
    assert "3 requests failed" in verdict(failed)
    assert "RESOURCE_EXHAUSTED" in verdict(failed)


def test_forks_that_were_to_fail_are_told_apart(clean: Outcome) -> None:
    assert not any("Faults" in line for line in report_lines(clean))
    faulty = outcome(faults=12, leaks={})
    lines = report_lines(faulty)
    (at,) = (i for i, line in enumerate(lines) if line.startswith("Faults: "))
    assert "72 forks failed as planned" in lines[at]
    assert "for 36 it was no step" in lines[at]
    assert "audit: no leak" in lines[at]
    assert [line.split(",")[0] for line in lines[at + 1 : at + 4]] == [
        f"  undo by {recovery.name}" for recovery in Recovery
    ]
    assert re.search(r"p50/p99: BULK 20\.\d/20\.\d, TREE 20\.\d/20\.\d µs$", lines[at + 2])
    assert "failures: none" in lines[at - 1]
    assert faulty.valid
    found = json.loads(json.dumps(summary(faulty), allow_nan=False))
    assert found["leaks"] == {}
    assert {row["failed"] for row in found["faults"]} == {12}


def test_a_leak_is_a_failure() -> None:
    leaking = outcome(faults=12, leaks={"page tables": 3})
    assert not leaking.valid
    assert "left something behind: 3 page tables" in verdict(leaking)
    assert any("audit: LEAKS" in line for line in report_lines(leaking))
    assert any("no audit: other calls ran" in line for line in report_lines(outcome(faults=1)))


def test_the_summary_has_its_keys(clean: Outcome) -> None:
    found = json.loads(json.dumps(summary(clean), allow_nan=False))
    assert set(found) == {
        *("sizes", "valid", "fit", "layouts", "requests", "failures", "client_cpu"),
        *("faults", "leaks", "stormed"),
    }
    assert [size["vma_count"] for size in found["sizes"]] == list(VMA_COUNTS)
    for size in [*found["sizes"], *found["layouts"]]:
        assert set(size["strategies"]) == set(MEASURED)
        assert size["shared"] is True
        for name, side in size["strategies"].items():
            assert {
                *("core_ns_p50", "core_ns_p99", "core_ns_ci"),
                *("wire_ms_p50", "wire_ms_p99", "work"),
            } <= set(side)
            assert side["core_ns_ci"][0] <= side["core_ns_p50"] <= side["core_ns_ci"][1]
            assert side["core_ns_p50"] <= side["core_ns_p99"]
            if name in STRATEGIES:
                assert 0.3 < side["wire_ms_p50"] <= side["wire_ms_p99"] < 3
    n = found["sizes"][-1]["vma_count"]
    assert found["sizes"][-1]["strategies"][TREE_DUP]["work"]["records_copied"] == n
    assert found["sizes"][-1]["saved_ns_per_vma"] == pytest.approx(75, rel=0.05)
    assert set(found["fit"][TREE_DUP]) == {"a_ns", "b_ns", "residual_max"}


def test_the_picture_is_drawn_in_both_formats(clean: Outcome, tmp_path: Path) -> None:
    png, svg = draw(clean, tmp_path)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in svg.read_bytes()[:500]

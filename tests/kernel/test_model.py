"""The naive model of the rules against the running kernel: the second description of them."""

from __future__ import annotations

import time

import pytest

from .machine import Machine
from .model_simulation import ModelSimulation
from .sequences import Totals, run_generated

CALLS = 3_000


@pytest.mark.parametrize("first", [1, time.time_ns() // 1_000_000], ids=["fixed", "fresh"])
def test_random_sequences(machine: Machine, first: int) -> None:
    totals, seed = Totals(), first
    while totals.count < CALLS:
        found = run_generated(machine, {"model": ModelSimulation()}, seed, totals)
        assert found is None, f"seed {seed}: {found}"
        seed += 1

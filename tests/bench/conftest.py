"""One run of all stages at the smallest sizes, for all tests that look at what came out."""

from __future__ import annotations

import pytest
from forkstorm_bench import (
    batches,
    builds,
    duplication,
    mutation,
    peers,
    processes,
    realfork,
    rpc,
    spaces,
    steps,
)
from forkstorm_bench.__main__ import derived, one_size
from forkstorm_bench.figures import QUICK, Figures
from forkstorm_bench.machine import machine


@pytest.fixture(scope="package")
def found() -> Figures:
    patch = pytest.MonkeyPatch()
    patch.setattr(mutation, "SIZES", (21, 421))
    measured = machine()
    for stage in (
        *(one_size(n, QUICK) for n in (21, 121, 421)),
        duplication.work(121),
        duplication.fixed(QUICK),
        duplication.touched(QUICK),
        steps.steps(QUICK),
        steps.footprint(),
        builds.uncompiled(),
        realfork.real_fork(QUICK, (21, 121, 421)),
        peers.peers(QUICK, (21,)),
        processes.two_processes(QUICK, (spaces.SMALL,)),
        rpc.rpc(QUICK),
        batches.batches(QUICK),
    ):
        assert not measured.keys() & stage.keys()
        measured |= stage
    patch.undo()
    return measured | derived(measured) | {"steal": 0.0}

"""The Locust user of a fork storm. One scenario: fork, touch the child, fork the child, …, exit.
Now and then a scenario is a single Ping: what a fork's place in the storm costs without a fork.

Which strategy forks which layout comes from a seeded plan (plan.py), never from the load. A fork's
wire latency is a Locust request named after strategy and layout; Map, Unmap, Exit and Ping are
requests of their own. Closed pacing thinks between scenarios. Open pacing sends on a seeded
schedule and measures a scenario's first fork from the intended time: a stalled server cannot hide
by not being asked.

With a fault rate some forks are told to fail. One that does is a request "fork fault" without an
exception, and is made once more without the fault; its time is in no figure of other forks.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import gevent
from forkstorm import (
    DEFAULT_ADDRESS,
    AddressSpace,
    ForkFailure,
    ForkFault,
    ForkResult,
    ForkstormError,
    Recovery,
)
from gevent.pool import Pool
from locust import User, task

from forkstorm_load.options import OPEN
from forkstorm_load.plan import PING, Cell, arrivals, random_stream, scenario_plan
from forkstorm_load.recorder import FaultKey, ForkKey, work_of
from forkstorm_load.run import Run, Storm

_PAGE = 4096
_TOUCH_PAGES_MAX = 16
_DRAIN_S = 5.0


class StepFailed(Exception):
    """A request failed and has been reported to Locust; the scenario ends here."""


class FailedAsPlanned(Exception):
    """A fork failed where its fault said, after so many nanoseconds."""

    def __init__(self, failure: ForkFailure, elapsed_ns: int) -> None:
        super().__init__(failure)
        self.failure, self.elapsed_ns = failure, elapsed_ns


class ForkStormUser(User):
    """Storms the server of `--host` as the storm's options say."""

    host = DEFAULT_ADDRESS
    storm: ClassVar[Storm]

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self._pool: Pool | None = None

    def on_start(self) -> None:
        run = self.storm.run
        if run is None:
            raise RuntimeError("the run did not start: see the log above")
        self._run = run
        options = run.options
        place = (run.place, next(run.user_numbers))
        self._random = random_stream(options.seed, "user", *place)
        self._plan = scenario_plan(
            options.strategies, list(run.spaces), random_stream(options.seed, "plan", *place)
        )
        if options.pacing == OPEN:
            self._pool = Pool(options.in_flight)
            self._arrivals = arrivals(
                options.rate_per_s, random_stream(options.seed, "arrivals", *place)
            )
            self._started = time.perf_counter()
            self._next_arrival()
            gevent.sleep(self.wait_time())

    def on_stop(self) -> None:
        if self._pool is not None:
            self._pool.join(_DRAIN_S)
            self._pool.kill()

    def wait_time(self) -> float:
        """Seconds to the next scenario: thinking, or until the schedule says so."""
        options = self._run.options
        if self._pool is not None:
            return max(0.0, self._intended - time.perf_counter())
        return self._random.expovariate(1 / options.think_s) if options.think_s else 0.0

    @task
    def scenario(self) -> None:
        """One scenario; when open, only sends it off."""
        cell = next(self._plan)
        scenario = Scenario(self._run, self.environment, cell, self._random.random())
        if self._pool is None:
            scenario.play(self._run.options.in_flight)
        else:
            intended_ns = round(self._intended * 1e9)
            self._next_arrival()
            # Waits for a free place when too many are on their way; the schedule does not move.
            self._pool.spawn(scenario.play, 1, intended_ns)

    def _next_arrival(self) -> None:
        self._intended = self._started + next(self._arrivals)


class Scenario:
    """Fork → touch → fork the child → …, then exit of every child, whatever happened; or a Ping."""

    def __init__(self, run: Run, environment: Any, cell: Cell, seed: float) -> None:
        self._run = run
        self._fire = environment.events.request.fire
        self._cell = cell
        self._random = random.Random(seed)

    def play(self, in_flight: int, intended_ns: int | None = None) -> None:
        """Plays the scenario with `in_flight` children of the layout alive at once."""
        if self._cell == PING:
            with contextlib.suppress(StepFailed):
                self._ping(intended_ns)
            return
        children: list[AddressSpace] = []
        try:
            with contextlib.suppress(StepFailed):
                for _ in range(in_flight):
                    self._descend(children, intended_ns)
        finally:
            for child in reversed(children):
                with contextlib.suppress(StepFailed), self._request("exit", "child"):
                    child.exit()

    def _descend(self, children: list[AddressSpace], intended_ns: int | None) -> None:
        """A child, its child, and so on; each is touched before it is forked."""
        options = self._run.options
        space = self._run.spaces[self._cell.layout]
        for level in range(1, options.levels + 1):
            space = self._fork(space, level, intended_ns if level == 1 else None)
            children.append(space)
            for _ in range(options.touches):
                self._touch(space)

    def _fork(self, parent: AddressSpace, level: int, intended_ns: int | None) -> AddressSpace:
        key = ForkKey(self._cell.strategy, self._cell.layout, level)
        fault = self._run.options.faults.draw(self._run.vma_counts[key.layout], self._random)
        if fault is None:
            return self._fork_once(parent, key, intended_ns)
        try:
            return self._fork_once(parent, key, intended_ns, fault)
        except FailedAsPlanned as told:
            self._run.recorder.fault(_kind(key, fault), told.elapsed_ns, told.failure.undo_ns)
        return self._fork_once(parent, key, None)

    def _fork_once(
        self,
        parent: AddressSpace,
        key: ForkKey,
        intended_ns: int | None,
        fault: ForkFault | None = None,
    ) -> AddressSpace:
        name = f"{key.strategy} {key.layout}" + (f" level {key.level}" if key.level > 1 else "")
        options = self._run.options
        result: ForkResult[AddressSpace]
        with self._request("fork", name, intended_ns, fault) as elapsed:
            result = parent.fork(
                key.strategy, labels=self._run.labels, ttl_s=options.child_ttl_s, fault=fault
            )
        if fault is not None:
            # No step of this fork, which is no sample of the forks without a fault either.
            self._run.recorder.idle_fault(_kind(key, fault), elapsed[0])
            return result.child
        self._run.recorder.fork(
            key,
            wire_ns=elapsed[0],
            core_ns=result.timing.core_ns,
            lock_wait_ns=result.timing.lock_wait_ns,
            vma_count=result.vma_count,
            work=work_of(result.work),
            became_other=result.strategy.name != key.strategy,
        )
        return result.child

    def _touch(self, child: AddressSpace) -> None:
        """Maps some pages where the kernel would, and unmaps them."""
        length = self._random.randint(1, _TOUCH_PAGES_MAX) * _PAGE
        with self._request("map", "child"):
            addr = child.map(length)
        with self._request("unmap", "child"):
            child.unmap(addr, length)

    def _ping(self, intended_ns: int | None) -> None:
        with self._request("ping", "server", intended_ns) as elapsed:
            self._run.client.ping()
        self._run.recorder.ping(elapsed[0])

    @contextlib.contextmanager
    def _request(
        self,
        kind: str,
        name: str,
        intended_ns: int | None = None,
        fault: ForkFault | None = None,
    ) -> Iterator[list[int]]:
        """Times the block as a Locust request; StepFailed when it fails, FailedAsPlanned when it
        was to. Yields room for the ns."""
        elapsed = [0]
        start_ns = intended_ns if intended_ns is not None else time.perf_counter_ns()
        failure: Exception | None = None
        try:
            yield elapsed
        except Exception as error:
            failure = error
        elapsed[0] = time.perf_counter_ns() - start_ns
        planned = _planned(failure, fault)
        if planned is not None:
            kind, failure = "fork fault", None
        self._fire(
            request_type=kind,
            name=name,
            response_time=elapsed[0] / 1e6,
            response_length=0,
            exception=failure,
            context={},
        )
        if planned is not None:
            raise FailedAsPlanned(planned, elapsed[0])
        if failure is not None:
            raise StepFailed from failure


def _kind(key: ForkKey, fault: ForkFault) -> FaultKey:
    recovery = fault.recovery
    assert isinstance(recovery, Recovery)
    return FaultKey(key.strategy, recovery.name)


def _planned(failure: Exception | None, fault: ForkFault | None) -> ForkFailure | None:
    """What a fork tells that failed where its fault said; None for any other failure."""
    if fault is None or not isinstance(failure, ForkstormError) or failure.fork is None:
        return None
    told = failure.fork
    as_planned = failure.limit == "fault" and told.undone_vma_count == told.duplicated_vma_count
    return told if as_planned and told[:2] == fault[:2] else None

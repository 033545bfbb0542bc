"""A user's scenario, on a server made of known delays and failures."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from forkstorm import FaultSite, ForkFault, ForkStrategy, WorkCounts
from forkstorm.errors import NoMemory
from forkstorm_load import options
from forkstorm_load.figures import console_table, fault_figures
from forkstorm_load.options import StormOptions
from forkstorm_load.plan import PING, Cell
from forkstorm_load.recorder import CORE, PING_WIRE, WIRE, Recorder
from forkstorm_load.stats import merged
from forkstorm_load.users import ForkStormUser, Scenario
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from .outcomes import work


def parse(*arguments: str) -> StormOptions:
    parser = LocustArgumentParser()
    options.add_arguments(parser)
    return StormOptions.parse(parser.parse_args(list(arguments)))


# At these sites the fake's forks do not fail, and at this one for want of memory.
NO_STEP = (FaultSite.DONTCOPY_ERASE,)
UNPLANNED = FaultSite.TREE_NODE


class FakeSpace:
    """A space that counts what is done to it and its descendants."""

    # What forks become, whatever they are asked for.
    becomes: ForkStrategy | None = None

    def __init__(self, log: list[str], fork_s: float = 0.0, fail: str = "") -> None:
        self.log, self._fork_s, self._fail = log, fork_s, fail

    def _do(self, what: str) -> None:
        self.log.append(what)
        if what == self._fail:
            raise MemoryError(what)

    def fork(self, strategy: str, *, fault: ForkFault | None = None, **_: Any) -> SimpleNamespace:
        self._do("fork")
        if fault is not None and fault.site not in NO_STEP:
            assert isinstance(fault.site, FaultSite)
            told = {"fault_site": fault.site.name, "fault_ordinal": str(fault.ordinal)}
            told |= {"duplicated_vma_count": "3", "undone_vma_count": "3", "undo_ns": "7000"}
            limit = "" if fault.site == UNPLANNED else "fault"
            raise NoMemory("no memory", limit=limit, metadata=told)
        gevent.sleep(self._fork_s)
        return SimpleNamespace(
            child=FakeSpace(self.log, self._fork_s, self._fail),
            timing=SimpleNamespace(core_ns=5000, lock_wait_ns=0),
            vma_count=21,
            strategy=self.becomes or ForkStrategy.parse(strategy),
            work=WorkCounts(**work(strategy, 21)),
        )

    def map(self, length: int) -> int:
        assert length % 4096 == 0
        self._do("map")
        return 4096

    def unmap(self, addr: int, length: int) -> None:
        self._do("unmap")

    def exit(self) -> None:
        self._do("exit")


def fake_run(space: FakeSpace, *arguments: str) -> Any:
    return SimpleNamespace(
        options=parse(*arguments),
        place=0,
        user_numbers=iter(range(100)),
        labels={"run": "test"},
        recorder=Recorder(),
        client=SimpleNamespace(ping=lambda: None),
        spaces={"layout": space},
        vma_counts={"layout": 21},
    )


def played(run: Any, in_flight: int = 1) -> Environment:
    environment = Environment(user_classes=[ForkStormUser])
    run.requests = []
    events: Any = environment.events
    events.request.add_listener(lambda **request: run.requests.append(request))
    cell = Cell("TREE_DUP", "layout")
    Scenario(run, environment, cell, 0.5).play(in_flight)
    return environment


def user_of(run: Any, environment: Environment) -> ForkStormUser:
    ForkStormUser.storm = SimpleNamespace(run=run)  # type: ignore[assignment]
    user = ForkStormUser(environment)
    user.on_start()
    user._plan = repeat(Cell("TREE_DUP", "layout"))
    return user


def test_a_scenario_forks_touches_and_exits_every_level() -> None:
    log: list[str] = []
    run = fake_run(FakeSpace(log), "--levels", "3", "--touches", "2")
    played(run, in_flight=2)
    assert log == ["fork", *["map", "unmap"] * 2] * 6 + ["exit"] * 6
    kinds = [request["request_type"] for request in run.requests]
    assert sorted(set(kinds)) == ["exit", "fork", "map", "unmap"]
    forks = [request["name"] for request in run.requests if request["request_type"] == "fork"]
    assert forks[:3] == [f"TREE_DUP layout{level}" for level in ("", " level 2", " level 3")]
    assert not any(request["exception"] for request in run.requests)


def test_a_ping_is_a_scenario_of_its_own() -> None:
    log: list[str] = []
    run = fake_run(FakeSpace(log))
    environment = Environment(user_classes=[ForkStormUser])
    Scenario(run, environment, PING, 0.5).play(1)
    assert log == []
    assert merged(run.recorder.slices(PING_WIRE, [PING_WIRE])[0]).total == 1


@pytest.mark.parametrize("step", ["fork", "map", "unmap"])
def test_exit_runs_whatever_fails(step: str) -> None:
    log: list[str] = []
    run = fake_run(FakeSpace(log, fail=step), "--levels", "2")
    played(run)
    failed = [request for request in run.requests if request["exception"]]
    assert [request["request_type"] for request in failed] == [step]
    assert log.count("exit") == (0 if step == "fork" else 1)


def test_a_failing_exit_does_not_keep_the_next_from_running() -> None:
    log: list[str] = []
    played(fake_run(FakeSpace(log, fail="exit"), "--levels", "3"))
    assert log.count("exit") == 3


def test_exit_runs_when_the_user_is_killed() -> None:
    log: list[str] = []
    run = fake_run(FakeSpace(log, fork_s=0.05), "--levels", "5")
    greenlet = gevent.spawn(played, run)
    gevent.sleep(0.12)
    greenlet.kill()
    assert 1 <= log.count("exit") <= log.count("fork") <= 3
    # The last fork was still in the air: its child is left to the labels and the time to live.
    assert log.count("fork") - log.count("exit") == 1


def test_core_times_are_recorded_beside_the_wire() -> None:
    run = fake_run(FakeSpace([]), "--levels", "2")
    played(run)
    (key,) = (text for text in run.recorder.work if text.endswith("|1"))
    assert merged(run.recorder.slices(CORE, [key])[0]).quantile(0.5) == pytest.approx(
        5000, rel=0.02
    )


def test_forks_that_became_another_strategy_are_counted() -> None:
    space = FakeSpace([])
    space.becomes = ForkStrategy.EXTENT_COPY
    run = fake_run(space, "--levels", "1")
    played(run)
    ((key, work_sum),) = run.recorder.work.items()
    assert (key, work_sum.forks, work_sum.became_other) == ("TREE_DUP|layout|1", 1, 1)
    assert "1 became another" in console_table(run.recorder)


def test_a_fork_that_was_to_fail_is_no_failure_and_made_again() -> None:
    log: list[str] = []
    site = ("--fault-site", "vma-record", "--fault-recovery", "immediate")
    run = fake_run(FakeSpace(log), "--levels", "2", "--fault-rate", "1", *site)
    played(run)
    assert log == ["fork", "fork", "map", "unmap"] * 2 + ["exit"] * 2
    kinds = [request["request_type"] for request in run.requests]
    assert kinds[:4] == ["fork fault", "fork", "map", "unmap"]
    assert not any(request["exception"] for request in run.requests)
    (row,) = fault_figures(run.recorder)
    assert (row["strategy"], row["recovery"], row["failed"]) == ("TREE_DUP", "IMMEDIATE", 2)
    assert row["undo_us_p50"] == pytest.approx(7, rel=0.02)
    assert sum(work.forks for work in run.recorder.work.values()) == 2


def test_a_fault_that_is_no_step_is_counted_apart() -> None:
    log: list[str] = []
    run = fake_run(FakeSpace(log), "--fault-rate", "1", "--fault-site", "dontcopy-erase")
    played(run)
    assert log.count("fork") == log.count("exit") == 2
    assert sum(row["not_a_step"] for row in fault_figures(run.recorder)) == 2
    assert not run.recorder.work


def test_a_fork_that_fails_for_want_of_memory_is_a_failure() -> None:
    log: list[str] = []
    run = fake_run(FakeSpace(log), "--fault-rate", "1", "--fault-site", UNPLANNED.alias)
    played(run)
    assert [request["request_type"] for request in run.requests if request["exception"]] == ["fork"]
    assert fault_figures(run.recorder) == []


def wire_times_ms(run: Any, play: Callable[[ForkStormUser], None]) -> list[float]:
    user = user_of(run, Environment(user_classes=[ForkStormUser]))
    play(user)
    histograms = [merged(run.recorder.slices(WIRE, [text])[0]) for text in run.recorder.work]
    everything = merged(histograms)
    return [everything.quantile(q) / 1e6 for q in (0.5, 1.0)]


def test_an_open_loop_shows_the_stall_that_a_closed_one_hides() -> None:
    # A server that takes 50 ms per fork, and users that want one every 10 ms.
    def closed(user: ForkStormUser) -> None:
        for _ in range(8):
            user.scenario()

    def open_loop(user: ForkStormUser) -> None:
        for _ in range(8):
            user.scenario()
            gevent.sleep(user.wait_time())
        user.on_stop()

    slow = FakeSpace([], fork_s=0.05)
    common = ("--levels", "1", "--touches", "0")
    hidden = wire_times_ms(fake_run(slow, *common, "--think-ms", "0"), closed)
    shown = wire_times_ms(
        fake_run(slow, *common, "--pacing", "open", "--rate", "100", "--in-flight", "1"), open_loop
    )
    assert hidden[1] < 100
    assert shown[1] > 200
    assert shown[0] > 1.5 * hidden[0]


def test_an_open_loop_does_not_wait_for_answers() -> None:
    log: list[str] = []
    run = fake_run(
        FakeSpace(log, fork_s=0.2), "--pacing", "open", "--rate", "1000", "--levels", "1"
    )
    user = user_of(run, Environment(user_classes=[ForkStormUser]))
    for _ in range(10):
        user.scenario()
        gevent.sleep(user.wait_time())
    assert log.count("fork") >= 8
    assert log.count("exit") == 0
    user.on_stop()
    assert log.count("exit") == log.count("fork") == 10


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--layouts", ""), "--layouts"),
        (("--layouts", "nothing"), "python3"),
        (("--vma-counts", "3"), "21"),
        (("--levels", "0"), "--levels: 0 is less than 1"),
        (("--think-ms", "-1"), "--think-ms"),
        (("--pacing", "open", "--rate", "0"), "--rate"),
        (("--strategy", "share,vfork"), "--strategy: no fork strategy 'vfork'"),
        (("--fault-rate", "1.5"), "--fault-rate: 1.5 is no share"),
    ],
)
def test_bad_options_are_named(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(*arguments)


def test_options_are_parsed() -> None:
    found = parse("--strategy", "TREE_DUP", "--layouts", "self", "--vma-counts", "21, 121")
    assert found.strategies == ("TREE_DUP",)
    assert found.layouts == ("self", "seed:21", "seed:121")
    assert found.in_flight == 1
    assert parse("--pacing", "open").in_flight == 100

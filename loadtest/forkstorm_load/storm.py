"""One storm from end to end: control, blocks, then Locust; whatever it starts, it stops.

The blocks run first, alone, because the core time of a fork is wanted undisturbed. Locust runs in a
process of its own, so that gevent's patches stay out of this one.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import forkstorm

from forkstorm_load.layouts import SEED_PREFIX, SELF, live_layout, real_layouts, seed_layout
from forkstorm_load.measure import Control, Series, StealClock, control_of, sample_rounds
from forkstorm_load.outcome import Outcome, layout_outcome, leaks_of, storm_outcome
from forkstorm_load.plan import FaultPlan
from forkstorm_load.progress import Advance, StageDisplay
from forkstorm_load.recorder import Recorder
from forkstorm_load.seed import MEASURED, STRATEGIES, VMA_COUNTS
from forkstorm_load.server import RunningServer, own_server, stop

# Sizes of the A/A control: the smallest, where the clock weighs most, and two of the seed's.
_CONTROL_VMA_COUNTS = (21, 421, 6421)
# How long control and blocks take, as shares of the Locust storm's time.
_CONTROL_SHARE, _BLOCKS_SHARE = 0.1, 0.35
# When the control is not clean: so much more of it, and so many times longer blocks.
_LONGER, _LONGER_BLOCKS = 2.0, 1.5
# The server ends what was loaded even when this process is killed.
_LAYOUT_TTL_S = 3600.0
# Locust's start, and its stop with stragglers.
_LOCUST_GRACE_S = 40.0
# How long an audit waits for a moment without other calls.
_AUDIT_S = 5.0


class StormError(Exception):
    """The storm could not be carried out; the text says why."""


@dataclass(frozen=True)
class Settings:
    """What `forkstorm-storm` was asked for."""

    seconds: float
    users: int
    think_ms: float
    seed: int
    # A running server, or None to start one.
    address: str | None
    output: Path
    faults: FaultPlan
    # What Locust's users fork with; the blocks measure all.
    strategies: Sequence[str] = STRATEGIES


def run_storm(settings: Settings, display: StageDisplay) -> Outcome:
    """Runs a storm; Locust's files go to the output folder.

    StormError, ServerError and ForkstormError say why it could not be carried out.
    """
    settings.output.mkdir(parents=True, exist_ok=True)
    layouts = _layouts(settings.output.resolve())
    with _server(settings.address, display) as server:
        with _loaded(server.address, layouts) as (what, series):
            control = measure_control(series, settings, display)
            seconds = settings.seconds * _BLOCKS_SHARE * (1 if control.clean else _LONGER_BLOCKS)
            steal = StealClock()
            with display.stage(f"blocks A B C D D C B A on {len(series)} layouts") as advance:
                sample_rounds(list(series.values()), seconds, advance)
            stolen = steal.share()
        with display.stage(f"storm of {settings.users} Locust users") as advance:
            result = _locust(
                settings, server.address, [layout.option for layout in layouts], advance
            )
        leaks = None
        if settings.faults.rate:
            with display.stage("audit") as advance:
                leaks = _audit(server.address, advance)
    recorder = Recorder()
    recorder.merge(result)
    outcomes = {}
    with display.stage("confidence intervals") as advance:
        for label, one in series.items():
            outcomes[label] = layout_outcome(label, one, recorder, settings.strategies)
            advance(len(outcomes) / len(series))
    return Outcome(
        server=what,
        control=control,
        steal=stolen,
        sizes=[outcomes[f"{SEED_PREFIX}{count}"] for count in VMA_COUNTS],
        layouts=[outcomes[label] for label in outcomes if not label.startswith(SEED_PREFIX)],
        storm=storm_outcome(result, recorder, settings.strategies),
        leaks=leaks,
    )


@dataclass(frozen=True)
class _Layout:
    label: str
    # How Locust's --layouts names it.
    option: str
    text: bytes


def _layouts(output: Path) -> list[_Layout]:
    """The real layouts, the live one of this process, and the seed's sizes."""
    live = output / f"{SELF}.maps"
    live.write_bytes(live_layout())
    return [
        *(_Layout(name, name, text) for name, text in real_layouts().items()),
        # Frozen in a file: Locust's process is to fork this one's map, not its own.
        _Layout(SELF, str(live), live.read_bytes()),
        *(_Layout(f"{SEED_PREFIX}{n}", f"{SEED_PREFIX}{n}", seed_layout(n)) for n in VMA_COUNTS),
    ]


@contextmanager
def _server(address: str | None, display: StageDisplay) -> Iterator[RunningServer]:
    if address:
        yield RunningServer(address, 0)
        return
    with ExitStack() as stack:
        with display.stage("a server of two workers") as advance:
            server = stack.enter_context(own_server(workers=2, advance=advance))
        yield server


@contextmanager
def _loaded(address: str, layouts: Sequence[_Layout]) -> Iterator[tuple[str, dict[str, Series]]]:
    """What the server is, and a series per layout; the spaces end with the block."""
    labels = {"measure": uuid.uuid4().hex}
    with forkstorm.connect(address, retries=0) as client:
        try:
            series = {}
            for layout in layouts:
                space = client.create(layout.text, labels=labels, ttl_s=_LAYOUT_TTL_S)
                series[layout.label] = Series(space, space.info().vma_count, MEASURED)
            yield _describe(client.server()), series
        finally:
            client.exit_labelled(labels)


def _describe(server: forkstorm.ServerInfo) -> str:
    """A server and its machine in a line."""
    host = server.host
    return (
        f"{server.version}, {server.core_build} core, {len(server.workers)} workers; "
        f"{host.cpu_model}, {host.cpu_count} CPUs, Linux {host.kernel}"
    )


def _audit(address: str, advance: Advance) -> dict[str, int] | None:
    """What is left of everything, as soon as the server is quiet; None if it never is."""
    with forkstorm.connect(address, retries=0) as client:
        started = time.monotonic()
        while (passed := time.monotonic() - started) < _AUDIT_S:
            leaks = leaks_of(client.audit())
            if leaks is not None:
                return leaks
            advance(passed / _AUDIT_S)
            time.sleep(0.1)
    return None


def measure_control(
    series: dict[str, Series], settings: Settings, display: StageDisplay
) -> Control:
    """Each of the kernel's strategies against itself; longer when that is not clean."""
    pairs = []
    for count in _CONTROL_VMA_COUNTS:
        real = series[f"{SEED_PREFIX}{count}"]
        for name in STRATEGIES:
            pairs.append(Series(real.space, real.vma_count, (name, name)))
    seconds = settings.seconds * _CONTROL_SHARE
    steal = StealClock()
    with display.stage("A/A control") as advance:
        sample_rounds(pairs, seconds, advance)
    control = control_of(pairs, steal.share())
    if not control.clean:
        with display.stage("A/A control is not clean: sampling longer") as advance:
            sample_rounds(pairs, seconds * _LONGER, advance)
        control = control_of(pairs, steal.share())
    return control


def _locust(
    settings: Settings, address: str, layouts: Sequence[str], advance: Advance
) -> dict[str, Any]:
    """Runs Locust headless in a process of its own; the result it wrote."""
    seconds = max(1, round(settings.seconds))
    result, log = settings.output / "locust.json", settings.output / "locust.log"
    result.unlink(missing_ok=True)
    with log.open("wb") as sink:
        process = subprocess.Popen(
            _locust_command(settings, address, layouts, seconds, result),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for this process, which then asks Locust to end.
            start_new_session=True,
        )
        try:
            _wait(process, seconds, advance)
        finally:
            stop(process)
    if not result.exists():
        raise StormError(f"Locust left no result:\n{log.read_text(errors='replace')[-2000:]}")
    data: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return data


def _wait(process: subprocess.Popen[bytes], seconds: float, advance: Advance) -> None:
    started = time.monotonic()
    while process.poll() is None:
        passed = time.monotonic() - started
        if passed > seconds + _LOCUST_GRACE_S:
            raise StormError(f"Locust did not end {_LOCUST_GRACE_S:.0f} s after its time was over")
        advance(min(1.0, passed / seconds))
        time.sleep(0.1)


def _locust_command(
    settings: Settings, address: str, layouts: Sequence[str], seconds: int, result: Path
) -> list[str]:
    # Found, not imported: importing it would bring gevent's patches into this process.
    spec = importlib.util.find_spec("forkstorm_load.locustfile")
    assert spec is not None
    assert spec.origin is not None
    output = settings.output
    return [
        *(sys.executable, "-m", "locust", "-f", spec.origin, "--headless", "--only-summary"),
        *("--host", address, "--run-time", f"{seconds}s"),
        *("--users", str(settings.users), "--spawn-rate", str(settings.users)),
        *("--html", str(output / "locust.html"), "--csv", str(output / "locust")),
        *("--layouts", ",".join(layouts), "--think-ms", str(settings.think_ms)),
        *("--strategy", ",".join(settings.strategies)),
        *("--storm-seed", str(settings.seed), "--result-json", str(result)),
        *("--fault-rate", str(settings.faults.rate), "--fault-site", settings.faults.site),
        *("--fault-recovery", settings.faults.recovery),
    ]

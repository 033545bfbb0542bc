"""One run in one load process: its connection, its layouts on the server, its recorder.

A run starts with Locust's test_start and ends with test_stop. Everything it makes on the server
carries the labels run and process and a time to live: test_stop ends what a stopped user left
behind, the time to live what a killed process left.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import uuid
from pathlib import Path
from typing import Any

import forkstorm
from forkstorm import Advice, TouchAccess, VmFlag
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from forkstorm_load.figures import console_table, fault_table, fork_figures
from forkstorm_load.layouts import layout_label, layout_text
from forkstorm_load.options import StormOptions
from forkstorm_load.recorder import CLIENT_CPU_MAX, CpuClock, Recorder
from forkstorm_load.seed import SHARE

_log = logging.getLogger(__name__)

# The layouts themselves must outlive the longest run; a run that ends removes them at once.
_LAYOUT_TTL_S = 24 * 3600.0
# Users finish their scenario when a run is stopped, so that no fork is cut off in the air.
_STOP_TIMEOUT_S = 5.0
_REPORT_KEY = "forkstorm"
# Of a layout that is to fail: one VMA in so many is DONTCOPY (fewer where trees are to be shared,
# which more than one special VMA in 64 prevents), so many at most have a page.
_DONTFORK_EVERY, _DONTFORK_EVERY_SHARED = 16, 96
_WRITTEN_MAX = 100


class Run:
    """What the users of this process share during one run."""

    def __init__(self, options: StormOptions, address: str, run_id: str, place: int) -> None:
        self.options = options
        self.place = place
        self.user_numbers = itertools.count()
        self.labels = {"run": run_id, "process": f"{place}-{os.getpid()}"}
        self.recorder = Recorder()
        self.cpu = CpuClock()
        self.client = forkstorm.connect(address, retries=0)
        try:
            self.spaces = {
                layout_label(layout): self.client.create(
                    maps_text=layout_text(layout), labels=self.labels, ttl_s=_LAYOUT_TTL_S
                )
                for layout in options.layouts
            }
            if options.faults.rate:
                shared = SHARE in options.strategies
                for space in self.spaces.values():
                    make_fallible(space, _DONTFORK_EVERY_SHARED if shared else _DONTFORK_EVERY)
            self.vma_counts = {
                label: space.info().vma_count for label, space in self.spaces.items()
            }
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends everything this process made on the server, and the connection."""
        try:
            self.client.exit_labelled(self.labels)
        finally:
            self.client.close()


def make_fallible(space: forkstorm.AddressSpace, dontfork_every: int) -> None:
    """Gives a layout what forks fail at: VMAs with written pages, and some that are not copied."""
    vmas = [vma for vma in space.vmas() if vma.name != "[vsyscall]"]
    for vma in vmas[dontfork_every - 1 :: dontfork_every]:
        space.advise(vma.start, vma.end - vma.start, Advice.DONTFORK)
    writable = [
        vma for vma in vmas if vma.vm_flags & (VmFlag.WRITE | VmFlag.SHARED) == VmFlag.WRITE
    ]
    for vma in writable[:: 1 + len(writable) // _WRITTEN_MAX]:
        space.touch(vma.start, TouchAccess.WRITE, 1)


class Storm:
    """The storm of one Locust process: follows Locust's events, holds the run and its measurements.

    In a master there is no run; its recorder merges what the workers report.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.run: Run | None = None
        self.recorder = Recorder()
        self._result_json = ""
        environment.stop_timeout = environment.stop_timeout or _STOP_TIMEOUT_S
        # Locust's event hooks are not annotated.
        events: Any = environment.events
        events.test_start.add_listener(self.on_test_start)
        events.test_stop.add_listener(self.on_test_stop)
        events.report_to_master.add_listener(self.on_report_to_master)
        events.worker_report.add_listener(self.on_worker_report)
        events.quit.add_listener(self.on_quit)
        if environment.web_ui and environment.web_ui.app:
            # Locust's pages know requests only; this is the run so far, for people and scripts.
            environment.web_ui.app.add_url_rule(
                "/forkstorm.json", "forkstorm", lambda: json.dumps(fork_figures(self.recorder))
            )

    def on_test_start(self, **_: Any) -> None:
        environment = self.environment
        namespace = environment.parsed_options
        assert namespace is not None
        options = StormOptions.parse(namespace)
        self._result_json = options.result_json
        self.recorder = Recorder()
        if isinstance(environment.runner, MasterRunner):
            # Sent to the workers with the options: all processes label what they make alike.
            namespace.storm_run_id = uuid.uuid4().hex
            return
        run_id = getattr(namespace, "storm_run_id", None) or uuid.uuid4().hex
        place = max(0, getattr(environment.runner, "worker_index", 0))
        # The web UI accepts a host only as a URL.
        address = (environment.host or forkstorm.DEFAULT_ADDRESS).split("://")[-1].rstrip("/")
        self.run = Run(options, address, run_id, place)
        self.recorder = self.run.recorder

    def on_test_stop(self, **_: Any) -> None:
        if self.run is None:
            return
        run, self.run = self.run, None
        self._record_cpu(run)
        run.close()

    def on_report_to_master(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        if self.run is not None:
            self._record_cpu(self.run)
        data[_REPORT_KEY] = self.recorder.take()

    def on_worker_report(self, client_id: str, data: dict[str, Any], **_: Any) -> None:
        self.recorder.merge(data[_REPORT_KEY])

    def on_quit(self, **_: Any) -> None:
        if isinstance(self.environment.runner, WorkerRunner):
            return
        if self.recorder.work:
            print(f"\nForks inside the server:\n{console_table(self.recorder)}\n", flush=True)
        if table := fault_table(self.recorder):
            print(f"Forks that were made to fail:\n{table}\n", flush=True)
        if self.recorder.client_cpu > CLIENT_CPU_MAX:
            _log.warning(
                "INVALID RUN: a load process used %.2f cores, more than %.2f: its latencies are its"
                " own queue. Use fewer users, more thinking, or more load processes.",
                self.recorder.client_cpu,
                CLIENT_CPU_MAX,
            )
        if self._result_json:
            Path(self._result_json).write_text(json.dumps(self.result()), encoding="utf-8")

    def result(self) -> dict[str, Any]:
        """The run so far, merged over all processes."""
        total = self.environment.stats.total
        last = total.last_request_timestamp or total.start_time
        return {
            "requests": total.num_requests,
            "failures": total.num_failures,
            "seconds": last - total.start_time,
            "errors": [error.to_name() for error in self.environment.stats.errors.values()],
            "client_cpu": self.recorder.client_cpu,
            "valid": self.recorder.client_cpu <= CLIENT_CPU_MAX and not total.num_failures,
            **self.recorder.to_data(),
        }

    def _record_cpu(self, run: Run) -> None:
        self.recorder.cpu[run.labels["process"]] = run.cpu.share()

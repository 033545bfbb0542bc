"""SIGHUP: all workers are drained and started anew, one after the other; the spaces stay."""

import contextlib
import os
import signal
import time

import forkstorm
import forkstorm.errors

from tests.rpc.texts import many_vmas
from tests.serving import running_server


def pids(client: forkstorm.Client) -> list[int]:
    return [worker.pid for worker in client.server().workers]


def new_workers(client: forkstorm.Client, old: list[int]) -> list[int]:
    """Wait until none of the old workers is left. A call that comes as one stops may fail."""
    ends_at = time.monotonic() + 60
    now = old
    while set(now) & set(old):
        assert time.monotonic() < ends_at
        time.sleep(0.2)
        with contextlib.suppress(forkstorm.errors.Cancelled):
            now = pids(client)
    return now


def test_workers_are_started_anew_and_the_spaces_stay() -> None:
    with running_server() as server, forkstorm.connect(server.address) as client:
        parent = client.create(many_vmas(421))
        text = parent.maps()
        children = [parent.fork("share").child, parent.fork("extent-copy").child]
        old = pids(client)
        for round_count in (1, 2):
            os.kill(server.pid, signal.SIGHUP)
            old = new_workers(client, old)
            assert [worker.restart_count for worker in client.server().workers] == [round_count] * 2
        assert [space.maps() for space in (parent, *children)] == [text] * 3
        assert not client.verify().violations
        audit = client.audit()
        assert audit.space_count == 3
        assert audit.allocated_node_count == audit.reachable_node_count


def test_a_stop_in_the_middle_of_it() -> None:
    with running_server() as server:
        os.kill(server.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert server.stop() == 0

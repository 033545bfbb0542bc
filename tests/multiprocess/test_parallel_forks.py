"""Forks that a server shares out between its workers."""

import os
import signal
import time
from collections.abc import Callable

import forkstorm
import pytest
from forkstorm import ForkStrategy

from tests.serving import running_server

MANY = 20_000
MAPS = "".join(
    f"{0x10000000 + i * 0x3000:x}-{0x10000000 + i * 0x3000 + 0x2000:x} rw-p 00000000 00:00 0\n"
    for i in range(MANY)
)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    ends_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("strategy", [ForkStrategy.TREE_DUP, ForkStrategy.EXTENT_COPY])
def test_an_idle_worker_helps_another(strategy: ForkStrategy) -> None:
    with (
        running_server("--parallel-vmas", "1000") as server,
        forkstorm.connect(server.address) as client,
    ):
        found = client.server().parallel_forks
        assert (found.tree_dup_vmas, found.extent_copy_vmas) == (1000, 1000)
        parent = client.create(MAPS.encode())
        counts = set()

        def fork() -> bool:
            result = parent.fork(strategy)
            counts.add(result.process_count)
            assert result.vma_count == MANY
            assert not client.verify(result.child.id).violations
            result.child.exit()
            return 2 in counts

        assert until(fork), "one CPU, or nobody came"
        # For a measurement each fork is made by one process, unless it asks for more.
        (alone,) = parent.repeat_fork([strategy], 3, block_fork_count=3)
        (shared,) = parent.repeat_fork([strategy], 3, block_fork_count=3, share_out=True)
        assert alone.work == shared.work
        assert counts <= {1, 2}
        assert client.audit().quiescent


def test_what_pays_is_measured_at_the_start() -> None:
    with (
        running_server() as server,
        forkstorm.connect(server.address) as client,
    ):
        # Where it never pays it stays 0.
        found = client.server().parallel_forks
        assert 0 <= found.tree_dup_vmas <= 65_536
        assert 0 <= found.extent_copy_vmas <= 65_536
        audit = client.audit()
        assert audit.quiescent
        assert (audit.space_count, audit.allocated_record_count) == (0, 0)
        assert (audit.extent_block_count, audit.allocated_node_count) == (0, 0)


@pytest.mark.parametrize(("flags", "workers"), [(["--parallel-vmas", "0"], 2), ([], 1)])
def test_nothing_is_shared_out(flags: list[str], workers: int) -> None:
    with (
        running_server(*flags, workers=workers) as server,
        forkstorm.connect(server.address) as client,
    ):
        parent = client.create(MAPS.encode())
        assert all(parent.fork("extent-copy").process_count == 1 for _ in range(20))
        found = client.server().parallel_forks
        assert (found.tree_dup_vmas, found.extent_copy_vmas) == (0, 0)


def test_workers_that_die_while_they_help() -> None:
    """Forks go on while one worker after the other is killed and comes back."""
    with (
        running_server("--parallel-vmas", "1000") as server,
        forkstorm.connect(server.address) as client,
    ):
        parent = client.create(MAPS.encode())
        expected = parent.maps()
        for _ in range(3):
            victim = client.server().workers[1].pid
            os.kill(victim, signal.SIGKILL)
            done = 0
            while client.server().workers[1].pid in (0, victim) or done < 5:
                child = parent.fork("extent-copy").child
                child.exit()
                done += 1
            child = parent.fork("tree-dup").child
            assert child.maps() == expected
            child.exit()
        assert not client.verify().violations

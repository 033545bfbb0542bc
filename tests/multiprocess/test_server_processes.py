"""The server's processes: workers that die, stops in mid-load, a supervisor that is killed."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from forkstorm.v1 import address_spaces_pb2, diagnostics_pb2

from tests.rpc.calls import EXTENT_COPY, SHARE, STRATEGIES, TREE_DUP, Api, request_id
from tests.rpc.texts import many_vmas
from tests.serving import Server, running_server

SHM = Path("/dev/shm")


def arenas() -> set[Path]:
    """Those of servers: named after their supervisors' pids."""
    return set(SHM.glob("forkstorm-[0-9]*-*.arena"))


def arena_of(pid: int) -> Path:
    """The arena of the server with this supervisor."""
    (path,) = SHM.glob(f"forkstorm-{pid}-*")
    return path


def worker_pids(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent's wait() does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], timeout_s: float = 10) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return condition()


def has_new_worker(supervisor_pid: int, old_pid: int) -> bool:
    return worker_pids(supervisor_pid) not in ([], [old_pid])


@contextmanager
def load(server: Server, vma_count: int = 421) -> Iterator[list[int]]:
    """Forks, maps and exits on all workers; yields the number of rounds of each thread."""
    seed = Api(server.address)
    parent = seed.create(many_vmas(vma_count))
    seed.channel.close()
    stop = threading.Event()
    rounds = [0] * (2 * len(server.endpoints))

    def storm(index: int) -> None:
        api = Api(server.endpoints[index % len(server.endpoints)])
        try:
            while not stop.is_set():
                child = api.fork(parent, strategy=1 + rounds[index] % 4, ttl_ns=60 * 10**9).child
                api.map(child)
                api.exit(child)
                rounds[index] += 1
        except grpc.RpcError:
            pass  # the server goes away: that is what these tests do
        finally:
            api.channel.close()

    threads = [threading.Thread(target=storm, args=(i,)) for i in range(len(rounds))]
    for thread in threads:
        thread.start()
    try:
        assert wait_until(lambda: all(rounds))
        yield rounds
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_killed_worker_is_started_again_and_nothing_is_lost() -> None:
    with running_server() as server:
        survivor, victim = (Api(endpoint) for endpoint in server.endpoints)
        mm_id = survivor.create(many_vmas(421))
        text = survivor.maps_text(mm_id)
        with load(server):
            before = survivor.diagnostics.GetServer(diagnostics_pb2.GetServerRequest())
            os.kill(before.workers[1].pid, signal.SIGKILL)
            for _ in range(20):
                survivor.exit(survivor.fork(mm_id).child)

        def restarted() -> bool:
            now = survivor.diagnostics.GetServer(diagnostics_pb2.GetServerRequest())
            worker = now.workers[1]
            return bool(worker.restart_count == 1 and worker.pid != before.workers[1].pid)

        assert wait_until(restarted)
        victim.channel.close()
        again = Api(server.endpoints[1])
        answer = again.spaces.Fork(
            address_spaces_pb2.ForkRequest(request_id=request_id(), mm_id=mm_id),
            wait_for_ready=True,
            timeout=10,
        )
        assert answer.timing.worker == 1
        assert again.maps_text(answer.child) == text
        assert not again.diagnostics.Verify(diagnostics_pb2.VerifyRequest()).violations
        for api in (survivor, again):
            api.channel.close()


def test_what_is_shared_outlives_the_worker_that_shared_it() -> None:
    """The parent's worker is killed, the parent ends on the other: children have all they had."""
    with running_server() as server:
        survivor, victim = (Api(endpoint) for endpoint in server.endpoints)
        text = many_vmas(421)
        root = victim.create(text)
        # A tree of single nodes, an extent, and what refers to them.
        parents = [root, victim.fork(root, strategy=EXTENT_COPY).child]
        children = [victim.fork(parent, strategy=SHARE) for parent in parents]
        assert {child.strategy for child in children} == {SHARE}
        grandchildren = [survivor.fork(c.child, strategy=SHARE).child for c in children]
        told = survivor.diagnostics.GetServer(diagnostics_pb2.GetServerRequest())
        os.kill(told.workers[1].pid, signal.SIGKILL)
        for space in (*parents, *(child.child for child in children)):
            survivor.exit(space)
        # Whatever was given back is used for something else.
        others = [survivor.fork(grandchildren[0], strategy=s).child for s in STRATEGIES * 3]
        for other in others:
            survivor.unmap(other, 0x1000_0000, 0x2000 * 100)
        assert [survivor.maps_text(space) for space in grandchildren] == [text, text]
        assert not survivor.diagnostics.Verify(diagnostics_pb2.VerifyRequest()).violations
        for space in (*others, *grandchildren):
            survivor.exit(space)
        assert survivor.audit().extent_block_count == 0
        for api in (survivor, victim):
            api.channel.close()


def test_storms_by_all_strategies_leave_nothing() -> None:
    with running_server() as server:
        with load(server):
            time.sleep(1)
        api = Api(server.endpoints[0])
        assert wait_until(lambda: api.page().next_page_token == "")
        for space in api.page(page_size=1000).address_spaces:
            api.exit(space.mm_id)
        assert api.leaks() == {}
        audit = api.audit()
        assert (audit.allocated_node_count, audit.allocated_record_count) == (0, 0)
        assert audit.extent_block_count == 0
        api.channel.close()


def test_killed_again_and_again() -> None:
    with running_server(workers=1) as server:
        api = Api(server.endpoints[0])
        mm_id = api.create(many_vmas(100))
        for death in range(1, 4):
            (pid,) = worker_pids(server.pid)
            os.kill(pid, signal.SIGKILL)
            assert wait_until(functools.partial(has_new_worker, server.pid, pid))
            answer = api.spaces.Fork(
                address_spaces_pb2.ForkRequest(request_id=request_id(), mm_id=mm_id),
                wait_for_ready=True,
                timeout=20,
            )
            assert answer.vma_count == 100
            told = api.diagnostics.GetServer(diagnostics_pb2.GetServerRequest())
            assert told.workers[0].restart_count == death
        api.channel.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_in_mid_load_leaves_nothing(number: signal.Signals) -> None:
    with tempfile.TemporaryDirectory(prefix="forkstorm-test-") as scratch:
        with running_server(env={"TMPDIR": scratch}) as server:
            arena, pids = arena_of(server.pid), worker_pids(server.pid)
            assert len(pids) == 2
            with load(server):
                os.kill(server.pid, number)
                assert server.process.wait(20) == 0
            assert not arena.exists()
            assert not [pid for pid in pids if is_alive(pid)]
            assert not is_alive(server.pid)
            assert "Traceback" not in server.log.read_text()
            assert not server.announce.exists()
        assert os.listdir(scratch) == []


def test_running_calls_end_before_the_server_does() -> None:
    with running_server("--drain-seconds", "10", workers=1) as server:
        api = Api(server.endpoints[0])
        mm_id = api.create(many_vmas(2000))
        stream = api.spaces.RepeatFork(
            address_spaces_pb2.RepeatForkRequest(
                mm_id=mm_id, strategies=[TREE_DUP], forks_per_strategy=20_000, block_fork_count=1000
            )
        )
        next(stream)
        os.kill(server.pid, signal.SIGTERM)
        assert sum(len(block.core_ns) for block in stream) == 19_000
        assert server.process.wait(20) == 0
        api.channel.close()


def test_a_second_signal_ends_at_once() -> None:
    with running_server("--drain-seconds", "60", workers=1) as server:
        api = Api(server.endpoints[0])
        mm_id = api.create(many_vmas(2000))
        stream = api.spaces.RepeatFork(
            address_spaces_pb2.RepeatForkRequest(
                mm_id=mm_id,
                strategies=[TREE_DUP],
                forks_per_strategy=5_000_000,
                block_fork_count=10,
            )
        )
        next(stream)
        arena = arena_of(server.pid)
        os.kill(server.pid, signal.SIGTERM)
        time.sleep(0.5)
        assert server.process.poll() is None
        os.kill(server.pid, signal.SIGINT)
        assert server.process.wait(5) == 0
        assert not arena.exists()
        stream.cancel()
        api.channel.close()


def test_workers_end_with_a_killed_supervisor() -> None:
    with running_server() as server:
        arena, pids = arena_of(server.pid), worker_pids(server.pid)
        with load(server):
            server.process.kill()
            server.process.wait(5)
            assert wait_until(lambda: not any(is_alive(pid) for pid in pids), 15)
        assert not arena.exists()


def test_what_a_killed_server_left_is_removed_by_the_next() -> None:
    with running_server() as server:
        stale, pids = arena_of(server.pid), worker_pids(server.pid)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in (server.pid, *pids):
            os.kill(pid, signal.SIGKILL)
        server.process.wait(5)
        assert wait_until(lambda: not any(is_alive(pid) for pid in pids))
        assert stale.exists()
        # One made just now may be another server's, not locked yet.
        assert wait_until(lambda: time.time() - stale.stat().st_ctime > 2.1)
        with running_server(workers=1) as living:
            assert not stale.exists()
            assert arena_of(living.pid).exists()


def test_two_servers_do_not_collide() -> None:
    with running_server(workers=1) as one:
        clash = subprocess.run(
            [sys.executable, "-m", "forkstormd", "serve", "--listen", one.address],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
        )
        assert clash.returncode == 1
        assert "in use" in clash.stderr
        with running_server(workers=1) as two:
            first, second = Api(one.address), Api(two.address)
            mm_id = first.create(many_vmas(3))
            assert arena_of(one.pid) != arena_of(two.pid)
            assert not second.page().address_spaces
            first.exit(mm_id)
            for api in (first, second):
                api.channel.close()


def test_the_ready_line_and_the_announcement() -> None:
    with running_server() as server:
        told = json.loads(server.announce.read_text())
        assert told["address"] == server.address
        line = server.log.read_text()
        assert line.startswith("forkstormd ")
        assert f"ready at {server.address} " in line
        assert all(endpoint in line for endpoint in server.endpoints)
        assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--workers", "0"], "workers"),
        (["--listen", "nonsense"], "HOST:PORT"),
        (["--listen", "::1:7077"], "brackets"),
        (["--listen", "192.0.2.1:7077"], "192.0.2.1"),
        (["--threads", "1"], "threads"),
        (["--arena-bytes", "1KiB"], "arena_bytes"),
        (["--arena-dir", "/nonexistent"], "/nonexistent"),
        (["--default-strategy", "vfork"], "vfork"),
        (["--parallel-vmas", "some"], "parallel_vmas"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(flags: list[str], says: str) -> None:
    before = arenas()
    run = subprocess.run(
        [sys.executable, "-m", "forkstormd", "serve", "--listen", "127.0.0.1:0", *flags],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.returncode in (1, 2)
    assert says in run.stderr
    assert "Traceback" not in run.stderr
    # Other tests' servers come and go; this one had no pid that an arena is named after.
    assert not [path for path in arenas() - before if not is_alive(int(path.name.split("-")[1]))]


def test_ipv6() -> None:
    try:
        running = running_server("--listen", "[::1]:0", workers=1)
        with running as server:
            assert server.address.startswith("[::1]:")
            api = Api(server.endpoints[0])
            api.exit(api.create())
            api.channel.close()
    except AssertionError as error:
        if "Cannot assign requested address" in str(error) or "family" in str(error):
            pytest.skip("this machine has no IPv6 loopback")
        raise

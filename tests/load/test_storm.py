"""Storms against a real server: headless, distributed, stopped half way; nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import forkstorm
import psutil
import pytest
import requests
from forkstorm_load.figures import fault_figures
from forkstorm_load.outcome import leaks_of
from forkstorm_load.recorder import CORE, PING_WIRE, WIRE, Recorder
from forkstorm_load.seed import MEASURED, SHARE, STRATEGIES, VMA_COUNTS
from forkstorm_load.server import own_server, stop

LOCUSTFILE = Path(__file__).parents[2] / "loadtest" / "locustfile.py"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with own_server(workers=2) as server:
        yield server.address


def labels_of_spaces(address: str) -> list[dict[str, str]]:
    with forkstorm.connect(address) as client:
        return [dict(space.labels) for space in client.list()]


def locust(address: str, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--only-summary"]
    command += ["--host", address, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[bytes], timeout_s: float = 60) -> str:
    out, _ = process.communicate(timeout=timeout_s)
    return out.decode(errors="replace")


def wait_for(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def forks_in(result: dict[str, Any], strategy: str) -> int:
    return sum(w["forks"] for key, w in result["work"].items() if key.startswith(strategy))


def counted(result: dict[str, Any], what: str) -> int:
    slices = [s for by_slice in result["histograms"][what].values() for s in by_slice.values()]
    return sum(count for counts in slices for _, count in counts)


def check_result(path: Path) -> dict[str, Any]:
    """What must hold of any complete run's result; the result."""
    result: dict[str, Any] = json.loads(path.read_text())
    assert result["failures"] == 0, result["errors"]
    old, new = (forks_in(result, strategy) for strategy in STRATEGIES)
    assert old > 10
    # By plan, not by load: up to each user's last, unfinished deck.
    assert abs(old - new) <= 50
    assert counted(result, WIRE) == counted(result, CORE) == old + new
    return result


def test_a_headless_storm(address: str, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    arguments = ("--headless", "-u", "4", "-r", "4", "-t", "3s", "--think-ms", "20")
    layouts = ("--layouts", "java17,self", "--vma-counts", "21,421")
    files = ("--result-json", str(result), "--csv", str(tmp_path / "storm"))
    process = locust(address, *arguments, *layouts, *files)
    output = finish(process)
    assert process.returncode == 0, output
    found = check_result(result)
    names = {key.split("|")[1] for key in found["work"]}
    assert names == {"java17", "self", "seed:21", "seed:421"}
    work = found["work"]["TREE_DUP|seed:421|1"]
    assert work["vma_count"] == 421 * work["forks"]
    assert work["counts"]["records_copied"] == 421 * work["forks"]
    assert 0 < found["client_cpu"] < 1.5
    assert labels_of_spaces(address) == []
    # Locust's own figures are finer than a millisecond.
    rows = (tmp_path / "storm_stats.csv").read_text().splitlines()
    medians = [float(row.split(",")[11]) for row in rows[1:] if row.startswith("fork")]
    assert medians
    assert any(median != round(median) for median in medians)


def test_a_storm_with_faults_leaves_nothing(address: str, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    process = locust(
        *(address, "--headless", "-u", "4", "-r", "4", "-t", "4s", "--think-ms", "10"),
        *("--layouts", "java17,seed:421", "--fault-rate", "0.4", "--strategy", "all"),
        *("--result-json", str(result)),
    )
    output = finish(process)
    assert process.returncode == 0, output
    assert "Forks that were made to fail" in output
    assert "LEAK" not in output
    found = json.loads(result.read_text())
    assert found["failures"] == 0, found["errors"]
    recorder = Recorder()
    recorder.merge(found)
    rows = fault_figures(recorder)
    # The right share, of all strategies and undone in all ways; not all faults are a step.
    faults = sum(row["failed"] + row["not_a_step"] for row in rows)
    forks = forks_in(found, "") + sum(row["not_a_step"] for row in rows)
    assert 0.2 < faults / forks < 0.6
    assert {(row["strategy"], row["recovery"]) for row in rows if row["failed"]} == {
        (strategy, recovery.name) for strategy in MEASURED for recovery in forkstorm.Recovery
    }
    # Trees with few special VMAs, which SHARE does share.
    shared = [work for key, work in found["work"].items() if key.startswith(SHARE)]
    assert shared
    assert not any(work["became_other"] or work["counts"]["records_copied"] for work in shared)
    assert any(row["not_a_step"] for row in rows)
    with forkstorm.connect(address) as client:
        wait_for(lambda: leaks_of(client.audit()) is not None)
        assert leaks_of(client.audit()) == {}
        assert not list(client.list())


def test_an_open_loop_storm_keeps_its_schedule(address: str, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    pacing = ("--pacing", "open", "--rate", "20", "--levels", "1", "--layouts", "java17")
    process = locust(
        *(address, "--headless", "-u", "2", "-r", "2", "-t", "4s", *pacing),
        *("--result-json", str(result)),
    )
    output = finish(process)
    assert process.returncode == 0, output
    found = check_result(result)
    # 2 users at 20 per second for nearly 4 s, give or take four standard deviations.
    assert 100 <= forks_in(found, "") + counted(found, PING_WIRE) <= 210


def test_a_master_and_two_workers(address: str, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    with ExitStack() as stack:
        master = locust(
            *(address, "--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", port),
            *("--expect-workers", "2", "--headless", "-u", "4", "-r", "4", "-t", "4s"),
            *("--think-ms", "20", "--layouts", "java17", "--result-json", str(result)),
        )
        stack.callback(stop, master)
        workers = []
        for _ in range(2):
            worker = locust(address, "--worker", "--master-port", port)
            stack.callback(stop, worker)
            workers.append(worker)
        output = finish(master)
        said = [finish(worker) for worker in workers]
    assert master.returncode == 0, output
    assert [worker.returncode for worker in workers] == [0, 0], said
    found = check_result(result)
    assert len(found["cpu"]) == 2
    # No report was lost: all requests are fork, map, unmap and exit of a child, or a ping.
    assert found["requests"] == 4 * forks_in(found, "") + counted(found, PING_WIRE)
    assert labels_of_spaces(address) == []


def test_locusts_own_processes(address: str, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    process = locust(
        *(address, "--processes", "2", "--headless", "-u", "4", "-r", "4", "-t", "3s"),
        *("--master-bind-port", port, "--master-port", port),
        *("--think-ms", "20", "--layouts", "java17", "--result-json", str(result)),
    )
    output = finish(process)
    assert process.returncode == 0, output
    assert len(check_result(result)["cpu"]) == 2
    assert labels_of_spaces(address) == []


def test_the_web_ui(address: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    process = locust(address, "--web-host", "127.0.0.1", "--web-port", port)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: b"think_ms" in get(url))
        form = {"user_count": 2, "spawn_rate": 2, "host": address, "strategy": "TREE_DUP"}
        form |= {"layouts": "seed:121", "think_ms": 20}
        assert requests.post(f"{url}/swarm", data=form, timeout=10).json()["success"]
        wait_for(lambda: b"seed:121" in get(f"{url}/forkstorm.json"))
        assert {row["strategy"] for row in json.loads(get(f"{url}/forkstorm.json"))} == {"TREE_DUP"}
        requests.post(f"{url}/stop", timeout=30)
        wait_for(lambda: labels_of_spaces(address) == [])
    finally:
        stop(process)


def get(url: str) -> bytes:
    try:
        return requests.get(url, timeout=10).content
    except requests.ConnectionError:
        return b""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_locust_stopped_in_mid_storm_leaves_no_space(address: str, first: int) -> None:
    process = locust(
        *(address, "--headless", "-u", "8", "-r", "8", "-t", "60s", "--think-ms", "5"),
        *("--layouts", "java17", "--levels", "4", "--in-flight", "5"),
    )
    try:
        wait_for(lambda: len(labels_of_spaces(address)) > 10)
        labels = labels_of_spaces(address)
        assert all(set(space) == {"run", "process"} for space in labels)
        process.send_signal(first)
        output = finish(process, 20)
    finally:
        stop(process)
    assert process.returncode == 0, output
    assert labels_of_spaces(address) == []


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where a storm and its server put what they need while they run: empty again afterwards."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def storm(
    arguments: Sequence[str], output: Path, scratch: Path | None = None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "forkstorm_load.cli", "--output", str(output), *arguments]
    places = {"TMPDIR": str(scratch), "FORKSTORMD_ARENA_DIR": str(scratch)} if scratch else {}
    env = {**os.environ, **places}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


@pytest.mark.parametrize(
    ("strategies", "stormed"), [("both", list(STRATEGIES)), ("all", list(MEASURED))]
)
def test_a_short_storm_from_end_to_end(
    tmp_path: Path, scratch: Path, strategies: str, stormed: list[str]
) -> None:
    process = storm(["--seconds", "10", "--strategy", strategies], tmp_path, scratch)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    lines = out.decode().splitlines()
    assert len(lines) <= 40
    # The last line names the output folder, however long that is.
    assert max(map(len, lines[:-1])) <= 100
    assert "\x1b" not in out.decode()
    assert any(line.startswith("Verdict: ") for line in lines)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [size["vma_count"] for size in summary["sizes"]] == list(VMA_COUNTS)
    assert summary["failures"] == 0
    assert summary["requests"] > 100
    largest = summary["sizes"][-1]["strategies"]
    old, new, copy, share = (largest[name]["core_ns_p50"] for name in MEASURED)
    assert old > new > copy > share > 0
    assert set(summary["fit"]) == set(MEASURED)
    assert all(size["shared"] for size in summary["sizes"])
    assert summary["stormed"] == stormed
    for layout in summary["layouts"]:
        assert [name for name in MEASURED if layout["strategies"][name]["wire_ms_p50"]] == stormed
    names = {layout["name"] for layout in summary["layouts"]}
    assert names == {"bash", "chromium_renderer", "java17", "node", "python3", "self"}
    for name in ("t_of_n.png", "t_of_n.svg", "locust.html", "locust_stats.csv", "report.txt"):
        assert (tmp_path / name).stat().st_size > 0
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "stage", "child_count"),
    # At least: the server's supervisor and its two workers; later Locust too.
    [(signal.SIGINT, b"A/A control", 3), (signal.SIGTERM, b"Locust users", 4)],
)
def test_a_storm_stopped_half_way_leaves_nothing(
    first: int, stage: bytes, child_count: int, tmp_path: Path, scratch: Path
) -> None:
    process = storm(["--seconds", "8"], tmp_path, scratch)
    assert process.stderr is not None
    try:
        while stage not in (line := process.stderr.readline()):
            assert line
        time.sleep(0.5)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= child_count
        assert list(scratch.iterdir()) != []
        process.send_signal(first)
        _, err = process.communicate(timeout=40)
    finally:
        stop(process)
    assert process.returncode == 130, err.decode()
    wait_for(lambda: not any(map(psutil.Process.is_running, children)), 5)
    assert list(scratch.iterdir()) == []


def test_a_storm_needs_a_server_that_answers(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        process = storm(["--seconds", "5", "--address", address], tmp_path)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert address in err.decode()
    assert "Traceback" not in err.decode()

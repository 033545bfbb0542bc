"""Addresses, and which CPUs a server may take for itself."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from forkstormd import pinning
from forkstormd.listen import ListenError, advertised_host, join_address, reserve, split_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7077", "127.0.0.1", 7077),
        (":0", "", 0),
        ("[::1]:80", "::1", 80),
        ("localhost:65535", "localhost", 65_535),
    ],
)
def test_split(text: str, host: str, port: int) -> None:
    assert split_address(text) == (host, port)
    assert join_address(host, port) == text


@pytest.mark.parametrize("text", ["", "7077", "host", "host:", "host:-1", "host:65536", "::1:80"])
def test_no_address(text: str) -> None:
    with pytest.raises(ListenError):
        split_address(text)


def test_a_reserved_port_is_for_those_who_share_it() -> None:
    port = reserve("127.0.0.1", 0)
    with port.holder:
        with pytest.raises(ListenError, match="in use"):
            reserve("127.0.0.1", port.port)
        with socket.socket() as worker, socket.socket() as client:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", port.port))
            worker.listen()
            client.connect(("127.0.0.1", port.port))
            worker.accept()[0].close()
            # While a worker listens, a second server is refused all the same.
            with pytest.raises(ListenError, match="in use"):
                reserve("127.0.0.1", port.port)


def test_a_port_of_a_server_that_has_just_ended() -> None:
    """Its connections linger on in TIME_WAIT; that is no reason to refuse the port."""
    with socket.socket() as before, socket.socket() as client:
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind(("127.0.0.1", 0))
        number = before.getsockname()[1]
        before.listen()
        client.connect(("127.0.0.1", number))
        before.accept()[0].close()
    with reserve("127.0.0.1", number).holder:
        pass


def test_what_clients_are_told() -> None:
    assert advertised_host("127.0.0.1", None) == "127.0.0.1"
    assert advertised_host("0.0.0.0", "forks.example") == "forks.example"
    assert advertised_host("0.0.0.0", None) in (socket.gethostname(), "127.0.0.1")


@pytest.fixture
def cgroups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of our own with four CPUs; the test changes what it is about."""
    mount = tmp_path / "cgroup"
    (mount / "own").mkdir(parents=True)
    (mount / "cgroup.controllers").write_text("cpuset cpu\n")
    (mount / "own" / "cgroup.type").write_text("domain\n")
    (mount / "own" / "cpu.max").write_text("max 100000\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/own\n")
    monkeypatch.setattr(pinning, "_MEMBERSHIP", membership)
    monkeypatch.setattr(pinning, "_MOUNTS", (mount,))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    return mount


def test_a_machine_of_our_own(cgroups: Path) -> None:
    assert pinning.choose_cpus(2, "auto") == [0, 1]
    assert pinning.choose_cpus(2, "none") == [-1, -1]
    assert pinning.choose_cpus(5, "auto") == [-1] * 5


def test_a_quota_means_that_the_cpus_are_shared(cgroups: Path) -> None:
    (cgroups / "own" / "cpu.max").write_text("150000 100000\n")
    assert pinning.choose_cpus(2, "auto") == [-1, -1]


def test_a_container_shares_its_machine(cgroups: Path) -> None:
    (cgroups / "cgroup.type").write_text("domain\n")
    assert pinning.choose_cpus(2, "auto") == [-1, -1]


def test_some_cpus_of_a_machine_may_be_others_too(
    cgroups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3})
    assert pinning.choose_cpus(2, "auto") == [-1, -1]
    (cgroups / "own" / "cpuset.cpus.partition").write_text("isolated\n")
    assert pinning.choose_cpus(2, "auto") == [2, 3]


def test_version_1_below_the_root_is_shared(cgroups: Path) -> None:
    pinning._MEMBERSHIP.write_text("2:cpu,cpuacct:/\n3:cpuset:/\n4:memory:/box\n")
    assert pinning.choose_cpus(1, "auto") == [0]
    pinning._MEMBERSHIP.write_text("2:cpu,cpuacct:/box\n")
    assert pinning.choose_cpus(1, "auto") == [-1]

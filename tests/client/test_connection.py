"""Which ports a client dials, how it spreads calls, and what it does when a worker is gone."""

import socket
import time
import warnings
from collections import Counter
from typing import Any

import grpc
import pytest
from forkstorm import Client, SharedPortWarning, connect
from forkstorm.connection import split_address, worker_targets
from forkstorm.errors import DeadlineExceeded, NoSuchSpace, Unavailable
from forkstorm.v1 import address_spaces_pb2
from forkstorm.v1.diagnostics_pb2 import GetServerResponse, Worker

from tests.client.fake import FakeServer, fake_server, refuse


def workers_of(fake: FakeServer, method: str = "Ping") -> Counter[int]:
    return Counter(call.worker for call in fake.of(method))


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def warm(client: Client, fake: FakeServer, workers: int) -> None:
    """Pings until every worker has answered: its connection stands."""
    deadline = time.monotonic() + 5
    while len(workers_of(fake)) < workers and time.monotonic() < deadline:
        client.ping()
    assert len(workers_of(fake)) == workers
    fake.calls.clear()


def test_calls_go_round_the_workers(fake: FakeServer) -> None:
    with connect(fake.address) as client:
        warm(client, fake, 2)
        for _ in range(20):
            client.ping()
    assert workers_of(fake) == {0: 10, 1: 10}


def test_wildcard_endpoints_mean_the_dialled_host(fake: FakeServer) -> None:
    fake.told_endpoints = [e.replace("127.0.0.1", "0.0.0.0") for e in fake.endpoints]
    with connect(fake.address) as client:
        warm(client, fake, 2)


def test_an_unknown_host_name_gives_way_to_the_dialled_host(fake: FakeServer) -> None:
    fake.told_endpoints = [e.replace("127.0.0.1", "nowhere.invalid") for e in fake.endpoints]
    with connect(fake.address) as client:
        warm(client, fake, 2)


def test_endpoints_out_of_reach_leave_the_shared_port_and_a_warning(fake: FakeServer) -> None:
    fake.told_endpoints = [f"127.0.0.1:{closed_port()}" for _ in fake.endpoints]
    with pytest.warns(SharedPortWarning, match="own ports of the 2 workers"):
        client = connect(fake.address)
    with client:
        for _ in range(8):
            client.ping()
    assert workers_of(fake) == {0: 8}


def test_another_server_behind_the_endpoints_is_not_used(fake: FakeServer) -> None:
    with fake_server() as stranger:
        stranger.instance_id = "stranger"
        fake.told_endpoints = stranger.endpoints
        with pytest.warns(SharedPortWarning):
            client = connect(fake.address)
        with client:
            client.ping()
        assert not stranger.of("Ping")
    assert workers_of(fake) == {0: 1}


def test_one_worker_needs_no_port_of_its_own() -> None:
    with fake_server(workers=1) as fake, warnings.catch_warnings():
        warnings.simplefilter("error")
        fake.told_endpoints = [f"127.0.0.1:{closed_port()}"]
        with connect(fake.address) as client:
            client.ping()
        assert workers_of(fake) == {0: 1}


def test_targets_name_every_worker_once_per_family() -> None:
    server = GetServerResponse(
        workers=[Worker(endpoint="127.0.0.1:5"), Worker(index=1, endpoint="127.0.0.1:6")]
    )
    assert worker_targets(server, "127.0.0.1") == ["ipv4:127.0.0.1:5,127.0.0.1:6"]
    server = GetServerResponse(
        workers=[Worker(endpoint="[::1]:5"), Worker(index=1, endpoint="[::1]:6")]
    )
    assert worker_targets(server, "::1") == ["ipv6:[::1]:5,[::1]:6"]


@pytest.mark.parametrize("address", ["", "host", "host:", ":7077", "host:0", "host:65536", "h:x"])
def test_addresses_are_host_and_port(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)
    with pytest.raises(ValueError, match="host:port"):
        connect(address)


@pytest.mark.parametrize("retries", [-1, 5])
def test_retries_are_bounded(retries: int) -> None:
    with pytest.raises(ValueError, match="retries"):
        connect("127.0.0.1:1", retries=retries)


def test_no_server_is_unavailable() -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable):
        connect(f"127.0.0.1:{closed_port()}", retries=0)
    assert time.monotonic() - started < 2


def fails_first(times: int, code: grpc.StatusCode) -> Any:
    """An answer that fails so many times before it is an empty message."""
    left = [times]

    def answer(request: Any, context: grpc.ServicerContext) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            refuse(context, code)
        return empty(request)

    return answer


def empty(request: Any) -> Any:
    """The empty answer to a request."""
    return getattr(address_spaces_pb2, type(request).__name__.replace("Request", "Response"))()


def test_a_retry_carries_the_request_id_of_the_first_attempt(
    fake: FakeServer, fake_client: Client
) -> None:
    fake.answers["Fork"] = fails_first(2, grpc.StatusCode.UNAVAILABLE)
    fake_client.get(7).fork()
    calls = fake.of("Fork")
    assert [call.attempt for call in calls] == [0, 1, 2]
    assert len({call.request.request_id for call in calls}) == 1
    fake_client.get(7).fork()
    assert len({call.request.request_id for call in fake.of("Fork")}) == 2


def test_retries_end(fake: FakeServer) -> None:
    fake.answers["Ping"] = fails_first(99, grpc.StatusCode.UNAVAILABLE)
    with connect(fake.address, retries=2) as client, pytest.raises(Unavailable):
        client.ping()
    assert len(fake.of("Ping")) == 3


def test_retries_can_be_switched_off(fake: FakeServer) -> None:
    fake.answers["Ping"] = fails_first(1, grpc.StatusCode.UNAVAILABLE)
    with connect(fake.address, retries=0) as client:
        with pytest.raises(Unavailable):
            client.ping()
        assert len(fake.of("Ping")) == 1
        client.ping()


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED, grpc.StatusCode.INTERNAL],
)
def test_only_unavailable_is_retried(
    fake: FakeServer, fake_client: Client, code: grpc.StatusCode
) -> None:
    fake.answers["Fork"] = fails_first(1, code)
    with pytest.raises(Exception, match="no"):
        fake_client.get(7).fork()
    assert len(fake.of("Fork")) == 1


def test_retries_stay_within_the_deadline(fake: FakeServer, fake_client: Client) -> None:
    fake.answers["Ping"] = fails_first(99, grpc.StatusCode.UNAVAILABLE)
    started = time.monotonic()
    with pytest.raises((Unavailable, DeadlineExceeded)):
        fake_client.ping(timeout=0.2)
    assert time.monotonic() - started < 0.6


def test_a_slow_answer_is_a_deadline(fake: FakeServer, fake_client: Client) -> None:
    def slow(request: Any, context: grpc.ServicerContext) -> Any:
        time.sleep(0.5)
        return empty(request)

    fake.answers["Ping"] = slow
    with pytest.raises(DeadlineExceeded):
        fake_client.ping(timeout=0.1)
    fake_client.timeout = 0.1
    with pytest.raises(DeadlineExceeded):
        fake_client.ping()
    fake_client.ping(timeout=5)


def test_calls_survive_a_worker_that_is_gone_and_find_it_when_it_is_back(fake: FakeServer) -> None:
    with connect(fake.address) as client:
        warm(client, fake, 2)
        fake.servers[1].stop(None).wait()
        for _ in range(200):
            client.ping()
        assert workers_of(fake) == {0: 200}
        fake.calls.clear()
        fake.start_worker(1, fake.endpoints[1])
        deadline = time.monotonic() + 5
        while 1 not in workers_of(fake) and time.monotonic() < deadline:
            client.ping()
            time.sleep(0.01)
        assert 1 in workers_of(fake)


def test_a_closed_client_closes_its_channels(fake: FakeServer) -> None:
    client = connect(fake.address)
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.ping()


def test_a_failed_probe_leaves_nothing_open(fake: FakeServer) -> None:
    def unknown(request: Any, context: grpc.ServicerContext) -> Any:
        refuse(context, grpc.StatusCode.NOT_FOUND, "NO_SUCH_SPACE")

    fake.answers["GetServer"] = unknown
    with pytest.raises(NoSuchSpace):
        connect(fake.address)

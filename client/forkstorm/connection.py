"""How client.py and aio.py reach a server: targets, channel options, retries.

A server has a port that its workers share and one port for each worker. The kernel spreads
connections over a shared port badly, so the client asks the server for the workers' own ports and
gives all of them to one channel with gRPC's round_robin: a worker that dies leaves the rotation
at once and comes back when it listens again. Where those ports cannot be reached (a port mapping,
a Kubernetes Service) several connections to the shared port take their place.

Retries are gRPC's own: UNAVAILABLE only, few, with jittered backoff, within the call's deadline,
throttled when most calls fail. A retried mutation carries the request id of its first attempt.
"""

from __future__ import annotations

import contextlib
import json
import socket
import warnings
from collections.abc import Sequence

from forkstorm.messages import ServerInfo

DEFAULT_ADDRESS = "127.0.0.1:7077"
DEFAULT_TIMEOUT_S = 5.0
DEFAULT_RETRIES = 3
#: gRPC's own bound.
MAX_RETRIES = 4

# How long a worker's own port may take to answer before it counts as out of reach.
PROBE_TIMEOUT_S = 1.0

# A request that is to be retried is kept until it is answered: room for an import.
_RETRY_BUFFER_BYTES = 64 << 20
_SHARED_CONNECTIONS_MAX = 16
_WILDCARDS = frozenset({"", "0.0.0.0", "::"})

Options = list[tuple[str, str | int]]


class SharedPortWarning(UserWarning):
    """The workers' own ports are out of reach: the load spreads unevenly over the workers."""


def channel_options(retries: int) -> Options:
    """The gRPC channel options of every channel. ValueError for a number gRPC does not allow."""
    if not 0 <= retries <= MAX_RETRIES:
        raise ValueError(f"retries: {retries} is not in 0..{MAX_RETRIES}")
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if retries:
        config["methodConfig"] = [
            {
                "name": [
                    {"service": "forkstorm.v1.AddressSpaces"},
                    {"service": "forkstorm.v1.Diagnostics"},
                ],
                "retryPolicy": {
                    "maxAttempts": retries + 1,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 4,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
        config["retryThrottling"] = {"maxTokens": 100, "tokenRatio": 0.5}
    return [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", int(retries > 0)),
        ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
        # Otherwise channels with equal arguments share one connection, and so one worker.
        ("grpc.use_local_subchannel_pool", 1),
        # A restarted worker is found again within a second, not within two minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port". ValueError for anything else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{address!r} is not an address of the form host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def worker_targets(server: ServerInfo, dialled: str) -> list[str]:
    """gRPC targets to try, each of which names every worker's own port; best first.

    First the workers where the server says they are, then at the dialled host: a server may know
    itself under another name than its clients. One target per IP family; none for a server
    with one worker, whose own port has nothing over the shared one. Resolves names: blocks.
    """
    if len(server.workers) < 2:
        return []
    told = [split_address(worker.endpoint) for worker in server.workers]
    told = [(dialled if host in _WILDCARDS else host, port) for host, port in told]
    targets = _targets(told) + _targets([(dialled, port) for _, port in told])
    return list(dict.fromkeys(targets))


def _targets(endpoints: Sequence[tuple[str, int]]) -> list[str]:
    """One target per IP family in which every host has an address, IPv4 first."""
    hosts = {host for host, _ in endpoints}
    addresses = {host: _resolve(host) for host in hosts}
    targets = []
    for scheme, family, form in (
        ("ipv4", socket.AF_INET, "{}:{}"),
        ("ipv6", socket.AF_INET6, "[{}]:{}"),
    ):
        if all(family in addresses[host] for host in hosts):
            listed = [form.format(addresses[host][family], port) for host, port in endpoints]
            targets.append(f"{scheme}:{','.join(listed)}")
    return targets


def _resolve(host: str) -> dict[socket.AddressFamily, str]:
    """The first address of each family; none when the name is unknown here."""
    found: dict[socket.AddressFamily, str] = {}
    # UnicodeError: a name that cannot be one.
    with contextlib.suppress(OSError, UnicodeError):
        for family, _, _, _, where in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            found.setdefault(family, str(where[0]))
    return found


def shared_connections(server: ServerInfo, address: str) -> int:
    """How many connections to the shared port take the place of the workers' own ports.

    Warns when that is a makeshift, once per address.
    """
    workers: Sequence[object] = server.workers
    if len(workers) < 2:
        return 1
    warnings.warn(
        f"the own ports of the {len(workers)} workers of {address} cannot be reached from here;"
        " their shared port spreads the load unevenly",
        SharedPortWarning,
        stacklevel=3,
    )
    return min(_SHARED_CONNECTIONS_MAX, 2 * len(workers))

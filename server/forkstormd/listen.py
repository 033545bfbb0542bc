"""Addresses: one port that all workers share, and one more for each of them.

The supervisor binds every port with SO_REUSEPORT and never listens on it. So a port stays this
server's while a worker is restarted, and the kernel spreads connections over those who listen.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

_WILDCARDS = {"", "0.0.0.0", "::"}


class ListenError(Exception):
    """An address cannot be had; the text says which and why."""


@dataclass(frozen=True)
class ReservedPort:
    """A bound port that nobody else can take while `holder` is open."""

    holder: socket.socket
    host: str
    port: int

    def address(self, host: str | None = None) -> str:
        """host:port, IPv6 hosts in brackets; `host` instead of the bound one if given."""
        return join_address(host or self.host, self.port)


def join_address(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_address(address: str) -> tuple[str, int]:
    """The host and port of "host:port" or "[v6]:port". ListenError when it is neither."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
        raise ListenError(f"{address!r} is not HOST:PORT")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ListenError(f"{address!r}: an IPv6 address needs brackets, [::1]:{port}")
    return host, int(port)


def reserve(host: str, port: int) -> ReservedPort:
    """Bind host:port, port 0 for a free one. ListenError when it is taken or not ours."""
    try:
        found = socket.getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, where = found[0]
    except OSError as error:
        raise ListenError(f"cannot listen on {join_address(host, port)}: {error}") from None
    holder = socket.socket(family, kind, protocol)
    try:
        _bind(holder, where)
    except OSError as error:
        holder.close()
        raise ListenError(
            f"cannot listen on {join_address(host, port)}: {error.strerror}"
        ) from None
    return ReservedPort(holder, str(where[0]), holder.getsockname()[1])


def _bind(holder: socket.socket, where: tuple[object, ...]) -> None:
    """Bind so that this server's workers can join, and nobody else can.

    Without SO_REUSEPORT at first: with it, a second server of the same user would quietly share
    the port and take half of the connections. And without SO_REUSEADDR, which would let it in as
    long as nobody listens yet, unless connections of a server that has ended linger on the port.
    """
    try:
        holder.bind(where)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(where)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def advertised_host(host: str, chosen: str | None) -> str:
    """What clients are told to dial: `chosen`, else the listen host, else this machine's name."""
    if chosen:
        return chosen
    if host not in _WILDCARDS:
        return host
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        return "127.0.0.1"
    return name

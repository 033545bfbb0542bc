"""Request ids: a mutation that is retried happens once, whichever worker gets the retry.

The id is a UUID4 that the client makes before its first attempt. The arena's table of requests
(core/dedupe.py) remembers it with a hash of the RPC's name and the request without its id, and
the first answer. Errors are not remembered: a failed call changed nothing, so a retry tries
again. An empty id is allowed, for people at a prompt, and means no protection.

The window is bounded: GetServer's limits.dedupe_window_requests ids are remembered, the oldest
forgotten first.
"""

from __future__ import annotations

from typing import Protocol
from zlib import crc32

from forkstormd.core.dedupe import Dedupe, RequestIdReused, RequestInProgress, Ticket
from forkstormd.errors import Refusal, invalid


class Identified(Protocol):
    """A request with an id."""

    request_id: str

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...


def parse_request_id(text: str) -> bytes:
    """The 16 bytes of a UUID4 in its canonical text form (8-4-4-4-12); Refusal for others.

    By hand, since every mutation passes here and uuid.UUID takes nearly three times as long.
    """
    if len(text) == 36 and text[8:24:5] == "----" and text[14] == "4":
        try:
            number = bytes.fromhex(text.replace("-", ""))
        except ValueError:
            number = b""
        # fromhex skips blanks, so it may have found fewer; the top bits of byte 8 are the variant.
        if len(number) == 16 and number[8] >> 6 == 2:
            return number
    raise invalid("request_id", "is no UUID4 in its canonical text form")


def payload_hash(rpc: bytes, payload: bytes) -> int:
    """64 bits that tell one request from another, the same in every process: CRC-32 and length.

    Enough to notice that a client gave one id to two requests; nobody gains by a collision.
    """
    return crc32(rpc + payload) << 32 | len(payload) & 0xFFFF_FFFF


def begin(dedupe: Dedupe, rpc: bytes, request: Identified) -> Ticket | None:
    """Enter a request; None when it has no id. Takes the id out of the request."""
    text = request.request_id
    if not text:
        return None
    request_id = parse_request_id(text)
    request.request_id = ""
    return enter(
        dedupe, request_id, payload_hash(rpc, request.SerializeToString(deterministic=True))
    )


def enter(dedupe: Dedupe, request_id: bytes, payload: int) -> Ticket:
    """Enter an id with a payload's hash. Refusal when another attempt is running or the id was
    used for something else."""
    try:
        return dedupe.begin(request_id, payload)
    except RequestInProgress:
        raise Refusal("REQUEST_IN_PROGRESS", "another attempt of this request is running") from None
    except RequestIdReused:
        raise Refusal(
            "REQUEST_ID_REUSED",
            "this request_id came before with another request",
            field="request_id",
        ) from None

"""Texts of /proc/PID/maps made for tests."""

from __future__ import annotations


def many_vmas(count: int, start: int = 0x1000_0000) -> bytes:
    """Private anonymous VMAs of a page each, with a page between them."""
    return "".join(
        f"{start + i * 0x2000:08x}-{start + i * 0x2000 + 0x1000:08x} rw-p 00000000 00:00 0 \n"
        for i in range(count)
    ).encode()

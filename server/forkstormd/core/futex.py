"""Waiting for work without a CPU: a futex on Header.jobs_posted, for all processes of an arena.

jobs_wait(header, seen, bits)    sleep until somebody wakes one of these bits; at once when the word
                                 is no longer `seen`. May return early.
jobs_wake(header, count, bits)   count the word on and wake up to `count` of those who wait for one
                                 of these bits; how many

A sleeper is woken by one system call of a few microseconds and is there some tens later.

This is the uncompiled side: the uncompiled core has the arena to itself, and nobody sleeps.
"""

from typing import Any


def jobs_wait(header: Any, seen: int, bits: int) -> None:
    return None


def jobs_wake(header: Any, count: int, bits: int) -> int:
    header.jobs_posted = (header.jobs_posted + 1) & 0xFFFF_FFFF
    return 0

"""Robust process-shared mutexes, 64 bytes each in the arena.

mutex_init(word)              0 or a negative errno; once per server start.
mutex_try(word)               0 when held, else -EBUSY.
mutex_wait(word, deadline)    waits until an absolute CLOCK_MONOTONIC time in ns (0: as long
                              as it takes); 0 when held, else -ETIMEDOUT.
mutex_release(word)

A mutex whose owner died is simply taken over (EOWNERDEAD): every commit is one store, so
what the mutex guards is whole at any instant. glibc keeps a list of held robust mutexes per
thread by address, which is why the arena's mapping is never moved while the process lives.

This is the uncompiled side: the uncompiled core has the arena to itself and needs no lock.
"""

from typing import Any


def mutex_init(word: Any) -> int:
    return 0


def mutex_try(word: Any) -> int:
    return 0


def mutex_wait(word: Any, deadline_ns: int) -> int:
    return 0


def mutex_release(word: Any) -> None:
    return None

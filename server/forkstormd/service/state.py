"""What the RPCs of one worker share, and how a call takes its turn.

A worker has few threads. So that Ping and health stay served while others wait for a space's
mutex or read a stream, at most threads - 1 calls may take their time at once; the call that would
take the last thread waits for no mutex longer than IMPATIENT_NS, and streams are refused then.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import Protocol, cast

from forkstorm.v1 import types_pb2

from forkstormd.core.arena import Arena
from forkstormd.core.dedupe import Dedupe
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.errors import Refusal, limit_exceeded
from forkstormd.launch import WorkerConfig

IMPATIENT_NS = 20_000_000
# A call without a deadline has one some centuries ahead, beyond what nanoseconds can count.
_FOREVER_S = 1e9


class Call(Protocol):
    """The part of a ServicerContext that knows how long a call may go on."""

    def time_remaining(self) -> float: ...

    def is_active(self) -> bool: ...


class Turn:
    """A call's share of its worker: until when it may wait. A context manager.

    deadline_ns is on CLOCK_MONOTONIC, 0 for never.
    """

    __slots__ = ("_context", "_own_deadline_ns", "_patience", "deadline_ns", "is_patient")

    def __init__(self, patience: list[None], context: Call) -> None:
        self._context = context
        self._patience = patience
        remaining_s = context.time_remaining()
        self._own_deadline_ns = self.deadline_ns = (
            monotonic_ns() + int(remaining_s * 1e9) if remaining_s < _FOREVER_S else 0
        )
        try:
            # pop and append are single steps: a lock would cost more than the call it guards.
            patience.pop()
            self.is_patient = True
        except IndexError:
            self.is_patient = False
            impatient_ns = monotonic_ns() + IMPATIENT_NS
            self.deadline_ns = min(self._own_deadline_ns or impatient_ns, impatient_ns)

    def __enter__(self) -> Turn:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.is_patient:
            self._patience.append(None)

    def is_cancelled(self) -> bool:
        """Whether nobody waits for the answer any more: cancelled, or the deadline passed."""
        return not self._context.is_active()

    def explain(self, error: CoreError | Refusal) -> CoreError | Refusal:
        """The error, or what it means when the deadline that passed was the worker's own."""
        if error.reason != "DEADLINE" or self.is_patient:
            return error
        if self._own_deadline_ns and monotonic_ns() >= self._own_deadline_ns:
            return error
        return limit_exceeded("threads", "all other threads of this worker wait already")


class WorkerState:
    """One worker: its configuration and its access to the arena."""

    def __init__(self, config: WorkerConfig, arena: Arena, mm: MemoryManager) -> None:
        self.config = config
        self.arena = arena
        self.mm = mm
        self.default_strategy = cast(types_pb2.ForkStrategy, config.default_strategy)
        self.dedupe = Dedupe(arena, mm)
        self._patience: list[None] = [None] * (config.threads - 1)

    def turn(self, context: Call) -> Turn:
        """The turn of a short call."""
        return Turn(self._patience, context)

    def long_turn(self, context: Call) -> Turn:
        """The turn of a call that holds its thread for long. Refusal when it would be the last."""
        turn = Turn(self._patience, context)
        if not turn.is_patient:
            raise limit_exceeded("threads", "too many streams and long calls on this worker")
        return turn

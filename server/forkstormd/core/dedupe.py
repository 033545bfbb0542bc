"""Request ids and their first answers: a mutation that is retried happens once.

begin() enters an intent (PENDING, with the process it belongs to) before the call works;
done() stores the first answer. A retry, on any worker, finds one of

    DONE        the stored answer is given again
    PENDING     of a living process: RequestInProgress; of a dead one: the entry is taken over
                and the request runs again. (The state of a space carries the id of the last
                request that changed it; nothing reads it back yet, so a request whose process
                died between its commit and done() happens twice.)
    nothing     the request is new, or so old that its entry was needed for another

An answer of more than ANSWER_BYTES has to be announced (reserve) before the request runs; what
does not fit into the entry lies in a chain of nodes (answers.py).

The window: the table has `dedupe_max` entries in sets of eight, a set chosen by the id; a new
id replaces the oldest finished one of its set. At 10,000 mutations a second 65,536 entries
hold about six seconds, more than the client's default deadline. Requests with long answers are
forgotten earlier, roughly the oldest first, when these would hold too much of the arena.

Locks: one robust mutex per 1/64 of the sets, held for some tens of nanoseconds; it comes
before any space's mutex and is never held across a call.
"""

import os

import cython

from forkstormd.core.errors import CoreError

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.answers import *
    from forkstormd.core.atomics import *
    from forkstormd.core.layout import *
    from forkstormd.core.mutex import *
    from forkstormd.core.space import task_begin, task_end

    ENTRY_FREE = 0
    ENTRY_PENDING = 1
    ENTRY_DONE = 2
    # Entries with long answers, of which the oldest is forgotten.
    SAMPLE = 4


class RequestInProgress(Exception):
    """The first attempt is still running."""


class RequestIdReused(Exception):
    """The id came before with another payload."""


class Dedupe:
    """The table of requests of an arena, for one process."""

    def __init__(self, arena: object, mm: object) -> None:
        self.arena = arena
        self.mm = mm
        self.owner = os.getpid()

    def lock_of(self, high):
        return cython.cast(
            cython.int, high % (self.arena.mem.header.dedupe_max // DEDUPE_WAYS) % DEDUPE_LOCKS
        )

    def mutex(self, lock):
        return self.arena.mem.header.dedupe_lock[lock]

    def hold(self, lock):
        """Take a lock; without the GIL, which its holder may be waiting for."""
        word: MutexP = self.mutex(lock)
        with cython.nogil:
            mutex_wait(word, 0)

    def look(self, high, low):
        """The entry of an id, or -1. Its lock is held."""
        first: u32 = (
            cython.cast(u32, high % (self.arena.mem.header.dedupe_max // DEDUPE_WAYS)) * DEDUPE_WAYS
        )
        i: u32
        entry: DedupeEntryP
        for i in range(first, first + DEDUPE_WAYS):
            entry = dedupe_at(self.arena.mem, i)
            if (
                entry.state != ENTRY_FREE
                and entry.request_high == high
                and entry.request_low == low
            ):
                return i
        return -1

    def room(self, high):
        """An entry for a new id: a free one, else the oldest that is DONE or whose process died;
        -1 when all eight are running. Its lock is held."""
        first: u32 = (
            cython.cast(u32, high % (self.arena.mem.header.dedupe_max // DEDUPE_WAYS)) * DEDUPE_WAYS
        )
        i: u32
        entry: DedupeEntryP
        oldest: u64 = MAX_INDEX
        best: i64 = -1
        for i in range(first, first + DEDUPE_WAYS):
            entry = dedupe_at(self.arena.mem, i)
            if entry.state == ENTRY_FREE:
                return i
            if entry.state == ENTRY_PENDING and _alive(entry.lane_token):
                continue
            if entry.order < oldest:
                oldest = entry.order
                best = i
        return best

    def begin(self, request_id: bytes, payload_hash: object) -> object:
        """A Ticket for a request of 16 bytes id; its `replay` is the first answer, if there is
        one. Raises RequestInProgress, also when the id's set is full of running requests, and
        RequestIdReused."""
        high: u64 = int.from_bytes(request_id[:8], "big")
        low: u64 = int.from_bytes(request_id[8:], "big")
        payload: u64 = payload_hash
        lock: cython.int = self.lock_of(high)
        found: i64
        entry: DedupeEntryP
        ticket: Ticket = Ticket()
        ticket.table = self
        ticket.high = high
        ticket.low = low
        ticket.replay = None
        ticket.entry = 0
        old: u32 = 0
        self.hold(lock)
        try:
            found = self.look(high, low)
            if found >= 0:
                entry = dedupe_at(self.arena.mem, found)
                if entry.payload != payload:
                    raise RequestIdReused
                if entry.state == ENTRY_DONE:
                    at = self.arena.mem.header.dedupe_at + found * DEDUPE_STRIDE
                    at += DEDUPE_STRIDE - ANSWER_BYTES
                    size: i64 = entry.answer_bytes
                    ticket.replay = bytes(self.arena.view(at, min(size, ANSWER_BYTES)))
                    if size > ANSWER_BYTES:
                        ticket.replay += chain_read(self.arena.mem, entry.more, size - ANSWER_BYTES)
                    ticket.entry = found
                    return ticket
                if _alive(entry.lane_token):
                    raise RequestInProgress
            else:
                found = self.room(high)
                if found < 0:
                    raise RequestInProgress
            entry = dedupe_at(self.arena.mem, found)
            entry_publish(entry, ENTRY_FREE)
            entry.request_high = high
            entry.request_low = low
            entry.payload = payload
            entry.lane_token = self.owner
            entry.order = order_next(self.arena.mem.header)
            entry.answer_bytes = 0
            old = self.detach(entry)
            entry_publish(entry, ENTRY_PENDING)
            ticket.entry = found
        finally:
            mutex_release(self.mutex(lock))
        self.free(old)
        return ticket

    def detach(self, entry):
        """Take the rest of a long answer from its entry, to free it: 0, or a chain."""
        chain: u32 = entry.more
        entry.more = 0
        entry.more_nodes = 0
        return chain

    def free(self, chain):
        """Free a chain that was detached. No lock is held."""
        task: TaskP
        index: cython.int
        if chain == 0:
            return
        index = self.mm.begin(None, b"")
        task = self.mm.task(index)
        with cython.nogil:
            task_begin(task, 0)
            chain_free(task, chain)
            task_end(task)
        self.mm.idle.append(index)

    def forget_some(self, nodes):
        """See to it that long answers leave room for one of so many nodes."""
        header: HeaderP = self.arena.mem.header
        entry: DedupeEntryP
        lock: cython.int
        chain: u32
        best: u32
        left: u32 = header.dedupe_max
        seen: cython.int
        order: u64
        i: u32
        most: u64 = answers_max(header)
        while left > 0 and load64(header.answer_nodes) + nodes > most:
            # The oldest of a few: their places in the table are as good as drawn by lot.
            seen = 0
            best = 0
            order = MAX_INDEX
            while left > 0 and seen < SAMPLE:
                left -= 1
                i = answer_hand_next(header) % header.dedupe_max
                entry = dedupe_at(self.arena.mem, i)
                if entry.more != 0 and entry.state == ENTRY_DONE:
                    seen += 1
                    if entry.order < order:
                        order = entry.order
                        best = i
            if seen == 0:
                return
            entry = dedupe_at(self.arena.mem, best)
            chain = 0
            lock = (best // DEDUPE_WAYS) % DEDUPE_LOCKS
            self.hold(lock)
            try:
                if entry.state == ENTRY_DONE and entry.order == order:
                    entry_publish(entry, ENTRY_FREE)
                    chain = self.detach(entry)
            finally:
                mutex_release(self.mutex(lock))
            self.free(chain)


class Ticket:
    """A request that is being served. `high` and `low` are the two halves of its id."""

    def reserve(self, size: object) -> None:
        """Set room aside for an answer of so many bytes. CoreError ENOMEM without memory."""
        table: Dedupe = self.table
        mem: MemP = table.arena.mem
        entry: DedupeEntryP = dedupe_at(mem, self.entry)
        nodes: u32 = answer_pieces(size)
        chain: u32
        index: cython.int
        task: TaskP
        if nodes == 0:
            return
        table.forget_some(nodes)
        index = table.mm.begin(None, b"")
        task = table.mm.task(index)
        with cython.nogil:
            task_begin(task, 0)
            chain = chain_new(task, nodes)
            task_end(task)
        table.mm.idle.append(index)
        if chain == 0:
            raise CoreError(ENOMEM, "no room for the answer (limit: arena)", limit="arena")
        # Nobody else touches an entry whose request is running.
        entry.more_nodes = nodes
        entry.more = chain

    def done(self, answer: bytes) -> None:
        """Store the first answer, at most ANSWER_BYTES, or what was reserved."""
        table: Dedupe = self.table
        lock: cython.int = table.lock_of(self.high)
        entry: DedupeEntryP = dedupe_at(table.arena.mem, self.entry)
        size: u32 = len(answer)
        head: u32 = min(size, ANSWER_BYTES)
        rest: u32 = 0
        nodes: u32 = answer_pieces(size)
        if nodes > entry.more_nodes:
            raise ValueError(f"an answer of {size} bytes")
        table.hold(lock)
        try:
            if entry.request_high == self.high and entry.request_low == self.low:
                at = table.arena.mem.header.dedupe_at + self.entry * DEDUPE_STRIDE
                at += DEDUPE_STRIDE - ANSWER_BYTES
                table.arena.view(at, head)[:] = answer[:head]
                if nodes == 0:
                    rest = table.detach(entry)
                else:
                    rest = chain_cut(table.arena.mem, entry.more, nodes)
                    entry.more_nodes = nodes
                    chain_write(table.arena.mem, entry.more, answer)
                entry.answer_bytes = size
                entry_publish(entry, ENTRY_DONE)
        finally:
            mutex_release(table.mutex(lock))
        table.free(rest)

    def abandon(self) -> None:
        """Forget the request: it failed and changed nothing. A retry is a new request."""
        table: Dedupe = self.table
        lock: cython.int = table.lock_of(self.high)
        entry: DedupeEntryP = dedupe_at(table.arena.mem, self.entry)
        chain: u32 = 0
        table.hold(lock)
        try:
            if entry.request_high == self.high and entry.request_low == self.low:
                entry_publish(entry, ENTRY_FREE)
                chain = table.detach(entry)
        finally:
            mutex_release(table.mutex(lock))
        table.free(chain)


def _alive(pid: object) -> bool:
    """Whether the process that entered a request still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

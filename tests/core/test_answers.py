"""First answers that are longer than an entry: kept, given again, and freed."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing

import pytest
from forkstormd.core.arena import Arena
from forkstormd.core.dedupe import Dedupe
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager

from .helpers import ANON, PAGE, assert_no_leak

NODE_BYTES, ENTRY_BYTES, PIECE_BYTES = 256, 384, 248


@pytest.fixture
def arena(arena_path: str) -> Iterator[Arena]:
    """A small one, with a small table."""
    with closing(Arena.create(arena_path, 8 << 20, max_spaces=8, lanes=4)) as arena:
        yield arena


@pytest.fixture
def dedupe(arena: Arena, mm: MemoryManager) -> Dedupe:
    return Dedupe(arena, mm)


def an_id(i: int) -> bytes:
    return (0x9E3779B97F4A7C15 * i % (1 << 64)).to_bytes(8, "big") * 2


def nodes(mm: MemoryManager) -> int:
    assert_no_leak(mm)
    return mm.audit().allocated_nodes


@pytest.mark.parametrize("size", [0, 1, 384, 385, 384 + 248, 384 + 249, 8000, 100_000])
def test_an_answer_of_any_size(arena: Arena, mm: MemoryManager, dedupe: Dedupe, size: int) -> None:
    answer = os.urandom(size)
    ticket = dedupe.begin(an_id(1), 42)
    ticket.reserve(size)
    assert nodes(mm) == -(-max(0, size - ENTRY_BYTES) // PIECE_BYTES)
    ticket.done(answer)
    with closing(Arena.attach(arena.path)) as other:
        assert Dedupe(other, mm).begin(an_id(1), 42).replay == answer
    assert_no_leak(mm)


@pytest.mark.parametrize("size", [10, 384, 385, 384 + 248, 2000])
def test_what_was_not_needed_goes_at_once(mm: MemoryManager, dedupe: Dedupe, size: int) -> None:
    ticket = dedupe.begin(an_id(1), 42)
    ticket.reserve(5000)
    ticket.done(bytes(range(256)) * 8)
    again = dedupe.begin(an_id(2), 42)
    again.reserve(5000)
    again.done(b"x" * size)
    assert dedupe.begin(an_id(2), 42).replay == b"x" * size
    first = -(-(2048 - ENTRY_BYTES) // PIECE_BYTES)
    assert nodes(mm) == first + -(-max(0, size - ENTRY_BYTES) // PIECE_BYTES)


def test_more_than_was_reserved_is_refused(mm: MemoryManager, dedupe: Dedupe) -> None:
    ticket = dedupe.begin(an_id(1), 1)
    ticket.reserve(1000)
    with pytest.raises(ValueError, match="1200 bytes"):
        ticket.done(bytes(1200))
    ticket.abandon()
    assert nodes(mm) == 0
    assert dedupe.begin(an_id(1), 2).replay is None


def test_an_answer_goes_with_its_entry(mm: MemoryManager, dedupe: Dedupe, arena: Arena) -> None:
    """Twice as many requests as there are entries: what is left is what is remembered."""
    entries = arena.usage()["dedupe_entries"]
    for i in range(0, entries, 8):
        ticket = dedupe.begin(an_id(i), 1)
        ticket.reserve(1000)
        ticket.done(bytes(1000))
    assert nodes(mm) == 3 * len(range(0, entries, 8))
    for i in range(entries, 4 * entries):
        dedupe.begin(an_id(i), 1).done(b"x")
    assert nodes(mm) == 0


def test_who_takes_over_frees_what_the_dead_had_reserved(
    arena: Arena, mm: MemoryManager, dedupe: Dedupe
) -> None:
    child = os.fork()
    if child == 0:
        Dedupe(arena, mm).begin(an_id(1), 1).reserve(1000)
        os._exit(0)
    os.waitpid(child, 0)
    ticket = dedupe.begin(an_id(1), 1)
    assert ticket.replay is None
    ticket.done(b"x")
    assert dedupe.begin(an_id(1), 1).replay == b"x"


def test_all_together_hold_a_sixteenth_of_the_arena(
    arena: Arena, mm: MemoryManager, dedupe: Dedupe
) -> None:
    most = arena.usage()["capacity_bytes"] // 16 // NODE_BYTES
    size = 20_000
    each = -(-(size - ENTRY_BYTES) // PIECE_BYTES)
    count = 2 * most // each
    for i in range(count):
        ticket = dedupe.begin(an_id(i), 1)
        ticket.reserve(size)
        ticket.done(i.to_bytes(8) * (size // 8))
        assert mm.audit().allocated_nodes <= most
    assert nodes(mm) > most - 2 * each
    remembered = [
        i for i in range(count) if dedupe.begin(an_id(i), 1).replay == i.to_bytes(8) * (size // 8)
    ]
    # The last one for certain, and on the whole the newer ones.
    assert remembered[-1] == count - 1
    assert len(remembered) == most // each
    assert sum(remembered) / len(remembered) > count / 2


def test_no_room_for_an_answer() -> None:
    with tempfile.TemporaryDirectory(prefix="forkstorm-test-", dir="/dev/shm") as folder:
        arena = Arena.create(os.path.join(folder, "arena"), 4 << 20, max_spaces=8, lanes=2)
        with closing(arena), closing(MemoryManager(arena, 1)) as mm:
            dedupe = Dedupe(arena, mm)
            mm_id = mm.create().value
            place = 0x1000_0000
            with contextlib.suppress(CoreError):
                while True:
                    mm.map(mm_id, place, PAGE, 3, ANON | 0x10)
                    place += 2 * PAGE
            ticket = dedupe.begin(an_id(1), 1)
            with pytest.raises(CoreError) as caught:
                ticket.reserve(1 << 20)
            assert (caught.value.reason, caught.value.limit) == ("ENOMEM", "arena")
            ticket.abandon()
            assert_no_leak(mm)

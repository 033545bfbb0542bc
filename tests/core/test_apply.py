"""Batches: the same calls at once as one by one, published together or not at all.

Two spaces that began alike get the same random calls, one of them call by call. Every result is the
same, and so is every map, figure and page afterwards; snapshots and relatives of the other stay
what they were; nothing leaks, also where a deadline takes a batch back.
"""

import errno
import os
import random
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict

import pytest
from forkstormd.core.apply import OPERATIONS_MAX, Batch
from forkstormd.core.arena import Arena
from forkstormd.core.errors import CoreError, MalformedBatch
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import ApplyResult, OpResult, SpaceParams, Strategy, VmaSpec

from .helpers import ANON, PAGE, assert_no_leak, assert_sound, maps, runs_of_five

MAP, UNMAP, PROTECT, ADVISE, REMAP, SET_BREAK, TOUCH = range(1, 8)
START = 0x1000_0000
U64 = (1 << 64) - 1
Operation = tuple[int, ...]  # kind, arguments


def batch(operations: Sequence[Operation], files: Sequence[int] = (), skip: bool = True) -> Batch:
    rows = [(*args, *(0,) * (6 - len(args))) for _, *args in operations]
    columns = [struct.pack(f"<{len(rows)}Q", *column) for column in zip(*rows, strict=True)]
    return Batch(bytes(kind for kind, *_ in operations), columns, files, skip)


def one(mm: MemoryManager, mm_id: int, files: Sequence[int], operation: Operation) -> int:
    """An operation as a call of its own: its value or -errno, modulo 2^64."""
    kind, *args = operation
    try:
        if kind == MAP:
            file = files[args[4] - 1] if args[4] else 0
            return mm.map(mm_id, *args[:4], file=file, offset=args[5]).value
        if kind == TOUCH:
            return mm.touch(mm_id, args[0], int(args[1] == 2), args[2]).value
        calls: dict[int, Callable[..., OpResult]] = {
            UNMAP: mm.unmap,
            PROTECT: mm.protect,
            ADVISE: mm.advise,
            REMAP: mm.remap,
            SET_BREAK: mm.set_break,
        }
        return calls[kind](mm_id, *args).value
    except CoreError as error:
        return -error.errno & U64


def results(answer: ApplyResult) -> list[int]:
    return list(struct.unpack(f"<{answer.performed}Q", answer.results))


def draw(rng: random.Random) -> Operation:
    """A call within 80 pages, now and then beyond or absurd."""
    at = START + rng.randint(-2, 80) * PAGE + (rng.random() < 0.03)
    length = rng.choice((*range(1, 13), 20, 60)) * PAGE if rng.random() < 0.95 else 0
    prot = rng.choice((0, 1, 3, 3, 4, 5, 7))
    what = rng.random()
    if what < 0.3:
        flags = rng.choice(
            (ANON, ANON | 0x10, ANON | 0x10, ANON | 0x100000, ANON | 0x110, 0x21, 0x31, 0x38,
             0x12, 0x11, 0x11, ANON | 0x4010)
        )  # fmt: skip
        return MAP, at, length, prot, flags, rng.randint(0, 3), rng.randint(0, 20) * PAGE
    if what < 0.45:
        return UNMAP, at, length
    if what < 0.55:
        return PROTECT, at, length, prot
    if what < 0.65:
        return ADVISE, at, length, rng.choice((4, 8, 9, 10, 11, 14, 18, 19, 21, 22, 23, 99))
    if what < 0.75:
        new = START + rng.randint(0, 100) * PAGE
        return REMAP, at, length, rng.choice((length, PAGE, 9 * PAGE)), rng.randint(0, 7), new
    if what < 0.8:
        return SET_BREAK, at
    return TOUCH, at, rng.randint(0, 2), rng.choice((1, 7, U64 - 3, 1 << 63))


def state(mm: MemoryManager, mm_id: int) -> object:
    """All that can be seen of a space but its id and version."""
    info = asdict(mm.info(mm_id))
    seen = {key: info[key] for key in info if key not in ("mm_id", "version", "params", "labels")}
    del seen["node_count"], seen["tree_height"]
    return seen, maps_without_files(mm, mm_id)


def maps_without_files(mm: MemoryManager, mm_id: int) -> list[tuple[int, int, int, bool, int]]:
    return [(*vma[:3], vma[3] != 0, vma[4]) for vma in maps(mm, mm_id)]


def two_sets_of_files(mm: MemoryManager, number: int) -> tuple[list[int], list[int]]:
    """Three files, and three like them: what is written to a file is seen by all who map it."""
    return tuple(
        [
            mm.intern_file(
                b"/lib/a.so",
                inode=1000 * number + 10 * twin + open_id // 2,
                open_id=open_id,
                access=access,
            )
            for open_id, access in enumerate((3, 1, 3))
        ]
        for twin in (1, 2)
    )  # type: ignore[return-value]


def params_of(rng: random.Random) -> SpaceParams:
    return SpaceParams(
        task_size=0x4000_0000,
        mmap_base=0x3000_0000,
        start_brk=START,
        max_map_count=rng.choice((65_530, 14)),
        overcommit=rng.choice((0, 2, 2)),
        commit_limit_pages=rng.choice((0, 60, 90)),
        thp_alignment=rng.random() < 0.5,
    )


@pytest.mark.parametrize("first", range(4))
def test_a_batch_is_its_calls(mm: MemoryManager, effort: int, first: int) -> None:
    rng = random.Random(first)
    for number in range(effort):
        params = params_of(rng)
        mine, theirs = two_sets_of_files(mm, 100 * first + number)
        single, batched = (mm.create(params, brk=params.start_brk).value for _ in range(2))
        relatives: list[int] = []
        for _ in range(6):
            operations = [draw(rng) for _ in range(rng.choice((1, 3, 20, 70)))]
            skip = rng.random() < 0.7
            before = mm.info(batched).version
            # Of both: what a snapshot holds keeps its charge.
            with mm.snapshot(batched) as snapshot, mm.snapshot(single):
                seen = maps(mm, batched)
                answer = mm.apply(batched, batch(operations, theirs, skip))
                expected = []
                for operation in operations:
                    expected.append(one(mm, single, mine, operation))
                    if not skip and len(expected) - 1 in answer.failed:
                        break
                start, end, *_ = snapshot.read(1000)
                assert list(zip(start, end, strict=True)) == [vma[:2] for vma in seen]
            assert results(answer) == expected
            assert answer.limit == ""
            assert all(expected[i] > U64 - 4095 for i in answer.failed)
            assert skip or len(answer.failed) <= 1
            assert state(mm, batched) == state(mm, single)
            assert mm.info(batched).version <= before + 1
            assert_sound(mm, batched)
            if rng.random() < 0.4:
                # What follows meets shared nodes, extents and inherited memory.
                strategy = rng.choice(list(Strategy))
                try:
                    children = [mm.fork(space, strategy).child for space in (single, batched)]
                except CoreError as error:
                    assert error.limit == "commit"
                    continue
                if rng.random() < 0.6:
                    relatives += (single, batched)
                    single, batched = children
                else:
                    relatives += children
        assert_sound(mm, *relatives)
        for space in (single, batched, *relatives):
            mm.exit(space)
        assert_no_leak(mm)


def test_a_large_batch_in_a_large_space(mm: MemoryManager, effort: int) -> None:
    rng = random.Random(5)
    specs = runs_of_five(100 + 10 * effort)
    single, batched = (mm.create(SpaceParams(), specs).value for _ in range(2))
    kept = mm.fork(batched, Strategy.TREE_DUP).child
    shown = maps(mm, kept)
    operations: list[Operation] = []
    for _ in range(50 * effort):
        at = rng.choice(specs).start
        operations.append(
            rng.choice(
                (
                    (MAP, at, rng.randint(1, 9) * PAGE, 3, ANON | 0x10, 0, 0),
                    (MAP, 0, rng.randint(1, 9) * PAGE, 3, ANON, 0, 0),
                    (UNMAP, at, rng.choice((1, 2, 3, 50)) * PAGE),
                    (PROTECT, at, 3 * PAGE, 1),
                    (TOUCH, at, 2, 5),
                )
            )
        )
    answer = mm.apply(batched, batch(operations))
    assert results(answer) == [one(mm, single, (), operation) for operation in operations]
    assert state(mm, batched) == state(mm, single)
    assert maps(mm, kept) == shown
    assert_sound(mm, single, batched, kept)
    assert_no_leak(mm)


def test_what_ends_a_batch(mm: MemoryManager) -> None:
    mm_id = mm.create().value
    operations = [
        (MAP, START, PAGE, 3, ANON | 0x10),
        (MAP, START, PAGE, 3, ANON | 0x100000),
        (UNMAP, START + 1, PAGE),
        (MAP, START + 2 * PAGE, PAGE, 3, ANON | 0x10),
    ]
    version = mm.info(mm_id).version
    stopped = mm.apply(mm_id, batch(operations, skip=False))
    assert (stopped.performed, list(stopped.failed)) == (2, [1])
    assert results(stopped) == [START, -errno.EEXIST & U64]
    assert [vma[0] for vma in maps(mm, mm_id)] == [START]
    assert mm.info(mm_id).version == version + 1
    skipped = mm.apply(mm_id, batch(operations))
    assert (skipped.performed, list(skipped.failed)) == (4, [1, 2])
    assert mm.info(mm_id).vma_count == 2
    assert mm.info(mm_id).version == version + 2
    # Nothing but failures: nothing to publish.
    mm.apply(mm_id, batch(operations[1:3]))
    assert mm.info(mm_id).version == version + 2


def test_what_a_batch_gave_back_it_may_use_again(mm: MemoryManager) -> None:
    """With a strict limit: also what an object held that the batch unmaps."""
    params = SpaceParams(overcommit=2, commit_limit_pages=10)
    mm_id = mm.create(params).value
    shared = MAP, START, 10 * PAGE, 3, 0x31
    private = MAP, START, 10 * PAGE, 3, ANON | 0x10
    more = MAP, 2 * START, PAGE, 3, ANON | 0x10
    operations = [shared, more, (UNMAP, START, 5 * PAGE), more, (UNMAP, START, 10 * PAGE), private,
                  (UNMAP, START, 10 * PAGE), shared, (UNMAP, START, 10 * PAGE), more]  # fmt: skip
    answer = mm.apply(mm_id, batch(operations))
    assert list(answer.failed) == [1, 3]
    assert mm.info(mm_id).committed_pages == 1
    with pytest.raises(CoreError):
        mm.map(mm_id, 0, 10 * PAGE, 3, ANON)
    mm.map(mm_id, 0, 9 * PAGE, 3, ANON)
    mm.exit(mm_id)
    assert_no_leak(mm)


def test_columns_of_one_word_and_of_none(mm: MemoryManager) -> None:
    mm_id = mm.create().value
    words = [START.to_bytes(8, "little"), PAGE.to_bytes(8, "little"), b"\3" + bytes(7)]
    given = Batch(bytes([MAP, MAP]), [*words, (ANON | 0x10).to_bytes(8, "little")])
    assert results(mm.apply(mm_id, given)) == [START, START]
    assert results(mm.apply(mm_id, Batch(bytes([SET_BREAK]), []))) == [0]
    assert len(given) == 2


@pytest.mark.parametrize(
    ("kinds", "columns", "field"),
    [
        (b"", [], "kind"),
        (bytes([1]) * (OPERATIONS_MAX + 1), [], "kind"),
        (b"\0", [], "kind"),
        (b"\2\x08", [], "kind"),
        (b"\2\2", [bytes(15)], "arg_0"),
        (b"\2\2", [b"", bytes(24)], "arg_1"),
        (b"\2", [b""] * 7, "arg_6"),
        (b"\1", [b"", b"", b"", b"", b"\2" + bytes(7)], "kind"),
        (b"\7", [b"", b"\3" + bytes(7)], "kind"),
    ],
)
def test_what_is_no_batch(kinds: bytes, columns: list[bytes], field: str) -> None:
    with pytest.raises(MalformedBatch) as caught:
        Batch(kinds, columns, [1])
    assert caught.value.field == field


def test_no_space_and_no_lane_are_left_behind(mm: MemoryManager) -> None:
    mm_id = mm.create().value
    mm.exit(mm_id)
    for _ in range(5):
        with pytest.raises(CoreError) as caught:
            mm.apply(mm_id, batch([(SET_BREAK, 0)]))
        assert caught.value.reason == "NO_SUCH_SPACE"


@pytest.mark.parametrize("seed", range(6))
def test_a_batch_past_its_deadline_changes_nothing(
    mm: MemoryManager, effort: int, seed: int
) -> None:
    """The clock is looked at within a batch: here always after the time is up."""
    rng = random.Random(seed)
    params = params_of(rng)
    files, _ = two_sets_of_files(mm, 9000 + seed)
    mm_id = mm.create(params, brk=START).value
    mm.apply(mm_id, batch([draw(rng) for _ in range(60)], files))
    kept: list[int] = []
    for _ in range(3 + effort):
        if rng.random() < 0.5 and len(kept) < 4:
            try:
                kept.append(mm.fork(mm_id, rng.choice(list(Strategy))).child)
                if rng.random() < 0.6:
                    mm_id, kept[-1] = kept[-1], mm_id
            except CoreError as error:
                assert error.limit == "commit"
        before = state(mm, mm_id), mm.audit(), mm.info(mm_id).version
        held = mm.snapshot(mm_id) if rng.random() < 0.5 else None
        operations = [draw(rng) for _ in range(64 + 64 * (effort > 6))]
        # Shared objects change at once, so these would stay.
        operations = [op if op[0] not in (TOUCH, ADVISE) else (SET_BREAK, 0) for op in operations]
        with pytest.raises(CoreError) as caught:
            mm.apply(mm_id, batch(operations, files), deadline_ns=1)
        assert caught.value.reason == "DEADLINE"
        if held is not None:
            held.close()
        after = state(mm, mm_id), mm.audit(), mm.info(mm_id).version
        assert after == before
        assert_sound(mm, mm_id, *kept)
        assert_no_leak(mm)
        mm.apply(mm_id, batch([draw(rng) for _ in range(20)], files))
        assert_sound(mm, mm_id, *kept)
    for space in (mm_id, *kept):
        mm.exit(space)
    assert_no_leak(mm)


def test_pages_are_taken_back_too(mm: MemoryManager) -> None:
    mm_id = mm.create().value
    mm.map(mm_id, START, 600 * PAGE, 3, ANON | 0x10)
    for page in range(0, 600, 7):
        mm.touch(mm_id, START + page * PAGE, 1, page)
    child = mm.fork(mm_id, Strategy.TREE_DUP).child
    operations: list[Operation] = [
        (TOUCH, START + page * PAGE, 2, 99) for page in range(0, 600, 5)
    ] + [(UNMAP, START, 300 * PAGE), (REMAP, START + 300 * PAGE, 300 * PAGE, 400 * PAGE, 1, 0)]
    operations += [(TOUCH, 2 * START, 1, 0)] * 64
    before = state(mm, mm_id), state(mm, child), mm.audit()
    with pytest.raises(CoreError):
        mm.apply(mm_id, batch(operations), deadline_ns=1)
    long_batch = operations[:-1] + [(ADVISE, START, PAGE, 99)] * (64 - len(operations) % 64)
    with pytest.raises(CoreError):
        mm.apply(mm_id, batch(long_batch), deadline_ns=time.monotonic_ns() + 1)
    assert (state(mm, mm_id), state(mm, child), mm.audit()) == before
    assert [mm.touch(mm_id, START + page * PAGE, 0).value for page in range(0, 600, 7)] == list(
        range(0, 600, 7)
    )
    assert_sound(mm, mm_id, child)
    assert_no_leak(mm)


@contextmanager
def small_arena(capacity_bytes: int) -> Iterator[MemoryManager]:
    with tempfile.TemporaryDirectory(prefix="forkstorm-test-", dir="/dev/shm") as folder:
        path = os.path.join(folder, "arena")
        arena = Arena.create(path, capacity_bytes, max_spaces=64, lanes=2)
        with closing(arena), closing(MemoryManager(arena, 1)) as mm:
            yield mm


@pytest.mark.parametrize("skip", [False, True])
def test_a_full_arena_ends_a_batch(skip: bool) -> None:
    with small_arena(4 << 20) as mm:
        mm_id = mm.create().value
        operations = [(MAP, START + 2 * i * PAGE, PAGE, 3, ANON | 0x10) for i in range(60_000)]
        answer = mm.apply(mm_id, batch(operations, skip=skip))
        performed = answer.performed
        assert answer.limit == "arena"
        assert list(answer.failed) == [performed - 1]
        assert results(answer)[-1] == -errno.ENOMEM & U64
        assert mm.info(mm_id).vma_count == performed - 1
        assert_sound(mm, mm_id)
        assert_no_leak(mm)
        mm.exit(mm_id)
        assert_no_leak(mm)


def test_a_snapshot_taken_before_outlives_a_batch(mm: MemoryManager) -> None:
    specs = [VmaSpec(START + 2 * i * PAGE, START + (2 * i + 1) * PAGE, 0x71) for i in range(200)]
    mm_id = mm.create(SpaceParams(), specs).value
    with mm.snapshot(mm_id) as snapshot:
        mm.apply(mm_id, batch([(UNMAP, spec.start, PAGE) for spec in specs]))
        assert mm.info(mm_id).vma_count == 0
        start, *_ = snapshot.read(1000)
        assert list(start) == [spec.start for spec in specs]
    assert_no_leak(mm)

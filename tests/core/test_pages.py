"""Page trees and shared objects against dictionaries, and Linux's rule for freeing page tables."""

import itertools
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from forkstormd.core.arena import Arena, core_build
from forkstormd.core.mm import MemoryManager
from forkstormd.core.probe import PageTree, SharedObjects

Change = tuple[Any, ...]

PAGE = 4096
STRIP = 16 * PAGE
PTE, PMD, PUD, P4D = 1 << 21, 1 << 30, 1 << 39, 1 << 48
FOUR_LEVELS = 1 << 47
FIVE_LEVELS = 1 << 56
EVER = (1 << 64) - 1
# Around the ends of tables of every kind.
CORNERS = (0, PTE, 7 * PTE, PMD, PMD + PTE, PUD, 3 * PUD, FOUR_LEVELS - PTE)


class Model:
    """A page tree as sets: what is mapped (None: not the space's own), which tables there are."""

    def __init__(self, task_size: int) -> None:
        self.task_size = task_size
        self.spans = [PTE, PMD, PUD] + ([P4D] if task_size > FOUR_LEVELS else [])
        self.pages: dict[int, int | None] = {}
        self.tables: set[tuple[int, int]] = set()

    def copy(self) -> "Model":
        model = Model(self.task_size)
        model.pages, model.tables = dict(self.pages), set(self.tables)
        return model

    def build(self, addr: int, lowest: int = PTE) -> None:
        self.tables |= {(span, addr // span) for span in self.spans if span >= lowest}

    def set(self, addr: int, own: bool, value: int) -> None:
        self.build(addr)
        self.pages[addr] = value if own else None

    def zap(self, start: int, end: int) -> None:
        self.pages = {at: page for at, page in self.pages.items() if not start <= at < end}

    def free_tables(self, addr: int, end: int, floor: int, ceiling: int) -> None:
        """Lowest first: a table that some of the range lies in, that lies between the limits, and
        that leads nowhere."""
        for below, span in zip([PAGE, *self.spans], self.spans, strict=False):
            used = {at // span for at in self.pages}
            used |= {i * below // span for size, i in self.tables if size == below}
            self.tables -= {
                (span, i)
                for size, i in self.tables
                if size == span
                and addr < (i + 1) * span
                and i * span < end
                and floor <= i * span
                and (ceiling == 0 or (i + 1) * span <= ceiling)
                and i not in used
            }

    def unmap(self, start: int, end: int, floor: int, ceiling: int) -> None:
        self.zap(start, end)
        self.free_tables(start, end, floor, ceiling)

    def within(self, start: int, end: int) -> list[tuple[int, int]]:
        return [(n, i) for n, i in self.tables if i * n < end and start < (i + 1) * n]

    def fork(self, source: "Model", start: int, end: int, stop_after: int) -> None:
        self.tables |= set(source.within(start, end))
        strips = sorted({at // STRIP for at in source.pages if start <= at < end})[:stop_after]
        for at, page in source.pages.items():
            if start <= at < end and at // STRIP in strips:
                self.pages[at] = page

    def move(self, old: int, new: int, length: int) -> None:
        for span, i in self.within(old, old + length):
            if span <= PMD:
                first = max(i * span, old)
                last = min((i + 1) * span, old + length) - 1
                for at in range((first - old + new) // span, (last - old + new) // span + 1):
                    self.build(at * span, span)
        for at in sorted(self.pages):
            if old <= at < old + length:
                self.pages[at - old + new] = self.pages.pop(at)
        for span in (PTE, PMD):
            if (new - old) % span == 0:
                # The table itself has moved.
                self.tables -= {
                    (size, i)
                    for size, i in self.tables
                    if size == span and old <= i * span and (i + 1) * span <= old + length
                }

    def counts(self) -> tuple[int, int]:
        """P4D pages are not counted, as mm_pgtables_bytes does not."""
        return sum(span <= PUD for span, _ in self.tables), len(self.pages)

    def node_count(self) -> int:
        strips = {at // STRIP for at in self.pages}
        halves = {(span, i // 16) for span, i in self.tables}
        return len(strips) + len(self.tables) + len(halves) + bool(self.tables)


def assert_alike(tree: PageTree, model: Model) -> None:
    violations, nodes, tables, pages = tree.facts()
    assert violations == []
    assert (tables, pages) == tree.counts() == model.counts()
    assert len(nodes) == model.node_count()


def assert_same_pages(tree: PageTree, model: Model, rng: random.Random) -> None:
    for at, page in model.pages.items():
        assert tree.look(at) == ((1, 0) if page is None else (2, page))
    for _ in range(20):
        at, end = sorted(somewhere(rng, model) for _ in range(2))
        assert tree.look(at)[0] == (
            0 if at not in model.pages else 1 + (model.pages[at] is not None)
        )
        assert tree.any(at, end) == any(at <= page < end for page in model.pages)


def assert_nothing_left(mm: MemoryManager) -> None:
    audit = mm.audit()
    assert (audit.allocated_nodes, audit.allocated_records) == (0, 0)
    assert SharedObjects(mm).alive() == (0, 0)


def somewhere(rng: random.Random, model: Model) -> int:
    corners = (*CORNERS, P4D, FIVE_LEVELS - PUD) if len(model.spans) > 3 else CORNERS
    at = rng.choice(corners) + rng.choice((-20, -1, 0, 0, 3, 14, 16, 300, 512)) * PAGE
    return max(0, min(at, model.task_size - PAGE))


def stretch(rng: random.Random, model: Model) -> tuple[int, int]:
    start = somewhere(rng, model)
    if rng.random() < 0.3:
        other = somewhere(rng, model)
        return min(start, other), max(start, other) + PAGE
    return start, start + rng.choice((1, 2, 7, 16, 40, 512, 700)) * PAGE


def change(rng: random.Random, model: Model) -> Change:
    what = rng.random()
    if what < 0.5:
        return "set", somewhere(rng, model), rng.random() < 0.7, rng.getrandbits(64)
    start, end = stretch(rng, model)
    if what < 0.7:
        return "zap", start, end
    if what < 0.9:
        floor = rng.choice((0, start, start & -PTE, start & -PMD, max(0, start - 9 * PAGE)))
        ceiling = rng.choice((0, 0, end, end + PAGE, -(-end // PTE) * PTE, -(-end // PUD) * PUD))
        return rng.choice(("free_tables", "unmap")), start, end, floor, ceiling
    length = rng.choice((1, 3, 20, 512, 900, PMD // PAGE + 3)) * PAGE
    new = rng.choice((5 * PMD, 5 * PMD + start % PTE, 9 * PUD + start % PMD, 9 * PUD + 5 * PAGE))
    old = start if start + length <= PMD * 4 else rng.choice((0, 2 * PAGE))
    return "move", old, new, length


def test_a_page(mm: MemoryManager) -> None:
    tree = PageTree(mm, FOUR_LEVELS)
    assert tree.look(0) == (0, 0)
    assert not tree.any(0, FOUR_LEVELS)
    assert tree.apply([("set", 5 * PAGE, True, 7), ("set", 6 * PAGE, False, 0)]) == [0, 0]
    assert (tree.look(5 * PAGE), tree.look(6 * PAGE), tree.look(7 * PAGE)) == (
        (2, 7),
        (1, 0),
        (0, 0),
    )
    # A PTE page, a PMD page, a PUD page.
    assert tree.counts() == (3, 2) == (SharedObjects(mm).alive()[0], 2)
    assert tree.any(6 * PAGE, 7 * PAGE)
    assert not tree.any(7 * PAGE, FOUR_LEVELS)
    assert tree.apply([("zap", 0, FOUR_LEVELS)]) == [0]
    assert tree.counts() == (3, 0)
    assert tree.apply([("free_tables", 5 * PAGE, 7 * PAGE, 0, 0)]) == [0]
    assert tree.counts() == (0, 0)
    assert_nothing_left(mm)


@pytest.mark.parametrize("task_size", [FOUR_LEVELS, FIVE_LEVELS])
@pytest.mark.parametrize("seed", range(4))
def test_random_transactions(mm: MemoryManager, effort: int, seed: int, task_size: int) -> None:
    """Trees that share nodes, each changed by transactions of its own."""
    rng = random.Random(seed)
    pool = [(PageTree(mm, task_size), Model(task_size))]
    for step in range(20 * effort):
        i = rng.randrange(len(pool))
        tree, model = pool[i]
        if rng.random() < 0.1:
            if len(pool) < 4:
                pool.append((tree.share(), model.copy()))
            else:
                tree.drop()
                del pool[i]
                continue
        after = model.copy()
        changes: list[Change] = []
        for _ in range(rng.randint(1, 4)):
            changes.append(change(rng, after))
            name, *values = changes[-1]
            if name == "move":
                _, new, length = values
                changes.insert(-1, ("zap", new, new + length))
                after.zap(new, new + length)
            getattr(after, name)(*values)
        assert tree.apply(changes) == [0] * len(changes)
        pool[i] = tree, after
        assert_alike(tree, after)
        if step % 20 == 0:
            for one in pool:
                assert_alike(*one)
                assert_same_pages(*one, rng)
            nodes = set().union(*(tree.facts()[1] for tree, _ in pool))
            assert mm.audit().allocated_nodes == len(nodes)
    for tree, _ in pool:
        tree.drop()
    assert_nothing_left(mm)


@pytest.mark.parametrize("seed", range(4))
def test_tables_go_with_the_last_vma_in_their_span(
    mm: MemoryManager, effort: int, seed: int
) -> None:
    """munmap's use of the rule: from the end of the VMA below to the start of the one above."""
    rng = random.Random(seed)
    tree, model = PageTree(mm, FOUR_LEVELS), Model(FOUR_LEVELS)
    vmas: list[tuple[int, int]] = []
    for _ in range(10 * effort):
        start, end = stretch(rng, model)
        end = min(end, start + 3 * PMD)
        if all(end <= one[0] or one[1] <= start for one in vmas) and len(vmas) < 12:
            vmas = sorted([*vmas, (start, end)])
            for at in {start, end - PAGE, start + rng.randrange(end - start) // PAGE * PAGE}:
                assert tree.apply([("set", at, True, at)]) == [0]
        elif vmas:
            i = rng.randrange(len(vmas))
            start, end = vmas.pop(i)
            floor = vmas[i - 1][1] if i > 0 else 0
            ceiling = vmas[i][0] if i < len(vmas) else 0
            assert tree.apply([("unmap", start, end, floor, ceiling)]) == [0]
        expected = {
            (span, i)
            for span in (PTE, PMD, PUD)
            for start, end in vmas
            for i in (start // span, (end - 1) // span)
        }
        # Every table is needed by a VMA, and those at a VMA's touched ends are there.
        tables, pages = tree.counts()
        assert tree.facts()[0] == []
        assert tree.facts()[2:] == (tables, pages)
        assert tables >= len(expected)
        if not vmas:
            assert (tables, pages) == (0, 0)
    tree.drop()
    assert_nothing_left(mm)


def test_the_wrong_ceiling_leaks(mm: MemoryManager) -> None:
    """A fork that fails at the second of two VMAs within 2 MiB. Were that VMA's start the ceiling
    for the first one's tables, they would straddle it and stay."""
    parent = PageTree(mm, FOUR_LEVELS)
    first, second = PTE, PTE + 10 * PAGE
    parent.apply([("set", first, True, 1), ("set", second, True, 2)])
    for ceiling, left in ((0, 0), (second, 3)):
        child = PageTree(mm, FOUR_LEVELS)
        results = child.apply(
            [
                ("copy", parent, first, first + PAGE, EVER),
                ("copy", parent, second, second + PAGE, 0),
                ("zap", first, first + PAGE),
                ("free_tables", first, first + PAGE, 0, ceiling),
            ]
        )
        assert [result < 0 for result in results] == [False, True, False, False]
        assert child.counts() == (left, 0)
        assert SharedObjects(mm).alive()[0] == 3 + left
        child.drop()
    parent.drop()
    assert_nothing_left(mm)


@pytest.mark.parametrize("seed", range(4))
def test_fork_copies(mm: MemoryManager, effort: int, seed: int) -> None:
    """VMA by VMA, with a failure after any number of strips; the undo needs no memory."""
    rng = random.Random(seed)
    for _ in range(2 * effort):
        parent, model = PageTree(mm, FOUR_LEVELS), Model(FOUR_LEVELS)
        for _ in range(rng.randint(0, 30)):
            one = change(rng, model)
            if one[0] != "move":
                parent.apply([one])
                getattr(model, one[0])(*one[1:])
        ends = sorted({somewhere(rng, model) for _ in range(8)})
        child, copied = PageTree(mm, FOUR_LEVELS), Model(FOUR_LEVELS)
        changes: list[Change] = []
        expected = []
        for start, end in itertools.pairwise(ends):
            if rng.random() < 0.3:
                continue
            stop_after = rng.choice((0, 1, 3, EVER, EVER, EVER))
            strips = {at // STRIP for at in model.pages if start <= at < end}
            changes.append(("copy", parent, start, end, stop_after))
            expected.append(len(strips) > stop_after)
            copied.fork(model, start, end, stop_after)
        assert [result < 0 for result in child.apply(changes)] == expected
        assert_alike(child, copied)
        assert_same_pages(child, copied, rng)
        assert_alike(parent, model)
        child.drop()
        parent.drop()
    assert_nothing_left(mm)


@pytest.fixture
def small(arena_path: str) -> Iterator[MemoryManager]:
    """An arena that is soon full."""
    arena = Arena.create(arena_path, 4 << 20, max_spaces=4, lanes=2)
    manager = MemoryManager(arena, 1)
    yield manager
    manager.close()
    arena.close()


def fill(tree: PageTree, step: int) -> int:
    """Map a page in every `step` bytes until the arena is full: how many were not before."""
    before = tree.counts()[1]
    at = 0
    while tree.apply([("set", at, True, at)]) == [0]:
        at += step
    return tree.counts()[1] - before


def test_a_full_arena(small: MemoryManager) -> None:
    """Whatever cannot be done changes no page, and giving back needs no memory."""
    tree, keep = PageTree(small, FOUR_LEVELS), PageTree(small, FOUR_LEVELS)
    keep.apply([("set", i * STRIP, True, i) for i in range(600)])
    other = keep.share()
    spare = [PageTree(small, FOUR_LEVELS) for _ in range(60)]
    for one in spare:
        one.apply([("set", i * STRIP, True, i) for i in range(30)])
    # Whole paths, then single strips.
    count = fill(tree, PMD)
    assert tree.facts()[0] == []
    count += fill(tree, STRIP)
    before = tree.counts()
    assert before[1] == count > 1000
    # Each needs more than the copies of 16 PTE pages.
    end = 500 * STRIP
    for attempt in ("zap", PAGE, end), ("unmap", PAGE, end, 0, 0), ("move", 0, PUD, end):
        assert other.apply([attempt])[0] < 0
        assert [other.look(i * STRIP) for i in range(600)] == [(2, i) for i in range(600)]
        assert other.counts()[1] == 600
        assert not other.any(PUD, 2 * PUD)
    assert tree.counts() == before
    # With ever more room it gets ever further.
    while other.apply([("move", 0, PUD, end)])[0] < 0:
        assert other.counts()[1] == 600
        assert not other.any(PUD, 2 * PUD)
        spare.pop().drop()
    assert 0 < len(spare) < 55
    assert [other.look(PUD + i * STRIP) for i in range(500)] == [(2, i) for i in range(500)]
    assert tree.facts()[0] == keep.facts()[0] == other.facts()[0] == []
    other.drop()
    late, child = PageTree(small, FOUR_LEVELS), PageTree(small, FOUR_LEVELS)
    fill(late, STRIP)
    spare.pop().drop()
    undo: list[Change] = [("zap", 0, PMD), ("free_tables", 0, PMD, 0, 0)]
    results = child.apply([("copy", keep, 0, PMD, EVER), *undo])
    assert results[0] < 0
    assert results[1:] == [0, 0]
    assert child.counts() == (0, 0)
    for left in (tree, keep, late, *spare):
        assert left.facts()[0] == []
        left.drop()
    assert_nothing_left(small)


def test_a_nearly_full_arena(small: MemoryManager) -> None:
    """A path that does not fit in is not begun; an unmap for whose pages there is memory, but not
    for its tables, changes nothing."""
    keep, tree = PageTree(small, FOUR_LEVELS), PageTree(small, FOUR_LEVELS)
    keep.apply([("set", i * 16 * PTE, True, 7) for i in range(200)])
    keep.apply([("zap", PAGE, FOUR_LEVELS)])
    other, objects = keep.share(), SharedObjects(small)
    held = [objects.new() for _ in range(200)]
    fill(tree, STRIP)
    done = 0
    for room in (*range(12), 40):
        while (object := objects.new()) != 0:
            held.append(object)
        for _ in range(room):
            objects.put(held.pop())
        if room < 40:
            done += other.apply([("set", (room + 1) * PUD, True, room)]) == [0]
        else:
            assert other.apply([("unmap", 0, PUD, 0, 0)])[0] < 0
        assert other.facts()[0] == []
        assert other.counts()[1] == 1 + done
        assert other.look(0) == (2, 7)
    assert 0 < done < 12
    for object in held:
        objects.put(object)
    tree.drop()
    assert other.apply([("unmap", 0, FOUR_LEVELS, 0, 0)]) == [0]
    assert other.counts() == (0, 0)
    keep.drop()
    assert_nothing_left(small)


def test_objects(mm: MemoryManager, effort: int) -> None:
    """Written, read and punched at random, at offsets up to the last page there is."""
    rng = random.Random(1)
    objects = SharedObjects(mm)
    scales = (0, STRIP, PTE, PMD, PUD, 1 << 52, 1 << 61, (1 << 64) - PTE)

    def offset() -> int:
        at: int = rng.choice(scales) + rng.choice((0, 1, 15, 16, 40)) * PAGE
        return at

    for _ in range(3):
        model: dict[int, int] = {}
        shared = objects.new()
        objects.get(shared)
        for _ in range(30 * effort):
            if rng.random() < 0.7:
                at, value = offset(), rng.getrandbits(64)
                assert objects.write(shared, at, value) == 0
                model[at] = value
            elif rng.random() < 0.3:
                start, end = sorted((offset(), offset()))
                objects.punch(shared, start, end)
                model = {at: value for at, value in model.items() if not start <= at < end}
            else:
                at = offset()
                assert objects.read(shared, at) == model.get(at, 0)
        violations, nodes, pages = objects.facts(shared)
        assert (violations, pages) == ([], len(model))
        assert mm.audit().allocated_nodes == len(nodes)
        assert all(objects.read(shared, at) == value for at, value in model.items())
        objects.put(shared)
        assert objects.alive() == (0, 1)
        objects.put(shared)
        assert_nothing_left(mm)


def test_small_objects_are_small(mm: MemoryManager) -> None:
    objects = SharedObjects(mm)
    shared = objects.new()
    for pages, nodes in ((1, 2), (17, 4), (600, 42)):
        for i in range(pages):
            objects.write(shared, i * PAGE, i)
        assert len(objects.facts(shared)[1]) == nodes
    assert objects.read(0, 0) == 0
    objects.put(shared)
    assert_nothing_left(mm)


def test_objects_without_memory(small: MemoryManager) -> None:
    objects = SharedObjects(small)
    shared = objects.new()
    tree = PageTree(small, FOUR_LEVELS)
    assert objects.write(shared, 0, 1) == 0
    count = fill(tree, STRIP)
    more = [shared]
    while more[-1] != 0:
        more.append(objects.new())
    assert objects.write(shared, PUD, 2) < 0
    assert objects.write(0, 0, 2) < 0
    assert (objects.read(shared, 0), objects.read(shared, PUD)) == (1, 0)
    assert objects.facts(shared)[0] == []
    assert count == tree.counts()[1]
    tree.drop()
    for one in more[1:-1]:
        objects.put(one)
    assert objects.write(shared, PUD, 2) == 0
    assert (objects.read(shared, 0), objects.read(shared, PUD)) == (1, 2)
    objects.put(shared)
    assert_nothing_left(small)


def test_a_file_is_one_object_however_often_it_is_opened(mm: MemoryManager) -> None:
    objects = SharedObjects(mm)
    one = mm.intern_file(b"/a", 8, 1, 42, 1, 3)
    again = mm.intern_file(b"/a", 8, 1, 42, 2, 1)
    others = [
        mm.intern_file(b"/b", 8, 1, 42, 1, 3),
        mm.intern_file(b"/a", 8, 2, 42, 1, 3),
        mm.intern_file(b"/a", 8, 1, 43, 1, 3),
        mm.intern_file(b"/aa", 8, 1, 42, 1, 3),
    ]
    assert len({objects.of_file(file) for file in (*reversed(others), one)}) == 5
    assert objects.of_file(again) == objects.of_file(one) != 0
    assert objects.alive() == (0, 5)
    assert objects.of_file(1000) == 0
    assert objects.write(objects.of_file(one), 0, 9) == 0
    assert objects.read(objects.of_file(again), 0) == 9


def hammer(path: str, shared: int, seed: int, steps: int) -> None:
    """Write pages of one's own and of everybody's; check one's own."""
    arena = Arena.attach(path)
    mm = MemoryManager(arena, 1)
    objects = SharedObjects(mm)
    rng = random.Random(seed)
    own: dict[int, int] = {}
    step = 0
    while step < steps or steps == 0:
        step += 1
        at = (rng.randrange(4000) * 4 + seed) * PAGE
        if rng.random() < 0.5:
            own[at] = step
            assert objects.write(shared, at, step) == 0
        elif rng.random() < 0.1:
            objects.punch(shared, at, at + PAGE)
            own.pop(at, None)
        else:
            assert objects.read(shared, at) == own.get(at, 0)
        objects.write(shared, rng.randrange(1 << 30) * PTE + 3 * PAGE, seed)
        objects.get(shared)
        objects.put(shared)
    mm.close()
    arena.close()


@pytest.mark.skipif(
    core_build() == "uncompiled", reason="the uncompiled core has its arena to itself"
)
def test_processes_share_an_object(arena: Arena, mm: MemoryManager) -> None:
    """Two run to their end; a third is killed in the middle, and the object is still whole."""
    objects = SharedObjects(mm)
    shared = objects.new()
    spawn = multiprocessing.get_context("spawn")
    workers = [
        spawn.Process(target=hammer, args=(arena.path, shared, seed, steps), daemon=True)
        for seed, steps in ((0, 4000), (1, 4000), (2, 0))
    ]
    for worker in workers:
        worker.start()
    while objects.read(shared, 3 * PAGE) == 0 and workers[0].is_alive():
        time.sleep(0.01)
    for worker in workers[:2]:
        worker.join(120)
        assert worker.exitcode == 0
    assert workers[2].pid is not None
    os.kill(workers[2].pid, signal.SIGKILL)
    workers[2].join()
    assert objects.write(shared, 0, 77) == 0
    assert objects.read(shared, 0) == 77
    violations, _, pages = objects.facts(shared)
    assert violations == []
    assert pages > 1000

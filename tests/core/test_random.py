"""Random calls on several spaces at once, against the naive model.

After every call the result or the errno and the whole map agree, and every invariant of the
tree holds; at the end nothing has leaked. Spaces fork from each other under both strategies,
and snapshots stay what they were while their space goes on.
"""

import random

import pytest
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.snapshot import Snapshot
from forkstormd.core.types import Strategy, VmaSpec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from . import model
from .helpers import ANON, PAGE, assert_no_leak, assert_sound, maps, small_params

FILE_PATHS = (b"/lib/a.so", b"/lib/b.so")
# Mappings meet in 64 pages; some calls go beyond.
places = st.integers(0, 80).map(lambda page: 0x1000_0000 + page * PAGE)
lengths = st.one_of(st.integers(1, 24).map(lambda n: n * PAGE), st.sampled_from((0, 1, 5000)))
prots = st.sampled_from((0, 1, 3, 5, 7))
map_flags = st.sampled_from(
    (
        ANON,
        ANON | model.MAP_FIXED,
        ANON | model.MAP_FIXED,
        ANON | model.MAP_FIXED_NOREPLACE,
        ANON | model.MAP_FIXED | model.MAP_NORESERVE,
        ANON | model.MAP_GROWSDOWN,
        ANON | model.MAP_STACK | model.MAP_FIXED,
        model.MAP_PRIVATE | model.MAP_FIXED,
        model.MAP_SHARED | model.MAP_FIXED,
        model.MAP_SHARED,
        ANON | 1,
    )
)


class SpacesAgainstModel(RuleBasedStateMachine):
    mm: MemoryManager

    @initialize()
    def begin(self) -> None:
        self.files = [0, *(self.mm.intern_file(path) for path in FILE_PATHS)]
        params = small_params()
        self.spaces = {
            self.mm.create(params).value: model.Space(
                task_size=params.task_size, mmap_base=params.mmap_base
            )
        }
        self.touched = next(iter(self.spaces))
        self.snapshots: list[tuple[Snapshot, list[model.Vma]]] = []

    def pick(self, choice: int) -> int:
        self.touched = sorted(self.spaces)[choice % len(self.spaces)]
        return self.touched

    @rule(choice=st.integers(0, 9), addr=places, length=lengths, prot=prots, flags=map_flags,
          file=st.integers(0, 2), offset=st.integers(0, 40))  # fmt: skip
    def map(
        self, choice: int, addr: int, length: int, prot: int, flags: int, file: int, offset: int
    ) -> None:
        mm_id = self.pick(choice)
        arguments = (addr, length, prot, flags)
        file, offset = self.files[file], offset * PAGE
        try:
            expected = self.spaces[mm_id].map(*arguments, file, offset)
        except model.Errno as error:
            with pytest.raises(CoreError) as caught:
                self.mm.map(mm_id, *arguments, file=file, offset=offset)
            assert caught.value.errno == error.number
        else:
            assert self.mm.map(mm_id, *arguments, file=file, offset=offset).value == expected

    @rule(choice=st.integers(0, 9), addr=places, length=st.one_of(lengths, st.just(0x100000)))
    def unmap(self, choice: int, addr: int, length: int) -> None:
        mm_id = self.pick(choice)
        try:
            self.spaces[mm_id].unmap(addr, length)
        except model.Errno as error:
            with pytest.raises(CoreError) as caught:
                self.mm.unmap(mm_id, addr, length)
            assert caught.value.errno == error.number
        else:
            self.mm.unmap(mm_id, addr, length)

    @rule(choice=st.integers(0, 9), strategy=st.sampled_from(list(Strategy)))
    def fork(self, choice: int, strategy: Strategy) -> None:
        if len(self.spaces) == 6:
            self.exit(choice)
        parent = self.pick(choice)
        child = self.mm.fork(parent, strategy)
        self.spaces[child.child] = self.spaces[parent].fork()
        assert child.vma_count == len(self.spaces[child.child].vmas)
        self.touched = child.child

    def exit(self, choice: int) -> None:
        mm_id = self.pick(choice)
        self.mm.exit(mm_id)
        del self.spaces[mm_id]
        with pytest.raises(CoreError) as caught:
            self.mm.exit(mm_id)
        assert caught.value.reason == "NO_SUCH_SPACE"

    @rule(choice=st.integers(0, 9))
    def hold_snapshot(self, choice: int) -> None:
        mm_id = self.pick(choice)
        self.snapshots.append((self.mm.snapshot(mm_id), list(self.spaces[mm_id].vmas)))
        if len(self.snapshots) > 3:
            self.release_snapshot()

    def release_snapshot(self) -> None:
        snapshot, expected = self.snapshots.pop(0)
        start, end, *_ = snapshot.read(10_000)
        assert list(zip(start, end, strict=True)) == [vma[:2] for vma in expected]
        snapshot.close()

    @rule(choice=st.integers(0, 9), addr=places)
    def find(self, choice: int, addr: int) -> None:
        mm_id = self.pick(choice)
        found, _ = self.mm.find_vma(mm_id, addr)
        expected = next((vma for vma in self.spaces[mm_id].vmas if vma[1] > addr), None)
        assert (found and (found.start, found.end)) == (expected and expected[:2])

    @rule(choice=st.integers(0, 9), length=st.integers(1, 30), bottom_up=st.booleans(),
          low=places, span=st.integers(1, 90))  # fmt: skip
    def gap(self, choice: int, length: int, bottom_up: bool, low: int, span: int) -> None:
        mm_id = self.pick(choice)
        size, high = length * PAGE, low + span * PAGE
        gaps = [gap for gap in self.spaces[mm_id].gaps(low, high) if gap[1] - gap[0] >= size]
        if not gaps:
            with pytest.raises(CoreError):
                self.mm.find_gap(mm_id, size, low, high, bottom_up)
            return
        expected = gaps[0][0] if bottom_up else gaps[-1][1] - size
        assert self.mm.find_gap(mm_id, size, low, high, bottom_up).value == expected

    @invariant()
    def agrees(self) -> None:
        if self.touched in self.spaces:
            assert maps(self.mm, self.touched) == self.spaces[self.touched].vmas
            assert_sound(self.mm, self.touched)

    def teardown(self) -> None:
        while self.snapshots:
            self.release_snapshot()
        for mm_id, expected in self.spaces.items():
            assert maps(self.mm, mm_id) == expected.vmas
            assert_sound(self.mm, mm_id)
        assert_no_leak(self.mm)
        for mm_id in list(self.spaces):
            self.mm.exit(mm_id)
        assert self.mm.audit().allocated_records == 0
        assert_no_leak(self.mm)


def test_random_calls_agree_with_the_model(mm: MemoryManager, effort: int) -> None:
    class Machine(SpacesAgainstModel):
        pass

    Machine.mm = mm
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=4 * effort,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=(HealthCheck.too_slow, HealthCheck.data_too_large),
        ),
    )


@pytest.mark.parametrize("seed", range(3))
def test_large_spaces_agree_with_the_model(mm: MemoryManager, effort: int, seed: int) -> None:
    """Trees of several levels: ranges over many leaves, holes that empty whole subtrees."""
    rng = random.Random(seed)
    count = 30 * effort
    specs, addr = [], 0x1000_0000
    for i in range(count):
        addr += rng.choice((0, 0, 0, 0, 1, 3)) * PAGE
        end = addr + rng.randint(1, 3) * PAGE
        specs.append(VmaSpec(addr, end, 0x71 if i % 2 else 0x100073))
        addr = end
    top = addr
    mm_id = mm.create(small_params(), specs).value
    space = model.Space(task_size=0x4000_0000, mmap_base=0x3000_0000)
    space.vmas = [(s.start, s.end, s.vm_flags, 0, s.start // PAGE) for s in specs]
    assert_sound(mm, mm_id)
    for step in range(40 + 6 * effort):
        start = rng.randrange(0x1000_0000, top, PAGE)
        pages = rng.choice((1, 1, 2, 3, 10, 60, rng.randint(1, (top - 0x1000_0000) // PAGE)))
        if rng.random() < 0.45:
            space.unmap(start, pages * PAGE)
            mm.unmap(mm_id, start, pages * PAGE)
        else:
            for at in range(start, start + min(pages, 40) * PAGE, 2 * PAGE):
                flags = ANON | (model.MAP_FIXED if rng.random() < 0.8 else 0)
                prot = rng.choice((1, 3))
                assert mm.map(mm_id, at, PAGE, prot, flags).value == space.map(
                    at, PAGE, prot, flags
                )
        assert_sound(mm, mm_id)
        if step % 7 == 0:
            assert maps(mm, mm_id) == space.vmas
    assert maps(mm, mm_id) == space.vmas
    assert_no_leak(mm)

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
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from . import linux, model
from .helpers import ANON, PAGE, assert_no_leak, assert_sound, maps, small_params

# Mappings meet in 64 pages above START, where the break begins; some calls go beyond.
START = 0x1000_0000
choices = st.integers(0, 9)
places = st.integers(-4, 80).map(lambda page: START + page * PAGE)
lengths = st.one_of(st.integers(1, 24).map(lambda n: n * PAGE), st.sampled_from((0, 1, 5000)))
odd_places = st.one_of(places, st.sampled_from((0, START + 1, 0x3FFF_F000, (1 << 64) - PAGE)))
odd_lengths = st.one_of(
    lengths, st.sampled_from((2 << 20, 4 << 20, 0x4000_0000, 1 << 63, (1 << 64) - 1))
)
prots = st.sampled_from((0, 1, 3, 3, 4, 5, 7))
odd_prots = st.one_of(prots, prots, st.sampled_from((2, 8, 12, 16, 0x100_0003, 0x200_0001)))
map_flags = st.sampled_from(
    (
        ANON,
        ANON | linux.MAP_FIXED,
        ANON | linux.MAP_FIXED,
        ANON | linux.MAP_FIXED_NOREPLACE,
        ANON | linux.MAP_FIXED | linux.MAP_NORESERVE,
        ANON | linux.MAP_FIXED | linux.MAP_GROWSDOWN,
        ANON | linux.MAP_GROWSDOWN,
        ANON | linux.MAP_STACK | linux.MAP_FIXED,
        linux.MAP_PRIVATE | linux.MAP_FIXED,
        linux.MAP_SHARED | linux.MAP_FIXED,
        linux.MAP_SHARED | linux.MAP_FIXED,
        linux.MAP_SHARED,
        linux.MAP_SHARED_VALIDATE,
        linux.MAP_SHARED | linux.MAP_ANONYMOUS | linux.MAP_FIXED,
        linux.MAP_DROPPABLE | linux.MAP_ANONYMOUS,
        ANON | linux.MAP_32BIT,
        ANON | 1,
    )
)
advices = st.sampled_from((*sorted(linux.ADVICE_KNOWN), linux.DONTNEED, 5, 99))
remap_flags = st.sampled_from((0, 1, 1, 3, 3, 3, 5, 7, 2, 8))
spaces_params = st.builds(
    SpaceParams,
    task_size=st.just(0x4000_0000),
    mmap_base=st.just(0x3000_0000),
    start_brk=st.sampled_from((START, START + 16 * PAGE + 100)),
    max_map_count=st.sampled_from((65_530, 65_530, 14)),
    privileged=st.booleans(),
    thp_alignment=st.booleans(),
    overcommit=st.sampled_from((0, 0, 2)),
    commit_limit_pages=st.sampled_from((0, 90)),
    linux_version=st.sampled_from((6018, 6018, 6008, 7000)),
    stack_limit_bytes=st.sampled_from((8 << 20, 20 * PAGE)),
    lsm_min_addr=st.sampled_from((0, START + 20 * PAGE)),
    protection_keys=st.booleans(),
)


class SpacesAgainstModel(RuleBasedStateMachine):
    mm: MemoryManager
    examples = 0

    @initialize(params=spaces_params)
    def begin(self, params: SpaceParams) -> None:
        type(self).examples += 1
        for mm_id in self.mm.ids():
            self.mm.exit(mm_id)  # of an example that failed
        self.before = self.mm.audit()
        # New files each time: what is written to one stays in it. Two are one inode.
        family = model.Family()
        self.files = [0]
        pages: dict[int, int] = {}
        for open_id, access in enumerate((3, 1, 3)):
            inode = 2 * self.examples + open_id // 2
            self.files.append(
                self.mm.intern_file(b"/lib/a.so", inode=inode, open_id=open_id, access=access)
            )
            pages = {} if open_id == 2 else pages
            family.files[self.files[-1]] = model.File(access, True, pages)
        space = model.Space(params, family)
        self.touched = self.mm.create(params, brk=params.start_brk).value
        self.spaces = {self.touched: space}
        self.snapshots: list[tuple[Snapshot, list[tuple[int, int]]]] = []

    def pick(self, choice: int) -> model.Space:
        self.touched = sorted(self.spaces)[choice % len(self.spaces)]
        return self.spaces[self.touched]

    def ask_core(self, name: str, args: tuple[int, ...]) -> int:
        mm, mm_id = self.mm, self.touched
        match name:
            case "map":
                addr, length, prot, flags, file, offset = args
                return mm.map(mm_id, addr, length, prot, flags, file=file, offset=offset).value
            case "unmap":
                return mm.unmap(mm_id, *args).value
            case "protect":
                return mm.protect(mm_id, *args).value
            case "advise":
                return mm.advise(mm_id, *args).value
            case "remap":
                return mm.remap(mm_id, *args).value
            case "set_break":
                return mm.set_break(mm_id, *args).value
            case _:
                return mm.touch(mm_id, *args).value

    def compare(self, choice: int, name: str, *args: int) -> None:
        """One call of both; the model's answer is an int, None or an Errno."""
        space = self.pick(choice)
        try:
            expected = getattr(space, name)(*args) or 0
        except model.Errno as error:
            with pytest.raises(CoreError) as caught:
                self.ask_core(name, args)
            assert caught.value.errno == error.number
        else:
            assert self.ask_core(name, args) == expected

    @rule(choice=choices, addr=odd_places, length=odd_lengths, prot=prots, flags=map_flags,
          file=st.integers(0, 3), offset=st.integers(0, 40))  # fmt: skip
    def map(
        self, choice: int, addr: int, length: int, prot: int, flags: int, file: int, offset: int
    ) -> None:
        self.compare(choice, "map", addr, length, prot, flags, self.files[file], offset * PAGE)

    @rule(choice=choices, page=st.integers(0, 63), pages=st.integers(1, 12), prot=prots,
          file=st.integers(0, 3))  # fmt: skip
    def map_in_line(self, choice: int, page: int, pages: int, prot: int, file: int) -> None:
        """Mappings of a file, or of nothing, that continue each other."""
        flags = linux.MAP_PRIVATE | linux.MAP_FIXED | (0 if file else linux.MAP_ANONYMOUS)
        where = START + page * PAGE
        self.compare(choice, "map", where, pages * PAGE, prot, flags, self.files[file], page * PAGE)

    @rule(choice=choices, addr=odd_places, length=st.one_of(lengths, st.just(0x100000)))
    def unmap(self, choice: int, addr: int, length: int) -> None:
        self.compare(choice, "unmap", addr, length)

    @rule(choice=choices, addr=odd_places, length=odd_lengths, prot=odd_prots)
    def protect(self, choice: int, addr: int, length: int, prot: int) -> None:
        self.compare(choice, "protect", addr, length, prot)

    @rule(choice=choices, addr=odd_places, length=odd_lengths, advice=advices)
    def advise(self, choice: int, addr: int, length: int, advice: int) -> None:
        self.compare(choice, "advise", addr, length, advice)

    @rule(choice=choices, old=odd_places, old_length=odd_lengths, new_length=odd_lengths,
          same=st.booleans(), flags=remap_flags, new=odd_places)  # fmt: skip
    def remap(
        self,
        choice: int,
        old: int,
        old_length: int,
        new_length: int,
        same: bool,
        flags: int,
        new: int,
    ) -> None:
        new_length = old_length if same else new_length
        self.compare(choice, "remap", old, old_length, new_length, flags, new)

    @rule(choice=choices, index=st.integers(0, 30), more=st.integers(-3, 9), flags=remap_flags,
          new=places)  # fmt: skip
    def remap_one(self, choice: int, index: int, more: int, flags: int, new: int) -> None:
        """A whole VMA, so that it often succeeds."""
        vmas = self.pick(choice).vmas
        if vmas:
            vma = vmas[index % len(vmas)]
            length = vma.end - vma.start
            new_length = length if flags & linux.DONTUNMAP else max(PAGE, length + more * PAGE)
            self.compare(choice, "remap", vma.start, length, new_length, flags, new)

    @rule(choice=choices, addr=odd_places, within=st.sampled_from((0, 0, 1, 4095)))
    def set_break(self, choice: int, addr: int, within: int) -> None:
        self.compare(choice, "set_break", addr + within & linux.U64)

    @rule(choice=choices, addr=odd_places, access=st.integers(0, 1), value=st.integers(1, 1 << 63))
    def touch(self, choice: int, addr: int, access: int, value: int) -> None:
        self.compare(choice, "touch", addr, access, value)

    @rule(choice=choices, index=st.integers(0, 30), page=st.integers(0, 99),
          access=st.integers(0, 1), value=st.integers(1, 1 << 63))  # fmt: skip
    def touch_mapped(self, choice: int, index: int, page: int, access: int, value: int) -> None:
        vmas = self.pick(choice).vmas
        if vmas:
            vma = vmas[index % len(vmas)]
            self.compare(choice, "touch", vma.start + page % vma.pages * PAGE, access, value)

    @rule(choice=choices, strategy=st.sampled_from(list(Strategy)))
    def fork(self, choice: int, strategy: Strategy) -> None:
        if len(self.spaces) == 6:
            self.exit(choice)
        parent = self.pick(choice)
        try:
            expected = parent.fork()
        except model.ForkRefused as refused:
            with pytest.raises(CoreError) as caught:
                self.mm.fork(self.touched, strategy)
            assert caught.value.errno == refused.number
            failure = caught.value.fork
            assert failure is not None
            assert failure.ordinal == refused.ordinal
        else:
            child = self.mm.fork(self.touched, strategy)
            self.spaces[child.child] = expected
            assert child.vma_count == len(expected.vmas)
            self.touched = child.child

    def exit(self, choice: int) -> None:
        self.pick(choice).exit()
        self.mm.exit(self.touched)
        del self.spaces[self.touched]
        with pytest.raises(CoreError) as caught:
            self.mm.exit(self.touched)
        assert caught.value.reason == "NO_SUCH_SPACE"

    @rule(choice=choices)
    def hold_snapshot(self, choice: int) -> None:
        ranges = [vma[:2] for vma in self.pick(choice).vmas]
        self.snapshots.append((self.mm.snapshot(self.touched), ranges))
        if len(self.snapshots) > 3:
            self.release_snapshot()

    def release_snapshot(self) -> None:
        snapshot, expected = self.snapshots.pop(0)
        start, end, *_ = snapshot.read(10_000)
        assert list(zip(start, end, strict=True)) == expected
        snapshot.close()

    @rule(choice=choices, addr=places)
    def find(self, choice: int, addr: int) -> None:
        space = self.pick(choice)
        found, _ = self.mm.find_vma(self.touched, addr)
        expected = next((vma for vma in space.vmas if vma.end > addr), None)
        assert (found and (found.start, found.end)) == (expected and expected[:2])

    @rule(choice=choices, length=st.integers(1, 30), bottom_up=st.booleans(),
          low=places, span=st.integers(1, 90))  # fmt: skip
    def gap(self, choice: int, length: int, bottom_up: bool, low: int, span: int) -> None:
        space = self.pick(choice)
        size, high = length * PAGE, low + span * PAGE
        gaps = [gap for gap in space.gaps(low, high) if gap[1] - gap[0] >= size]
        if not gaps:
            with pytest.raises(CoreError):
                self.mm.find_gap(self.touched, size, low, high, bottom_up)
            return
        expected = gaps[0][0] if bottom_up else gaps[-1][1] - size
        assert self.mm.find_gap(self.touched, size, low, high, bottom_up).value == expected

    @invariant()
    def agrees(self) -> None:
        if self.touched in self.spaces:
            assert maps(self.mm, self.touched) == self.spaces[self.touched].maps()
            assert_sound(self.mm, self.touched)

    def teardown(self) -> None:
        while self.snapshots:
            self.release_snapshot()
        for mm_id, space in self.spaces.items():
            assert maps(self.mm, mm_id) == space.maps()
            assert_sound(self.mm, mm_id)
            if space.params.overcommit == 2:
                assert self.mm.info(mm_id).committed_pages == space.family.committed()
        assert_no_leak(self.mm)
        for mm_id in list(self.spaces):
            self.mm.exit(mm_id)
        after = self.mm.audit()
        assert after.allocated_records == self.before.allocated_records
        assert after.page_table_count == self.before.page_table_count
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
    specs, addr = [], START
    for i in range(count):
        addr += rng.choice((0, 0, 0, 0, 1, 3)) * PAGE
        end = addr + rng.randint(1, 3) * PAGE
        specs.append(VmaSpec(addr, end, 0x71 if i % 2 else 0x100073))
        addr = end
    top = addr
    mm_id = mm.create(small_params(), specs).value
    space = model.Space(small_params())
    space.vmas = [model.Vma(s.start, s.end, s.vm_flags, 0, s.start // PAGE) for s in specs]
    assert_sound(mm, mm_id)
    for step in range(40 + 6 * effort):
        start = rng.randrange(START, top, PAGE)
        pages = rng.choice((1, 1, 2, 3, 10, 60, rng.randint(1, (top - START) // PAGE)))
        if rng.random() < 0.45:
            space.unmap(start, pages * PAGE)
            mm.unmap(mm_id, start, pages * PAGE)
        else:
            for at in range(start, start + min(pages, 40) * PAGE, 2 * PAGE):
                flags = ANON | (linux.MAP_FIXED if rng.random() < 0.8 else 0)
                prot = rng.choice((1, 3))
                assert mm.map(mm_id, at, PAGE, prot, flags).value == space.map(
                    at, PAGE, prot, flags
                )
        assert_sound(mm, mm_id)
        if step % 7 == 0:
            assert maps(mm, mm_id) == space.maps()
    assert maps(mm, mm_id) == space.maps()
    assert_no_leak(mm)

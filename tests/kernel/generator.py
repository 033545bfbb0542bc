"""Calls at random, the more often where mappings meet.

A Generator draws one call at a time from a seed and from the maps as the kernel has just shown
them. Each sequence draws a Plan first: a window of addresses in which nearly all of its calls
fall, a small palette of protections, flags and files so that neighbours often merge, and how
often it makes which call. Nothing that would harm the executor itself is drawn (see harmless).

Left out: MAP_LOCKED, MAP_POPULATE, MAP_HUGETLB, MADV_COLLAPSE, MADV_HWPOISON, guard pages, KSM,
protection keys, mseal, userfaultfd.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from .calls import (
    ANON,
    BAD_FILE,
    FILE_BYTES,
    FILES,
    MAP_32BIT,
    MAP_ABOVE4G,
    MAP_ANONYMOUS,
    MAP_DENYWRITE,
    MAP_DROPPABLE,
    MAP_EXECUTABLE,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_SYNC,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PAGE,
    PMD,
    PROCESSES,
    PROT_EXEC,
    PROT_GROWSDOWN,
    PROT_GROWSUP,
    PROT_READ,
    PROT_SEM,
    PROT_WRITE,
    SHARED_ANON,
    SPECIAL,
    TASK_SIZE,
    VM_GROWSDOWN,
    VM_HUGEPAGE,
    VM_READ,
    VM_WRITE,
    WRITE,
    Area,
    Call,
    Start,
)

MARGIN = 1 << 20  # kept free around the executor's own memory
ALIVE = 5  # processes at one time
HUGE = (1 << 63, (1 << 64) - 1, (1 << 64) - PAGE, TASK_SIZE, TASK_SIZE - PAGE, TASK_SIZE + PAGE)
PROTS = (0, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC, 7, PROT_WRITE, PROT_EXEC)
MADV_HUGEPAGE = 14
ADVICE = (10, 11, 18, 19, 0, 1, 2, MADV_HUGEPAGE, 15, 16, 17, 4)
QUIET_ADVICE = (3, 8, 20, 21, 24)  # WILLNEED, FREE, COLD, PAGEOUT, DONTNEED_LOCKED
MADV_FREE, MADV_PAGEOUT = 8, 21
MADV_REMOVE, MADV_POPULATE_READ, MADV_POPULATE_WRITE = 9, 22, 23
POPULATED = 8 << 20  # bytes that one call may fill
BAD_ADVICE = (5, 6, 7, 26, 77, 99, 1 << 31)
REMAP_FLAGS = (
    (MREMAP_MAYMOVE, 8),
    (MREMAP_MAYMOVE | MREMAP_FIXED, 8),
    (MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 2),
    (MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, 2),
    (0, 4),
)
# The kinds of sequences (docs/kernel-tests.md), and how often each comes. Those with 0 are asked
# for by name: huge pages that are only read are not in the model, and a limit takes ten seconds.
KINDS = {
    "top": 30,
    "family": 15,
    "thp": 0,
    "heap": 8,
    "low": 5,
    "high": 5,
    "middle": 6,
    "huge": 15,
    "many": 6,
    "full": 2,
    "limit": 0,
}
WEIGHTS = {
    "map": 30,
    "unmap": 12,
    "protect": 18,
    "remap": 14,
    "advise": 10,
    "brk": 3,
    "touch": 10,
    "fork": 1.2,
    "exit": 0.8,
}


@dataclass(frozen=True)
class Plan:
    """What one sequence is about. window: [low, high); weights: of WEIGHTS, per call.

    grow_shared: shared anonymous mappings may grow beyond the object they were made with; then
    no such memory is touched, since that could be a SIGBUS, which is not simulated. frees:
    MADV_FREE stands for MADV_PAGEOUT too, else the other way round.
    """

    kind: str
    low: int
    high: int
    prots: tuple[int, ...]
    flags: tuple[int, ...]
    files: tuple[int, ...]
    advice: tuple[int, ...]
    weights: dict[str, float]
    faults: float
    bad: float
    huge: bool
    grow_shared: bool
    calls: int
    frees: bool
    prologue: tuple[Call, ...] = ()
    maps_every: int = 1


def own_memory(start: Start) -> list[tuple[int, int]]:
    """The ranges that the executor lives in, which no call may change."""
    ranges = []
    for area in start.areas:
        image = area.file == ANON and not area.flags & VM_GROWSDOWN
        if image or (area.file == SPECIAL and area.start < start.areas[0].end + MARGIN):
            ranges.append((max(0, area.start - MARGIN), area.end + MARGIN))
        elif area.file == SPECIAL:
            ranges.append((area.start, area.end))
        else:
            ranges.append((area.start - 2 * MARGIN, TASK_SIZE))
    return ranges


def harmless(call: Call, own: Sequence[tuple[int, int]]) -> bool:
    """Whether a call leaves the executor's own memory alone, whatever else is mapped."""
    return not any(
        low < own_high and high > own_low
        for low, high in _changed(call)
        for own_low, own_high in own
    )


def _changed(call: Call) -> list[tuple[int, int]]:
    """The ranges that a call may change. Empty for what fails before it changes anything."""
    args = call.args
    if call.name == "touch":
        return [(args[0] & -PAGE, (args[0] & -PAGE) + PAGE)]
    if call.name == "map":
        # Beside the executor's memory it could merge with it. What overlaps the stack, which is
        # at least these pages, is put elsewhere or refused.
        low, high = _range(args[0], args[1])
        fixed = args[3] & MAP_FIXED and not args[3] & MAP_FIXED_NOREPLACE
        return [(low, high)] if fixed or high <= TASK_SIZE - 32 * PAGE else []
    if call.name in ("unmap", "protect", "advise", "stripe"):
        if args[0] % PAGE:
            return []
        if call.name == "advise" and args[2] in (MADV_POPULATE_READ, MADV_POPULATE_WRITE):
            # Memory for more than a few MiB might be short.
            return [_range(args[0], args[1])] if args[1] <= POPULATED else [(0, TASK_SIZE)]
        length = args[1] * PAGE if call.name == "stripe" else args[1]
        if call.name == "unmap" and length > TASK_SIZE - args[0]:
            return []
        if call.name == "protect" and args[2] & PROT_GROWSDOWN:
            return [(0, args[0] + length)] if args[0] >= TASK_SIZE - (1 << 30) else []
        return [_range(args[0], length)]
    if call.name == "remap":
        old, old_length, new_length, flags, new = args
        if old % PAGE or new_length > TASK_SIZE:
            return []
        moved = [_range(old, old_length)]
        return [*moved, _range(new, new_length)] if flags & MREMAP_FIXED else moved
    return []


def _range(addr: int, length: int) -> tuple[int, int]:
    """The pages of a range; one that wraps, or ends beyond the last address, fails."""
    end = addr + -(-length // PAGE) * PAGE
    return (addr, end) if end < 1 << 64 else (0, 0)


class Generator:
    """Draws the calls of one sequence."""

    def __init__(self, seed: int, start: Start, kind: str | None = None, calls: int = 0) -> None:
        self.rng = random.Random(seed)
        self.start = start
        self.own = own_memory(start)
        self.plan = self._draw_plan(kind, calls)
        self.forks = 0
        self._prologue = list(self.plan.prologue)

    def next_call(self, areas: dict[int, list[Area]]) -> Call:
        """The next call, for the maps of the living processes."""
        if self._prologue:
            return self._prologue.pop(0)
        while True:
            process = self.rng.choice(list(areas))
            call = self._draw(process, areas)
            if harmless(call, self.own) and not self._outgrows(areas[process], call):
                self.forks += call.name == "fork"
                return call

    # -- the plan --

    def _draw_plan(self, kind: str | None, calls: int) -> Plan:
        rng = self.rng
        kind = kind or rng.choices(list(KINDS), list(KINDS.values()))[0]
        top = min(area.start for area in self.start.areas if area.start > 1 << 40)
        base = self.start.params.mmap_base
        pages = rng.choice((12, 24, 60, 150, 300))
        low, high = {
            "top": (top - pages * PAGE, top),
            "family": (top - 24 * PAGE, top),
            "heap": (self.start.brk // PAGE * PAGE, self.start.brk // PAGE * PAGE + pages * PAGE),
            "low": (0, 40 * PAGE),
            "high": (base + PMD, base + PMD + pages * PAGE),
            "middle": (TASK_SIZE // 3 // PAGE * PAGE, TASK_SIZE // 3 // PAGE * PAGE + pages * PAGE),
            "thp": (top // PMD * PMD - 10 * PMD, top // PMD * PMD),
            "huge": (top // PMD * PMD - 12 * PMD, top),
            "many": (top - 1400 * PAGE, top),
            "full": (base + PMD, base + PMD + pages * PAGE),
            "limit": (top - 64 * PAGE, top),
        }[kind]
        weights = {name: weight * rng.choice((0.3, 1, 1, 2)) for name, weight in WEIGHTS.items()}
        if kind == "heap":
            weights["brk"] = 25
        faults = rng.choice((0, 0.3, 1, 2))
        weights["touch"] *= faults
        if kind == "family":
            # What was written to, and by which ancestor, decides what may merge.
            weights |= {"fork": 6, "exit": 4, "touch": 25, "remap": 25}
        elif rng.random() < 0.4:
            weights["fork"] = 0
        plain = MAP_PRIVATE | MAP_ANONYMOUS
        kinds: list[int] = [plain, plain]
        for flags, chance in (
            (MAP_SHARED | MAP_ANONYMOUS, 0.3),
            (plain | MAP_NORESERVE, 0.3),
            (plain | MAP_STACK, 0.15),
            (plain | MAP_GROWSDOWN, 0.3),
            (MAP_DROPPABLE | MAP_ANONYMOUS, 0.15),
            (MAP_PRIVATE, 0.6),
            (MAP_SHARED, 0.5),
            (plain | MAP_32BIT, 0.04),
            (plain | MAP_ABOVE4G, 0.04),
        ):
            if rng.random() < chance:
                kinds.append(flags)
        advice = rng.sample(ADVICE, rng.randint(1, 5))
        prots = rng.choices(PROTS, (2, 4, 9, 1, 1, 1, 1), k=rng.randint(1, 4))
        if kind == "thp":
            # In huge pages already a read decides what may merge.
            advice = [MADV_HUGEPAGE] * 8 + advice[:1]
            prots, kinds = [PROT_READ | PROT_WRITE, rng.choice(PROTS)], [plain] * 5 + kinds[:3]
            weights |= {"advise": 25, "touch": 25, "fork": 4, "exit": 3}
        prologue, maps_every = self._prologue_of(kind, top)
        return Plan(
            kind=kind,
            low=low,
            high=high,
            prots=tuple(prots),
            flags=tuple(kinds),
            files=tuple(rng.sample(range(len(FILES)), rng.randint(1, 3))),
            advice=tuple(advice),
            weights=weights,
            faults=faults,
            bad=rng.choice((0, 0.03, 0.1)),
            huge=kind in ("huge", "thp") or rng.random() < 0.05,
            grow_shared=not faults or rng.random() < 0.2,
            calls=calls or {"many": 80, "limit": 200}.get(kind, 220),
            prologue=prologue,
            maps_every=maps_every,
            frees=rng.random() < 0.5,
        )

    def _prologue_of(self, kind: str, top: int) -> tuple[tuple[Call, ...], int]:
        """What makes a space large, full, or one that is close to max_map_count."""
        rng = self.rng
        reserve = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE
        if kind == "many":
            pages = rng.randint(600, 1200)
            low = top - 1300 * PAGE
            return (
                Call(0, "map", (low, pages * PAGE, PROT_READ, reserve, ANON, 0)),
                Call(0, "stripe", (low, pages, rng.choice((0, 3)))),
            ), 1
        if kind == "limit":
            pages = self.start.params.max_map_count - len(self.start.areas) - rng.randint(0, 8)
            low = top - (1 << 32)
            return (
                Call(0, "map", (low, pages * PAGE, PROT_READ, reserve, ANON, 0)),
                Call(0, "stripe", (low, pages, 0)),
            ), 40
        if kind == "full":
            # Nothing is left below mmap_base but a few holes: what goes above it?
            low = self.start.brk // PAGE * PAGE + (1 << 30)
            return (
                Call(0, "map", (1 << 21, 1 << 20, 0, reserve, ANON, 0)),
                Call(0, "map", (0x100_0000, 0x1E00_0000, 0, reserve, ANON, 0)),
                Call(0, "map", (low, top - low - rng.randint(0, 30) * PAGE, 0, reserve, ANON, 0)),
            ), 1
        return (), 1

    # -- one call --

    def _draw(self, process: int, maps: dict[int, list[Area]]) -> Call:
        rng, areas = self.rng, maps[process]
        names = list(self.plan.weights)
        name = rng.choices(names, list(self.plan.weights.values()))[0]
        if name == "fork" and (len(maps) >= ALIVE or self.forks >= PROCESSES - 1):
            name = "map"
        if name == "exit" and len(maps) == 1:
            name = "unmap"
        draw = {
            "map": self._map,
            "unmap": self._unmap,
            "protect": self._protect,
            "remap": self._remap,
            "advise": self._advise,
            "brk": self._brk,
            "touch": self._touch,
        }.get(name)
        if draw is None:
            return Call(process, name)
        args = draw(areas)
        if name != "touch" and rng.random() < self.plan.bad:
            args = self._spoiled(name, args)
        return Call(process, name, args)

    def _spoiled(self, name: str, args: tuple[int, ...]) -> tuple[int, ...]:
        """The arguments with one of them made unreasonable."""
        rng = self.rng
        which = rng.randrange(len(args))
        value = args[which]
        what = ("map", "unmap", "protect", "remap", "advise", "brk").index(name)
        words = {
            0: ("addr", "length", "prot", "map_flags", "file", "offset"),
            1: ("addr", "length"),
            2: ("addr", "length", "prot"),
            3: ("addr", "length", "length", "remap_flags", "addr"),
            4: ("addr", "length", "advice"),
            5: ("addr",),
        }[what]
        word = words[which]
        if word in ("addr", "length", "offset"):
            odd = (value + 1, value + 4095, value + 100, 0, 1, 4095, *HUGE, TASK_SIZE - value)
            value = rng.choice(odd) & ((1 << 64) - 1)
        elif word == "prot":
            odd_prots = (8, 16, 0x100, PROT_GROWSDOWN, PROT_GROWSUP, PROT_GROWSDOWN | PROT_GROWSUP)
            value |= rng.choice(odd_prots)
        elif word == "map_flags":
            odd_flags = (0, 1, 3, 4, 5, 7, 8, 9, 0xF)
            more = (0x200, 0x400, MAP_SYNC, 0x20_0000, 0x400_0000, 1 << 31, MAP_GROWSDOWN)
            value = (
                value & ~0xF | rng.choice(odd_flags)
                if rng.random() < 0.6
                else value ^ rng.choice((*more, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE))
            )
            if not value & MAP_ANONYMOUS:
                value &= ~MAP_SYNC  # each file system has an opinion of its own
        elif word == "file":
            value = BAD_FILE
        elif word == "remap_flags":
            value = rng.choice((2, 4, 6, 8, 9, 16, 1 << 31))
        elif word == "advice":
            value = rng.choice(BAD_ADVICE)
        return (*args[:which], value, *args[which + 1 :])

    def _map(self, areas: list[Area]) -> tuple[int, ...]:
        rng, plan = self.rng, self.plan
        flags = rng.choice(plan.flags)
        file, offset = BAD_FILE, 0
        length = self._length(areas)
        addr = 0
        place = rng.random()
        if place < 0.55:
            addr = self._address(areas)
            flags |= MAP_FIXED
        elif place < 0.65:
            addr = self._address(areas)
            flags |= MAP_FIXED_NOREPLACE
        elif place < 0.8:
            addr = self._address(areas) + rng.choice((0, 0, 0, 1, 2000))
        if rng.random() < 0.05:
            flags |= rng.choice((MAP_DENYWRITE, MAP_EXECUTABLE, MAP_NONBLOCK, MAP_NORESERVE))
        if not flags & MAP_ANONYMOUS:
            file = rng.choice(plan.files)
            offset = self._offset(areas, addr, length, file)
            if flags & 3 == MAP_SHARED and rng.random() < 0.1:
                flags |= MAP_SHARED_VALIDATE
        return addr, length, rng.choice(plan.prots), flags, file, offset

    def _offset(self, areas: list[Area], addr: int, length: int, file: int) -> int:
        """An offset in a file; often such that the mapping continues its neighbour."""
        rng = self.rng
        choice = rng.random()
        near = [a for a in areas if a.file == FILES[file].same_as]
        if near and choice < 0.6:
            area = rng.choice(near)
            touching = [a for a in near if addr in (a.end, a.start - length)]
            area = rng.choice(touching) if touching else area
            offset = area.offset + addr - area.start
            if 0 <= offset < FILE_BYTES // 2:
                return offset
        if self.plan.huge and choice < 0.8:
            return rng.choice((0, 1, 2, 3)) * PMD + rng.choice((0, 0, 0, 1, 5)) * PAGE
        if choice > 0.99:
            return rng.choice((FILE_BYTES, 1 << 62, (1 << 63) - PAGE, 1 << 63, (1 << 64) - PAGE))
        return (addr - self.plan.low) % (1 << 30) if choice < 0.9 else rng.randint(0, 40) * PAGE

    def _unmap(self, areas: list[Area]) -> tuple[int, ...]:
        addr = self._address(areas)
        return addr, self._length(areas, addr)

    def _protect(self, areas: list[Area]) -> tuple[int, ...]:
        addr, length = self._mapped(areas)
        prot = self.rng.choice((*self.plan.prots, *PROTS[:3]))
        if self.rng.random() < 0.03:
            prot |= self.rng.choice((PROT_SEM, PROT_GROWSDOWN))
        return addr, length, prot

    def _advise(self, areas: list[Area]) -> tuple[int, ...]:
        addr, length = self._mapped(areas)
        advice = self.rng.choice((*self.plan.advice, *self.plan.advice, *QUIET_ADVICE[:1]))
        if self.rng.random() < 0.1:
            advice = self.rng.choice(QUIET_ADVICE + ADVICE)
        elif self.rng.random() < 0.08:
            advice = self._advice_for_pages(areas, addr, length)
        if advice == MADV_HUGEPAGE and not self.start.huge_pages:
            advice = 0
        if advice in (MADV_FREE, MADV_PAGEOUT):
            # A page that was freed lazily goes when it is paged out, unless others map it too.
            advice = MADV_FREE if self.plan.frees else MADV_PAGEOUT
        return addr, length, advice

    def _advice_for_pages(self, areas: list[Area], addr: int, length: int) -> int:
        """One that fills pages, or frees those of an object, where these are within it."""
        choice = self.rng.choice((MADV_REMOVE, MADV_POPULATE_READ, MADV_POPULATE_WRITE))
        first = bisect_right(areas, addr, key=lambda area: area.end)
        last = bisect_right(areas, addr + length, key=lambda area: area.start)
        for area in areas[first:last]:
            if not self._within_file(areas, area.end - PAGE):
                return 3
            if choice == MADV_POPULATE_READ and area.flags & VM_HUGEPAGE:
                choice = MADV_POPULATE_WRITE  # see _is_in_huge_block
        return choice

    def _remap(self, areas: list[Area]) -> tuple[int, ...]:
        rng = self.rng
        old, old_length = self._mapped(areas)
        flags = rng.choices([f for f, _ in REMAP_FLAGS], [w for _, w in REMAP_FLAGS])[0]
        new = 0
        if flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
            new = self._address(areas)
            if rng.random() < 0.15:
                new = old + rng.choice((old_length, -old_length))  # next to itself
        choice = rng.random()
        new_length = old_length
        if choice < 0.35:
            new_length = old_length + rng.choice((1, 1, 2, 8, 64)) * PAGE
        elif choice < 0.5:
            new_length = max(PAGE, old_length - rng.choice((1, 1, 2, 8)) * PAGE)
        elif choice < 0.55:
            new_length = self._length(areas)
        if rng.random() < 0.05:
            old_length = 0
        return old, old_length, new_length, flags, max(0, new)

    def _brk(self, areas: list[Area]) -> tuple[int, ...]:
        rng = self.rng
        first = self.start.brk
        choice = rng.random()
        if choice < 0.1:
            return (rng.choice((0, first - 1, first, first + 1, TASK_SIZE, TASK_SIZE - PAGE)),)
        near = [a for a in areas if first <= a.start < first + (1 << 24)]
        if near and choice < 0.5:
            area = rng.choice(near)
            edge = rng.choice((area.start, area.end))
            return (max(0, edge + rng.randint(-2, 2) * PAGE + rng.choice((0, 0, 1, -1, 300))),)
        return (first + rng.randint(0, 30) * PAGE + rng.choice((0, 0, 1, 4095, 2222)),)

    def _touch(self, areas: list[Area]) -> tuple[int, ...]:
        rng = self.rng
        access = rng.choice((WRITE, 0, 0) if self.plan.kind == "thp" else (WRITE, WRITE, 0))
        value = rng.getrandbits(64)
        choice = rng.random()
        allowed = VM_WRITE if access else VM_READ
        tries = [self._area(areas) for _ in range(3)]
        area = next((area for area in tries if area and area.flags & allowed), tries[0])
        if area is None or choice < 0.03:
            addr = self._address(areas)
        elif area.flags & VM_GROWSDOWN and choice < 0.4:
            addr = area.start - rng.choice((1, 1, 2, 3, 20, 200, 256, 300, 2047, 2048)) * PAGE
        elif choice < 0.6:
            addr = rng.choice((area.start, area.end - PAGE))
        else:
            addr = area.start + rng.randrange((area.end - area.start) // PAGE) * PAGE
        addr = max(0, addr)
        if not self._within_file(areas, addr):
            addr = self.plan.low
            access = 0
        if self.plan.kind != "thp" and _is_in_huge_block(areas, addr):
            access = WRITE
        return addr, access, value

    def _within_file(self, areas: list[Area], addr: int) -> bool:
        """False where a touch would be beyond the end of a file: SIGBUS, not simulated."""
        at = bisect_right(areas, addr, key=lambda area: area.start) - 1
        if at < 0 or areas[at].end <= addr or areas[at].file == ANON:
            return True
        area = areas[at]
        if area.file >= 0:
            return area.offset + addr - area.start < FILE_BYTES
        return not self.plan.grow_shared

    def _outgrows(self, areas: list[Area], call: Call) -> bool:
        """Whether a remap shows a shared anonymous object beyond its end, against the plan."""
        if call.name != "remap" or self.plan.grow_shared:
            return False
        old, old_length, new_length = call.args[:3]
        at = bisect_right(areas, old, key=lambda area: area.start) - 1
        if at < 0 or areas[at].end <= old or areas[at].file != SHARED_ANON:
            return False
        return new_length > (old_length or areas[at].end - old)

    # -- addresses --

    def _inside(self, areas: list[Area]) -> list[Area]:
        low = bisect_right(areas, self.plan.low, key=lambda area: area.end)
        high = bisect_right(areas, self.plan.high - 1, key=lambda area: area.start)
        return [area for area in areas[low:high] if area.file != SPECIAL]

    def _area(self, areas: list[Area]) -> Area | None:
        """One of those in the window, sometimes one elsewhere."""
        inside = self._inside(areas)
        if inside and self.rng.random() < (0.8 if self.plan.kind == "limit" else 0.95):
            return self.rng.choice(inside)
        area = self.rng.choice(areas)
        return (
            area
            if harmless(Call(0, "unmap", (area.start, area.end - area.start)), self.own)
            else None
        )

    def _address(self, areas: list[Area]) -> int:
        """Page-aligned: mostly a boundary, or beside one; else anywhere in the window."""
        rng, plan = self.rng, self.plan
        choice = rng.random()
        if choice < 0.6 and (area := self._area(areas)):
            edge = rng.choice((area.start, area.end))
            return max(0, edge + rng.choice((0, 0, 0, 0, 1, -1, 2, -2, 5, -8)) * PAGE)
        if choice > 0.995:
            return rng.choice((0, PAGE, 1 << 32, TASK_SIZE // 3, TASK_SIZE - PAGE)) & -PAGE
        if plan.huge and choice > (0.62 if plan.kind == "thp" else 0.8):
            return rng.randrange(plan.low // PMD, plan.high // PMD + 1) * PMD
        return plan.low + rng.randrange((plan.high - plan.low) // PAGE) * PAGE

    def _length(self, areas: list[Area], addr: int = -1) -> int:
        """In bytes: mostly a few pages, or up to the next boundary, or as long as a gap."""
        rng = self.rng
        choice = rng.random()
        if self.plan.kind == "thp" and choice < 0.7:
            return rng.choice((1, 1, 2, 3)) * PMD
        if self.plan.huge and choice < 0.35:
            return rng.choice((1, 1, 2, 3)) * PMD + rng.choice((0, 0, 0, 1, -1)) * PAGE
        if choice < 0.5:
            return rng.randint(1, 4) * PAGE
        if choice < 0.75 and (area := self._area(areas)):
            if addr >= 0 and area.end > addr:
                return area.end - addr
            return area.end - area.start
        if choice < 0.85:
            inside = self._inside(areas)
            if len(inside) > 1:
                at = rng.randrange(len(inside) - 1)
                if gap := inside[at + 1].start - inside[at].end:
                    return gap
        if choice < 0.9:
            return rng.randint(1, 5 * PAGE)
        if choice < 0.903:
            # Around what fits in RAM and swap, the commit limit.
            return (self.start.params.commit_limit_pages + rng.randint(-1, 1)) * PAGE
        return rng.randint(1, 24) * PAGE

    def _mapped(self, areas: list[Area]) -> tuple[int, int]:
        """A range that is mostly mapped: an area, a part of one, or several."""
        rng = self.rng
        area = self._area(areas)
        if area is None or rng.random() < 0.08:
            addr = self._address(areas)
            return addr, self._length(areas, addr)
        pages = (area.end - area.start) // PAGE
        shape = rng.random()
        if shape < 0.3:
            return area.start, area.end - area.start
        if shape < 0.5:
            return area.start, rng.randint(1, pages) * PAGE
        if shape < 0.7:
            part = rng.randint(1, pages) * PAGE
            return area.end - part, part
        if shape < 0.85:
            first = rng.randrange(pages)
            return area.start + first * PAGE, rng.randint(1, pages - first) * PAGE
        start = area.start + rng.randrange(pages) * PAGE
        at = bisect_right(areas, area.start, key=lambda other: other.start)
        last = areas[min(at + rng.randint(0, 3), len(areas) - 1)]
        if last.end - start > 1 << 30:
            return start, area.end - start
        return start, max(PAGE, last.end - start - rng.choice((0, 0, 1)) * PAGE)


def _is_in_huge_block(areas: list[Area], addr: int) -> bool:
    """Whether a fault may give a huge page, where a read decides what may merge."""
    at = bisect_right(areas, addr, key=lambda area: area.start) - 1
    if at < 0 or areas[at].file != ANON or not areas[at].flags & VM_HUGEPAGE:
        return False
    block = addr // PMD * PMD
    return areas[at].start <= block and block + PMD <= areas[at].end

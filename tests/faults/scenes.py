"""A parent for forks that fail: a real layout in which every step of a fork is taken somewhere.

What is known of it is written down while it is made, by rules that owe nothing to the core: which
VMAs have anonymous memory of their own, in which of them pages are mapped, and what these hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec
from forkstormd.maps_text import MapsParser, MapsVma

from ..core import linux
from ..core.helpers import ANON, PAGE, maps

LAYOUTS = Path(__file__).parents[2] / "loadtest" / "layouts"
# A limit that suffices: the layouts charge some 10,000 to 1,000,000 pages.
AMPLE_PAGES = 1 << 32
# Advice for every so manieth VMA: for one.
ONE = 1 << 30


class Area(NamedTuple):
    """A VMA of the parent. faulted: it has an anon_vma. mapped: addresses of its mapped pages.
    special: a fork treats it specially (vma_special)."""

    start: int
    end: int
    flags: int
    faulted: bool
    mapped: tuple[int, ...]
    special: bool = False

    @property
    def page_count(self) -> int:
        return (self.end - self.start) // PAGE


@dataclass(frozen=True)
class Scene:
    """The parent and what is known of it; values: what its child is to read, by address."""

    name: str
    mm: MemoryManager
    parent: int
    areas: Sequence[Area]
    values: dict[int, int]

    def copied_before(self, ordinal: int) -> int:
        """How many VMAs a fork has duplicated when it comes to this one."""
        return sum(not area.flags & linux.DONTCOPY for area in self.areas[:ordinal])

    def is_shared(self) -> bool:
        """Whether SHARE shares the tree: not more than one VMA in 64 is special."""
        return sum(area.special for area in self.areas) * 64 <= len(self.areas)

    def counts(self) -> dict[str, int]:
        """What there is of everything that forks take steps for."""
        return {
            "vmas": len(self.areas),
            "special": sum(area.special for area in self.areas),
            "dontcopy": sum(bool(area.flags & linux.DONTCOPY) for area in self.areas),
            "wipeonfork": sum(bool(area.flags & linux.WIPEONFORK) for area in self.areas),
            "account": sum(bool(area.flags & linux.ACCOUNT) for area in self.areas),
            "anon_vma": sum(area.faulted for area in self.areas),
            "mapped_pages": sum(len(area.mapped) for area in self.areas),
            "page_tables": self.mm.info(self.parent).page_table_count,
        }


def layout_vmas(name: str) -> list[MapsVma]:
    """The VMAs of a layout of loadtest/layouts, without the kernel's own above TASK_SIZE."""
    parser = MapsParser()
    parser.feed((LAYOUTS / f"{name}.maps").read_bytes())
    return [vma for vma in parser.finish() if vma.end <= SpaceParams().task_size]


def made_scene(
    mm: MemoryManager,
    name: str,
    *,
    inherited: bool = False,
    sparse: bool = False,
    commit_limit_pages: int = AMPLE_PAGES,
) -> Scene:
    """A new space with a layout's VMAs, and everything else that a fork may meet.

    inherited: the parent is itself a fork's child, whose own parent goes on living. sparse: one
    VMA of each special kind, so that a layout of 192 VMAs is one that SHARE shares.
    """
    maker = _Maker(mm, commit_limit_pages, layout_vmas(name))
    maker.add_neighbours((3,) if sparse else (3, 40))
    maker.advise(linux.DONTFORK, every=ONE if sparse else 7, first=3)
    maker.advise(linux.WIPE, every=ONE if sparse else 4, first=1, only_private_anonymous=True)
    maker.touch(1)
    if inherited:
        maker.become_child(Strategy.SHARE if sparse else Strategy.TREE_DUP)
        maker.advise(linux.DONTFORK, every=ONE if sparse else 6, first=0)
        maker.touch(1000, every=2)
    kinds = (" sparse" if sparse else "") + (" inherited" if inherited else "")
    return maker.scene(name + kinds)


class _Maker:
    """A space, and what was done to it."""

    def __init__(self, mm: MemoryManager, limit: int, vmas: Sequence[MapsVma]) -> None:
        self.mm = mm
        specs = [
            VmaSpec(vma.start, vma.end, vma.vm_flags, vma.offset_bytes, self._file(vma))
            for vma in vmas
        ]
        params = SpaceParams(overcommit=2, commit_limit_pages=limit)
        self.space = mm.create(params, specs, brk=vmas[0].start).value
        self.mapped: set[int] = set()
        # Pages of private memory that were written to, with what they hold.
        self.written: dict[int, int] = {}

    def _file(self, vma: MapsVma) -> int:
        if vma.name in (b"", b"[heap]", b"[stack]"):
            return 0
        return self.mm.intern_file(vma.name, vma.dev_major, vma.dev_minor, vma.inode)

    def add_neighbours(self, objects: Sequence[int]) -> None:
        """Shared objects of so many pages; three VMAs in one span of 2 MiB that cannot merge."""
        for pages in objects:
            self.mm.map(self.space, 0, pages * PAGE, 3, linux.MAP_SHARED | linux.MAP_ANONYMOUS)
        span = self.mm.find_gap(self.space, 2 * linux.PMD, 0, 0).value
        at = -(-span // linux.PMD) * linux.PMD
        for first, pages in ((1, 3), (20, 2), (511, 1)):
            self.mm.map(self.space, at + first * PAGE, pages * PAGE, 3, ANON | linux.MAP_FIXED)

    def advise(
        self, advice: int, *, every: int, first: int, only_private_anonymous: bool = False
    ) -> None:
        found = [
            vma
            for vma in maps(self.mm, self.space)
            if not only_private_anonymous or (vma[3] == 0 and not vma[2] & linux.MAYSHARE)
        ]
        for start, end, *_ in found[first::every]:
            self.mm.advise(self.space, start, end - start, advice)

    def touch(self, value: int, every: int = 1) -> None:
        """Write where one can, else read: the first, the last and a page in between."""
        for i, (start, end, flags, *_) in enumerate(maps(self.mm, self.space)):
            if i % every or not flags & (linux.READ | linux.WRITE):
                continue
            pages = (end - start) // PAGE
            for page in sorted({0, pages // 2, pages - 1}):
                at = start + page * PAGE
                value += 1
                if flags & linux.WRITE:
                    self.mm.touch(self.space, at, 1, value)
                    if not flags & linux.MAYSHARE:
                        self.written[at] = value
                else:
                    self.mm.touch(self.space, at, 0)
                self.mapped.add(at)

    def become_child(self, strategy: Strategy) -> None:
        """Go on with a fork's child: it begins with the pages that forks copy."""
        kept = {
            at
            for area in self._areas()
            if area.faulted and not area.flags & (linux.DONTCOPY | linux.WIPEONFORK)
            for at in area.mapped
        }
        self.space = self.mm.fork(self.space, strategy).child
        self.mapped &= kept
        self.written = {at: value for at, value in self.written.items() if at in kept}

    def _areas(self) -> list[Area]:
        mapped = sorted(self.mapped)
        areas = []
        for start, end, flags, file, _ in maps(self.mm, self.space):
            inside = tuple(at for at in mapped if start <= at < end)
            faulted = any(at in self.written for at in inside)
            special = file == -1 or bool(flags & (linux.DONTCOPY | linux.WIPEONFORK))
            areas.append(Area(start, end, flags, faulted, inside, special))
        return areas

    def scene(self, name: str) -> Scene:
        areas = self._areas()
        values = {
            at: 0 if area.flags & linux.WIPEONFORK else self.written[at]
            for area in areas
            if not area.flags & linux.DONTCOPY
            for at in area.mapped
            if at in self.written
        }
        return Scene(name, self.mm, self.space, areas, values)

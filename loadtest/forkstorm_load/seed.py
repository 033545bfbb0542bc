"""The kernel's side of every comparison: the seed thread's table, and the kernel's own C measured.

The table is from the review of "fork: Use __mt_dup() to duplicate maple tree in dup_mmap()" on
the kernel's mailing list (October 2023): forks per 10 s of a process with so many VMAs over the
default 21. It times whole forks. The anchors are the kernel's own maple tree and VMA code run in
user space, which times what Forkstorm does: the tree and its records.
"""

from __future__ import annotations

from dataclasses import dataclass

from forkstorm_load.stats import LineFit, fit_line

BASE_VMA_COUNT = 21
EXTRA_VMA_COUNTS = (0, 100, 200, 400, 800, 1600, 3200, 6400)
VMA_COUNTS = tuple(BASE_VMA_COUNT + extra for extra in EXTRA_VMA_COUNTS)

BULK_INSERT = "BULK_INSERT"
TREE_DUP = "TREE_DUP"
STRATEGIES = (BULK_INSERT, TREE_DUP)
# What no kernel has: lower bounds of what a fork could cost, not proposals (docs/storm.md).
EXTENT_COPY = "EXTENT_COPY"
SHARE = "SHARE"
BOUNDS = (EXTENT_COPY, SHARE)
# What the blocks of a storm measure.
MEASURED = (*STRATEGIES, *BOUNDS)

FORKS_PER_10_S = {
    BULK_INSERT: (112326, 75469, 54529, 34619, 20750, 11355, 6115, 3183),
    TREE_DUP: (116505, 85971, 67121, 46080, 29722, 16665, 9050, 4805),
}

# Nanoseconds per VMA of the kernel's own C in user space, best of many, on this class of machine.
KERNEL_C_NS_PER_VMA = {
    BULK_INSERT: {421: 96.0, 6421: 124.0, 65536: 148.0},
    TREE_DUP: {421: 25.0, 6421: 26.0, 65536: 28.0},
}

# What the kernel's own BULK_INSERT does per entry, on runs of five VMAs.
KERNEL_LEVELS_CLIMBED = {121: 0.93, 421: 1.6, 1621: 2.2, 6421: 2.7}
KERNEL_SPLITS = 0.10


@dataclass(frozen=True)
class SeedRow:
    """One column of the seed's table, as times."""

    vma_count: int
    old_ns: float
    new_ns: float

    @property
    def saved_ns_per_vma(self) -> float:
        return (self.old_ns - self.new_ns) / self.vma_count


SEED_TABLE = tuple(
    SeedRow(vma_count, 10e9 / old, 10e9 / new)
    for vma_count, old, new in zip(
        VMA_COUNTS, FORKS_PER_10_S[BULK_INSERT], FORKS_PER_10_S[TREE_DUP], strict=True
    )
)

SAVED_NS_PER_VMA = {row.vma_count: row.saved_ns_per_vma for row in SEED_TABLE}


def seed_fit(strategy: str) -> LineFit:
    """T(n) of a whole fork in the seed's table."""
    return fit_line(VMA_COUNTS, [10e9 / forks for forks in FORKS_PER_10_S[strategy]])

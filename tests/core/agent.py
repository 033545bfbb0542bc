"""A process that runs calls on a core and answers what came of them: python agent.py SEED STEPS.

Prints one JSON line per step. tests/core/test_builds.py starts one per build of the core and
compares the lines: results, errnos, maps, tree shapes, work counts. Not a test by itself.
"""

import hashlib
import json
import os
import random
import sys
import tempfile
from array import array

from forkstormd.core.apply import Batch
from forkstormd.core.arena import Arena
from forkstormd.core.errors import CoreError
from forkstormd.core.mm import MemoryManager
from forkstormd.core.types import SpaceParams, Strategy, VmaSpec

PAGE = 4096


def digest(mm: MemoryManager, mm_id: int) -> str:
    with mm.snapshot(mm_id) as snapshot:
        columns = snapshot.read(100_000)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()[:16]


def apply(mm: MemoryManager, rng: random.Random, mm_id: int) -> object:
    """A batch; now and then one that its deadline overtakes."""
    count = rng.choice((1, 10, 70))
    columns = [
        [0x1000_0000 + rng.randrange(400) * PAGE for _ in range(count)],
        [rng.choice((0, 1, 3, 40)) * PAGE for _ in range(count)],
        [rng.choice((1, 3, 5)) for _ in range(count)],
        [0x32] * count,
    ]
    # Map, unmap, protect, set_break and touch.
    kinds = bytes(rng.choice((1, 1, 2, 3, 6, 7)) for _ in range(count))
    columns[1] = [w % 3 if k == 7 else w for k, w in zip(kinds, columns[1], strict=True)]
    packed = [array("Q", column).tobytes() for column in columns]
    answer = mm.apply(
        mm_id, Batch(kinds, packed, (), rng.random() < 0.7), deadline_ns=rng.random() < 0.2
    )
    return [answer.performed, answer.results.hex(), answer.failed.tolist()]


def step(mm: MemoryManager, rng: random.Random, spaces: list[int]) -> object:
    mm_id = rng.choice(spaces)
    what = rng.random()
    addr = 0x1000_0000 + rng.randrange(400) * PAGE
    if rng.random() < 0.2:
        return apply(mm, rng, mm_id)
    if what < 0.4:
        flags = rng.choice((0x22, 0x32, 0x32, 0x100022, 0x20022, 0x122))
        length = rng.choice((0, PAGE, 3 * PAGE, 40 * PAGE))
        return mm.map(mm_id, addr, length, rng.choice((1, 3, 5)), flags).value
    if what < 0.7:
        mm.unmap(mm_id, addr + rng.choice((0, 0, 0, 1)), rng.choice((1, 2, 5, 100, 300)) * PAGE)
        return None
    if what < 0.8:
        return mm.find_gap(mm_id, rng.randint(1, 50) * PAGE, 0, 0, rng.random() < 0.5).value
    if what < 0.9 and len(spaces) > 3:
        mm.exit(mm_id)
        spaces.remove(mm_id)
        return None
    fork = mm.fork(mm_id, rng.choice(list(Strategy)))
    spaces.append(fork.child)
    work = fork.work
    return [fork.vma_count, work.nodes_allocated, work.slots_written, work.levels_climbed,
            work.gap_updates, work.splits, work.records_copied, work.entries_erased]  # fmt: skip


def main(seed: int, steps: int) -> None:
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="forkstorm-test-", dir="/dev/shm") as folder:
        arena = Arena.create(os.path.join(folder, "arena"), 16 << 20, max_spaces=64, lanes=2)
        mm = MemoryManager(arena, 1)
        specs = [
            VmaSpec(at, at + PAGE, 0x71 | (0x20000 if i % 11 == 0 else 0))
            for i, at in enumerate(range(0x1000_0000, 0x1000_0000 + 600 * PAGE, 2 * PAGE))
        ]
        spaces = [mm.create(SpaceParams(), specs).value]
        print(json.dumps({"build": arena.build}))
        for _ in range(steps):
            try:
                answer: object = step(mm, rng, spaces)
            except CoreError as error:
                answer = [error.reason, error.field, error.limit]
            infos = [mm.info(mm_id) for mm_id in spaces]
            shapes = [(i.mm_id, i.vma_count, i.node_count, i.tree_height) for i in infos]
            print(json.dumps([answer, shapes, [digest(mm, mm_id) for mm_id in spaces]]))
        audit = mm.audit()
        print(json.dumps([audit.allocated_nodes, audit.allocated_records, audit.charged_pages]))
        mm.close()
        arena.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

"""Extents: runs of whole blocks, each of which holds one whole tree.

An EXTENT_COPY puts the child's nodes and records next to each other, so that it is one copy to
make, one thing to free, and again one copy for the next fork:

    header │ part 0: leaves ▶ ◀ inner nodes │ part 1: leaves ▶ ◀ inner nodes │ ... │ records ▶

In each part leaves fill it upwards and inner nodes downwards, depth first, so that nobody needs
to know beforehand how many there will be of either; the root is the last node of part 0. A fork
by several processes makes a part for each subtree that is copied by itself, any other has one.

    extent_alloc    from the lane's own free extents: O(1), else a run of free blocks of the map,
                    else claimed from the file: O(blocks)
    extent_free     to the lane's own free extents, where the next fork finds it warm
    extent_root     where the root of the tree in an extent lies
    in_extent       whether an object lies in the extent of the space that a call works on

Nothing in a published extent is ever changed or freed by itself: a space that replaces a node or
a record of its extent simply has no use for it any more. The extent goes as a whole, with the
last space or snapshot that may still look into it (owning.py counts them, in the reference count
of its first unit; objects inside have none). What it costs is room: a space that has changed
everything still holds the extent that it began with.

A lane's free extents are words that anybody may take by a compare-and-swap: heap_reclaim does,
when there is no other memory. A lane writes down the extent that it is filling (extent_pending),
so that a dead process's comes back at once. It does so once the extent is its own, and forgets it
before it gives it to a space, or away: a death in between leaks, and never frees twice.

Errors: 0 for no extent, where no run of free blocks is long enough.
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.heap import give_run, heap_claim, heap_flush, heap_populate, heap_reclaim
    from forkstormd.core.layout import *
    from forkstormd.core.mutex import *

    # A run is taken from an extent that is longer by at most this part of itself.
    SPARE_SHIFT = 3
    # A lane keeps this part of the arena's blocks in free extents, the last one not counted,
    # which may itself be as large as an eighth.
    KEPT_SHIFT = 6
    KEPT_LAST_SHIFT = 3
    # Fewer blocks need not be counted: a lane keeps no more than EXTENT_CACHE such extents.
    SMALL_BLOCKS = 64


def extent_blocks(nodes, records):
    """Blocks of an extent for so many nodes and records."""
    units: u64 = EXTENT_UNITS + cython.cast(u64, nodes) * NODE_UNITS + records
    return (units + BLOCK_UNITS - 1) // BLOCK_UNITS


def extent_alloc(task, nodes, records):
    """An extent for so many nodes and records, in one part whose leaves are not counted yet; 0
    when there is none. It stays this lane's to free until extent_settle."""
    blocks: u64 = extent_blocks(nodes, records)
    word: u64 = _take_kept(task, blocks)
    extent: u32
    header: ExtentP
    if word == 0:
        word = _take_run(task, blocks)
    if word == 0:
        word = _claim_run(task, blocks)
    if word == 0:
        heap_flush(task)
        heap_reclaim(task)
        word = _take_run(task, blocks)
    if word == 0:
        return 0
    extent = cython.cast(u32, word >> 32)
    header = extent_at(task.mem, extent)
    header.blocks = cython.cast(u32, word & LOW32)
    header.nodes = nodes
    header.records = records
    header.objects = 0
    extent_one_part(task.mem, extent)
    barrier()
    task.lane.extent_pending = word
    return extent


def extent_one_part(mem, extent):
    """Make all nodes of an extent one part, whose leaves are not counted yet."""
    header: ExtentP = extent_at(mem, extent)
    header.part_count = 1
    header.part_nodes[0] = header.nodes
    header.part_leaves[0] = 0


def extent_settle(task):
    """The extent of extent_alloc is about to become a space's."""
    task.lane.extent_pending = 0
    barrier()


def extent_free(task, extent):
    """Keep an extent that nobody looks into any more, for the next fork."""
    lane: LaneP = task.lane
    word: u64 = cython.cast(u64, extent) << 32 | extent_at(task.mem, extent).blocks
    i: u32 = lane.extent_hint
    _k: u32
    old: u64
    if lane.extent_pending >> 32 == extent:
        extent_settle(task)
    for _k in range(EXTENT_CACHE):
        if load64(lane.extents[i]) == 0:
            break
        i = (i + 1) % EXTENT_CACHE
    old = load64(lane.extents[i])
    while not extent_swap(lane, i, old, word):
        old = load64(lane.extents[i])
    lane.extent_hint = i
    if old != 0:
        give_run(task.mem, old)
    if word & LOW32 > SMALL_BLOCKS:
        _trim(task, i)


def _trim(task, last):
    """Give back what the lane keeps beyond its share; the one kept last may be larger."""
    mem: MemP = task.mem
    lane: LaneP = task.lane
    arena: u64 = mem.header.block_max - mem.header.first_block
    kept: u64 = 0
    word: u64
    room: u64
    k: u32
    i: u32
    for k in range(EXTENT_CACHE):
        # Newest first, as they were put there.
        i = (last + EXTENT_CACHE - k) % EXTENT_CACHE
        word = load64(lane.extents[i])
        room = arena >> (KEPT_SHIFT if k > 0 else KEPT_LAST_SHIFT)
        if kept + (word & LOW32) <= room:
            kept += word & LOW32 if k > 0 else 0
        elif word != 0 and extent_swap(lane, i, word, 0):
            give_run(mem, word)


def extent_revive(task):
    """Free what a dead owner of this lane was filling."""
    pending: u64 = task.lane.extent_pending
    if pending != 0:
        extent_free(task, cython.cast(u32, pending >> 32))


def extent_root(mem, extent):
    """The root of the tree that was copied into an extent."""
    return extent + EXTENT_UNITS + (extent_at(mem, extent).part_nodes[0] - 1) * NODE_UNITS


def _take_kept(task, blocks):
    """The newest free extent of this lane that is as long, or somewhat longer; 0 for none."""
    lane: LaneP = task.lane
    i: u32 = lane.extent_hint
    _k: u32
    word: u64
    found: u64
    fits: cython.bint
    for _k in range(EXTENT_CACHE):
        word = load64(lane.extents[i])
        found = word & LOW32
        fits = found >= blocks and found - blocks <= blocks >> SPARE_SHIFT
        if fits and extent_swap(lane, i, word, 0):
            lane.extent_hint = i
            return word
        i = (i + EXTENT_CACHE - 1) % EXTENT_CACHE
    return 0


def _take_run(task, blocks):
    """A run of free blocks of the map, from where this lane found its last one; 0 for none."""
    mem: MemP = task.mem
    first: u32 = mem.header.first_block
    claimed: u32 = load32(mem.header.claimed_blocks)
    block: u32 = task.lane.scan_extent
    run: u64 = 0
    _step: u64
    if block < first or block >= claimed:
        block = first
    for _step in range(claimed - first + blocks):
        if load64(mem.free[block]) == MAX_INDEX:
            run += 1
            if run == blocks:
                block -= cython.cast(u32, run - 1)
                run = _take_blocks(mem, block, blocks)
                block += cython.cast(u32, run)
                if run == blocks:
                    task.lane.scan_extent = block
                    return cython.cast(u64, block - cython.cast(u32, blocks)) << 38 | blocks
                run = 0
        else:
            run = 0
        block += 1
        if block >= claimed:
            block = first
            run = 0
    return 0


def _take_blocks(mem, first, blocks):
    """Take free blocks one after the other. When one has gone meanwhile, those before it go back.
    How many were free."""
    taken: u64
    for taken in range(blocks):
        if not free_take(mem, first + cython.cast(u32, taken), MAX_INDEX, 0):
            give_run(mem, cython.cast(u64, first) << 38 | taken)
            return taken
        mem.kind[first + cython.cast(u32, taken)] = KIND_EXTENT
    return blocks


def _claim_run(task, blocks):
    """A run of new blocks at the end of the claimed part of the file; 0 where there is no room."""
    header: HeaderP = task.mem.header
    wanted: u64 = (blocks + CHUNK_BLOCKS - 1) // CHUNK_BLOCKS * CHUNK_BLOCKS
    first: u32
    word: u64 = 0
    mutex_wait(header.heap_lock, 0)
    first = header.claimed_blocks
    wanted = min(wanted, header.block_max - first)
    if wanted >= blocks and heap_claim(task, cython.cast(u32, wanted), cython.cast(u32, blocks)):
        word = cython.cast(u64, first) << 38 | blocks
    mutex_release(header.heap_lock)
    if word != 0:
        heap_populate(task)
    return word


if not cython.compiled:

    def in_extent(task, index):
        """Whether an object lies in the extent of the space that a call works on."""
        return 0 <= index - task.extent < task.extent_units

    def extent_use(task, extent, blocks):
        """Work on a space with this extent from now on; 0: it has none."""
        task.extent = extent
        task.extent_units = blocks * BLOCK_UNITS

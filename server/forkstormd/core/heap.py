"""Nodes, records and slots: a lane's magazines over one shared free map.

The free map has one 64-bit word per 4 KiB block of the file, a bit per free 64-byte
unit; a node takes four aligned bits, a record one. Who clears a bit owns the unit: a word
changes by one compare-and-swap or one atomic OR, and there is no lock around it. `kind`
says what a block was last used for; it is a hint that keeps nodes and records in blocks
of their own, and may be stale without harm.

    alloc     pop from the lane's magazine                        O(1), no atomic
    refill    take all free units of one block in one swap        at most 64 records, 16 nodes
    free      push on the magazine; full, its newer half goes back to the map, one OR per
              run of neighbours, and the blocks are remembered as warm
    claim     no block has room: 2 MiB of the file are allocated and mapped
    reclaim   nothing left to claim: the free extents (extents.py) that lanes keep go back

A refill looks at the lane's own warm blocks first, newest first, so that memory is
reused while it is in the cache and by the process that used it last; then it scans from
where it stopped; then it claims. The shared side shrinks before the magazine grows, and
the magazine shrinks before the shared side grows: a death in between leaks units, and
never gives one out twice.

Errors: -ENOMEM when the arena's capacity is used up or the file system is full.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.layout import *
    from forkstormd.core.mutex import *


def heap_ensure(task, nodes, records):
    """See to it that the next allocations succeed: nodes and records in the magazines.

    nodes and records are at most half a magazine. Returns 0 or -ENOMEM.
    """
    lane: LaneP = task.lane
    while lane.node_count < nodes:
        if not _refill_nodes(task):
            return -ENOMEM
    while lane.record_count < records:
        if not refill_records(task):
            return -ENOMEM
    return 0


def node_alloc(task):
    """A node's index, or 0 when there is no memory. The contents are old."""
    lane: LaneP = task.lane
    if lane.node_count == 0 and not _refill_nodes(task):
        return 0
    count: u32 = lane.node_count - 1
    lane.node_count = count
    return lane.nodes[count]


if not cython.compiled:

    def record_alloc(task):
        """A record's index, or 0 when there is no memory. The contents are old."""
        lane = task.lane
        if lane.record_count == 0 and not refill_records(task):
            return 0
        count = lane.record_count - 1
        lane.record_count = count
        return lane.records[count]


def node_free(task, node):
    lane: LaneP = task.lane
    if lane.node_count == NODE_MAGAZINE:
        _flush_nodes(task, NODE_MAGAZINE // 2)
    lane.nodes[lane.node_count] = node
    barrier()
    lane.node_count += 1


def record_free(task, record):
    lane: LaneP = task.lane
    if lane.record_count == RECORD_MAGAZINE:
        _flush_records(task, RECORD_MAGAZINE // 2)
    lane.records[lane.record_count] = record
    barrier()
    lane.record_count += 1


def heap_flush(task):
    """Give everything that the lane keeps free back to the free map."""
    _flush_nodes(task, 0)
    _flush_records(task, 0)
    _give_extents(task.mem, task.lane)


def heap_reclaim(task):
    """Give the free extents that all lanes keep back to the free map; how many blocks those were.
    For when there is no other memory left."""
    mem: MemP = task.mem
    blocks: u64 = 0
    i: u32
    for i in range(mem.header.lane_max):
        blocks += _give_extents(mem, lane_at(mem, i))
    return blocks


def _give_extents(mem, lane):
    """Empty a lane's free extents into the free map; how many blocks. Any lane's: its owner takes
    them by the same swap."""
    blocks: u64 = 0
    word: u64
    i: u32
    for i in range(EXTENT_CACHE):
        word = load64(lane.extents[i])
        if word != 0 and extent_swap(lane, i, word, 0):
            blocks += give_run(mem, word)
    return blocks


def give_run(mem, word):
    """Give a run of blocks (first unit << 32 | blocks) back to the free map; how many."""
    first: u32 = cython.cast(u32, word >> 32) // BLOCK_UNITS
    blocks: u32 = cython.cast(u32, word & LOW32)
    block: u32
    for block in range(first, first + blocks):
        free_give(mem, block, MAX_INDEX)
    return blocks


def heap_populate(task):
    """Map the chunks that other processes claimed, before this one first touches them."""
    mem: MemP = task.mem
    claimed: u32 = load32(mem.header.claimed_blocks)
    done: u32 = mem.populated_blocks
    if done >= claimed:
        return
    populate(
        mem.base,
        cython.cast(u64, done) * BLOCK_BYTES,
        cython.cast(u64, claimed - done) * BLOCK_BYTES,
    )
    populate(
        mem.base,
        mem.header.refs_at + cython.cast(u64, done) * BLOCK_UNITS * 4,
        cython.cast(u64, claimed - done) * BLOCK_UNITS * 4,
    )
    mem.populated_blocks = claimed


def _refill_nodes(task):
    """At least one node into the magazine, from one block."""
    lane: LaneP = task.lane
    while lane.warm_node_count:
        lane.warm_node_count -= 1
        if _take_nodes(task, lane.warm_nodes[lane.warm_node_count]):
            return True
    while not _scan(task, KIND_NODES):
        if _claim_chunk(task) != 0 and heap_reclaim(task) == 0:
            return False
    return True


def refill_records(task):
    """At least one record into the magazine, from one block."""
    lane: LaneP = task.lane
    while lane.warm_record_count:
        lane.warm_record_count -= 1
        if _take_records(task, lane.warm_records[lane.warm_record_count]):
            return True
    while not _scan(task, KIND_RECORDS):
        if _claim_chunk(task) != 0 and heap_reclaim(task) == 0:
            return False
    return True


def _whole_nodes(word):
    """The bits of a block's word that form free nodes: all four of an aligned nibble."""
    word &= word >> 1
    word &= word >> 2
    return (word & NODE_BITS) * 15


def _take_nodes(task, block):
    """Take all free nodes of a block; returns how many."""
    mem: MemP = task.mem
    lane: LaneP = task.lane
    word: u64 = load64(mem.free[block])
    bits: u64 = _whole_nodes(word)
    room: u32 = NODE_MAGAZINE - lane.node_count
    i: cython.int
    unit: cython.int
    taken: u32 = 0
    if bits == 0 or room < BLOCK_UNITS // NODE_UNITS:
        return 0
    if word != MAX_INDEX and mem.kind[block] != KIND_NODES:
        return 0  # Used for records since it was remembered.
    while not free_take(mem, block, word, word & ~bits):
        word = load64(mem.free[block])
        bits = _whole_nodes(word)
        if bits == 0 or (word != MAX_INDEX and mem.kind[block] != KIND_NODES):
            return 0
    mem.kind[block] = KIND_NODES
    # Highest first, so that the magazine hands them out in ascending order.
    for i in range(BLOCK_UNITS // NODE_UNITS - 1, -1, -1):
        unit = i * NODE_UNITS
        if (bits >> unit) & 1:
            lane.nodes[lane.node_count] = block * BLOCK_UNITS + unit
            barrier()
            lane.node_count += 1
            taken += 1
    return taken


def _take_records(task, block):
    """Take all free units of a block as records; returns how many."""
    mem: MemP = task.mem
    lane: LaneP = task.lane
    word: u64 = load64(mem.free[block])
    room: u32 = RECORD_MAGAZINE - lane.record_count
    unit: cython.int
    taken: u32 = 0
    if word == 0 or room < BLOCK_UNITS:
        return 0
    if word != MAX_INDEX and mem.kind[block] != KIND_RECORDS:
        return 0  # Used for nodes since it was remembered.
    while not free_take(mem, block, word, 0):
        word = load64(mem.free[block])
        if word == 0 or (word != MAX_INDEX and mem.kind[block] != KIND_RECORDS):
            return 0
    mem.kind[block] = KIND_RECORDS
    for unit in range(BLOCK_UNITS - 1, -1, -1):
        if (word >> unit) & 1:
            lane.records[lane.record_count] = block * BLOCK_UNITS + unit
            barrier()
            lane.record_count += 1
            taken += 1
    return taken


def _scan(task, kind):
    """Refill from the next block with room, from where the lane's last scan stopped."""
    mem: MemP = task.mem
    lane: LaneP = task.lane
    first: u32 = mem.header.first_block
    claimed: u32 = load32(mem.header.claimed_blocks)
    start: u32 = lane.scan_node if kind == KIND_NODES else lane.scan_record
    block: u32
    _step: u32
    word: u64
    if start < first or start >= claimed:
        start = first
    block = start
    for _step in range(claimed - first):
        word = load64(mem.free[block])
        if word != 0 and (mem.kind[block] == kind or word == MAX_INDEX):
            if kind == KIND_NODES:
                lane.scan_node = block
                if _take_nodes(task, block):
                    return True
            else:
                lane.scan_record = block
                if _take_records(task, block):
                    return True
        block += 1
        if block == claimed:
            block = first
    return False


def _claim_chunk(task):
    """Grow the claimed part of the file by a chunk; 0 or -ENOMEM.

    Another lane may have claimed in the meantime: then there is room already.
    """
    header: HeaderP = task.mem.header
    seen: u32 = header.claimed_blocks
    blocks: u32
    result: cython.int = 0
    mutex_wait(header.heap_lock, 0)
    if header.claimed_blocks == seen:
        blocks = min(CHUNK_BLOCKS, header.block_max - seen)
        if blocks == 0 or not heap_claim(task, blocks, 0):
            result = -ENOMEM
    mutex_release(header.heap_lock)
    if result == 0:
        heap_populate(task)
    return result


def heap_claim(task, blocks, taken):
    """Claim `blocks` blocks more of the file, the first `taken` of which are the caller's and the
    others free. False when the file system is full. The heap's mutex is held."""
    mem: MemP = task.mem
    header: HeaderP = mem.header
    seen: u32 = header.claimed_blocks
    block: u32
    result: cython.int = claim_file(
        mem.fd, cython.cast(u64, seen) * BLOCK_BYTES, cython.cast(u64, blocks) * BLOCK_BYTES
    )
    if result == 0:
        result = claim_file(
            mem.fd,
            header.refs_at + cython.cast(u64, seen) * BLOCK_UNITS * 4,
            cython.cast(u64, blocks) * BLOCK_UNITS * 4,
        )
    if result == 0:
        result = claim_file(
            mem.fd, header.free_at + cython.cast(u64, seen) * 8, cython.cast(u64, blocks) * 8
        )
    if result == 0:
        result = claim_file(mem.fd, header.kind_at + seen, blocks)
    if result != 0:
        return False
    for block in range(seen, seen + blocks):
        mem.kind[block] = KIND_EXTENT if block - seen < taken else KIND_NONE
        if block - seen >= taken:
            free_give(mem, block, MAX_INDEX)
    claimed_publish(header, seen + blocks)
    # Where this lane looks next; others start from their own places.
    task.lane.scan_node = seen + taken
    task.lane.scan_record = seen + taken + (blocks - taken) // 4
    return True


def _flush_nodes(task, keep):
    """Give the newest nodes of the magazine back, until `keep` are left."""
    lane: LaneP = task.lane
    block: u32
    mask: u64
    node: u32
    while lane.node_count > keep:
        block = lane.nodes[lane.node_count - 1] // BLOCK_UNITS
        mask = 0
        while lane.node_count > keep:
            node = lane.nodes[lane.node_count - 1]
            if node // BLOCK_UNITS != block:
                break
            mask |= cython.cast(u64, 15) << (node % BLOCK_UNITS)
            lane.node_count -= 1
        barrier()
        if free_give(task.mem, block, mask) == 0 and lane.warm_node_count < WARM_BLOCKS:
            lane.warm_nodes[lane.warm_node_count] = block
            lane.warm_node_count += 1


def _flush_records(task, keep):
    """Give the newest records of the magazine back, until `keep` are left."""
    lane: LaneP = task.lane
    block: u32
    mask: u64
    record: u32
    while lane.record_count > keep:
        block = lane.records[lane.record_count - 1] // BLOCK_UNITS
        mask = 0
        while lane.record_count > keep:
            record = lane.records[lane.record_count - 1]
            if record // BLOCK_UNITS != block:
                break
            mask |= cython.cast(u64, 1) << (record % BLOCK_UNITS)
            lane.record_count -= 1
        barrier()
        if free_give(task.mem, block, mask) == 0 and lane.warm_record_count < WARM_BLOCKS:
            lane.warm_records[lane.warm_record_count] = block
            lane.warm_record_count += 1


def slot_alloc(task):
    """A slot of the address-space table for task.slot_index; 0 or -ENOMEM.

    Counts the space against the arena's limit; slot_free gives both back.
    """
    lane: LaneP = task.lane
    header: HeaderP = task.mem.header
    if spaces_add(header, 1) >= header.space_max:
        spaces_add(header, -1)
        return -ENOMEM
    if lane.slot_count == 0 and _refill_slots(task) != 0:
        spaces_add(header, -1)
        return -ENOMEM
    lane.slot_count -= 1
    task.slot_index = lane.slots[lane.slot_count]
    return 0


def slot_free(task, slot):
    """Give back a slot whose generation has moved on."""
    lane: LaneP = task.lane
    header: HeaderP = task.mem.header
    record: SlotP
    spaces_add(header, -1)
    if slot_at(task.mem, slot).word >> 2 == GENERATION_MAX:
        return  # Used up: an id must never come back.
    if lane.slot_count < SLOT_MAGAZINE:
        lane.slots[lane.slot_count] = slot
        barrier()
        lane.slot_count += 1
        return
    mutex_wait(header.table_lock, 0)
    record = slot_at(task.mem, slot)
    record.next_free = header.free_slot
    header.free_slot = slot + 1
    mutex_release(header.table_lock)


def _refill_slots(task):
    """Half a magazine of slots: given back ones first, then ones never used."""
    lane: LaneP = task.lane
    mem: MemP = task.mem
    header: HeaderP = mem.header
    slot: u32
    result: cython.int = 0
    mutex_wait(header.table_lock, 0)
    while lane.slot_count < SLOT_MAGAZINE // 2:
        if header.free_slot:
            slot = header.free_slot - 1
            header.free_slot = slot_at(mem, slot).next_free
        elif header.slot_high < header.slot_max:
            result = _claim_slot(task)
            if result != 0:
                break
            slot = header.slot_high
            mutex_init(slot_at(mem, slot).lock)
            header.slot_high = slot + 1
        else:
            break
        lane.slots[lane.slot_count] = slot
        barrier()
        lane.slot_count += 1
    mutex_release(header.table_lock)
    return 0 if lane.slot_count else -ENOMEM


def _claim_slot(task):
    """Room in the file for the table up to and with the slot at its high-water mark."""
    header: HeaderP = task.mem.header
    end: u64 = cython.cast(u64, header.slot_high + 1) * SLOT_STRIDE
    if end <= header.table_claimed:
        return 0
    if claim_file(task.mem.fd, header.table_at + header.table_claimed, TABLE_CHUNK_BYTES) != 0:
        return -ENOMEM
    populate(task.mem.base, header.table_at + header.table_claimed, TABLE_CHUNK_BYTES)
    header.table_claimed += TABLE_CHUNK_BYTES
    return 0

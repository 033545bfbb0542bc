"""Copying a whole tree into an extent, at the speed of memory.

    copy_compact    the source is itself a whole extent: one copy of its records, and one of its
                    nodes in which every slot moves by the distance of the two extents
    copy_walked     any other source: depth first, each leaf with its records

Both give the same: nodes and records of the source, word for word, but for the indexes in the
slots and the stamps. O(nodes + records). The walk of a large tree fetches ahead what it will need
next, since an aged one lies scattered; the copy of a very large one is written past the caches.
Nothing here allocates or fails. The source must stay what it is: the caller holds its space's mutex
or a reference on it; the extent (extents.py) is nobody else's.

The copies of nodes and leaves stand as C in copying.pxd, since only C compiles a function for
several instruction sets: a machine that has AVX2 moves 32 bytes at once, as its memcpy does. This
file has them for the uncompiled build.
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.layout import *

    # Cache lines of a node that are worth fetching ahead.
    NODE_LINES = 4
    # Smaller trees are in the cache, or soon will be.
    AHEAD_VMAS = 2048

    def move_leaves(base, to, source, count, by, stamp, stream):
        """Copy `count` leaves that lie together; their records lie `by` units further on (modulo
        2^32, as the slots are)."""
        for at in range(0, count * NODE_UNITS, NODE_UNITS):
            copy_node(base, to + at, source + at)
            leaf = Leaf.from_buffer(base, (to + at) * UNIT_BYTES)
            leaf.stamp = stamp
            for slot in range(LEAF_SLOTS):
                leaf.slot[slot] += by if leaf.slot[slot] != 0 else 0

    def move_inners(base, to, source, count, by, stamp, stream):
        """move_leaves for inner nodes."""
        for at in range(0, count * NODE_UNITS, NODE_UNITS):
            copy_node(base, to + at, source + at)
            inner = Inner.from_buffer(base, (to + at) * UNIT_BYTES)
            inner.stamp = stamp
            for slot in range(INNER_SLOTS):
                inner.slot[slot] += by

    def copy_leaf(base, to, source, record, stamp, stream):
        """Copy a leaf, and its records to `record` and behind; where the next record goes."""
        copy_node(base, to, source)
        leaf = Leaf.from_buffer(base, to * UNIT_BYTES)
        leaf.stamp = stamp
        for slot in range(leaf.end + 1):
            if leaf.slot[slot] != 0:
                copy_record(base, record, leaf.slot[slot])
                leaf.slot[slot] = record
                record += 1
        return record

    stream_units = copy_units

    def stream_end():
        """Whoever sees what is written next sees all that was streamed."""


def copy_compact(mem, extent, source, stamp):
    """Copy the tree of the extent `source` into another one."""
    old: ExtentP = extent_at(mem, source)
    copy_parts(mem, extent, source)
    copy_nodes(mem, extent, source, 0, old.nodes, stamp)
    copy_records(mem, extent, source, 0, old.records)
    stream_end()


def copy_parts(mem, extent, source):
    """What parts the copy of a whole extent has: those of the source."""
    old: ExtentP = extent_at(mem, source)
    new: ExtentP = extent_at(mem, extent)
    part: u32
    new.part_count = old.part_count
    for part in range(old.part_count):
        new.part_nodes[part] = old.part_nodes[part]
        new.part_leaves[part] = old.part_leaves[part]


def copy_nodes(mem, extent, source, first, last, stamp):
    """Copy the nodes first to last - 1 of the extent `source`, as they lie there, each slot moved
    by the distance of the two extents."""
    old: ExtentP = extent_at(mem, source)
    part: u32
    start: u32 = 0
    middle: u32
    for part in range(old.part_count):
        middle = start + old.part_leaves[part]
        _copy_some(mem, extent, source, max(start, first), min(middle, last), True, stamp)
        start += old.part_nodes[part]
        _copy_some(mem, extent, source, max(middle, first), min(start, last), False, stamp)
        if start >= last:
            break


def streams(mem, extent):
    """Whether an extent and the source of its copy are more than the caches hold: then the copy is
    written past them. They would be read before they are overwritten, and two processes that copy
    at once have no more than the memory's bandwidth."""
    return extent_at(mem, extent).blocks > mem.stream_blocks


def _copy_some(mem, extent, source, first, last, leaves, stamp):
    """copy_nodes for nodes of one kind; none where last <= first."""
    stream: cython.bint = streams(mem, extent)
    at: u32 = EXTENT_UNITS + first * NODE_UNITS
    if last <= first:
        return
    if leaves:
        move_leaves(
            mem.base, extent + at, source + at, last - first, extent - source, stamp, stream
        )
    else:
        move_inners(
            mem.base, extent + at, source + at, last - first, extent - source, stamp, stream
        )


def copy_records(mem, extent, source, first, last):
    """Copy the records first to last - 1 of the extent `source`."""
    at: u32 = EXTENT_UNITS + extent_at(mem, source).nodes * NODE_UNITS + first
    if streams(mem, extent):
        stream_units(mem.base, extent + at, source + at, last - first)
    else:
        copy_units(mem.base, extent + at, source + at, last - first)


def copy_walked(task, extent, root, height, stamp):
    """Copy a tree, wherever its nodes and records lie, into the one part of an extent."""
    header: ExtentP = extent_at(task.mem, extent)
    copying: CopyingP = task_copying(task)
    copying.mem = task.mem
    copying.stamp = stamp
    copying.ahead = header.records > AHEAD_VMAS
    copying.stream = streams(task.mem, extent)
    copying.leaf = extent + EXTENT_UNITS
    copying.inner = extent + EXTENT_UNITS + (header.nodes - 1) * NODE_UNITS
    copying.record = extent + EXTENT_UNITS + header.nodes * NODE_UNITS
    copy_subtree(copying, root, height)
    header.part_leaves[0] = (copying.leaf - extent - EXTENT_UNITS) // NODE_UNITS
    stream_end()


def copy_subtree(copying, node, levels):
    """Copy a subtree to where `copying` stands; the copy's index."""
    mem: MemP = copying.mem
    stamp: u64 = copying.stamp
    old: InnerP
    new: InnerP
    to: u32
    offset: cython.int
    if levels == 1:
        to = copying.leaf
        copying.leaf = to + NODE_UNITS
        copying.record = copy_leaf(
            mem.base, to, node, copying.record, copying.stamp, copying.stream
        )
        return to
    old = inner_at(mem, node)
    to = copying.inner
    copying.inner = to - NODE_UNITS
    copy_node(mem.base, to, node)
    new = inner_at(mem, to)
    new.stamp = stamp
    if copying.ahead:
        for offset in range(old.end + 1):
            _fetch_node(mem, old.slot[offset])
    if levels == 2:
        _copy_leaves(copying, old, new)
    else:
        for offset in range(old.end + 1):
            new.slot[offset] = copy_subtree(copying, old.slot[offset], levels - 1)
    return to


def _copy_leaves(copying, old, new):
    """Copy all leaves below an inner node."""
    mem: MemP = copying.mem
    to: u32 = copying.leaf
    record: u32 = copying.record
    offset: cython.int
    for offset in range(old.end + 1):
        if copying.ahead and offset < old.end:
            _fetch_records(mem, old.slot[offset + 1])
        record = copy_leaf(mem.base, to, old.slot[offset], record, copying.stamp, copying.stream)
        new.slot[offset] = to
        to += NODE_UNITS
    copying.leaf = to
    copying.record = record


def _fetch_node(mem, node):
    line: u32
    for line in range(NODE_LINES):
        prefetch(mem.base, node + line)


def _fetch_records(mem, node):
    """Fetch a leaf's records ahead."""
    leaf: LeafP = leaf_at(mem, node)
    slot: cython.int
    for slot in range(leaf.end + 1):
        prefetch(mem.base, leaf.slot[slot])

"""Copying a whole tree into an extent, at the speed of memory.

    copy_compact    the source is itself a whole extent: one copy of its records, and one of its
                    nodes in which every slot moves by the distance of the two extents
    copy_walked     any other source: depth first, each leaf with its records

Both give the same: nodes and records of the source, word for word, but for the indexes in the
slots and the stamps. O(nodes + records). The walk fetches ahead what it will need next, since an
aged tree lies scattered. Nothing here allocates or fails. The source must stay what it is: the
caller holds its space's mutex or a reference on it; the extent (extents.py) is nobody else's.
"""

import cython

if not cython.compiled:
    from forkstormd.core.atomics import *
    from forkstormd.core.layout import *

    # Cache lines of a node that are worth fetching ahead.
    NODE_LINES = 4


def copy_compact(mem, extent, source, stamp):
    """Copy the tree of the extent `source` into another one."""
    old: ExtentP = extent_at(mem, source)
    new: ExtentP = extent_at(mem, extent)
    part: u32
    at: u32 = EXTENT_UNITS
    leaves: u32
    nodes: u32
    new.part_count = old.part_count
    for part in range(old.part_count):
        nodes = old.part_nodes[part]
        leaves = old.part_leaves[part]
        new.part_nodes[part] = nodes
        new.part_leaves[part] = leaves
        move_leaves(mem, extent + at, source + at, leaves, extent - source, stamp)
        at += leaves * NODE_UNITS
        move_inners(mem, extent + at, source + at, nodes - leaves, extent - source, stamp)
        at += (nodes - leaves) * NODE_UNITS
    copy_units(mem.base, extent + at, source + at, old.records)


def move_leaves(mem, to, source, count, by, stamp):
    """Copy `count` leaves that lie together; their records lie `by` units further on (modulo 2^32, as
    the slots are)."""
    old: LeafP
    new: LeafP
    _i: u32
    slot: cython.int
    record: u32
    for _i in range(count):
        copy_node(mem.base, to, source)
        old = leaf_at(mem, source)
        new = leaf_at(mem, to)
        new.stamp = stamp
        for slot in range(LEAF_SLOTS):
            record = old.slot[slot]
            new.slot[slot] = record + by if record != 0 else 0
        to += NODE_UNITS
        source += NODE_UNITS


def move_inners(mem, to, source, count, by, stamp):
    """move_leaves for inner nodes."""
    old: InnerP
    new: InnerP
    _i: u32
    slot: cython.int
    for _i in range(count):
        copy_node(mem.base, to, source)
        old = inner_at(mem, source)
        new = inner_at(mem, to)
        new.stamp = stamp
        for slot in range(INNER_SLOTS):
            new.slot[slot] = old.slot[slot] + by
        to += NODE_UNITS
        source += NODE_UNITS


def copy_walked(task, extent, root, height, stamp):
    """Copy a tree, wherever its nodes and records lie, into the one part of an extent."""
    header: ExtentP = extent_at(task.mem, extent)
    copying: CopyingP = task_copying(task)
    copying.mem = task.mem
    copying.stamp = stamp
    copying.leaf = extent + EXTENT_UNITS
    copying.inner = extent + EXTENT_UNITS + (header.nodes - 1) * NODE_UNITS
    copying.record = extent + EXTENT_UNITS + header.nodes * NODE_UNITS
    copy_subtree(copying, root, height)
    header.part_leaves[0] = (copying.leaf - extent - EXTENT_UNITS) // NODE_UNITS


def copy_subtree(copying, node, levels):
    """Copy a subtree to where `copying` stands; the copy's index."""
    mem: MemP = copying.mem
    old: InnerP
    new: InnerP
    to: u32
    offset: cython.int
    end: cython.int
    if levels == 1:
        return _copy_leaf(copying, node)
    old = inner_at(mem, node)
    end = old.end
    to = copying.inner
    copying.inner = to - NODE_UNITS
    copy_node(mem.base, to, node)
    new = inner_at(mem, to)
    new.stamp = copying.stamp
    for offset in range(end + 1):
        _fetch_node(mem, old.slot[offset])
    for offset in range(end + 1):
        if levels == 2:
            if offset < end:
                _fetch_records(mem, old.slot[offset + 1])
            new.slot[offset] = _copy_leaf(copying, old.slot[offset])
        else:
            new.slot[offset] = copy_subtree(copying, old.slot[offset], levels - 1)
    return to


def _copy_leaf(copying, node):
    """Copy a leaf and its records."""
    mem: MemP = copying.mem
    old: LeafP = leaf_at(mem, node)
    to: u32 = copying.leaf
    new: LeafP
    next_record: u32 = copying.record
    record: u32
    slot: cython.int
    copy_node(mem.base, to, node)
    new = leaf_at(mem, to)
    new.stamp = copying.stamp
    for slot in range(old.end + 1):
        record = old.slot[slot]
        if record != 0:
            copy_record(mem.base, next_record, record)
            new.slot[slot] = next_record
            next_record += 1
    copying.record = next_record
    copying.leaf = to + NODE_UNITS
    return to


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

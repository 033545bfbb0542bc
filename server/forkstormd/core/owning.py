"""What a transaction owns of a tree: its new nodes, its copies, and what they replace.

A node carries the stamp of the transaction that built it. mas_own gives a node of this
transaction's own: the node itself if it is, else a copy, with the original retired. Retired
things are dropped only after the commit. Gaps and subtree counts of an owned path are corrected
from the bottom up (mas_climb, mas_add_counts).

What lies in the space's extent (extents.py) is copied like anything else, but neither retired nor
counted: a space, a snapshot or a fork that shares a tree holds one reference on the extent, which
holds all of it. Nodes outside may lead into it, nodes inside never lead out.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *
    from forkstormd.core.extents import extent_free, extent_use, in_extent
    from forkstormd.core.heap import heap_ensure, node_alloc, node_free, record_free
    from forkstormd.core.layout import *
    from forkstormd.core.maple import leaf_records
    from forkstormd.core.objects import object_put
    from forkstormd.core.pages import pages_drop, pages_levels
    from forkstormd.core.retire import *


def node_new(mas):
    """A node for this transaction: from the reserve, else from the magazine, where mas_room or
    mas_reserve has made sure of it."""
    node: u32 = mas.reserve
    leaf: LeafP
    if node != 0:
        leaf = leaf_at(mas.mem, node)
        mas.reserve = leaf.reserve_next
        mas.reserve_count -= 1
    else:
        node = node_alloc(mas.task)
        leaf = leaf_at(mas.mem, node)
    leaf.stamp = mas.stamp
    mas.task.work.nodes_allocated += 1
    return node


def mas_room(mas):
    """Enough nodes for any one store, and room to retire what it replaces; 0 or -ENOMEM."""
    if retire_room(mas.task) != 0:
        return -ENOMEM
    if mas.reserve_count >= STORE_NODES:
        return 0
    return heap_ensure(mas.task, STORE_NODES, 0)


def mas_retire(mas, kind, index, levels):
    """task_retire, unless it is a record and the old version keeps its records (a fork), or lies
    in the extent."""
    if (kind == DROP_RECORD and mas.keep_records) or in_extent(mas.task, index):
        return
    task_retire(mas.task, kind, index, levels)


def retired_drop(task):
    """Drop what was retired; only after the commit."""
    i: cython.int
    for i in range(task.retired_count):
        retired_drop_one(task, i)
    task.retired_count = 0


def retired_drop_one(task, i):
    """Drop the i-th of the retired things."""
    kind: cython.int = retired_kind(task, i)
    index: u32 = retired_index(task, i)
    if kind in (DROP_SHELL, DROP_TABLE_SHELL):
        node_free(task, index)
    elif kind == DROP_NODE:
        tree_drop(task, index, retired_levels(task, i))
    elif kind == DROP_TABLE:
        pages_drop(task, index, retired_levels(task, i))
    else:
        record_drop(task, index)


def record_release(task, record):
    """Free a record that nobody else has, and its hold on a shared object."""
    object: u32 = record_at(task.mem, record).object
    record_free(task, record)
    if object != 0:
        object_put(task, object)


def record_drop(task, record):
    """Give up one reference on a record; the last one frees it."""
    mem: MemP = task.mem
    if mem.refs[record] != 0:
        if ref_add(mem, record, -1) != 0:
            return
        mem.refs[record] = 0  # Another owner gave up its reference in between.
    record_release(task, record)


def tree_drop(task, node, levels):
    """Give up one reference on a subtree of this height (1: a leaf), as far as it lies outside the
    extent; O(what it owned alone there)."""
    mem: MemP = task.mem
    leaf: LeafP
    inner: InnerP
    offset: cython.int
    if in_extent(task, node):
        return
    if mem.refs[node] != 0:
        if ref_add(mem, node, -1) != 0:
            return
        mem.refs[node] = 0
    if levels == 1:
        leaf = leaf_at(mem, node)
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0 and not in_extent(task, leaf.slot[offset]):
                record_drop(task, leaf.slot[offset])
    else:
        inner = inner_at(mem, node)
        for offset in range(inner.end + 1):
            tree_drop(task, inner.slot[offset], levels - 1)
    node_free(task, node)


def tree_share(mem, state):
    """Take a reference on the VMAs of a space with this state, under its mutex."""
    if state.root != 0 and not tree_compact(state):
        ref_add(mem, state.root, 1)
    if state.extent != 0:
        ref_add(mem, state.extent, 1)


def tree_get(mem, state):
    """Take a reference on all that a space with this state can reach, under its mutex."""
    tree_share(mem, state)
    if state.page_root != 0:
        ref_add(mem, state.page_root, 1)


def tree_compact(state):
    """Whether a space's tree is its extent, and all of it: its root lies in it, so that nothing has
    been changed since it was copied there."""
    units: u64 = state.extent_blocks * BLOCK_UNITS
    return state.extent <= state.root and state.root - state.extent < units


def tree_put(task, state):
    """Give such a reference up; what nobody else holds is freed: O(what lies outside the
    extent)."""
    extent_use(task, state.extent, state.extent_blocks)
    if state.root != 0:
        tree_drop(task, state.root, state.height)
    extent_put(task, state.extent)
    if state.page_root != 0:
        pages_drop(task, state.page_root, pages_levels(state.task_size))


def extent_put(task, extent):
    """Give up one reference on an extent, 0 for none; the last one frees it, and what its records
    held."""
    mem: MemP = task.mem
    header: ExtentP
    first: u32
    record: u32
    object: u32
    if extent == 0:
        return
    if mem.refs[extent] != 0:
        if ref_add(mem, extent, -1) != 0:
            return
        mem.refs[extent] = 0
    header = extent_at(mem, extent)
    if header.objects != 0:
        first = extent + EXTENT_UNITS + header.nodes * NODE_UNITS
        for record in range(first, first + header.records):
            object = record_at(mem, record).object
            if object != 0:
                object_put(task, object)
    extent_free(task, extent)


def mas_own(mas, node, level):
    """This transaction's own copy of a node; the caller links it into the parent it owns."""
    mem: MemP = mas.mem
    leaf: LeafP = leaf_at(mem, node)
    inner: InnerP
    copy: u32
    offset: cython.int
    if leaf.stamp == mas.stamp:
        return node
    copy = node_new(mas)
    copy_node(mem.base, copy, node)
    leaf = leaf_at(mem, copy)
    leaf.stamp = mas.stamp
    if in_extent(mas.task, node):
        return copy
    if mem.refs[node] == 0:
        mas_retire(mas, DROP_SHELL, node, mas.height - level)
        return copy
    if level == mas.height - 1:
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0 and not in_extent(mas.task, leaf.slot[offset]):
                ref_add(mem, leaf.slot[offset], 1)
    else:
        inner = inner_at(mem, copy)
        for offset in range(inner.end + 1):
            if not in_extent(mas.task, inner.slot[offset]):
                ref_add(mem, inner.slot[offset], 1)
    mas_retire(mas, DROP_NODE, node, mas.height - level)
    return copy


def mas_own_path(mas):
    """Own every node of the cursor's path."""
    level: cython.int
    node: u32
    for level in range(mas.height):
        node = mas_own(mas, mas.node[level], level)
        if node != mas.node[level]:
            if level == 0:
                mas.root = node
            else:
                inner_at(mas.mem, mas.node[level - 1]).slot[mas.offset[level - 1]] = node
            mas.node[level] = node


def mas_climb(mas, level, gap):
    """The child on the path below `level` now has this gap: correct the levels above it, as
    far as their largest gap changes."""
    mem: MemP = mas.mem
    inner: InnerP
    offset: cython.int
    before: u64
    while level >= 0:
        inner = inner_at(mem, mas.node[level])
        offset = mas.offset[level]
        if inner.gap[offset] == gap:
            return
        before = inner.gap[inner.gap_slot]
        inner.gap[offset] = gap
        mas.task.work.levels_climbed += 1
        mas.task.work.gap_updates += 1
        if offset == inner.gap_slot:
            if gap < before:
                inner.gap_slot = inner_gap_slot(inner)
        elif gap > before:
            inner.gap_slot = offset
        gap = inner.gap[inner.gap_slot]
        if gap == before:
            return
        level -= 1


def inner_gap_slot(inner):
    """The slot with the largest gap, the first of equals; O(10)."""
    best: cython.int = 0
    offset: cython.int
    for offset in range(1, inner.end + 1):
        if inner.gap[offset] > inner.gap[best]:
            best = offset
    return best


def mas_add_counts(mas, level, nodes, vmas, specials):
    """Correct the subtree counts of the path from this level up to the root."""
    inner: InnerP
    while level >= 0:
        inner = inner_at(mas.mem, mas.node[level])
        inner.nodes += nodes
        inner.vmas += vmas
        inner.specials += specials
        level -= 1


def inner_recount(mem, inner, over_leaves):
    """Set nodes, vmas and specials of an inner node from its children, which are exact."""
    offset: cython.int
    leaf: LeafP
    child: InnerP
    inner.nodes = 1
    inner.vmas = 0
    inner.specials = 0
    for offset in range(inner.end + 1):
        if over_leaves:
            leaf = leaf_at(mem, inner.slot[offset])
            inner.nodes += 1
            inner.vmas += leaf_records(leaf, LEAF_SLOTS)
            inner.specials += bit_count(leaf.special)
        else:
            child = inner_at(mem, inner.slot[offset])
            inner.nodes += child.nodes
            inner.vmas += child.vmas
            inner.specials += child.specials


def tree_seal(mem, node, levels):
    """Make the subtree counts of every inner node exact; O(nodes). Returns the nodes counted."""
    inner: InnerP = inner_at(mem, node)
    offset: cython.int
    if levels > 2:
        for offset in range(inner.end + 1):
            tree_seal(mem, inner.slot[offset], levels - 1)
    inner_recount(mem, inner, levels == 2)
    return inner.nodes

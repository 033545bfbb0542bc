"""Writing to a maple tree.

One store replaces the range [first, last] by one to PIECES_MAX pieces (records or NULL). Its
ends must be the ends of entries, or lie within NULL: a VMA is never cut by the tree, because
its record would have to change too.

Published nodes are immutable. A store first makes the path from the root to its leaf its own
(copies what another transaction built, _own_path) and from there on changes nodes in place;
a tree under construction is owned already, so the same code is both the path-copying store
and the transient mode of a fork. What the copies replace is retired and dropped only after the
new root is published (mas_retired_drop): the order is take references, commit, drop.

    exact range, record over record     one slot                                  O(1)
    fits its leaf                       slots move within the leaf, gaps climb    O(height)
    leaf too full, too empty, or        _rebuild: per level, what is left of the  O(height)
    range over several leaves           left path, what grew below, what is left
                                        of the right path, spread over new nodes

References are biased: a count of 0 means one owner. Copying a shared node takes a reference
on each child, so that "shared" is found again one level further down, and gives up the one on
the node itself; copying an unshared one moves the children and leaves an empty shell.

Locks: the caller holds the space's mutex, or owns the whole tree (a fork's child).
Errors: -ENOMEM before anything is changed.
"""

import cython

if not cython.compiled:
    from errno import ENOMEM

    from forkstormd.core.atomics import *  # noqa: F403
    from forkstormd.core.heap import heap_ensure, node_alloc, node_free, record_free
    from forkstormd.core.layout import *  # noqa: F403
    from forkstormd.core.maple import inner_gap, leaf_gap, mas_init, mas_next_slot, mas_walk


if not cython.compiled:

    def mas_store(mas, first, last, record, special):
        """Store one record, or NULL (0), over [first, last]; special: a fork treats it specially.

        Returns 0 or -ENOMEM. Where the cursor stands at exactly this range, and a record of the
        same kind is there, one slot of a node that is owned is all that changes.
        """
        level = mas.height - 1
        if mas.index == first and mas.last == last and mas.depth != 0 and record != 0:
            leaf = leaf_at(mas.mem, mas.node[level])
            offset = mas.offset[level]
            if (
                leaf.stamp == mas.stamp
                and leaf.slot[offset] != 0
                and (leaf.special >> offset) & 1 == special
            ):
                if not mas.keep_records:
                    mas_retire(mas, DROP_RECORD, leaf.slot[offset], 0)
                leaf.slot[offset] = record
                mas.task.work.slots_written += 1
                return 0
        return mas_store_range(mas, first, last, record, special)


def mas_store_range(mas, first, last, record, special):
    """mas_store in general."""
    mas.piece_count = 1
    mas.piece_last[0] = last
    mas.piece_record[0] = record
    mas.piece_special[0] = special
    return mas_store_pieces(mas, first, last)


def mas_store_pieces(mas, first, last):
    """Replace [first, last] by mas.piece_*: ascending, the last one ending at `last`, no two
    NULL pieces touching. Returns 0 or -ENOMEM."""
    mem: MemP = mas.mem
    leaf: LeafP
    root: u32
    level: cython.int
    if mas.height == 0:
        if _room(mas) != 0:
            return -ENOMEM
        root = node_new(mas)
        leaf = leaf_at(mem, root)
        leaf.end = 0
        leaf.special = 0
        leaf.slot[0] = 0
        mas.root = root
        mas.height = 1
        mas.depth = 0
    level = mas.height - 1
    if mas.depth == 0 or first < mas.min[level] or first > mas.max[level]:
        mas_walk(mas, first)
    if last > mas.max[level] or (
        last == mas.max[level]
        and last != MAX_INDEX
        and mas.piece_record[mas.piece_count - 1] == 0
    ):
        return _rebuild(mas, first, last, mas.height)
    if leaf_at(mem, mas.node[level]).stamp != mas.stamp:
        if _room(mas) != 0:
            return -ENOMEM
        _own_path(mas)
    return _store_leaf(mas, first, last)


def mas_reserve(mas, nodes):
    """Set nodes aside for this tree, so that stores need no other; 0 or -ENOMEM, and then
    none are set aside. mas_destroy gives back what is left."""
    node: u32
    while mas.reserve_count < nodes:
        node = node_alloc(mas.task)
        if node == 0:
            mas_destroy(mas)
            return -ENOMEM
        leaf_at(mas.mem, node).reserve_next = mas.reserve
        mas.reserve = node
        mas.reserve_count += 1
    return 0


def mas_destroy(mas):
    """End a bulk store: fill up the right spine, give back what was reserved.

    Bulk stores leave the last node of each level short, because they expect more to come.
    Returns 0 or -ENOMEM (the tree is valid then, but for the short nodes).
    """
    mem: MemP = mas.mem
    level: cython.int
    short: cython.int
    leaf: LeafP
    record: u32
    result: cython.int = 0
    while mas.bulk and mas.height > 1:
        record = mas_walk(mas, MAX_INDEX)
        leaf = leaf_at(mem, mas.node[mas.height - 1])
        short = -1
        for level in range(1, mas.height - 1):
            if inner_at(mem, mas.node[level]).end < INNER_MIN_END:
                short = level
                break
        if short < 0 and leaf.end < LEAF_MIN_END:
            short = mas.height - 1
        if short < 0:
            break
        mas.piece_count = 1
        mas.piece_last[0] = MAX_INDEX
        mas.piece_record[0] = record
        mas.piece_special[0] = (leaf.special >> leaf.end) & 1
        mas.bulk = 0
        result = _rebuild(mas, mas.index, MAX_INDEX, short - 1)
        mas.bulk = 1
        if result != 0:
            break
    mas.bulk = 0
    while mas.reserve_count != 0:
        record = mas.reserve
        mas.reserve = leaf_at(mem, record).reserve_next
        mas.reserve_count -= 1
        node_free(mas.task, record)
    return result


def node_new(mas):
    """A node for this transaction: from the reserve, else from the magazine, where _room or
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


def _room(mas):
    """Enough nodes for any one store, and room to retire what it replaces; 0 or -ENOMEM."""
    if mas.task.retired_count > RETIRED_MAX // 2:
        return -ENOMEM
    if mas.reserve_count >= STORE_NODES:
        return 0
    return heap_ensure(mas.task, STORE_NODES, 0)


# --- retiring and dropping -------------------------------------------------------------------


def mas_retire(mas, kind, index, levels):
    """Remember what the new version no longer holds. levels: height of a DROP_NODE's subtree."""
    task: TaskP = mas.task
    if kind == DROP_RECORD and mas.keep_records:
        return
    check(task.retired_count < RETIRED_MAX)
    task.retired[task.retired_count] = cython.cast(u64, index) << 32 | levels << 8 | kind
    task.retired_count += 1


def mas_retired_drop(task):
    """Drop what was retired; only after the commit."""
    i: cython.int
    index: u32
    kind: cython.int
    for i in range(task.retired_count):
        index = cython.cast(u32, task.retired[i] >> 32)
        kind = task.retired[i] & 255
        if kind == DROP_SHELL:
            node_free(task, index)
        elif kind == DROP_NODE:
            tree_drop(task, index, (task.retired[i] >> 8) & 255)
        else:
            record_drop(task, index)
    task.retired_count = 0


def record_drop(task, record):
    """Give up one reference on a record; the last one frees it."""
    mem: MemP = task.mem
    if mem.refs[record] != 0:
        if ref_add(mem, record, -1) != 0:
            return
        mem.refs[record] = 0  # Another owner gave up its reference in between.
    record_free(task, record)


def tree_drop(task, node, levels):
    """Give up one reference on a subtree of this height (1: a leaf); O(what it owned alone)."""
    mem: MemP = task.mem
    leaf: LeafP
    inner: InnerP
    offset: cython.int
    if mem.refs[node] != 0:
        if ref_add(mem, node, -1) != 0:
            return
        mem.refs[node] = 0
    if levels == 1:
        leaf = leaf_at(mem, node)
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0:
                record_drop(task, leaf.slot[offset])
    else:
        inner = inner_at(mem, node)
        for offset in range(inner.end + 1):
            tree_drop(task, inner.slot[offset], levels - 1)
    node_free(task, node)


# --- owning the path -------------------------------------------------------------------------


def _own(mas, node, level):
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
    if mem.refs[node] == 0:
        mas_retire(mas, DROP_SHELL, node, 0)
        return copy
    if level == mas.height - 1:
        for offset in range(leaf.end + 1):
            if leaf.slot[offset] != 0:
                ref_add(mem, leaf.slot[offset], 1)
    else:
        inner = inner_at(mem, copy)
        for offset in range(inner.end + 1):
            ref_add(mem, inner.slot[offset], 1)
    mas_retire(mas, DROP_NODE, node, mas.height - level)
    return copy


def _own_path(mas):
    """Own every node of the cursor's path."""
    level: cython.int
    node: u32
    for level in range(mas.height):
        node = _own(mas, mas.node[level], level)
        if node != mas.node[level]:
            if level == 0:
                mas.root = node
            else:
                inner_at(mas.mem, mas.node[level - 1]).slot[mas.offset[level - 1]] = node
            mas.node[level] = node


# --- within one leaf -------------------------------------------------------------------------


def _store_leaf(mas, first, last):
    """The store when the range lies within the current leaf, which is owned."""
    mem: MemP = mas.mem
    task: TaskP = mas.task
    level: cython.int = mas.height - 1
    leaf: LeafP = leaf_at(mem, mas.node[level])
    end: cython.int = leaf.end
    left: cython.int = mas.offset[level] if first >= mas.index else 0
    right: cython.int
    count: cython.int = 0
    tail: cython.int
    i: cython.int
    left_min: u64
    right_max: u64
    pieces: cython.int = mas.piece_count
    null_changed: cython.bint = False
    vmas: cython.int = 0
    specials: cython.int = 0
    mask: u32
    while left < end and first > leaf.pivot[left]:
        left += 1
    right = left
    while right < end and last > leaf.pivot[right]:
        right += 1
    left_min = leaf.pivot[left - 1] + 1 if left > 0 else mas.min[level]
    right_max = leaf.pivot[right] if right < end else mas.max[level]
    check(first == left_min or leaf.slot[left] == 0)
    check(last == right_max or leaf.slot[right] == 0)
    # The slots that replace left..right, NULL joined with NULL.
    if first > left_min:
        if mas.piece_record[0] != 0:
            task.big_last[0] = first - 1
            task.big_slot[0] = 0
            task.big_special[0] = 0
            count = 1
    elif mas.piece_record[0] == 0 and left > 0 and leaf.slot[left - 1] == 0:
        left -= 1
    for i in range(pieces):
        task.big_last[count] = mas.piece_last[i]
        task.big_slot[count] = mas.piece_record[i]
        task.big_special[count] = mas.piece_special[i]
        count += 1
    if last < right_max:
        if task.big_slot[count - 1] == 0:
            task.big_last[count - 1] = right_max
        else:
            task.big_last[count] = right_max
            task.big_slot[count] = 0
            task.big_special[count] = 0
            count += 1
    elif task.big_slot[count - 1] == 0 and right < end and leaf.slot[right + 1] == 0:
        right += 1
        task.big_last[count - 1] = leaf.pivot[right] if right < end else mas.max[level]
    tail = end - right
    end = left + count + tail - 1
    if end >= LEAF_SLOTS or (end < LEAF_MIN_END and level > 0 and not mas.bulk):
        return _rebuild(mas, first, last, mas.height)

    for i in range(left, right + 1):
        if leaf.slot[i] == 0:
            null_changed = True
        else:
            vmas -= 1
            specials -= (leaf.special >> i) & 1
            mas_retire(mas, DROP_RECORD, leaf.slot[i], 0)
    mask = leaf.special & ((1 << left) - 1)
    mask |= cython.cast(u32, leaf.special >> (right + 1)) << (left + count)
    i = left + count - right - 1  # by how much the tail moves
    if i > 0:
        for right in range(leaf.end, leaf.end - tail, -1):
            leaf.slot[right + i] = leaf.slot[right]
        for right in range(leaf.end - 1, leaf.end - tail, -1):
            leaf.pivot[right + i] = leaf.pivot[right]
        task.work.slots_written += tail
    elif i < 0:
        for right in range(leaf.end - tail + 1, leaf.end + 1):
            leaf.slot[right + i] = leaf.slot[right]
        for right in range(leaf.end - tail + 1, leaf.end):
            leaf.pivot[right + i] = leaf.pivot[right]
        task.work.slots_written += tail
    for i in range(count):
        leaf.slot[left + i] = task.big_slot[i]
        if left + i < end:
            leaf.pivot[left + i] = task.big_last[i]
        if task.big_slot[i] == 0:
            null_changed = True
        else:
            vmas += 1
            specials += task.big_special[i]
            mask |= task.big_special[i] << (left + i)
    leaf.end = end
    leaf.special = mask
    task.work.slots_written += count
    # Stand at the last slot that was written: the next store often follows it.
    left += count - 1
    mas.offset[level] = left
    mas.index = leaf.pivot[left - 1] + 1 if left > 0 else mas.min[level]
    mas.last = leaf.pivot[left] if left < end else mas.max[level]
    if level == 0:
        if end == 0 and leaf.slot[0] == 0:
            node_free(task, mas.root)
            mas.root = 0
            mas.height = 0
            mas.depth = 0
        return 0
    if null_changed:
        _climb(mas, level - 1, leaf_gap(leaf, mas.min[level], mas.max[level]))
    if not mas.deferred_counts and (vmas != 0 or specials != 0):
        _add_counts(mas, level - 1, 0, vmas, specials)
    return 0


def _climb(mas, level, gap):
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
        before = inner_gap(inner)
        inner.gap[offset] = gap
        mas.task.work.levels_climbed += 1
        mas.task.work.gap_updates += 1
        if offset == inner.gap_slot:
            if gap < before:
                inner.gap_slot = inner_gap_slot(inner)
        elif gap > before:
            inner.gap_slot = offset
        gap = inner_gap(inner)
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


def _add_counts(mas, level, nodes, vmas, specials):
    """Correct the subtree counts of the path from this level up to the root."""
    inner: InnerP
    while level >= 0:
        inner = inner_at(mas.mem, mas.node[level])
        inner.nodes += nodes
        inner.vmas += vmas
        inner.specials += specials
        level -= 1


def leaf_vmas(leaf):
    """How many slots of a leaf hold a record."""
    count: u32 = 0
    offset: cython.int
    for offset in range(leaf.end + 1):
        count += leaf.slot[offset] != 0
    return count


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
            inner.vmas += leaf_vmas(leaf)
            inner.specials += bit_count(leaf.special)
        else:
            child = inner_at(mem, inner.slot[offset])
            inner.nodes += child.nodes
            inner.vmas += child.vmas
            inner.specials += child.specials


# --- over several nodes ----------------------------------------------------------------------
#
# `mas` is the left path, `right` the right one; they are equal above the node where they part.
# What a node held is gathered in task.big_*, the node itself is freed at once (it is owned,
# nobody else has seen it) and its slot in the parent set to 0, so that dropping "everything
# between the paths" passes over it. What a level grows into is in task.grown_*.


def _rebuild(mas, first, last, settle):
    """The store in general. A level may absorb the change in place if it is <= settle; the
    level below `settle` and all further down are spread anew. Position is lost."""
    task: TaskP = mas.task
    right: MasP = task_mas(task, 2)
    level: cython.int
    keep: cython.int
    collapsed: cython.int = 0
    if _room(mas) != 0:
        return -ENOMEM
    mas_walk(mas, first)
    _own_path(mas)
    mas_init(right, task, mas.root, mas.height)
    right.stamp = mas.stamp
    right.keep_records = mas.keep_records
    mas_walk(right, last)
    keep = right.offset[mas.height - 1] + 1
    if mas.piece_record[mas.piece_count - 1] == 0 and last == right.max[mas.height - 1] != MAX_INDEX:
        # A leaf may not end in NULL: the NULL belongs to the leaf after it.
        mas_walk(right, last + 1)
        keep = 0
    _own_path(right)
    _gather_leaves(mas, right, first, last, keep)
    level = mas.height - 1
    while True:
        if level == mas.height - 1:
            while (
                task.big_slot[task.big_count - 1] == 0
                and task.big_last[task.big_count - 1] != MAX_INDEX
            ):
                _pull(mas, right, level, True)
            while task.big_count <= LEAF_MIN_END and not mas.bulk:
                if not _pull(mas, right, level, False):
                    break
        else:
            if level <= settle and _settle(mas, right, level):
                mas.depth = 0
                return 0
            _gather_inners(mas, right, level)
            while task.big_count <= INNER_MIN_END and not mas.bulk:
                if not _pull(mas, right, level, False):
                    break
        if level < mas.height - 1 and task.big_count == 1:
            # Nothing else is left at this level: what grew below is the tree.
            collapsed += 1
            task.grown_count = 1
            task.grown_last[0] = task.big_last[0]
            task.grown_node[0] = task.big_slot[0]
            task.grown_gap[0] = task.big_gap[0]
        else:
            _emit(mas, level, mas.min[level], right.max[level])
        if level == 0:
            break
        level -= 1
    _crown(mas, collapsed)
    mas.depth = 0
    return 0


def _crown(mas, collapsed):
    """Make what the root's level grew into the tree."""
    task: TaskP = mas.task
    i: cython.int
    leaf: LeafP
    mas.height -= collapsed
    if task.grown_count == 1:
        mas.root = task.grown_node[0]
        if mas.height == 1:
            leaf = leaf_at(task.mem, mas.root)
            if leaf.end == 0 and leaf.slot[0] == 0:
                node_free(task, mas.root)
                mas.root = 0
                mas.height = 0
        return
    for i in range(task.grown_count):
        task.big_last[i] = task.grown_last[i]
        task.big_slot[i] = task.grown_node[i]
        task.big_gap[i] = task.grown_gap[i]
    mas.root = _emit_inner(mas, 0, task.grown_count, mas.height == 1)
    mas.height += 1


def _push(task, last, slot, special, gap, is_leaf):
    """Append to what is gathered; in a leaf, NULL joins NULL."""
    i: cython.int = task.big_count
    if is_leaf and slot == 0 and i > 0 and task.big_slot[i - 1] == 0:
        task.big_last[i - 1] = last
        return
    check(i < SPLIT_MAX)
    task.big_last[i] = last
    task.big_slot[i] = slot
    task.big_special[i] = special
    task.big_gap[i] = gap
    task.big_count = i + 1


def _push_node(mas, level, begin, end):
    """Append the slots begin..end-1 of the node at a level of the path."""
    mem: MemP = mas.mem
    leaf: LeafP
    inner: InnerP
    i: cython.int
    if level == mas.height - 1:
        leaf = leaf_at(mem, mas.node[level])
        for i in range(begin, end):
            _push(
                mas.task,
                leaf.pivot[i] if i < leaf.end else mas.max[level],
                leaf.slot[i],
                (leaf.special >> i) & 1,
                0,
                True,
            )
    else:
        inner = inner_at(mem, mas.node[level])
        for i in range(begin, end):
            _push(
                mas.task,
                inner.pivot[i] if i < inner.end else mas.max[level],
                inner.slot[i],
                0,
                inner.gap[i],
                False,
            )


def _consume(mas, level):
    """The node at this level of the path has been gathered: free it, empty its slot above."""
    if level > 0:
        inner_at(mas.mem, mas.node[level - 1]).slot[mas.offset[level - 1]] = 0
    node_free(mas.task, mas.node[level])


def _gather_leaves(mas, right, first, last, keep):
    """What is left of the two leaves, with the pieces between; keep: first slot of the right
    leaf that stays."""
    task: TaskP = mas.task
    level: cython.int = mas.height - 1
    leaf: LeafP = leaf_at(task.mem, mas.node[level])
    right_leaf: LeafP = leaf_at(task.mem, right.node[level])
    same: cython.bint = mas.node[level] == right.node[level]
    i: cython.int
    task.big_count = 0
    _push_node(mas, level, 0, mas.offset[level])
    if first > mas.index:
        check(leaf.slot[mas.offset[level]] == 0)
        _push(task, first - 1, 0, 0, 0, True)
    for i in range(mas.piece_count):
        _push(task, mas.piece_last[i], mas.piece_record[i], mas.piece_special[i], 0, True)
    if keep > 0 and right.last > last:
        check(right_leaf.slot[keep - 1] == 0)
        _push(task, right.last, 0, 0, 0, True)
    _push_node(right, level, keep, right_leaf.end + 1)
    for i in range(mas.offset[level], keep if same else leaf.end + 1):
        if leaf.slot[i] != 0:
            mas_retire(mas, DROP_RECORD, leaf.slot[i], 0)
    if not same:
        for i in range(keep):
            if right_leaf.slot[i] != 0:
                mas_retire(mas, DROP_RECORD, right_leaf.slot[i], 0)
        _consume(right, level)
    _consume(mas, level)


def _drop_children(mas, level, begin, end):
    """Retire the subtrees in the slots begin..end-1 of the node at this level of the path."""
    inner: InnerP = inner_at(mas.mem, mas.node[level])
    i: cython.int
    for i in range(begin, end):
        if inner.slot[i] != 0:
            mas_retire(mas, DROP_NODE, inner.slot[i], mas.height - level - 1)
            inner.slot[i] = 0


def _gather_inners(mas, right, level):
    """What is left of the two nodes at an inner level, with what grew below between."""
    task: TaskP = mas.task
    i: cython.int
    end: cython.int = inner_at(task.mem, mas.node[level]).end + 1
    right_end: cython.int = inner_at(task.mem, right.node[level]).end + 1
    same: cython.bint = mas.node[level] == right.node[level]
    task.big_count = 0
    _push_node(mas, level, 0, mas.offset[level])
    for i in range(task.grown_count):
        _push(task, task.grown_last[i], task.grown_node[i], 0, task.grown_gap[i], False)
    _push_node(right, level, right.offset[level] + 1, right_end)
    if same:
        _drop_children(mas, level, mas.offset[level] + 1, right.offset[level])
    else:
        _drop_children(mas, level, mas.offset[level] + 1, end)
        _drop_children(right, level, 0, right.offset[level])
        _consume(right, level)
    _consume(mas, level)


def _turn_right(mas, level):
    """The lowest level above `level` where the path can step right, or -1."""
    level -= 1
    while level >= 0:
        if mas.offset[level] < inner_at(mas.mem, mas.node[level]).end:
            return level
        level -= 1
    return -1


def _turn_left(mas, level):
    level -= 1
    while level >= 0:
        if mas.offset[level] > 0:
            return level
        level -= 1
    return -1


def _pull(mas, right, level, only_right):
    """Gather one more node of this level: a sibling under the same parent if there is one,
    else the next to the right or to the left. False when the level has no more."""
    right_turn: cython.int = _turn_right(right, level)
    left_turn: cython.int = -1 if only_right else _turn_left(mas, level)
    if right_turn < 0 and left_turn < 0:
        return False
    if right_turn >= left_turn:
        _pull_right(mas, right, level, right_turn)
    else:
        _pull_left(mas, right, level, left_turn)
    return True


def _pull_right(mas, right, level, turn):
    """Move the right path to the next node of this level and append that node."""
    mem: MemP = mas.mem
    inner: InnerP
    node: u32
    e: cython.int
    offset: cython.int
    for e in range(level - 1, turn, -1):
        # Left behind: everything in it is consumed or lies between the paths.
        if right.node[e] != mas.node[e]:
            _drop_children(right, e, 0, right.offset[e])
            _consume(right, e)
    for e in range(turn, level):
        inner = inner_at(mem, right.node[e])
        offset = right.offset[e] + 1 if e == turn else 0
        right.offset[e] = offset
        node = _own(mas, inner.slot[offset], e + 1)
        inner.slot[offset] = node
        right.node[e + 1] = node
        right.min[e + 1] = inner.pivot[offset - 1] + 1 if offset > 0 else right.min[e]
        right.max[e + 1] = inner.pivot[offset] if offset < inner.end else right.max[e]
    _push_node(right, level, 0, leaf_at(mem, right.node[level]).end + 1)
    _consume(right, level)


def _pull_left(mas, right, level, turn):
    """Move the left path to the node before on this level and put that node in front."""
    task: TaskP = mas.task
    mem: MemP = task.mem
    inner: InnerP
    node: u32
    e: cython.int
    offset: cython.int
    count: cython.int = task.big_count
    for e in range(level - 1, turn, -1):
        if right.node[e] != mas.node[e]:
            _drop_children(mas, e, mas.offset[e] + 1, inner_at(mem, mas.node[e]).end + 1)
            _consume(mas, e)
    for e in range(turn, level):
        inner = inner_at(mem, mas.node[e])
        offset = mas.offset[e] - 1 if e == turn else inner.end
        mas.offset[e] = offset
        node = _own(mas, inner.slot[offset], e + 1)
        inner.slot[offset] = node
        mas.node[e + 1] = node
        mas.min[e + 1] = inner.pivot[offset - 1] + 1 if offset > 0 else mas.min[e]
        mas.max[e + 1] = inner.pivot[offset] if offset < inner.end else mas.max[e]
    # A leaf that is not the tree's last never ends in NULL, so nothing joins at the seam.
    offset = leaf_at(mem, mas.node[level]).end + 1
    for e in range(count - 1, -1, -1):
        task.big_last[e + offset] = task.big_last[e]
        task.big_slot[e + offset] = task.big_slot[e]
        task.big_special[e + offset] = task.big_special[e]
        task.big_gap[e + offset] = task.big_gap[e]
    task.big_count = 0
    _push_node(mas, level, 0, offset)
    task.big_count = count + offset
    _consume(mas, level)


def _settle(mas, right, level):
    """Absorb what grew below in the one node of this level, in place, if it fits. Corrects gaps
    and counts above."""
    task: TaskP = mas.task
    mem: MemP = task.mem
    inner: InnerP = inner_at(mem, mas.node[level])
    left: cython.int = mas.offset[level]
    tail: cython.int
    move: cython.int
    end: cython.int
    i: cython.int
    before: u64 = inner_gap(inner)
    nodes: cython.int = inner.nodes
    vmas: cython.int = inner.vmas
    specials: cython.int = inner.specials
    if mas.node[level] != right.node[level]:
        return False
    move = task.grown_count - (right.offset[level] - left + 1)
    end = inner.end + move
    if end >= INNER_SLOTS or end < 1 or (end < INNER_MIN_END and level > 0 and not mas.bulk):
        return False
    _drop_children(mas, level, left + 1, right.offset[level])
    tail = inner.end - right.offset[level]
    if move > 0:
        for i in range(inner.end, inner.end - tail, -1):
            inner.slot[i + move] = inner.slot[i]
            inner.gap[i + move] = inner.gap[i]
        for i in range(inner.end - 1, inner.end - tail, -1):
            inner.pivot[i + move] = inner.pivot[i]
    elif move < 0:
        for i in range(inner.end - tail + 1, inner.end + 1):
            inner.slot[i + move] = inner.slot[i]
            inner.gap[i + move] = inner.gap[i]
        for i in range(inner.end - tail + 1, inner.end):
            inner.pivot[i + move] = inner.pivot[i]
    for i in range(task.grown_count):
        inner.slot[left + i] = task.grown_node[i]
        inner.gap[left + i] = task.grown_gap[i]
        if left + i < end:
            inner.pivot[left + i] = task.grown_last[i]
    inner.end = end
    inner.gap_slot = inner_gap_slot(inner)
    task.work.slots_written += task.grown_count + (tail if move != 0 else 0)
    task.work.gap_updates += task.grown_count
    if level > 0 and inner_gap(inner) != before:
        _climb(mas, level - 1, inner_gap(inner))
    if not mas.deferred_counts:
        inner_recount(mem, inner, level == mas.height - 2)
        _add_counts(
            mas,
            level - 1,
            cython.cast(cython.int, inner.nodes) - nodes,
            cython.cast(cython.int, inner.vmas) - vmas,
            cython.cast(cython.int, inner.specials) - specials,
        )
    return True


def _share(mas, is_leaf, left, nodes):
    """How many of the `left` gathered slots the next of `nodes` nodes takes."""
    if nodes == 1:
        return left
    if mas.bulk:
        # Packed to the left: what comes next goes to the right.
        return left - (LEAF_MIN_END if is_leaf else INNER_MIN_END)
    return (left + nodes - 1) // nodes


def _emit(mas, level, min, max):
    """Spread what is gathered over new nodes of this level, bounded by [min, max]."""
    task: TaskP = mas.task
    is_leaf: cython.bint = level == mas.height - 1
    slots: cython.int = LEAF_SLOTS if is_leaf else INNER_SLOTS
    nodes: cython.int = 1
    begin: cython.int = 0
    count: cython.int
    i: cython.int
    node: u32
    if task.big_count > slots:
        # A leaf may have to leave its last slot, a NULL, to the next: plan for one less.
        slots -= is_leaf
        nodes = (task.big_count + slots - 1) // slots
    task.work.splits += nodes - 1
    for i in range(nodes):
        count = _share(mas, is_leaf, task.big_count - begin, nodes - i)
        if is_leaf:
            if i < nodes - 1 and task.big_slot[begin + count - 1] == 0:
                count -= 1
            node = _emit_leaf(mas, begin, count, min)
            task.grown_gap[i] = leaf_gap(
                leaf_at(task.mem, node), min, task.big_last[begin + count - 1]
            )
        else:
            node = _emit_inner(mas, begin, count, level == mas.height - 2)
            task.grown_gap[i] = inner_gap(inner_at(task.mem, node))
        task.grown_node[i] = node
        begin += count
        min = task.big_last[begin - 1] + 1 if i < nodes - 1 else min
        task.grown_last[i] = task.big_last[begin - 1]
    task.grown_count = nodes
    check(task.grown_last[nodes - 1] == max)


def _emit_leaf(mas, begin, count, min):
    task: TaskP = mas.task
    node: u32 = node_new(mas)
    leaf: LeafP = leaf_at(task.mem, node)
    mask: u32 = 0
    i: cython.int
    for i in range(count):
        leaf.slot[i] = task.big_slot[begin + i]
        mask |= task.big_special[begin + i] << i
        if i < count - 1:
            leaf.pivot[i] = task.big_last[begin + i]
    leaf.end = count - 1
    leaf.special = mask
    task.work.slots_written += count
    return node


def _emit_inner(mas, begin, count, over_leaves):
    task: TaskP = mas.task
    node: u32 = node_new(mas)
    inner: InnerP = inner_at(task.mem, node)
    i: cython.int
    for i in range(count):
        inner.slot[i] = task.big_slot[begin + i]
        inner.gap[i] = task.big_gap[begin + i]
        if i < count - 1:
            inner.pivot[i] = task.big_last[begin + i]
    inner.end = count - 1
    inner.gap_slot = inner_gap_slot(inner)
    if not mas.deferred_counts:
        inner_recount(task.mem, inner, over_leaves)
    task.work.slots_written += count
    task.work.gap_updates += count
    return node
